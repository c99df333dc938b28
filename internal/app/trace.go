package app

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sealpost/sealpost/internal/config"
)

// tracing hands spans to a collector in the background; a collector that is
// away costs spans and nothing else.
type tracing struct {
	trace.Tracer
	provider *sdk.TracerProvider // nil: nothing is traced
}

const tracerName = "github.com/sealpost/sealpost"

func startTracing(ctx context.Context, cfg config.Telemetry, node string) (tracing, error) {
	if cfg.Traces == "" {
		return tracing{Tracer: noop.NewTracerProvider().Tracer(tracerName)}, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.Traces))
	if err != nil {
		return tracing{}, fmt.Errorf("telemetry.traces: %w", err)
	}
	about := resource.NewSchemaless(attribute.String("service.name", "sealpost"), attribute.String("service.instance.id", node))
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(float64(cfg.Percent)/100))))
	return tracing{p.Tracer(tracerName), p}, nil
}

// stop sends what is left while ctx lasts.
func (t tracing) stop(ctx context.Context) {
	if t.provider != nil {
		_ = t.provider.Shutdown(ctx) // spans that no collector takes are lost
	}
}
