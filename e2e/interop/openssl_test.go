package interop

// openssl is "openssl cms". It keeps nothing: keys are files, named by the
// address of their owner.
type openssl struct {
	folder
	p *people
	// swapped writes as we would: from the organization to the other side.
	swapped bool
}

func (o *openssl) name() string { return "OpenSSL" }

func (o *openssl) version() (string, error) {
	out, _, err := o.run(nil, "openssl", "version")
	return firstLine(out), err
}

func (o *openssl) learn(r row) error { return o.own(r) }

func (o *openssl) own(r row) error {
	for _, address := range []string{r.ours(), r.theirs()} {
		if err := o.file(address); err != nil {
			return err
		}
	}
	return nil
}

func (o *openssl) file(address string) error {
	own := o.p.persons[address]
	if own.key != nil {
		key, err := own.keyPEM()
		if err != nil {
			return err
		}
		if err := o.write(address+".key", key); err != nil {
			return err
		}
	}
	return o.write(address+".crt", own.certPEM())
}

func (o *openssl) cms(in []byte, args ...string) ([]byte, error) {
	out, _, err := o.run(in, "openssl", append([]string{"cms", "-binary"}, args...)...)
	return out, err
}

func (o *openssl) decrypt(r row, der []byte) ([]byte, error) {
	return o.cms(der, "-decrypt", "-inform", "DER", "-recip", r.theirs()+".crt", "-inkey", r.theirs()+".key")
}

func (o *openssl) verify(r row, content, signature []byte) error {
	if err := o.write("content", content); err != nil {
		return err
	}
	if err := o.write("ca", certPEM(o.p.root)); err != nil {
		return err
	}
	_, err := o.cms(signature, "-verify", "-inform", "DER", "-content", "content", "-CAfile", "ca", "-purpose", "smimesign")
	return err
}

// from and to are who writes to whom.
func (o *openssl) from(r row) string {
	if o.swapped {
		return r.ours()
	}
	return r.theirs()
}

func (o *openssl) to(r row) string {
	if o.swapped {
		return r.theirs()
	}
	return r.ours()
}

func (o *openssl) encrypt(r row, content []byte) ([]byte, error) {
	args := []string{"-encrypt", "-outform", "DER", map[string]string{"enveloped-data": "-aes-256-cbc", "authEnveloped-data": "-aes-256-gcm"}[smimeType(r)], "-recip", o.to(r) + ".crt"}
	if r.oaep {
		args = append(args, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
	}
	return o.cms(content, args...)
}

func (o *openssl) sign(r row, content []byte) ([]byte, error) {
	args := []string{"-sign", "-outform", "DER", "-signer", o.from(r) + ".crt", "-inkey", o.from(r) + ".key"}
	switch {
	case r.key == "ed25519":
		args = append(args, "-md", "sha512") // RFC 8419 section 3.1
	case r.pss:
		args = append(args, "-md", "sha256", "-keyopt", "rsa_padding_mode:pss")
	default:
		args = append(args, "-md", "sha256")
	}
	return o.cms(content, args...)
}
