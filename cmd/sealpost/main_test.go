package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealpost/sealpost/internal/app"
	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealpost": main})
}

const testConfig = `data_dir = %q
public_url = "http://localhost:%d"
[listen]
http = "127.0.0.1:%d"
http_tls = false
submission = ""
submissions = ""
metrics = "127.0.0.1:%d"
[network]
resolver = %q
smtp_port = %d
https_port = %d
ca_file = %q
`

// TestScripts runs the program itself, as people do, against a database, keys
// and an internet of its own.
func TestScripts(t *testing.T) {
	internet, err := fake.Start(t.Context(), fake.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	// Scripts run behind the end of this function.
	t.Cleanup(internet.Close)
	postgres := dbtest.PostgresURL(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			http, metrics := freePorts(t)
			file := filepath.Join(env.WorkDir, "sealpost.toml")
			env.Setenv("SEALPOST_CONFIG", file)
			env.Setenv("URL", "http://localhost:"+strconv.Itoa(http))
			env.Setenv("POSTGRES", postgres)
			env.Setenv("RESOLVER", internet.ResolverAddr)
			env.Setenv("READY", fmt.Sprintf("http://127.0.0.1:%d/readyz", metrics))
			return os.WriteFile(file, fmt.Appendf(nil, testConfig, filepath.Join(env.WorkDir, "data"), http, http, metrics,
				internet.ResolverAddr, internet.SMTPPort, internet.HTTPSPort, internet.CAFile), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitCode, "leaves": leaves, "json": jsonIs, "jsonenv": jsonEnv, "accept": accept, "await": await,
			"txt": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 1 {
					ts.Fatalf("usage: txt NAME [VALUE...]")
				}
				internet.SetTXT(args[0], args[1:]...)
			},
		},
	})
}

func freePorts(t *testing.T) (a, b int) {
	var ports []int
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports[0], ports[1]
}

// exitCode is "exitcode N COMMAND...": the command must end with that code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND...")
	}
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); !errors.As(err, &ended) || strconv.Itoa(ended.ExitCode()) != args[0] {
		ts.Fatalf("it ended with %v, not with code %s", err, args[0])
	}
}

// leaves is "leaves LEDGER FILE": it writes the entries of an exported ledger
// as the lines they are.
func leaves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: leaves LEDGER FILE")
	}
	var out bytes.Buffer
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var entry struct{ Leaf []byte }
		ts.Check(json.Unmarshal([]byte(line), &entry))
		out.Write(append(entry.Leaf, '\n'))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out.Bytes(), 0o600))
}

// walk finds a value in the last output, which must be one line of JSON.
func walk(ts *testscript.TestScript, path string) string {
	out := ts.ReadFile("stdout")
	if strings.Count(out, "\n") != 1 {
		ts.Fatalf("the output is not one line: %q", out)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("the output is not JSON: %v", err)
	}
	for _, step := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			inner, ok := x[step]
			if !ok {
				return "<absent>"
			}
			v = inner
		case []any:
			if step == "len" {
				v = json.Number(strconv.Itoa(len(x)))
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				return "<absent>"
			}
			v = x[i]
		default:
			return "<absent>"
		}
	}
	if s, ok := v.(string); ok {
		return s
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	ts.Check(enc.Encode(v))
	return strings.TrimSpace(text.String())
}

// jsonIs is "json PATH VALUE": a.b.0 walks down, len is the length of a list.
func jsonIs(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE")
	}
	if got := walk(ts, args[0]); (got == args[1]) == neg {
		ts.Fatalf("%s is %q", args[0], got)
	}
}

// jsonEnv is "jsonenv NAME PATH": it keeps a value of the last output.
func jsonEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonenv NAME PATH")
	}
	ts.Setenv(args[0], walk(ts, args[1]))
}

// await is "await URL": it waits until the address answers 200.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await URL")
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if resp, err := http.Get(args[0]); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("%s did not answer", args[0])
}

// accept is "accept ORG FROM TO...": it hands a message in at the front door
// of a node that does not deliver, and sets MSG, DLV, DLV2, ….
func accept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: accept ORG FROM TO...")
	}
	ctx := context.Background()
	var environ []string
	if url := ts.Getenv("SEALPOST_DATABASE_URL"); url != "" {
		environ = append(environ, "SEALPOST_DATABASE_URL="+url)
	}
	cfg, err := config.Load(ts.Getenv("SEALPOST_CONFIG"), environ)
	ts.Check(err)
	core, err := app.Open(ctx, cfg, app.Options{})
	ts.Check(err)
	defer func() { ts.Check(core.Close()) }()
	o, err := core.Accounts.OrgBySlug(ctx, args[0])
	ts.Check(err)
	draft := submit.Draft{Principal: auth.Principal{Org: o.ID, Scopes: auth.Scopes()}, Source: spool.FromAPI, Protocol: "HTTP",
		Message: strings.NewReader("From: " + args[1] + "\r\nSubject: canary-subject\r\n\r\ncanary-body\r\n")}
	draft.Sender, err = mail.ParseAddress(args[1])
	ts.Check(err)
	for _, to := range args[2:] {
		a, err := mail.ParseAddress(to)
		ts.Check(err)
		draft.Recipients = append(draft.Recipients, a)
	}
	door := submit.New(submit.Deps{
		Config: submit.Config{Hostname: cfg.Hostname, MaxSize: 1 << 20, MaxRecipients: 10, ExpireAfter: time.Hour, IdempotencyTTL: time.Hour},
		DB:     core.DB, Custody: core.Custody, Blob: core.Blob, Accounts: core.Accounts, Clock: core.Clock, Log: slog.New(slog.DiscardHandler),
		Posture: func(context.Context, string) policy.Posture { return policy.Posture{} },
		Journal: core.Retention.Journal,
		Reserve: func([]spool.Item) id.ID { return id.ID{} }, Push: func(id.ID, []spool.Item, []spool.Work) {},
	})
	r, err := door.Accept(ctx, draft)
	ts.Check(err)
	ts.Setenv("MSG", r.Message.Text(id.Message))
	for i, d := range r.Deliveries {
		name := "DLV"
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		ts.Setenv(name, d.Delivery.Text(id.Delivery))
	}
}
