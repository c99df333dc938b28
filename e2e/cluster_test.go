package e2e

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fake"
)

// node gives a further node of an installation, with roles and listeners of
// its own; the database and the keys are shared.
func (s *site) node(t *testing.T, name string, roles ...string) *site {
	t.Helper()
	conf, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	n := *s
	n.dir = filepath.Join(s.dir, name)
	n.data = filepath.Join(n.dir, "data")
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for _, addr := range []*string{&n.http, &n.relay, &n.submission, &n.submissions, &n.metrics} {
		own := "127.0.0.1:" + strconv.Itoa(freePort(t))
		text = strings.Replace(text, strconv.Quote(*addr), strconv.Quote(own), 1)
		*addr = own
	}
	text = regexp.MustCompile(`(?m)^hostname = .*`).ReplaceAllString(text,
		fmt.Sprintf("hostname = %q\nroles = [\"%s\"]", name+".clinic.test", strings.Join(roles, `", "`)))
	text = strings.Replace(text, fmt.Sprintf("data_dir = %q", s.data), fmt.Sprintf("data_dir = %q", n.data), 1)
	text = strings.Replace(text, "[keys]\n", fmt.Sprintf("[keys]\ndir = %q\n", filepath.Join(s.data, "keys")), 1)
	n.url = "https://localhost" + n.http[strings.LastIndexByte(n.http, ':'):]
	if err := os.WriteFile(n.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &n
}

// TestCluster runs nodes that share a database and divide the work: what one
// accepts, another delivers and a third shows. Then one of two delivering
// nodes is killed under load: the other one takes over what it had, and
// nothing is sent twice but what the dead node may have sent unrecorded.
func TestCluster(t *testing.T) {
	databaseURL := dbtest.PostgresURL(t)
	s := newSite(t, databaseURL, "")
	s.refuseWith("no such person")
	front := s.node(t, "front", "api", "smtp")
	first, second := s.node(t, "first", "deliver", "jobs"), s.node(t, "second", "deliver", "jobs")
	portal := s.node(t, "portal", "portal")
	s.samePortal(t, portal)
	front.start()
	portal.start()
	dying := first.start()

	r, err := front.post(map[string]any{"to": []string{"mira@modern.example", "edith@expired.example"}, "text": "for her eyes"})
	if err != nil {
		t.Fatal(err)
	}
	front.settles(r.Deliveries[0].ID, "delivered")
	front.settles(r.Deliveries[1].ID, "waiting")
	if page := s.reader("edith@expired.example").open(); !strings.Contains(page, "for her eyes") {
		t.Errorf("the portal's node does not show the message:\n%s", page)
	}
	front.settles(r.Deliveries[1].ID, "read")
	if code, _ := portal.call(http.MethodGet, "/api/v1/messages/"+r.ID, nil, nil); code != http.StatusNotFound {
		t.Errorf("the portal's node answers for the API: %d", code)
	}
	if code, _, _ := s.reader("x").get(front.url + "/read"); code != http.StatusNotFound {
		t.Errorf("the API's node answers for the portal: %d", code)
	}

	second.start()
	// Some attempts take long enough to be under way when the node dies.
	if err := s.net.Change("mx.tls12.example", func(b *fake.Behavior) { b.Delay = 200 * time.Millisecond }); err != nil {
		t.Fatal(err)
	}
	l := &load{s: front}
	stop := l.begin()
	l.reaches(t, 100)
	waitForSending(t, databaseURL)
	_ = dying.end(syscall.SIGKILL)
	killed := time.Now()
	l.reaches(t, len(l.acked())+50) // the nodes that live go on
	stop()
	acked := l.acked()
	checkAcknowledged(t, front, acked)
	// A lease of 15 seconds, looked at every three.
	if took := time.Since(killed); took > 40*time.Second {
		t.Errorf("it took %v until everything was settled", took)
	}
	if log, err := os.ReadFile(filepath.Join(second.dir, "log")); err != nil || !strings.Contains(string(log), "taking over attempts") {
		t.Errorf("nothing was taken over: %v", err)
	}
	checkDSNs(t, front, acked)
	verifyLedger(t, s)
}

// waitForSending returns when the older of the delivering runs is in the
// middle of an attempt.
func waitForSending(t *testing.T, databaseURL string) {
	t.Helper()
	d, err := sql.Open("pgx", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var sending int
		if err := d.QueryRow(`SELECT count(*) FROM spool_unsettled WHERE state = 'sending'
			AND owner = (SELECT id FROM deliver_runs ORDER BY id LIMIT 1)`).Scan(&sending); err != nil {
			t.Fatal(err)
		}
		if sending >= 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the node that shall die never sends")
		}
	}
}

// samePortal makes links lead to the portal's node: it listens where the
// public URL says.
func (s *site) samePortal(t *testing.T, portal *site) {
	t.Helper()
	conf, err := os.ReadFile(portal.config())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(conf), strconv.Quote(portal.http), strconv.Quote(s.http), 1)
	if err := os.WriteFile(portal.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	portal.http, portal.url = s.http, s.url
}
