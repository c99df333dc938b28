// Package config reads the configuration: one TOML file, overridden by the
// environment, with every mistake reported at once.
//
// Invariants:
//   - The struct is the reference. Names, defaults, limits and explanations
//     stand in its tags, and Describe, Load, Show and the checks read them
//     there, so they cannot differ.
//   - Nothing unknown is ignored: an unknown key or SEALPOST_ variable is a
//     mistake that names the nearest known one.
//   - A secret is a private.String and can also be given as a file (key_file).
//     Neither a mistake nor Show ever contains a value of one.
//   - What would be unsafe is a mistake, not a warning: HTTP without TLS away
//     from loopback, relaying for everybody, mail ports without a certificate.
//
// Tags: toml (name), default, doc, example, min and max (for numbers, sizes
// and durations), set (the words allowed), file (also as key_file).
package config

import (
	"slices"
	"time"

	"github.com/sealpost/sealpost/internal/private"
)

// Config is the whole configuration of one node.
type Config struct {
	DataDir        string        `toml:"data_dir" default:"/var/lib/sealpost" doc:"Folder for the database (when it is SQLite), keys and everything else that stays on this machine."`
	PublicURL      string        `toml:"public_url" example:"https://mail.example.org" doc:"Where recipients reach the portal. It stands in every notice, so it must not change while links are open. Required. https, except on loopback."`
	Hostname       string        `toml:"hostname" example:"mail.example.org" doc:"Name of this machine in EHLO and Received. The host of public_url when not given."`
	Roles          []string      `toml:"roles" default:"api,smtp,deliver,portal,jobs" set:"api,smtp,deliver,portal,jobs" doc:"What this node does. All nodes of an installation share one PostgreSQL database; a single node does everything."`
	IdempotencyTTL time.Duration `toml:"idempotency_ttl" default:"72h" min:"1h" max:"30d" doc:"How long an Idempotency-Key is remembered."`
	ShutdownGrace  time.Duration `toml:"shutdown_grace" default:"30s" min:"0s" max:"10m" doc:"How long attempts under way may take to finish when the program is told to stop."`

	Log      Log      `toml:"log" doc:"What is written to standard error."`
	Database Database `toml:"database" doc:"Where messages, deliveries and the ledger are kept."`
	Keys     Keys     `toml:"keys" doc:"Where the keys of this installation are kept. Back them up apart from the database: a backup of both together undoes the encryption."`
	TLS      TLS      `toml:"tls" doc:"Certificate of the listeners. The files are read again when they change and on SIGHUP."`
	Listen   Listen   `toml:"listen" doc:"Addresses to listen on, as host:port or :port. An empty text turns a listener off."`
	Relay    Relay    `toml:"relay" doc:"Who may hand in mail without a password through listen.relay."`
	Inbound  Inbound  `toml:"inbound" doc:"How mail for members is looked at that comes in through listen.relay for a domain with a route. See docs/mail-suites.md."`
	Limits   Limits   `toml:"limits" doc:"What is accepted."`
	Network  Network  `toml:"network" doc:"How the outside is reached. Leave it alone except for tests and unusual networks."`
	Delivery Delivery `toml:"delivery" doc:"How mail leaves."`
	DKIM     DKIM     `toml:"dkim" doc:"Keys that sign for sender domains."`
	Keyring  Keyring  `toml:"keyring" doc:"Where keys and certificates of recipients are looked for."`
	Suppress Suppress `toml:"suppress" doc:"When an address that returns mail is sent nothing for a time. A complaint stops bulk mail until somebody allows the address again."`
	Portal   Portal   `toml:"portal" doc:"How long recipients have."`
	Ledger   Ledger   `toml:"ledger" doc:"How often the ledger is sealed by a signed checkpoint, whichever comes first."`

	Reputation Reputation `toml:"reputation" doc:"How the standing of the pools' addresses is looked after. See docs/deliverability.md."`
	Pool       []Pool     `toml:"pool" doc:"Where mail leaves from: addresses of this machine, for some organizations or streams. Mail that no pool is for leaves from the pool default, which is there without being written: the system's address and this machine's host name. See docs/deliverability.md."`
	Reports    Reports    `toml:"reports" doc:"What is told to others of TLS with their mail hosts, and where mail of our own domains may come from."`
	Telemetry  Telemetry  `toml:"telemetry" doc:"Where traces go. They hold ids, names of domains and hosts, and times; never content."`
}

// Log is the section of that name.
type Log struct {
	Level  string `toml:"level" default:"info" set:"debug,info,warn,error" doc:"Least level that is written. Read again on SIGHUP."`
	Format string `toml:"format" default:"text" set:"text,json" doc:"Form of a line."`
}

// Database is the section of that name.
type Database struct {
	URL private.String `toml:"url" file:"true" example:"postgres://sealpost@db.example.org/sealpost?sslmode=verify-full" doc:"PostgreSQL to use. SQLite in data_dir when not given."`
}

