package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// minimal is a file that is complete, for tests about something else.
const minimal = `
public_url = "https://mail.clinic.example"
[tls]
cert_file = "/etc/sealpost/chain.pem"
key_file = "/etc/sealpost/key.pem"
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	return Load(write(t, "sealpost.toml", text), environ)
}

// lines are the mistakes without the line that names the file.
func lines(err error) string {
	if err == nil {
		return ""
	}
	_, rest, _ := strings.Cut(err.Error(), "\n")
	return strings.ReplaceAll(strings.TrimSpace(rest), "\n  ", "\n")
}

func TestSixMistakesAtOnce(t *testing.T) {
	want, err := os.ReadFile("testdata/six.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Load("testdata/six.toml", nil)
	if err == nil || err.Error()+"\n" != string(want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var all *Mistakes
	if !errors.As(err, &all) || len(all.List) != 6 {
		t.Errorf("not a list of six: %#v", err)
	}
}

func TestLoadFillsIn(t *testing.T) {
	c, err := load(t, "data_dir = \"/srv/mail\"\n"+minimal)
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname != "mail.clinic.example" || c.Keys.Dir != "/srv/mail/keys" || c.Keys.MasterFile != "/srv/mail/master.key" {
		t.Errorf("%q %q %q", c.Hostname, c.Keys.Dir, c.Keys.MasterFile)
	}
	if c.Limits.MessageSize != 25<<20 || c.Delivery.ExpireAfter != 48*time.Hour || c.Portal.LinkTTL != 30*24*time.Hour {
		t.Errorf("defaults: %+v", c)
	}
	if !c.HasRole(RoleJobs) || c.HasRole("cook") {
		t.Error("roles")
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	c, err := load(t, minimal+"[log]\nlevel = \"info\"\n[limits]\nrecipients = 5\n",
		"SEALPOST_LOG_LEVEL=debug", "SEALPOST_LIMITS_RECIPIENTS=7", "SEALPOST_LIMITS_MESSAGE_SIZE=1MiB",
		"SEALPOST_ROLES=api, deliver", "SEALPOST_LISTEN_METRICS=", "SEALPOST_LISTEN_HTTP_TLS=true",
		"SEALPOST_SHUTDOWN_GRACE=5s", "SEALPOST_API_KEY=other", "SEALPOST_SERVICE_HOST=10.0.0.1",
		"SEALPOST_PORT_443_TCP=tcp://10.0.0.1:443", "HOME=/root")
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != "debug" || c.Limits.Recipients != 7 || c.Limits.MessageSize != 1<<20 ||
		!reflect.DeepEqual(c.Roles, []string{"api", "deliver"}) || c.Listen.Metrics != "" || c.ShutdownGrace != 5*time.Second {
		t.Errorf("%+v", c)
	}
	_, err = load(t, minimal, "SEALPOST_LOG_LEVLE=debug", "SEALPOST_LIMITS_RECIPIENTS=many", "SEALPOST_LISTEN_HTTP_TLS=yes")
	want := "SEALPOST_LIMITS_RECIPIENTS: limits.recipients: must be a whole number\n" +
		"SEALPOST_LISTEN_HTTP_TLS: listen.http_tls: must be true or false\n" +
		"SEALPOST_LOG_LEVLE: this variable is not known; did you mean SEALPOST_LOG_LEVEL?"
	if lines(err) != want {
		t.Errorf("got\n%s\nwant\n%s", lines(err), want)
	}
}

func TestEnvironmentAlone(t *testing.T) {
	c, err := Load("", []string{"SEALPOST_PUBLIC_URL=http://localhost:8080/", "SEALPOST_LISTEN_HTTP=127.0.0.1:8080",
		"SEALPOST_LISTEN_HTTP_TLS=false", "SEALPOST_LISTEN_SUBMISSION=", "SEALPOST_LISTEN_SUBMISSIONS="})
	if err != nil {
		t.Fatal(err)
	}
	if c.PublicURL != "http://localhost:8080" || c.Hostname != "localhost" {
		t.Errorf("%q %q", c.PublicURL, c.Hostname)
	}
}

const dsn = "postgres://sealpost:canary-9b1e@db.clinic.example/sealpost"

func TestSecretFromFile(t *testing.T) {
	secret := write(t, "url", dsn+"\r\n")
	wrong := write(t, "wrong", "postgres://x:canary-other@db/sealpost")
	empty := write(t, "empty", "\n")
	inFile := fmt.Sprintf("[database]\nurl_file = %q\n", secret)
	for name, c := range map[string]struct {
		text    string
		environ []string
		want    string
	}{
		"file":               {inFile, nil, ""},
		"variable":           {"", []string{"SEALPOST_DATABASE_URL=" + dsn}, ""},
		"file by variable":   {"", []string{"SEALPOST_DATABASE_URL_FILE=" + secret}, ""},
		"variable over file": {fmt.Sprintf("[database]\nurl_file = %q\n", wrong), []string{"SEALPOST_DATABASE_URL=" + dsn}, ""},
		"file over value":    {"[database]\nurl = \"postgres://x@y/z\"\n", []string{"SEALPOST_DATABASE_URL_FILE=" + secret}, ""},
		"both in the file":   {inFile + "url = \"" + dsn + "\"\n", nil, "line 7: database.url_file: give either database.url or database.url_file"},
		"both variables": {"", []string{"SEALPOST_DATABASE_URL=" + dsn, "SEALPOST_DATABASE_URL_FILE=" + secret},
			"SEALPOST_DATABASE_URL_FILE: database.url_file: give either SEALPOST_DATABASE_URL or SEALPOST_DATABASE_URL_FILE"},
		"absent": {"[database]\nurl_file = \"/nonexistent/url\"\n", nil, "line 7: database.url_file: the file cannot be read: no such file or directory"},
		"empty":  {"", []string{"SEALPOST_DATABASE_URL_FILE=" + empty}, "SEALPOST_DATABASE_URL_FILE: database.url_file: the file is empty"},
		"number": {"[database]\nurl_file = 5\n", nil, "line 7: database.url_file: must be the path of a file, in quotes"},
	} {
		got, err := load(t, minimal+c.text, c.environ...)
		if lines(err) != c.want {
			t.Errorf("%s: got %q, want %q", name, lines(err), c.want)
		}
		if err == nil && got.Database.URL.Reveal() != dsn {
			t.Errorf("%s: another secret was read", name)
		}
	}
}

// Only the end of the line is taken off a secret: a space can belong to it.
func TestSecretFromFileKeepsSpaces(t *testing.T) {
	c, err := load(t, minimal, "SEALPOST_DATABASE_URL_FILE="+write(t, "url", dsn+" \n"))
	if err != nil || c.Database.URL.Reveal() != dsn+" " {
		t.Errorf("%v", err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	c, err := load(t, minimal, "SEALPOST_DATABASE_URL="+dsn)
	if err != nil {
		t.Fatal(err)
	}
	shown := c.Show() + fmt.Sprintf("%v %+v %#v", c, *c, *c)
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "config", c)
	if shown += out.String(); strings.Contains(shown, "canary") {
		t.Errorf("a secret is shown:\n%s", shown)
	}
	if !strings.Contains(c.Show(), `url = "[private]"`) {
		t.Errorf("Show hides that a secret is set:\n%s", c.Show())
	}
	for _, text := range []string{
		"url = \"mysql://u:canary-9b1e@db/x\"",
		"url = mysql://u:canary-9b1e@db/x",
		"url = 'postgres://u:canary-9b1e@db/x",
		"url = \"postgres://u:canary-9b1e@db/x\" canary-9b1e",
		"url = [\"canary-9b1e\"]",
		"url = { canary = \"canary-9b1e\" }",
		"url = \"postgres://u:canary-9b1e@db/x\\u0000\"",
		"url = \"a\"\nurl = \"canary-9b1e\"",
		"urll = \"canary-9b1e\"",
		"url = 12345678901234567890canary-9b1e",
		"url_file = \"\"\nurl = \"canary-9b1e\"",
	} {
		_, err := load(t, minimal+"[database]\n"+text+"\n")
		if err == nil {
			t.Errorf("%s: accepted", text)
		} else if said := fmt.Sprintf("%v %+v", err, err); strings.Contains(said, "canary-9b1e") || strings.Contains(said, "1234567") {
			t.Errorf("%s: the mistake shows it: %v", text, err)
		}
	}
	_, err = load(t, minimal, "SEALPOST_DATABASE_URL=canary-9b1e")
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("environment: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"roles = []":                                             "roles: must name at least one role",
		"roles = [\"api\", \"cook\"]":                            "roles: must be of: api, smtp, deliver, portal, jobs",
		"roles = [\"api\", \"api\"]":                             "roles: names something twice",
		"roles = \"api\"":                                        "roles: must be a list of texts in quotes",
		"hostname = \"mail_1\"":                                  "hostname: must be a host name such as mail.example.org; it can be given when public_url has none",
		"log = 5":                                                "log: this is a section; write [log]",
		"loglevel = \"info\"":                                    "loglevel: this key is not known; did you mean log.level?",
		"message_size = \"1MiB\"":                                "message_size: this key is not known; did you mean limits.message_size?",
		"zzzzzzzz = 1":                                           "zzzzzzzz: this key is not known",
		"idempotency_ttl = 72":                                   "idempotency_ttl: must be a duration such as 90s, 15m, 48h or 30d",
		"idempotency_ttl = \"-72h\"":                             "idempotency_ttl: must be a duration such as 90s, 15m, 48h or 30d",
		"idempotency_ttl = \"31d\"":                              "idempotency_ttl: must be between 1h and 30d",
		"limits.recipients = 0":                                  "limits.recipients: must be between 1 and 100000",
		"limits.recipients = \"5\"":                              "limits.recipients: must be a whole number",
		"limits.api_body = \"20MiB\"":                            "limits.api_body: must not be smaller than limits.message_size",
		"limits = { message_size = -1 }":                         "limits.message_size: must be a size such as 25MiB",
		"network.smtp_port = 65536":                              "network.smtp_port: must be between 1 and 65535",
		"network.resolver = \"dns.example\"":                     "network.resolver: must be an address and a port such as 127.0.0.1:53",
		"delivery.retry_min = \"5h\"":                            "delivery.retry_min: must not be longer than delivery.retry_max",
		"delivery.delay_notice_after = \"48h\"":                  "delivery.delay_notice_after: must be shorter than delivery.expire_after",
		"delivery.concurrency = 5":                               "delivery.per_destination: must not be larger than delivery.concurrency",
		"listen.http = \"443\"":                                  "listen.http: must be host:port or :port, or empty to turn it off",
		"listen.http = \":0443\"":                                "listen.http: must be host:port or :port, or empty to turn it off",
		"listen.submissions = \":587\"":                          "listen.submissions: is the same as listen.submission",
		"listen.http_tls = \"no\"":                               "listen.http_tls: must be true or false",
		"relay.source = [{org = \"a\"}]":                         "relay.source[0].networks: must name at least one network, or certificate_names a name",
		"relay.source = [{networks=[\"10.0.0.0/8\"]}]":           "relay.source[0].org: must be the short name of an organization: small letters, digits and -",
		"relay.source = [{org=\"a\",networks=[\"10.1.0.0/8\"]}]": "relay.source[0].networks: has a network with bits set behind its length; write 10.20.0.0/16, not 10.20.3.4/16",
		"relay.source = [{org=\"a\",networks=[\"0.0.0.0/0\"]}]":  "relay.source[0].networks: must not be the whole internet: everybody could relay",
		"relay.source = [{org=\"a\",networks=[\"10.0.0.0\"]}]":   "relay.source[0].networks: must be networks such as 10.20.0.0/16",
		"relay.source = [{org=\"a\",networks=[\"10.0.0.0/8\"]},{org=\"b\",networks=[\"10.2.0.0/16\"]}]":                                                    "relay.source[1].networks: overlaps with a network of another organization",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"]},{org=\"b\",certificate_names=[\"MX.example.org\"]}]":                           "relay.source[1].certificate_names: names a certificate that stands for another organization, too",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"]},{org=\"b\",certificate_names=[\"mx.example.org\"],networks=[\"10.0.0.0/8\"]}]": "relay.source[1].certificate_names: names a certificate that stands for another organization, too",
		"relay.source = [{org=\"a\",networks=[\"10.0.0.0/8\"],network=\"x\"}]":                                                                             "relay.source[0].network: this key is not known; did you mean relay.source[0].networks?",
		"relay.source = [{org=\"a\",networks=[\"40.107.3.0/24\"]}]":                                                                                        "relay.source[0].tenant_header: is required, because everybody who uses Microsoft 365 comes from there and under that name",
		"relay.source = [{org=\"a\",networks=[\"209.85.128.0/17\"]}]":                                                                                      "relay.source[0].tenant_header: is required, because everybody who uses Google comes from there and under that name",
		"relay.source = [{org=\"a\",certificate_names=[\"mail.protection.outlook.com\"]}]":                                                                 "relay.source[0].tenant_header: is required, because everybody who uses mail.protection.outlook.com comes from there and under that name",
		"relay.source = [{org=\"a\",certificate_names=[\"mx\"]}]":                                                                                          "relay.source[0].certificate_names: must be names of hosts such as mail.protection.outlook.com",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"],tenant_header=\"x-a b\"}]":                                                      "relay.source[0].tenant_header: must be the name of a header field that begins with X-, such as X-Sealpost-Tenant",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"],tenant_header=\"Subject\"}]":                                                    "relay.source[0].tenant_header: must be the name of a header field that begins with X-, such as X-Sealpost-Tenant",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"],tenant_value=\"0123456789abcdef\"}]":                                            "relay.source[0].tenant_header: is required beside tenant_value",
		"relay.source = [{org=\"a\",certificate_names=[\"mx.example.org\"],tenant_header=\"X-T\",tenant_value=\"short\"}]":                                 "relay.source[0].tenant_value: must have at least 16 characters: who guesses it can send in the organization's name",
		"inbound.rspamd = \"http://mail.example.org:11333\"":                                                                                               "inbound.rspamd: must be https, except on loopback: mail would cross the network in clear",
		"inbound.rspamd = \"127.0.0.1:11333\"":                                                                                                             "inbound.rspamd: must be a URL such as http://127.0.0.1:11333",
		"inbound.clamav = \"tcp://192.0.2.1:3310\"":                                                                                                        "inbound.clamav: must be on loopback or a socket: mail would cross the network in clear",
		"inbound.clamav = \"tcp://127.0.0.1\"":                                                                                                             "inbound.clamav: must be a URL such as unix:///run/clamav/clamd.ctl or tcp://127.0.0.1:3310",
		"inbound.lookalike = \"drop\"":                                                                                                                     "inbound.lookalike: must be of: mark, reject",
		"relay.sources = []":                                                                                                                               "relay.sources: this key is not known; did you mean relay.source?",
		"relay.source = 1":                                                                                                                                 "relay.source: this is a list of tables; write [[relay.source]]",
		"data_dir = \"/a\\nb\"":                                                                                                                            "data_dir: must not contain control characters",
	} {
		_, err := load(t, text+minimal)
		if got := lines(err); strings.TrimPrefix(got, "line 1: ") != want {
			t.Errorf("%s: got\n%s\nwant\n%s", text, got, want)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for url, good := range map[string]bool{
		"https://mail.clinic.example": true, "https://mail.clinic.example/": true, "https://mail.clinic.example:8443": true,
		"http://localhost:8080": true, "http://127.0.0.1:80": true, "http://portal.localhost": true,
		"http://mail.clinic.example": false, "http://127.0.0.1.clinic.example": false, "https://": false, "mail.clinic.example": false,
		"https://u@mail.clinic.example": false, "https://mail.clinic.example/portal": false, "https://mail.clinic.example?a": false,
		"ftp://mail.clinic.example": false, "https://mail.clinic.example/#x": false, "": false, "https://a b": false,
	} {
		_, err := load(t, strings.Replace(minimal, "https://mail.clinic.example", url, 1))
		if (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	const base = "public_url = \"https://mail.clinic.example\"\n"
	const off = "[listen]\nhttp = \"\"\nsubmission = \"\"\nsubmissions = \"\"\n"
	const source = "[[relay.source]]\norg = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n"
	for text, want := range map[string]string{
		base:       "tls.cert_file: is required, with tls.key_file, because listen.http speaks TLS",
		base + off: "",
		base + off + "[tls]\nkey_file = \"/k\"\n":           "tls.cert_file: is required beside tls.key_file",
		base + "[tls]\ncert_file = \"/k\"\n":                "tls.key_file: is required beside tls.cert_file",
		base + off + "relay = \":25\"\n" + source:           "tls.cert_file: is required, with tls.key_file, because listen.relay speaks TLS",
		base + off + "relay = \"[::1]:25\"\n" + source:      "",
		"roles = [\"deliver\"]\n" + base:                    "",
		"roles = [\"smtp\"]\n" + base:                       "tls.cert_file: is required, with tls.key_file, because listen.submission speaks TLS",
		base + "[listen]\nhttp = \"\"\nsubmission = \"\"\n": "tls.cert_file: is required, with tls.key_file, because listen.submissions speaks TLS",
	} {
		_, err := load(t, text)
		if got := lines(err); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestACME(t *testing.T) {
	const base = "public_url = \"https://mail.clinic.example\"\n"
	const acme = "[tls]\nacme = \"https://ca.example/dir\"\nacme_terms_agreed = true\n"
	const inClear = "[listen]\nhttp = \"127.0.0.1:8080\"\nhttp_tls = false\n"
	for text, want := range map[string]string{
		base + acme: "",
		base + acme + "acme_email = \"ops@clinic.example\"\nacme_ca_file = \"/ca\"\n": "",
		base + acme + inClear:                                                             "listen.acme_http: is required with tls.acme while listen.http_tls is false: no challenge could reach this node",
		base + acme + inClear + "acme_http = \":80\"\n":                                   "",
		base + "[tls]\nacme = \"https://ca.example/dir\"\n":                               "tls.acme_terms_agreed: must be true to use tls.acme: read the authority's terms of service first",
		base + strings.Replace(acme, "https:", "http:", 1):                                "line 3: tls.acme: must be the directory of an authority, such as https://acme-v02.api.letsencrypt.org/directory",
		base + acme + "acme_email = \"ops\"\n":                                            "line 5: tls.acme_email: must be an address such as postmaster@example.org",
		"hostname = \"mail\"\n" + base + acme:                                             "line 1: hostname: must be a full name such as mail.example.org, because tls.acme asks for its certificate",
		"public_url = \"https://192.0.2.1\"\nhostname = \"mail.clinic.example\"\n" + acme: "line 1: public_url: must have a full name such as mail.example.org, because tls.acme asks for its certificate",
		base + "[tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\nacme_terms_agreed = true\n": "line 5: tls.acme_terms_agreed: means nothing without tls.acme",
	} {
		_, err := load(t, text)
		if got := lines(err); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	c, err := load(t, base+acme+"cert_file = \"/c\"\nkey_file = \"/k\"\n")
	if err != nil || c.TLS.ByACME() {
		t.Errorf("a certificate that is given does not come first: %v", err)
	}
}

// Organizations that a certificate tells apart may come from the same networks.
func TestRelaySourcesThatACertificateTellsApart(t *testing.T) {
	for _, other := range []string{"networks=['10.2.0.0/16']", "networks=['10.2.0.0/16'],certificate_names=['b.example.org']", "certificate_names=['b.example.org']"} {
		if _, err := load(t, "relay.source = [{org='a',networks=['10.0.0.0/8'],certificate_names=['a.example.org']},{org='b',"+other+"}]\n"+minimal); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestRelaySources(t *testing.T) {
	c, err := load(t, minimal+`
