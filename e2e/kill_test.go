package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/e2e/internal/await"
)

// attempt is one submission; its marker is in its recipient's address.
type attempt struct {
	marker string
	to     string
	via    string
	ack    string // message id, once 202 or 250 was seen
}

// TestKill kills the server at random moments under load. Whatever was
// answered with 202 or 250 is delivered or properly failed, once in the
// record; a second copy on the wire needs an attempt of unknown outcome; and
// the ledger verifies. KILL_SEED repeats a run; SOAK
// makes it long.
func TestKill(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		rounds := 10
		if os.Getenv("SOAK") != "" {
			rounds = 50
		}
		seed := envInt(t, "KILL_SEED", int(time.Now().UnixNano()%1_000_000))
		t.Logf("seed %d, %d rounds", seed, rounds)
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		s.refuseWith("no such person")
		l := &load{s: s}
		for range rounds {
			sv := s.start()
			stop := l.begin()
			time.Sleep(200*time.Millisecond + time.Duration(rng.IntN(1200))*time.Millisecond)
			_ = sv.end(syscall.SIGKILL)
			stop()
		}
		s.start()
		acked := l.acked()
		t.Logf("%d attempts, %d acknowledged", len(l.all), len(acked))
		if len(acked) < rounds*5 {
			t.Fatalf("only %d acknowledged: the load was no load", len(acked))
		}
		checkAcknowledged(t, s, acked)
		checkDSNs(t, s, acked)
		verifyLedger(t, s)
	})
}

