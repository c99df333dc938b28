package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/fake"
)

// topShown is what "queue top" prints with --json.
type topShown struct {
	Nodes []struct {
		Node string `json:"node"`
	} `json:"nodes"`
	Sites []topSite `json:"sites"`
}

type topSite struct {
	Site      string    `json:"site"`
	Ready     int       `json:"ready"`
	Scheduled int       `json:"scheduled"`
	LastReply string    `json:"last_reply"`
	Suspended time.Time `json:"suspended"`
}

func (s topShown) site(name string) (found topSite) {
	if i := slices.IndexFunc(s.Sites, func(d topSite) bool { return d.Site == name }); i >= 0 {
		found = s.Sites[i]
	}
	return found
}

// TestQueueTop watches a running node from another process: once, as a stream
// of JSON, and on a terminal that it gives back as it was.
func TestQueueTop(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		s.net.SetMX("dead.example", fake.MX{Preference: 10, Host: "mx.dead.example"})
		s.net.SetA("mx.dead.example", netip.MustParseAddr("127.23.250.251"))
		s.start()
		for _, m := range []map[string]any{
			{"to": []string{"mira@modern.example", "dora@dead.example"}, "text": "x"},
			{"to": []string{"later@modern.example"}, "text": "x", "send_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		} {
			if _, err := s.post(m); err != nil {
				t.Fatal(err)
			}
		}
		var top topShown
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
			if s.runJSON(&top, "queue", "top", "--once"); top.site("modern.example").LastReply == "accepted" && top.site("dead.example").LastReply != "" {
				break
			}
		}
		good, dead := top.site("modern.example"), top.site("dead.example")
		if len(top.Nodes) != 1 || good.LastReply != "accepted" || good.Scheduled != 1 || dead.LastReply != "unreachable" || dead.Ready+dead.Scheduled != 1 {
			t.Errorf("%+v", top)
		}
		if top.Sites[0].Site != "dead.example" {
			t.Errorf("the site in trouble does not stand first: %+v", top.Sites)
		}
		s.topStreams(t)
		s.topOnTerminal(t)
	})
}

func (s *site) topStreams(t *testing.T) {
	t.Helper()
	cmd := s.command("--json", "queue", "top")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); ; {
		var top topShown
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &top) != nil || top.site("modern.example").Scheduled != 1 {
			t.Fatalf("the stream says %q", lines.Text())
		}
		if lines.Scan() {
			break
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// topOnTerminal runs it on a terminal of 80 columns, which script(1) makes.
func (s *site) topOnTerminal(t *testing.T) {
	t.Helper()
	before, after := "before=$(stty -g); stty cols 80 rows 24; ", "; test $? = 0 && test \"$(stty -g)\" = \"$before\" && echo restored"
	cmd := exec.Command("script", "-qec", before+strings.Join(s.command("queue", "top").Args, " ")+after, "/dev/null")
	var screen bytes.Buffer
	cmd.Stdout = &screen
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("script, of Debian's bsdutils: %v", err)
	}
	time.AfterFunc(2500*time.Millisecond, func() { _, _ = keys.Write([]byte("q")) }) // of its own time: two refreshes
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v\n%q", err, screen.String())
	}
	text := screen.String()
	if strings.Count(text, "\x1b[?1049h") != 1 || strings.Count(text, "\x1b[?1049l") != 1 || !strings.HasSuffix(strings.TrimSpace(text), "restored") {
		t.Errorf("the terminal is not as it was: %q", text)
	}
	if strings.Count(text, "DESTINATION") < 2 || !strings.Contains(text, "\x1b[31mdead.example") {
		t.Errorf("the screen shows %q", text)
	}
}
