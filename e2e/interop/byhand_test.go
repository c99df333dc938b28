package interop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
)

// What no other program here reads is taken apart by hand: the structure with
// encoding/asn1, after the text of the RFCs, and everything secret with single
// operations of openssl. Nothing of this is shared with internal/cms.

type contentInfo struct {
	Type asn1.ObjectIdentifier
	Data asn1.RawValue // [0]
}

// envelope is EnvelopedData (RFC 5652 section 6.1) or AuthEnvelopedData (RFC
// 5083 section 2.1).
type envelope struct {
	Version    int
	Recipients []asn1.RawValue `asn1:"set"`
	Content    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Octets    []byte `asn1:"tag:0"`
	}
	MAC []byte `asn1:"optional"`
}

// agreement is KeyAgreeRecipientInfo (RFC 5652 section 6.2.2).
type agreement struct {
	Version    int
	Originator asn1.RawValue // [0]
	Algorithm  struct {
		Scheme asn1.ObjectIdentifier
		Wrap   pkix.AlgorithmIdentifier
	}
	Keys []struct {
		ID  asn1.RawValue
		Key []byte
	}
}

type originatorKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Point     asn1.BitString
}

// sharedInfo is ECC-CMS-SharedInfo (RFC 5753 section 7.2).
type sharedInfo struct {
	Wrap pkix.AlgorithmIdentifier
	Bits []byte `asn1:"explicit,tag:2"`
}

func TestX25519ByHand(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	o := &openssl{folder: newFolder(t), p: p}
	for _, r := range smimeRows {
		if r.key != "x25519" {
			continue
		}
		raw, err := p.sealedSMIME(r)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := o.byHand(r, raw)
		if err == nil {
			err = isShownLetter(plain)
		}
		if err != nil {
			t.Errorf("%s: %v", r.id, err)
		}
	}
}

func (o *openssl) byHand(r row, raw []byte) ([]byte, error) {
	mail, err := readPart(raw)
	if err != nil {
		return nil, err
	}
	der, err := unbase64(mail.body)
	if err != nil {
		return nil, err
	}
	var info contentInfo
	var e envelope
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(info.Data.Bytes, &e); err != nil {
		return nil, err
	}
	if len(e.Recipients) != 1 {
		return nil, fmt.Errorf("%d recipients", len(e.Recipients))
	}
	key, err := o.agree(r, e.Recipients[0].FullBytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if e.MAC == nil {
		return uncbc(block, e.Content.Algorithm.Parameters.Bytes, e.Content.Octets)
	}
	var gcm struct { // RFC 5084 section 3.2
		Nonce []byte
		Size  int `asn1:"optional,default:12"`
	}
	if _, err := asn1.Unmarshal(e.Content.Algorithm.Parameters.FullBytes, &gcm); err != nil {
		return nil, err
	}
	if gcm.Size != len(e.MAC) {
		return nil, fmt.Errorf("a tag of %d octets is said to have %d", len(e.MAC), gcm.Size)
	}
	aead, err := cipher.NewGCMWithTagSize(block, gcm.Size)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, gcm.Nonce, append(e.Content.Octets, e.MAC...), nil)
}

func uncbc(block cipher.Block, iv, octets []byte) ([]byte, error) {
	if len(octets)%block.BlockSize() != 0 || len(iv) != block.BlockSize() || len(octets) == 0 {
		return nil, errors.New("these are no blocks")
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(octets, octets)
	return octets[:len(octets)-int(octets[len(octets)-1])], nil
}

// agree comes to the content key as RFC 8418 section 2 says it.
func (o *openssl) agree(r row, der []byte) ([]byte, error) {
	var a agreement
	if _, err := asn1.UnmarshalWithParams(der, &a, "tag:1"); err != nil {
		return nil, err
	}
	var from originatorKey
	if _, err := asn1.UnmarshalWithParams(a.Originator.Bytes, &from, "tag:1"); err != nil {
		return nil, err
	}
	if got := a.Algorithm.Scheme.String() + " " + a.Algorithm.Wrap.Algorithm.String() + " " + from.Algorithm.Algorithm.String(); got != "1.2.840.113549.1.9.16.3.19 2.16.840.1.101.3.4.1.45 1.3.101.110" {
		return nil, fmt.Errorf("not X25519 with HKDF-SHA256 and AES-256 wrap: %s", got)
	}
	point, err := ecdh.X25519().NewPublicKey(from.Point.Bytes)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(point)
	if err != nil {
		return nil, err
	}
	supplied, err := asn1.Marshal(sharedInfo{a.Algorithm.Wrap, []byte{0, 0, 1, 0}})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(o.own(r), o.write("peer", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))); err != nil {
		return nil, err
	}
	secret, _, err := o.run(nil, "openssl", "pkeyutl", "-derive", "-inkey", r.theirs()+".key", "-peerkey", "peer")
	if err != nil {
		return nil, err
	}
	wrapping, _, err := o.run(nil, "openssl", "kdf", "-keylen", "32", "-binary", "-kdfopt", "digest:SHA256",
		"-kdfopt", "hexkey:"+hex.EncodeToString(secret), "-kdfopt", "hexinfo:"+hex.EncodeToString(supplied), "HKDF")
	if err != nil {
		return nil, err
	}
	key, _, err := o.run(a.Keys[0].Key, "openssl", "enc", "-d", "-id-aes256-wrap", "-K", hex.EncodeToString(wrapping), "-iv", "a6a6a6a6a6a6a6a6")
	return key, err
}

// signedData is SignedData with one signer (RFC 5652 section 5.1).
type signedData struct {
	Version      int
	Digests      asn1.RawValue
	Content      asn1.RawValue
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	Signers      []struct {
		Version    int
		ID         asn1.RawValue
		Digest     pkix.AlgorithmIdentifier
		Attributes asn1.RawValue `asn1:"tag:0"`
		Algorithm  pkix.AlgorithmIdentifier
		Signature  []byte
	} `asn1:"set"`
}

func TestEd25519ByHand(t *testing.T) {
	p, err := everybody()
	if err != nil {
		t.Fatal(err)
	}
	r := row{key: "ed25519", signs: true}
	raw, err := p.sealedSMIME(r)
	if err != nil {
		t.Fatal(err)
	}
	mail, err := readPart(raw)
	if err != nil {
		t.Fatal(err)
	}
	content, der, err := mail.two("multipart/signed")
	if err != nil {
		t.Fatal(err)
	}
	var info contentInfo
	var s signedData
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(info.Data.Bytes, &s); err != nil {
		t.Fatal(err)
	}
	// RFC 8419 section 3.1: the digest is SHA-512, and what is signed are the
	// attributes as a SET OF.
	signer := s.Signers[0]
	attributes := bytes.Clone(signer.Attributes.FullBytes)
	attributes[0] = 0x31
	digest := sha512.Sum512([]byte(content))
	if got := signer.Digest.Algorithm.String() + " " + signer.Algorithm.Algorithm.String(); got != "2.16.840.1.101.3.4.2.3 1.3.101.112" || !bytes.Contains(attributes, digest[:]) {
		t.Errorf("signed with %s", got)
	}
	o := &openssl{folder: newFolder(t), p: p}
	if err := errors.Join(o.file(r.ours()), o.write("attributes", attributes), o.write("signature", signer.Signature)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.run(nil, "openssl", "pkeyutl", "-verify", "-certin", "-inkey", r.ours()+".crt", "-rawin", "-in", "attributes", "-sigfile", "signature"); err != nil {
		t.Error(err)
	}
}
