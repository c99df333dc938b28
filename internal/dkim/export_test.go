package dkim

import "crypto"

// NewSigner is a signer with a key of a test.
func NewSigner(domain, selector string, key crypto.Signer) Signer {
	return Signer{Domain: domain, Selector: selector, key: key}
}

// Generate makes a key as Create does.
func Generate(a Algorithm) (s crypto.Signer, value string, err error) {
	secret, value, err := generate(a)
	if err != nil {
		return nil, "", err
	}
	s, err = parseSecret(secret)
	return s, value, err
}
