package e2e

import (
	"bufio"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// scrape gives the samples of /metrics, by name with labels.
func (s *site) scrape(t *testing.T) map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all := map[string]string{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			i := strings.LastIndexByte(line, ' ')
			all[line[:i]] = line[i+1:]
		}
	}
	return all
}

// expressions are what a dashboard or a file of alerts asks of Prometheus.
func expressions(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(file, ".json") {
		for _, block := range regexp.MustCompile(`(?s)expr:(.*?)\n +(?:for|labels):`).FindAllStringSubmatch(string(text), -1) {
			all = append(all, block[1])
		}
		return all
	}
	var board struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

var figureName = regexp.MustCompile(`\b(?:sealpost|process|go)_[a-z_]+\b`)

// TestWatching: what the dashboard and the alerts ask for, a running node
// tells; what a node tells, one of them shows; and no name of a recipient's
// domain is among it.
func TestWatching(t *testing.T) {
	s := newSite(t, "", "[[pool]]\nname = \"default\"\ndaily_ceiling = 100000\n")
	s.start()
	r, err := s.post(map[string]any{"to": []string{"mira@modern.example", "edith@expired.example", "nobody@nowhere-such.example"}, "text": "x"})
	if err != nil {
		t.Fatal(err)
	}
	s.settles(r.Deliveries[0].ID, "delivered")
	s.settles(r.Deliveries[1].ID, "waiting")
	var got map[string]string
	told := map[string]bool{}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got = s.scrape(t)
		for sample := range got {
			told[figureName.FindString(sample)] = true
		}
		if told["sealpost_job_done_timestamp_seconds"] || time.Now().After(deadline) {
			break
		}
	}
	asked := map[string]bool{}
	for _, file := range []string{"../deploy/grafana/sealpost.json", "../deploy/prometheus/alerts.yml"} {
		all := expressions(t, file)
		if len(all) < 10 {
			t.Errorf("%s has only %d expressions", file, len(all))
		}
		for i, expr := range all {
			if strings.HasSuffix(file, ".yml") && slices.Contains(all[:i], expr) {
				t.Errorf("two alerts ask for%s", expr)
			}
			for _, name := range figureName.FindAllString(expr, -1) {
				if asked[name] = true; !told[name] {
					t.Errorf("%s asks for %s, which no node tells", file, name)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count"), "_bucket")
		if strings.HasPrefix(name, "sealpost_") && !asked[name] && !asked[family+"_bucket"] {
			t.Errorf("nobody shows %s", name)
		}
	}
	for sample, want := range map[string]string{
		`sealpost_deliveries_total{seal="tls",state="delivered"}`:            "1",
		`sealpost_deliveries_total{seal="portal",state="waiting"}`:           "1",
		`sealpost_attempts_total{class="none",result="delivered"}`:           "2",
		`sealpost_site_attempts_total{result="delivered",site="other"}`:      "2",
		`sealpost_site_attempts_total{result="delivered",site="google"}`:     "0",
		`sealpost_messages_total{outcome="accepted"}`:                        "1",
		`sealpost_pool_ceiling_today{pool="default"}`:                        "100000",
		`sealpost_unsettled_deliveries{state="held",stream="transactional"}`: "0",
	} {
		if got[sample] != want {
			t.Errorf("%s is %q, want %s", sample, got[sample], want)
		}
	}
	for sample := range got {
		if strings.Contains(sample, ".example") {
			t.Errorf("%s names a recipient's domain", sample)
		}
	}
}