// Keys is the section of that name.
type Keys struct {
	Dir        string `toml:"dir" example:"/var/lib/sealpost/keys" doc:"Folder of the organizations' keys. data_dir/keys when not given."`
	MasterFile string `toml:"master_file" example:"/etc/sealpost/master.key" doc:"The master key, readable by this program's user alone. data_dir/master.key when not given; another disk or a mounted secret is better."`
}

// TLS is the section of that name.
type TLS struct {
	CertFile string `toml:"cert_file" example:"/etc/sealpost/tls/fullchain.pem" doc:"Certificate chain in PEM."`
	KeyFile  string `toml:"key_file" example:"/etc/sealpost/tls/privkey.pem" doc:"Private key in PEM."`

	NextCertFile string `toml:"next_cert_file" example:"/etc/sealpost/tls/next.pem" doc:"Certificate that will be used next, if there is one already: \"sealpost domain check\" then also asks for its TLSA record."`

	ACME            string `toml:"acme" example:"https://acme-v02.api.letsencrypt.org/directory" doc:"Directory URL of a certificate authority to get certificates from by ACME: for hostname, the host of public_url and every mta-sts name whose policy is served. Not used while cert_file is given. See docs/operations.md."`
	ACMEEmail       string `toml:"acme_email" example:"postmaster@example.org" doc:"Address that the authority can write to. Taken when the account is made."`
	ACMETermsAgreed bool   `toml:"acme_terms_agreed" example:"true" doc:"That you agree to the authority's terms of service. Required with acme."`
	ACMECAFile      string `toml:"acme_ca_file" example:"/etc/sealpost/acme-ca.pem" doc:"Authorities to trust, in PEM, for the authority's own HTTPS in place of the system's: for one in your own network."`
}

// Listen is the section of that name.
type Listen struct {
	HTTP        string `toml:"http" default:":443" doc:"API and portal."`
	HTTPTLS     bool   `toml:"http_tls" default:"true" doc:"Whether listen.http speaks TLS. Only on loopback, behind a proxy on the same machine, can it be false."`
	Submission  string `toml:"submission" default:":587" doc:"Mail from mail clients; STARTTLS and a password are required."`
	Submissions string `toml:"submissions" default:":465" doc:"Mail from mail clients; TLS from the first byte, and a password."`
	Relay       string `toml:"relay" example:":25" doc:"Mail from the networks of [[relay.source]], without a password, and from all others what comes in: bounces, reports, and mail for members of domains with a route. Needs a certificate except on loopback."`
	ACMEHTTP    string `toml:"acme_http" example:":80" doc:"Answers the HTTP-01 challenges of tls.acme, in clear as they must be, and sends everybody else to https. Without it challenges come to listen.http by TLS-ALPN-01."`
	Metrics     string `toml:"metrics" default:"127.0.0.1:9090" doc:"Health and metrics, in clear and for everybody who can reach it."`
}

// Limits is the section of that name.
type Limits struct {
	MessageSize       Size `toml:"message_size" default:"25MiB" min:"64KiB" max:"1GiB" doc:"Largest message."`
	APIBody           Size `toml:"api_body" default:"35MiB" min:"64KiB" max:"2GiB" doc:"Largest body of an API request. Attachments grow by a third in base64."`
	Recipients        int  `toml:"recipients" default:"1000" min:"1" max:"100000" doc:"Most recipients of one message."`
	MessagesPerMinute int  `toml:"messages_per_minute" default:"0" min:"0" max:"10000000" doc:"Most messages of one organization a minute; 0 is no limit."`
}

// Network is the section of that name: the only seams between the program and
// the internet, which tests use to put another one in its place.
type Network struct {
	Resolver  string `toml:"resolver" example:"127.0.0.1:53" doc:"DNS resolver as address:port. The system's when not given. DANE needs one that validates, reached over loopback."`
	SMTPPort  int    `toml:"smtp_port" default:"25" min:"1" max:"65535" doc:"Port of other mail servers."`
	HTTPSPort int    `toml:"https_port" default:"443" min:"1" max:"65535" doc:"Port that MTA-STS policies and keys are fetched from."`
	CAFile    string `toml:"ca_file" example:"/etc/ssl/certs/ca-certificates.crt" doc:"Authorities to trust in place of the system's, in PEM."`
	DNSSEC    bool   `toml:"dnssec" default:"false" doc:"Whether network.resolver validates DNSSEC and the way to it can be trusted, as over loopback. Only then are keys believed that are published in the DNS."`
}

// Replaced reports whether another internet was put in place of the real one:
// a resolver together with a port or authorities of its own. Only then may
// names lead to this machine; a resolver alone is what DANE and validation need
// in production, where the owner of a recipient's domain decides what is found.
func (n Network) Replaced() bool {
	return n.Resolver != "" && (n.SMTPPort != 25 || n.HTTPSPort != 443 || n.CAFile != "")
}