func envInt(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// load submits through the API and the relay until it is stopped.
type load struct {
	s       *site
	counter atomic.Int64
	mu      sync.Mutex
	all     []*attempt
}

var killTargets = []string{"modern.example", "tls12.example", "expired.example", "says-no.example", "greylist.example"}

func (l *load) begin() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := l.one(w%2 == 0); err != nil {
					time.Sleep(5 * time.Millisecond) // the server is gone
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

// reaches waits until so many were acknowledged.
func (l *load) reaches(t *testing.T, n int) {
	t.Helper()
	await.Until(t, func() string {
		if acked := len(l.acked()); acked < n {
			return fmt.Sprintf("%d acknowledged, want %d\n%s", acked, n, l.s.tail())
		}
		return ""
	})
}

func (l *load) one(api bool) error {
	n := l.counter.Add(1)
	a := &attempt{marker: fmt.Sprintf("m%06d", n), via: "smtp"}
	a.to = a.marker + "@" + killTargets[int(n)%len(killTargets)]
	l.mu.Lock()
	l.all = append(l.all, a)
	l.mu.Unlock()
	var id string
	var err error
	if api {
		a.via = "api"
		var r receipt
		r, err = l.s.post(map[string]any{"to": []string{a.to}, "subject": a.marker, "text": "marker " + a.marker})
		id = r.ID
	} else {
		id, err = relay(l.s.relay, a.to, "Subject: "+a.marker+"\r\n\r\nmarker "+a.marker+"\r\n")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		a.ack = id
	}
	return err
}

var acceptedAs = regexp.MustCompile(`msg_[0-9a-z]{26}`)

// relay hands a message in and gives the id that the 250 names.
func relay(addr, to, rest string) (string, error) {
	c, err := smtp.Dial(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Mail("dr.ada@clinic.test"); err != nil {
		return "", err
	}
	if err := c.Rcpt(to); err != nil {
		return "", err
	}
	if err := c.Text.PrintfLine("DATA"); err != nil {
		return "", err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return "", err
	}
	if err := c.Text.PrintfLine("From: dr.ada@clinic.test\r\nTo: %s\r\n%s.", to, rest); err != nil {
		return "", err
	}
	_, reply, err := c.Text.ReadResponse(250)
	if err != nil {
		return "", err
	}
	id := acceptedAs.FindString(reply)
	if id == "" {
		return "", fmt.Errorf("250 names no message: %q", reply)
	}
	return id, nil
}

func (l *load) acked() (acked []*attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.all {
		if a.ack != "" {
			acked = append(acked, a)
		}
	}
	return acked
}

func checkAcknowledged(t *testing.T, s *site, acked []*attempt) {
	t.Helper()
	for _, a := range acked {
		var m receipt
		if code, err := s.call(http.MethodGet, "/api/v1/messages/"+a.ack, nil, &m); err != nil || len(m.Deliveries) != 1 {
			t.Errorf("%s was acknowledged and is not there: %d, %v", a.marker, code, err)
			continue
		}
		want := map[string]string{"expired.example": "waiting", "says-no.example": "failed"}[domainOf(a.to)]
		if want == "" {
			want = "delivered"
		}
		d := s.settles(m.Deliveries[0].ID, "delivered", "waiting", "failed", "expired")
		if d.State != want {
			t.Errorf("%s is %s (%s), want %s", a.to, d.State, d.Reason, want)
			continue
		}
		copies := len(s.net.Messages(a.to))
		if want == "failed" {
			if copies != 0 {
				t.Errorf("%s failed and yet arrived %d times", a.to, copies)
			}
			continue
		}
		if unknown := unknownAttempts(t, s, d.ID); copies < 1 || copies > 1+unknown {
			t.Errorf("%s arrived %d times with %d attempts of unknown outcome", a.to, copies, unknown)
		}
	}
	checkSettledOnce(t, s)
}

func domainOf(address string) string { return address[strings.IndexByte(address, '@')+1:] }

func unknownAttempts(t *testing.T, s *site, id string) (n int) {
	t.Helper()
	var d struct {
		Attempts []struct {
			Result string `json:"result"`
		} `json:"attempts"`
	}
	if _, err := s.call(http.MethodGet, "/api/v1/deliveries/"+id, nil, &d); err != nil {
		t.Fatal(err)
	}
	for _, a := range d.Attempts {
		if a.Result == "unknown" {
			n++
		}
	}
	return n
}

// checkSettledOnce reads the whole event stream: no delivery settles twice.
func checkSettledOnce(t *testing.T, s *site) {
	t.Helper()
	settled := map[string]int{}
	for _, e := range events(t, s) {
		switch e.Type {
		case "delivery.delivered", "delivery.waiting", "delivery.failed", "delivery.expired":
			settled[e.Delivery]++
		}
	}
	for id, n := range settled {
		if n != 1 {
			t.Errorf("delivery %s settled %d times in the record", id, n)
		}
	}
}

type event struct {
	Seq      int64  `json:"seq"`
	Type     string `json:"type"`
	Message  string `json:"message_id"`
	Delivery string `json:"delivery_id"`
}

// events reads the stream to its end and checks that it has no gaps.
func events(t *testing.T, s *site) (all []event) {
	t.Helper()
	cursor := ""
	for {
		var page struct {
			Events []event `json:"events"`
			Next   string  `json:"next"`
		}
		path := "/api/v1/events?limit=1000"
		if cursor != "" {
			path += "&after=" + url.QueryEscape(cursor)
		}
		if _, err := s.call(http.MethodGet, path, nil, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Events) == 0 {
			return all
		}
		all, cursor = append(all, page.Events...), page.Next
		for i := 1; i < len(all); i++ {
			if all[i].Seq != all[i-1].Seq+1 {
				t.Fatalf("event %d follows %d", all[i].Seq, all[i-1].Seq)
			}
		}
	}
}

var (
	finalRecipient = regexp.MustCompile(`(?m)^Final-Recipient: rfc822; ?(m\d+)@`)
	messageID      = regexp.MustCompile(`(?mi)^Message-ID: (\S+)`)
)

// checkDSNs: exactly one DSN per failed delivery handed in by SMTP, none for
// the API's. Copies of one DSN, with one Message-ID, come from a kill between
// the final dot and the commit.
func checkDSNs(t *testing.T, s *site, acked []*attempt) {
	t.Helper()
	want := map[string]int{}
	for _, a := range acked {
		if domainOf(a.to) == "says-no.example" && a.via == "smtp" {
			want[a.marker] = 1
		}
	}
	reports := func() map[string]int {
		got, seen := map[string]int{}, map[string]bool{}
		for _, m := range s.net.Messages("dr.ada@clinic.test") {
			found, id := finalRecipient.FindSubmatch(m.Raw), messageID.FindSubmatch(m.Raw)
			if found != nil && id != nil && !seen[string(id[1])] {
				seen[string(id[1])] = true
				got[string(found[1])]++
			}
		}
		return got
	}
	got := reports()
	for deadline := time.Now().Add(60 * time.Second); len(got) < len(want) && time.Now().Before(deadline); got = reports() {
		time.Sleep(100 * time.Millisecond)
	}
	for _, a := range acked {
		if got[a.marker] != want[a.marker] {
			t.Errorf("%s by %s: %d DSNs, want %d", a.to, a.via, got[a.marker], want[a.marker])
		}
	}
}

func verifyLedger(t *testing.T, s *site) {
	t.Helper()
	file, points := filepath.Join(s.dir, "ledger.jsonl"), filepath.Join(s.dir, "checkpoints")
	s.run("ledger", "export", file, "--checkpoints", points)
	var key struct {
		Key string `json:"key"`
	}
	s.runJSON(&key, "ledger", "key")
	s.run("ledger", "verify", file, "--key", key.Key, "--checkpoint", points)
}
