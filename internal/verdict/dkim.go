package verdict

import (
	"errors"
	"io"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/sealpost/sealpost/internal/mail"
)

// checkDKIM judges the signatures of a message.
func (j *Judge) checkDKIM(names lookups, a Arrival) ([]Signature, error) {
	body := &quiet{r: a.whole()}
	found, err := dkim.VerifyWithOptions(body, &dkim.VerifyOptions{
		MaxVerifications: maxSignatures,
		LookupTXT:        func(name string) ([]string, error) { return names.LookupTXT(names.ctx, name) },
	})
	// The library stops where it has seen enough; the caller's body is read on.
	_, _ = io.Copy(io.Discard, body)
	if body.err != nil {
		return nil, body.err
	}
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
		return nil, nil //nolint:nilerr // a header that the library cannot read has no signature that counts
	}
	out := make([]Signature, 0, len(found))
	for _, v := range found {
		out = append(out, j.signature(v))
	}
	return out, nil
}

func (j *Judge) signature(v *dkim.Verification) Signature {
	s := Signature{Result: Pass}
	if domain, err := mail.ParseDomain(v.Domain); err == nil {
		s.Domain = domain
	}
	switch {
	case dkim.IsTempFail(v.Err):
		s.Result = TempError
	case dkim.IsPermFail(v.Err), s.Domain == "":
		s.Result = PermError
	case v.Err != nil:
		s.Result = Fail
	case !v.Expiration.IsZero() && j.Clock.Now().After(v.Expiration):
		s.Result = PermError
	}
	return s
}

// quiet ends where reading fails, and keeps why: the library would leave
// goroutines behind.
type quiet struct {
	r   io.Reader
	err error
}

func (q *quiet) Read(p []byte) (int, error) {
	if q.err != nil {
		return 0, io.EOF
	}
	n, err := q.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		q.err = err
		err = io.EOF
	}
	return n, err
}
