package smtpclient

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/policy"
)

// Dial makes a connection to t whose grade is at least floor and which
// satisfies the domain's MTA-STS policy. The error is a *WeakError, a
// *RefusedError (of the banner or EHLO) or a *ConnError. The Evidence tells
// what was found, also beside an error.
//
// Addresses are tried in order until one speaks SMTP. A transport that is too
// weak for good ends the search: the addresses of one name are one host.
func Dial(ctx context.Context, d Deps, t Target, floor policy.Grade) (*Conn, Evidence, error) {
	floor = max(floor, policy.Encrypted)
	ev := Evidence{MX: t.Host}
	if reason := t.outOfQuestion(); reason != "" {
		return nil, ev, &WeakError{Wanted: policy.Authenticated, Evidence: ev, Reason: reason, Temporary: slices.Contains(amendable, reason)}
	}
	if len(t.Addrs) == 0 {
		return nil, ev, connError(ctx, StageConnect, errors.New("the host has no address"))
	}
	d.Timeouts = d.Timeouts.orDefault()
	var err error
	for _, addr := range t.Addrs {
		var c *Conn
		if c, ev, err = dialAddr(ctx, d, t, addr, floor); err == nil {
			return c, ev, nil
		}
		var weak *WeakError
		if errors.As(err, &weak) && !weak.Temporary || ctx.Err() != nil {
			return nil, ev, err
		}
	}
	return nil, ev, err
}

// outOfQuestion finds hosts that get no mail whatever they show, so that they
// need not be asked. It gives a Weak word, or nothing.
func (t *Target) outOfQuestion() string {
	switch {
	case t.Pin != nil && !t.Pin.allows(t.Host):
		return WeakPinHost
	case t.Pin.proves():
	case t.DANE != nil && t.DANE.Failed: // RFC 7672 section 2.1.2
		return WeakDANELookup
	case t.DANE != nil && len(t.DANE.Records) > 0:
	case t.STS.Enforce && !t.STS.Match: // RFC 8461 section 4.1
		return WeakSTSMismatch
	}
	return ""
}

func dialAddr(ctx context.Context, d Deps, t Target, addr netip.Addr, floor policy.Grade) (*Conn, Evidence, error) {
	c := &Conn{t: d.Timeouts, target: t, ev: Evidence{MX: t.Host, Addr: addr.Unmap().String()}}
	raw, err := connect(ctx, d, netip.AddrPortFrom(addr.Unmap(), uint16(t.Port)))
	if err != nil {
		return nil, c.ev, connError(ctx, StageConnect, err)
	}
	c.raw = raw
	if local, err := netip.ParseAddrPort(raw.LocalAddr().String()); err == nil {
		c.ev.Local = local.Addr().Unmap().String()
	}
	stop := context.AfterFunc(ctx, c.Abort)
	defer stop()
	kept := false
	defer func() {
		if !kept { // also by a defect
			c.Abort()
		}
	}()
	if err := c.open(ctx, d); err != nil {
		return nil, c.ev, c.withEvidence(err, floor)
	}
	if err := c.bind(t, floor); err != nil {
		_ = c.Close() // the verdict stands; how the goodbye went does not matter
		return nil, c.ev, err
	}
	if !stop() {
		return nil, c.ev, connError(ctx, StageEHLO, context.Cause(ctx))
	}
	kept = true
	return c, c.ev, nil
}

func connect(ctx context.Context, d Deps, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeouts.Connect)
	defer cancel()
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return dial(ctx, "tcp", addr.String())
}

// withEvidence completes a WeakError that was made where neither was known. A
// host that is known to do TLS will do it again (RFC 7672 section 2.2).
func (c *Conn) withEvidence(err error, floor policy.Grade) error {
	var weak *WeakError
	if errors.As(err, &weak) {
		weak.Evidence, weak.Wanted = c.ev, max(floor, c.target.Floor)
		weak.Temporary = weak.Temporary || c.target.insists()
	}
	return err
}

// open brings the conversation from the banner to the answer to EHLO inside
// TLS.
func (c *Conn) open(ctx context.Context, d Deps) error {
	c.use(c.raw)
	banner, err := c.reply(c.t.Banner)
	if err != nil {
		return connError(ctx, StageBanner, err)
	}
	if banner.Code != 220 {
		return &RefusedError{Stage: StageBanner, Reply: banner}
	}
	hello, err := c.ehlo(ctx, d.Name)
	if err != nil {
		return err
	}
	switch {
	case hello.Code == 500, hello.Code == 502:
		// The host knows no extensions at all. HELO would not help: it has no
		// STARTTLS.
		return &WeakError{Reason: WeakNoStartTLS}
	case hello.Code != 250:
		return &RefusedError{Stage: StageEHLO, Reply: hello}
	case !c.ext.startTLS:
		return &WeakError{Reason: WeakNoStartTLS}
	}
	if err := c.startTLS(ctx, d); err != nil {
		return err
	}
	hello, err = c.ehlo(ctx, d.Name)
	if err != nil {
		return err
	}
	if hello.Code != 250 {
		return &RefusedError{Stage: StageEHLO, Reply: hello}
	}
	return nil
}

// use makes conn what is spoken over, with nothing left of what was before.
func (c *Conn) use(conn net.Conn) {
	c.conn = conn
	c.r = bufio.NewReaderSize(conn, 2*maxReplyLine)
	c.w = bufio.NewWriterSize(blockWriter{conn, c.t.Block}, 16<<10)
	c.ext = extensions{}
}

