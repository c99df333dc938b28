package openpgp

import (
	"strings"
	"testing"
	"time"
)

// The samples of RFC 9580: the secret key of appendix A.4, the message of A.8
// encrypted to it, and that of A.7 signed by it.
const (
	rfcKey = `-----BEGIN PGP PRIVATE KEY BLOCK-----

xUsGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laMAGXKB
exK+cH6NX1hs5hNhIB00TrJmosgv3mg1ditlsLfCsQYfGwoAAABCBYJjh3/jAwsJ
BwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce6
2azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lwgyU2kCcUmKfvBXbAf6rh
RYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaEQsiPlR4zxP/TP7mhfVEe
7XWPxtnMUMtf15OyA51YBMdLBmOHf+MZAAAAIIaTJINn+eUBXbki+PSAld2nhJh/
LVmFsS+60WyvXkQ1AE1gCk95TUR3XFeibg/u/tVY6a//1q0NWC1X+yui3O24wpsG
GBsKAAAALAWCY4d/4wKbDCIhBssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce6
2azJAAAAAAQBIKbpGG2dWTX8j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDE
M0g12vYxoWM8Y81W+bHBw805I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUr
k0mXubZvyl4GBg==
-----END PGP PRIVATE KEY BLOCK-----
`
	rfcMessage = `-----BEGIN PGP MESSAGE-----

wV0GIQYSyD8ecG9jCP4VGkF3Q6HwM3kOk+mXhIjR2zeNqZMIhRmHzxjV8bU/gXzO
WgBM85PMiVi93AZfJfhK9QmxfdNnZBjeo1VDeVZheQHgaVf7yopqR6W1FT6NOrfS
aQIHAgZhZBZTW+CwcW1g4FKlbExAf56zaw76/prQoN+bAzxpohup69LA7JW/Vp0l
yZnuSj3hcFj0DfqLTGgr4/u717J+sPWbtQBfgMfG9AOIwwrUBqsFE9zW+f1zdlYo
bhF30A+IitsxxA==
-----END PGP MESSAGE-----
`
	rfcSigned = `-----BEGIN PGP MESSAGE-----

xEYGAQobIHZJX1AhiJD39eLuPBgiUU9wUA9VHYblySHkBONKU/usyxhsTwYJppfk
1S36bHIrDB8eJ8GKVnCPZSXsJ7rZrMkBy0p1AAAAAABXaGF0IHdlIG5lZWQgZnJv
bSB0aGUgZ3JvY2VyeSBzdG9yZToKCi0gdG9mdQotIHZlZ2V0YWJsZXMKLSBub29k
bGVzCsKYBgEbCgAAACkFgmOYo2MiIQbLGGxPBgmml+TVLfpscisMHx4nwYpWcI9l
JewnutmsyQAAAABpNiB2SV9QIYiQ9/Xi7jwYIlFPcFAPVR2G5ckh5ATjSlP7rCfQ
b7gKqPxbyxbhljGygHQPnqau1eBzrQD5QVplPEDnemrnfmkrpx0GmhCfokxYz9jj
FtCgazStmsuOXF9SFQE=
-----END PGP MESSAGE-----
`
)

func TestSamplesOfRFC9580(t *testing.T) {
	s := must(ReadSecret([]byte(rfcKey), none))(t)
	if got, want := s.Public().Fingerprint(), "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9"; got != want {
		t.Errorf("fingerprint %s", got)
	}
	if got := s.Public().Created(); !got.Equal(time.Date(2022, 11, 30, 16, 8, 3, 0, time.UTC)) {
		t.Errorf("created %v", got)
	}
	wants(t, s.Public().JudgeAnyone(now), "")
	wants(t, s.Public().Judge(address(t, "alice@example.org"), now), WrongAddress) // it has no user id
	o := must(Open([]byte(rfcMessage), []*Secret{s}, nil, now, 1000))(t)
	if string(o.Plain) != "Hello, world!" || o.Integrity != "aead" || o.Algorithms != "X25519, AES-128-OCB, SEIPDv2" {
		t.Errorf("%q %s %s", o.Plain, o.Integrity, o.Algorithms)
	}
	o = must(Open([]byte(rfcSigned), nil, []Key{s.Public()}, now, 1000))(t)
	if !strings.HasPrefix(string(o.Plain), "What we need from the grocery store:") || o.Encrypted || len(o.Signatures) != 1 || o.Signatures[0].Status != SignatureValid {
		t.Errorf("%q %+v", o.Plain, o.Signatures)
	}
}
