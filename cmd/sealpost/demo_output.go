package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/internal/fake"
)

// demoOutput shows a demonstration to a person, or as one JSON object a line.
type demoOutput struct {
	w      io.Writer
	json   *json.Encoder // nil for people
	color  bool
	demo   *demo
	began  time.Time
	header bool
}

func newDemoOutput(env *environment, d *demo, began time.Time) *demoOutput {
	o := &demoOutput{w: env.stdout, demo: d, began: began, color: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""}
	if env.JSON {
		o.json = json.NewEncoder(env.stdout)
		o.json.SetEscapeHTML(false)
	}
	return o
}

// ready tells where everything listens.
func (o *demoOutput) ready() {
	d, a := o.demo, o.demo.server.Addrs
	if o.json != nil {
		_ = o.json.Encode(struct {
			Event      string `json:"event"`
			APIURL     string `json:"api_url"`
			APIKey     string `json:"api_key"`
			From       string `json:"from"`
			Submission string `json:"submission_addr"`
			User       string `json:"submission_user"`
			Password   string `json:"submission_password"`
			Relay      string `json:"relay_addr"`
			Portal     string `json:"portal_url"`
			Mailboxes  string `json:"mailboxes_url"`
			DataDir    string `json:"data_dir"`
			Config     string `json:"config"`
			CAFile     string `json:"ca_file"`
		}{"ready", d.url, d.key.Reveal(), demoSender, a.Submission, "apikey", d.key.Reveal(), a.Relay, d.url, d.net.MailboxesURL, d.dir, d.configFile(), d.net.CAFile})
		return
	}
	fmt.Fprintf(o.w, "\n  %s\n\n", o.paint(bold, "Sealpost is running for "+demoName+", against an internet of mail and key servers on this machine."))
	o.addresses()
	fmt.Fprintf(o.w, "\n  Sending from %s through the API, submission and relay. Each recipient gets the strongest seal they\n"+
		"  can open: their own OpenPGP key or S/MIME certificate where one is found, else verified TLS, else the portal.\n", demoSender)
}

func (o *demoOutput) addresses() {
	d, a := o.demo, o.demo.server.Addrs
	for _, line := range [][2]string{
		{"Mailboxes of the recipients", d.net.MailboxesURL},
		{"API and its documentation", d.url + "/api/docs"},
		{"Portal (links are in the notices)", d.url},
		{"SMTP submission, STARTTLS", a.Submission + "   user apikey, password: the API key"},
		{"SMTP relay from this machine", a.Relay},
		{"API key", d.key.Reveal()},
		{"Data folder", d.dir},
		{"Configuration, for all commands", d.configFile()},
	} {
		fmt.Fprintf(o.w, "  %s %s\n", pad(line[0], 34), o.paint(blue, line[1]))
	}
}

var columns = []struct {
	title string
	width int
}{{"recipient", 31}, {"what its domain can do", 47}, {"seal", 6}, {"grade", 13}, {"state", 9}, {"why", 28}, {"time", 6}}

// row shows a delivery that is where it stays.
func (o *demoOutput) row(x *expectation) {
	g := x.got
	if o.json != nil {
		transport, protection := x.evidence()
		_ = o.json.Encode(struct {
			Event      string          `json:"event"`
			Recipient  string          `json:"recipient"`
			Seal       string          `json:"seal"`
			Grade      string          `json:"grade"`
			State      string          `json:"state"`
			Reason     string          `json:"reason"`
			Expected   bool            `json:"as_expected"`
			Evidence   json.RawMessage `json:"evidence,omitempty"`
			Protection json.RawMessage `json:"protection,omitempty"`
		}{"delivery", g.Recipient, g.Seal, g.Grade, g.State, g.Reason, x.reached(), transport, protection})
		return
	}
	if !o.header {
		o.header = true
		fmt.Fprint(o.w, "\n    ")
		for _, c := range columns {
			fmt.Fprint(o.w, o.paint(dim, pad(c.title, c.width)), " ")
		}
		fmt.Fprintln(o.w)
	}
	seal := g.Seal
	if g.State != fake.Delivered && g.State != fake.Waiting {
		seal = "–"
	}
	mark, color := markOf(g.State)
	if !x.reached() {
		mark, color = "?", red
	}
	cells := []string{g.Recipient, x.entry.Posture, seal, dash(g.Grade), g.State, why(x),
		fmt.Sprintf("%.1f s", time.Since(x.sent).Seconds())}
	fmt.Fprint(o.w, "  ", o.paint(color, mark), " ")
	for i, cell := range cells {
		text := pad(cell, columns[i].width)
		if columns[i].title == "state" {
			text = o.paint(color, text)
		}
		fmt.Fprint(o.w, text, " ")
	}
	fmt.Fprintln(o.w)
}

// why tells where a key came from, what proved the mail host, or the reason of
// the state.
func why(x *expectation) string {
	transport, protection := x.evidence()
	var by struct {
		Tier   string `json:"tier"`
		Source string `json:"source"`
	}
	if json.Unmarshal(protection, &by) == nil && by.Source != "" {
		return by.Tier + " by " + by.Source
	}
	var proof struct {
		By string `json:"verified_by"`
	}
	if x.got.State == fake.Delivered && x.got.Grade == fake.Authenticated && json.Unmarshal(transport, &proof) == nil {
		return "host proved by " + proof.By
	}
	if n := len(x.got.Attempts); n > 0 && len(x.got.Attempts[n-1].PassedOver) > 0 && x.got.Reason == "" {
		return "no usable key"
	}
	return strings.ReplaceAll(dash(x.got.Reason), "_", " ")
}

func markOf(state string) (mark, color string) {
	switch state {
	case fake.Delivered:
		return "✓", green
	case fake.Waiting:
		return "✉", blue
	case fake.Deferred:
		return "…", yellow
	}
	return "✗", yellow
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// summary counts, and says what to look at next.
func (o *demoOutput) summary(w *watcher, once bool) {
	if o.json != nil {
		return
	}
	n := map[string]int{}
	for _, x := range w.want {
		if x.got.State == fake.Delivered && x.got.Seal != fake.TLS {
			n["key"]++
			continue
		}
		if x.got.Reason == reasonBounced {
			n[reasonBounced]++
			continue
		}
		n[x.got.State]++
	}
	fmt.Fprintf(o.w, "\n  %d recipients in %.1f s: %d sealed to their own key, %d delivered over verified TLS, %d waiting in the portal,\n  %d deferred, %d not sendable safely, %d returned by the recipient's host.\n",
		len(w.want), time.Since(o.began).Seconds(), n["key"], n[fake.Delivered], n[fake.Waiting], n[fake.Deferred], n[fake.Failed], n[reasonBounced])
	if wrong := w.wrong(); wrong > 0 {
		fmt.Fprintf(o.w, "  %s\n", o.paint(red, fmt.Sprintf("%d did not reach the state they must reach.", wrong)))
	}
	if !once {
		fmt.Fprintf(o.w, "\n  Open %s, choose a mailbox with a notice, follow its link and read the\n  message with the code that arrives there. Stop with Ctrl-C.\n\n",
			o.paint(blue, o.demo.net.MailboxesURL))
	}
}

const (
	bold, dim, red, green, yellow, blue = "1", "2", "31", "32", "33", "36"
)

func (o *demoOutput) paint(color, s string) string {
	if !o.color {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// pad makes s exactly n runes wide.
func pad(s string, n int) string {
	if have := utf8.RuneCountInString(s); have <= n {
		return s + strings.Repeat(" ", n-have)
	}
	return string([]rune(s)[:n-1]) + "…"
}