func (c *Conn) ehlo(ctx context.Context, name string) (Reply, error) {
	c.command("EHLO " + name)
	reply, err := c.ask(c.t.EHLO)
	if err != nil {
		return Reply{}, connError(ctx, StageEHLO, err)
	}
	if c.r.Buffered() > 0 {
		return Reply{}, connError(ctx, StageEHLO, protocolError("more than one reply"))
	}
	if reply.Code == 250 {
		c.ext = parseEHLO(reply)
	}
	return reply, nil
}

func (c *Conn) startTLS(ctx context.Context, d Deps) error {
	c.command("STARTTLS")
	reply, err := c.ask(c.t.StartTLS)
	if err != nil {
		return connError(ctx, StageStartTLS, err)
	}
	if reply.Code != 220 {
		return &WeakError{Reason: WeakRefused, Temporary: !reply.Permanent(),
			cause: &RefusedError{Stage: StageStartTLS, Reply: reply}}
	}
	if c.r.Buffered() > 0 {
		return connError(ctx, StageStartTLS, protocolError("octets in clear behind the reply to STARTTLS"))
	}
	if d.Clock != nil { // certificates are checked by the clock that was handed in
		c.at = d.Clock.Now()
	}
	conn := tls.Client(c.raw, &tls.Config{
		ServerName: c.target.name(),
		MinVersion: tls.VersionTLS12,
		// Certificates are verified in VerifyConnection: a bad one must leave
		// evidence and may still do for the grade encrypted.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			c.inspect(cs, d.RootCAs)
			return nil
		},
		GetClientCertificate: c.show,
	})
	if err := c.raw.SetDeadline(time.Now().Add(c.t.TLS)); err != nil {
		return connError(ctx, StageTLS, err)
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return handshakeError(ctx, err)
	}
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		return connError(ctx, StageTLS, err)
	}
	// In TLS 1.2 the certificate is verified before the key exchange.
	if curve := conn.ConnectionState().CurveID; curve != 0 {
		c.ev.KeyExchange = strings.TrimPrefix(curve.String(), "Curve")
	}
	c.use(conn)
	c.secure = true
	return nil
}

// show gives the certificate that the host asks us for.
func (c *Conn) show(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if c.target.Client == nil {
		return new(tls.Certificate), nil // none
	}
	sum := sha256.Sum256(c.target.Client.Certificate[0])
	c.shown, c.ev.ClientCert = true, hex.EncodeToString(sum[:])
	return c.target.Client, nil
}

// inspect records what was negotiated and whether the certificate is valid
// for the host's name.
func (c *Conn) inspect(cs tls.ConnectionState, roots *x509.CertPool) {
	c.ev.TLSVersion = tls.VersionName(cs.Version)
	c.ev.Suite = tls.CipherSuiteName(cs.CipherSuite)
	c.approved, c.chain = approvedSuite(cs), cs.PeerCertificates
	if len(c.chain) == 0 {
		c.pkix = CertMissing
	} else {
		sum := sha256.Sum256(c.chain[0].Raw)
		c.ev.PeerFingerprint = hex.EncodeToString(sum[:])
		c.pkix = verifyChain(c.chain, x509.VerifyOptions{DNSName: c.target.Host, Roots: roots, CurrentTime: c.at})
	}
	c.ev.VerifyError = c.pkix
}

// approvedSuite reports whether the suite is ECDHE with AES-GCM. TLS 1.3 is
// always ephemeral here, as nothing is resumed, but crypto/tls cannot be told
// to leave out ChaCha20 there.
func approvedSuite(cs tls.ConnectionState) bool {
	switch cs.CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384:
		return cs.Version == tls.VersionTLS13
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return cs.Version == tls.VersionTLS12
	}
	return false
}

func certWord(err error, leaf *x509.Certificate, now time.Time) string {
	var (
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
	)
	if now.IsZero() {
		now = time.Now()
	}
	switch {
	case err == nil:
		return ""
	case errors.As(err, &name):
		return CertWrongName
	case errors.As(err, &authority):
		return CertUnknownAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if now.Before(leaf.NotBefore) {
			return CertNotYetValid
		}
		return CertExpired
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return CertWrongUsage
	}
	return CertInvalid
}

// Alerts of RFC 8446 section 6.2 that say the peer cannot do it, today or
// tomorrow. crypto/tls has no names for them outside QUIC.
var lasting = map[string]string{
	tls.AlertError(40).Error():  WeakParameters, // handshake_failure
	tls.AlertError(47).Error():  WeakParameters, // illegal_parameter
	tls.AlertError(70).Error():  WeakVersion,    // protocol_version
	tls.AlertError(71).Error():  WeakParameters, // insufficient_security
	tls.AlertError(109).Error(): WeakParameters, // missing_extension
	tls.AlertError(112).Error(): WeakParameters, // unrecognized_name
}

// handshakeError tells what a later attempt may find otherwise from what it
// will not.
func handshakeError(ctx context.Context, err error) error {
	weak := &WeakError{Reason: WeakParameters, cause: err}
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		weak.Reason = WeakNotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		if word, ok := lasting[op.Err.Error()]; ok {
			weak.Reason = word
			break
		}
		weak.Reason, weak.Temporary = WeakHandshake, true
	case errors.As(err, &op) && op.Op == "local error":
		weak.Reason = WeakParameters
	case isIO(err) || ctx.Err() != nil:
		weak.Reason, weak.Temporary = WeakHandshake, true
		weak.cause = connError(ctx, StageTLS, err)
	case strings.Contains(err.Error(), "protocol version"):
		weak.Reason = WeakVersion
	}
	return weak
}

// blockWriter gives every write its own time.
type blockWriter struct {
	conn    net.Conn
	timeout time.Duration
}

func (b blockWriter) Write(p []byte) (int, error) {
	if err := b.conn.SetWriteDeadline(time.Now().Add(b.timeout)); err != nil {
		return 0, err
	}
	return b.conn.Write(p)
}
