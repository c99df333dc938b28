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
// was not reached at all tells nothing of its TLS, and what an organization has
// arranged with a domain is no matter of that domain's policy.
func (e *Engine) tellTLS(ctx context.Context, known posture.Posture, mx posture.MX, t smtpclient.Target, ev smtpclient.Evidence, err error) {
	if e.TLSResult == nil || t.Pin != nil || t.Client != nil {
		return
	}
	var weak *smtpclient.WeakError
	if !errors.As(err, &weak) && err != nil && ev.TLSVersion == "" {
		return
	}
	r := TLSResult{At: e.Clock.Now(), Domain: t.Domain, PolicyType: PolicyNone, PolicyDomain: t.Domain,
		MX: t.Host, ReceivingIP: ev.Addr, SendingIP: ev.Local}
	announced := stsResults[known.STS.LastError]
	switch {
	case t.DANE != nil && (t.DANE.Failed || len(t.DANE.Records) > 0 || known.STS.Mode == ""):
		r.PolicyType, r.PolicyDomain, r.PolicyString = PolicyTLSA, mx.DANE.Base, mx.DANE.Lines()
		r.Result, r.Reason = judgeDANE(t.DANE, ev, weak)
	case known.STS.Mode != "":
		r.PolicyType, r.PolicyString, r.MXPatterns = PolicySTS, known.STS.Lines(), known.STS.MX
		r.Result, r.Reason = judgeSTS(known, t.Host, ev, weak)
	default:
		if r.Result, r.Reason = judgeTLS(ev, weak); r.Result == "" && announced != "" {
			r.PolicyType, r.Result, r.Reason = PolicySTS, announced, known.STS.LastError
		}
	}
	e.TLSResult(ctx, r)
}

// judgeTLS tells whether there was TLS at all.
func judgeTLS(ev smtpclient.Evidence, weak *smtpclient.WeakError) (result, reason string) {
	if weak == nil || ev.TLSVersion != "" {
		return "", ""
	}
	return noTLS(weak), weak.Reason
}

// judgeDANE names the result under a host's TLSA records (RFC 8460 section
// 4.3.2.1).
func judgeDANE(d *smtpclient.DANE, ev smtpclient.Evidence, weak *smtpclient.WeakError) (result, reason string) {
	switch {
	case d.Failed:
		return ResultDNSSEC, smtpclient.WeakDANELookup
	case weak != nil && ev.TLSVersion == "":
		return judgeTLS(ev, weak)
	case len(d.Records) == 0:
		return ResultTLSA, smtpclient.TLSAUnusable
	case ev.VerifyError == smtpclient.CertNoTLSA:
		return ResultTLSA, ev.VerifyError
	case ev.VerifyError != "":
		return certResult(ev.VerifyError), ev.VerifyError
	}
	return "", ""
}

// judgeSTS names the result under an MTA-STS policy. One in mode testing is
// held against a host like one that is enforced (RFC 8461 section 5).
func judgeSTS(known posture.Posture, host string, ev smtpclient.Evidence, weak *smtpclient.WeakError) (result, reason string) {
	switch {
	case known.STS.Mode != "none" && !known.STSMatch(host):
		return ResultValidation, smtpclient.WeakSTSMismatch
	case weak != nil && ev.TLSVersion == "":
		return judgeTLS(ev, weak)
	case known.STS.Mode != "none" && ev.VerifyError != "":
		return certResult(ev.VerifyError), ev.VerifyError
	}
	return "", ""
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
