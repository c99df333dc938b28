package deliver

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/deliver/smtpclient"
	"github.com/sealpost/sealpost/internal/posture"
)

// Types of policy that a TLS session is judged by (RFC 8460 section 4.4).
const (
	PolicySTS  = "sts"
	PolicyTLSA = "tlsa"
	PolicyNone = "no-policy-found"
)

// Results of TLS sessions that failed (RFC 8460 section 4.3).
const (
	ResultNoStartTLS = "starttls-not-supported"
	ResultHost       = "certificate-host-mismatch"
	ResultExpired    = "certificate-expired"
	ResultUntrusted  = "certificate-not-trusted"
	ResultValidation = "validation-failure"
	ResultTLSA       = "tlsa-invalid"
	ResultDNSSEC     = "dnssec-invalid"
	ResultDANENeeded = "dane-required"
	ResultSTSFetch   = "sts-policy-fetch-error"
	ResultSTSInvalid = "sts-policy-invalid"
	ResultSTSWebPKI  = "sts-webpki-invalid"
)

// TLSResult is what came of one TLS session with a mail host, or of not having
// had one, for the report that RFC 8460 describes. It holds nothing private.
type TLSResult struct {
	At     time.Time
	Domain string // of the recipients; the report goes there

	PolicyType   string   // PolicySTS, PolicyTLSA or PolicyNone
	PolicyString []string // as the domain publishes it: lines of the policy, or TLSA records
	PolicyDomain string   // where it does: the domain, or the TLSA base domain
	MXPatterns   []string // of an MTA-STS policy

	MX          string // the mail host
	ReceivingIP string
	SendingIP   string // empty where nothing was connected to
	Result      string // empty: a success; otherwise one of the Result words
	Reason      string // of a failure, in our own word
}

// tellTLS hands the result of a connection to whoever reports it. A host that
// was not reached at all tells nothing of its TLS.
func (e *Engine) tellTLS(ctx context.Context, known posture.Posture, t smtpclient.Target, ev smtpclient.Evidence, err error) {
	if e.TLSResult == nil {
		return
	}
	result, reason, judged := judge(known, t, ev, err)
	if !judged {
		return
	}
	r := TLSResult{At: e.Clock.Now(), Domain: t.Domain, PolicyType: PolicyNone, PolicyDomain: t.Domain,
		MX: t.Host, ReceivingIP: ev.Addr, SendingIP: ev.Local, Result: result, Reason: reason}
	if known.STS.Mode != "" || stsResults[known.STS.LastError] != "" {
		r.PolicyType, r.PolicyString, r.MXPatterns = PolicySTS, known.STS.Lines(), known.STS.MX
	}
	e.TLSResult(ctx, r)
}

// judge names the result of a session. A policy in mode testing is held
// against it like one that is enforced (RFC 8461 section 5).
func judge(known posture.Posture, t smtpclient.Target, ev smtpclient.Evidence, err error) (result, reason string, judged bool) {
	var weak *smtpclient.WeakError
	if err != nil && !errors.As(err, &weak) && ev.TLSVersion == "" {
		return "", "", false
	}
	if weak != nil && ev.TLSVersion == "" && weak.Reason != smtpclient.WeakSTSMismatch {
		return noTLS(weak), weak.Reason, true
	}
	if word := stsResults[known.STS.LastError]; word != "" && known.STS.Mode == "" {
		return word, known.STS.LastError, true
	}
	if known.STS.Mode == "" || known.STS.Mode == "none" {
		return "", "", true
	}
	switch {
	case !known.STSMatch(t.Host):
		return ResultValidation, smtpclient.WeakSTSMismatch, true
	case ev.VerifyError != "":
		return certResult(ev.VerifyError), ev.VerifyError, true
	}
	return "", "", true
}

func noTLS(weak *smtpclient.WeakError) string {
	switch weak.Reason {
	case smtpclient.WeakNoStartTLS, smtpclient.WeakRefused:
		return ResultNoStartTLS
	}
	return ResultValidation
}

func certResult(word string) string {
	switch word {
	case smtpclient.CertWrongName:
		return ResultHost
	case smtpclient.CertExpired, smtpclient.CertNotYetValid:
		return ResultExpired
	case smtpclient.CertUnknownAuthority:
		return ResultUntrusted
	}
	return ResultValidation
}

// stsResults are the failures to have a policy that is announced (RFC 8460
// section 4.3.2.2).
var stsResults = map[string]string{
	posture.STSConnect: ResultSTSFetch, posture.STSTimeout: ResultSTSFetch, posture.STSAddress: ResultSTSFetch, posture.STSStatus: ResultSTSFetch,
	posture.STSCertificate: ResultSTSWebPKI,
	posture.STSType:        ResultSTSInvalid, posture.STSTooLarge: ResultSTSInvalid, posture.STSSyntax: ResultSTSInvalid,
}