[listen]
relay = ":25"
[[relay.source]]
networks = ["10.0.0.0/8", "2001:db8::/32"]
org = "clinic"
[[relay.source]]
networks = ["192.0.2.0/24", "192.0.2.128/25"]
org = "lab"
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []RelaySource{
		{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, Org: "clinic"},
		{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.128/25")}, Org: "lab"},
	}
	if !reflect.DeepEqual(c.Relay.Source, want) {
		t.Errorf("%+v", c.Relay.Source)
	}
}

func TestLinesOfTablesInAnArray(t *testing.T) {
	_, err := load(t, minimal+"[[relay.source]]\nnetworks = [\"10.0.0.0/8\"]\norg = \"clinic\"\n\n[[relay.source]]\norg = \"A\"\norgg = 1\n")
	want := "line 10: relay.source[1].networks: must name at least one network, or certificate_names a name\n" +
		"line 11: relay.source[1].org: must be the short name of an organization: small letters, digits and -\n" +
		"line 12: relay.source[1].orgg: this key is not known; did you mean relay.source[1].org?"
	if lines(err) != want {
		t.Errorf("got\n%s\nwant\n%s", lines(err), want)
	}
}

func TestFileItself(t *testing.T) {
	if _, err := Load("/nonexistent/sealpost.toml", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := load(t, strings.Repeat("#", maxFile+1)); err == nil || !strings.Contains(err.Error(), "larger than 256KiB") {
		t.Errorf("too large: %v", err)
	}
	_, err := load(t, minimal+"[log\n", "SEALPOST_LOG_FORMAT=xml")
	if got := lines(err); !strings.HasPrefix(got, "line 6: not TOML from column 5 on") || !strings.Contains(got, "SEALPOST_LOG_FORMAT") {
		t.Errorf("broken: %s", got)
	}
}

func TestComplete(t *testing.T) {
	c := Default()
	c.DataDir, c.PublicURL = "/tmp/x", "http://127.0.0.1:0"
	c.Listen = Listen{HTTP: "127.0.0.1:0", Metrics: "127.0.0.1:0", Relay: "127.0.0.1:0"}
	c.Relay.Source = []RelaySource{{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Org: "demo"}}
	if err := c.Complete(); err != nil || c.Hostname != "127.0.0.1" || c.Keys.Dir != "/tmp/x/keys" {
		t.Errorf("%v, %+v", err, c)
	}
	c.PublicURL = "http://clinic.example"
	if err := c.Complete(); lines(err) != "public_url: must begin with https:// except on loopback" {
		t.Errorf("%v", err)
	}
}