// Delivery is the section of that name.
type Delivery struct {
	Concurrency      int           `toml:"concurrency" default:"200" min:"1" max:"10000" doc:"Most connections to other mail servers."`
	PerDestination   int           `toml:"per_destination" default:"20" min:"1" max:"1000" doc:"Most connections to one destination that no shaping rule names."`
	ShapingFile      string        `toml:"shaping_file" example:"/etc/sealpost/shaping.toml" doc:"Rules of your own for how much a destination gets at once, laid over those of \"sealpost shaping show\"."`
	RetryMin         time.Duration `toml:"retry_min" default:"5m" min:"1ms" max:"24h" doc:"Wait before the second attempt; it grows from one to the next."`
	RetryMax         time.Duration `toml:"retry_max" default:"4h" min:"1ms" max:"48h" doc:"Longest wait between attempts."`
	DelayNoticeAfter time.Duration `toml:"delay_notice_after" default:"4h" min:"1ms" max:"14d" doc:"When the sender is told that a delivery is late."`
	ExpireAfter      time.Duration `toml:"expire_after" default:"48h" min:"1ms" max:"14d" doc:"When a delivery is given up and the sender is told."`
	NoTLSAfter       time.Duration `toml:"no_tls_after" default:"4h" min:"1ms" max:"14d" doc:"How long a delivery looks for a private transport, in three attempts at least, before it fails for want of one."`
	ConnectTimeout   time.Duration `toml:"connect_timeout" default:"30s" min:"10ms" max:"5m" doc:"Wait for a connection to one address, with its TLS handshake."`
	CommandTimeout   time.Duration `toml:"command_timeout" default:"5m" min:"10ms" max:"10m" doc:"Wait for the reply to a command (RFC 5321 section 4.5.3.2)."`
	FinalTimeout     time.Duration `toml:"final_timeout" default:"10m" min:"10ms" max:"30m" doc:"Wait for the reply to the end of a message. Shorter waits make duplicates."`
}

// DKIM is the section of that name.
type DKIM struct {
	RotateAfter time.Duration `toml:"rotate_after" default:"180d" min:"0s" max:"1000d" doc:"Age at which a key gets a successor, which signs once the DNS shows its record; 0s turns it off."`
	Overlap     time.Duration `toml:"overlap" default:"7d" min:"1d" max:"90d" doc:"How long the record of a key must stay that signs no more, for mail that is verified late."`
}

// Keyring is the section of that name.
type Keyring struct {
	KeyServers  []string `toml:"key_servers" default:"" example:"keys.openpgp.org" doc:"Key servers that verify addresses. They are told whom mail goes to, so there are none by default."`
	Directories []string `toml:"directories" default:"" example:"ldaps://ldap.example.org/ou=people,dc=example,dc=org" doc:"LDAP directories, by ldaps, or by ldap with StartTLS."`
	SMIMECAFile string   `toml:"smime_ca_file" example:"/etc/sealpost/smime-roots.pem" doc:"Authorities to trust for S/MIME in place of the system's, in PEM."`
}

// Suppress is the section of that name.
type Suppress struct {
	HardFor    time.Duration `toml:"hard_for" default:"180d" min:"1d" max:"3650d" doc:"How long nothing is sent to a mailbox that does not exist."`
	SoftCount  int           `toml:"soft_count" default:"5" min:"2" max:"1000" doc:"How many deliveries a mailbox must fail to take for reasons that may pass, such as being full."`
	SoftWithin time.Duration `toml:"soft_within" default:"14d" min:"1d" max:"365d" doc:"Within which time."`
	SoftFor    time.Duration `toml:"soft_for" default:"14d" min:"1d" max:"3650d" doc:"How long nothing is sent to it then."`
}

// Portal is the section of that name.
type Portal struct {
	LinkTTL    time.Duration `toml:"link_ttl" default:"30d" min:"1h" max:"365d" doc:"How long the link in a notice works."`
	CodeTTL    time.Duration `toml:"code_ttl" default:"10m" min:"1m" max:"1h" doc:"How long a code works."`
	SessionTTL time.Duration `toml:"session_ttl" default:"15m" min:"1m" max:"12h" doc:"How long a recipient stays signed in."`
}

// Ledger is the section of that name.
type Ledger struct {
	CheckpointEvery   time.Duration `toml:"checkpoint_every" default:"1h" min:"1s" max:"24h" doc:"Longest time between checkpoints while entries come."`
	CheckpointEntries int           `toml:"checkpoint_entries" default:"1000" min:"1" max:"1000000" doc:"Most entries between checkpoints."`
}

// Telemetry is the section of that name.
type Telemetry struct {
	Traces  string `toml:"traces" example:"http://127.0.0.1:4318/v1/traces" doc:"OpenTelemetry collector that takes traces by OTLP over HTTP. None when not given."`
	Percent int    `toml:"percent" default:"100" min:"1" max:"100" doc:"How many of a hundred messages are traced."`
}

// The roles of a node.
const (
	RoleAPI     = "api"
	RoleSMTP    = "smtp"
	RoleDeliver = "deliver"
	RolePortal  = "portal"
	RoleJobs    = "jobs"
)

// HasRole reports whether this node has the role.
func (c *Config) HasRole(role string) bool { return slices.Contains(c.Roles, role) }
