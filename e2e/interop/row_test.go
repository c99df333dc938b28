package interop

import "github.com/sealpost/sealpost/internal/cms"

// row is one kind of seal with one kind of key.
type row struct {
	id, title string
	key       string // whose name is in people and in the tables of the programs
	algorithm string // what a verdict must call the recipient's key
	signature string // and how it must begin to name that of an S/MIME signer
	encrypts  bool
	signs     bool
	v6        bool
	cipher    cms.Cipher
	oaep, pss bool
	triple    bool
}

// of the organization that uses Sealpost, and of somebody with another program.
func (r row) ours() string   { return r.key + "@clinic.example" }
func (r row) theirs() string { return r.key + "@home.example" }

var pgpRows = []row{
	{id: "pgp-rsa3072", title: "Encrypted and signed: v4, RSA-3072", key: "rsa3072", algorithm: "RSA-3072", encrypts: true, signs: true},
	{id: "pgp-cv25519", title: "Encrypted and signed: v4, Curve25519 (ECDH, EdDSA legacy)", key: "cv25519", algorithm: "X25519", encrypts: true, signs: true},
	{id: "pgp-p256", title: "Encrypted and signed: v4, NIST P-256", key: "p256", algorithm: "ECDH P-256", encrypts: true, signs: true},
	{id: "pgp-p384", title: "Encrypted and signed: v4, NIST P-384", key: "p384", algorithm: "ECDH P-384", encrypts: true, signs: true},
	{id: "pgp-v6", title: "Encrypted and signed: v6, X25519 and Ed25519 (SEIPDv2)", key: "v6", algorithm: "X25519", encrypts: true, signs: true, v6: true},
	{id: "pgp-sign-rsa3072", title: "Signed: v4, RSA-3072", key: "rsa3072", signs: true},
	{id: "pgp-sign-cv25519", title: "Signed: v4, Ed25519 (EdDSA legacy)", key: "cv25519", signs: true},
	{id: "pgp-sign-p256", title: "Signed: v4, ECDSA P-256", key: "p256", signs: true},
	{id: "pgp-sign-p384", title: "Signed: v4, ECDSA P-384", key: "p384", signs: true},
	{id: "pgp-sign-v6", title: "Signed: v6, Ed25519", key: "v6", signs: true, v6: true},
}

var smimeRows = []row{
	{id: "rsa-cbc", title: "Encrypted: RSA-2048 PKCS #1 v1.5, AES-256-CBC", key: "rsa", algorithm: "RSA-2048 PKCS#1 v1.5", encrypts: true},
	{id: "oaep-cbc", title: "Encrypted: RSA-2048 OAEP, AES-256-CBC", key: "rsa", algorithm: "RSA-2048 OAEP-SHA256", encrypts: true, oaep: true},
	{id: "rsa-gcm", title: "Encrypted: RSA-2048 PKCS #1 v1.5, AES-256-GCM", key: "rsa", algorithm: "RSA-2048 PKCS#1 v1.5", encrypts: true, cipher: cms.AES256GCM},
	{id: "oaep-gcm", title: "Encrypted: RSA-2048 OAEP, AES-256-GCM", key: "rsa", algorithm: "RSA-2048 OAEP-SHA256", encrypts: true, oaep: true, cipher: cms.AES256GCM},
	{id: "p256-cbc", title: "Encrypted: ECDH P-256, AES-256-CBC", key: "p256", algorithm: "ECDH P-256", encrypts: true},
	{id: "p256-gcm", title: "Encrypted: ECDH P-256, AES-256-GCM", key: "p256", algorithm: "ECDH P-256", encrypts: true, cipher: cms.AES256GCM},
	{id: "p384-cbc", title: "Encrypted: ECDH P-384, AES-256-CBC", key: "p384", algorithm: "ECDH P-384", encrypts: true},
	{id: "p384-gcm", title: "Encrypted: ECDH P-384, AES-256-GCM", key: "p384", algorithm: "ECDH P-384", encrypts: true, cipher: cms.AES256GCM},
	{id: "x25519-cbc", title: "Encrypted: X25519, AES-256-CBC", key: "x25519", algorithm: "X25519", encrypts: true},
	{id: "x25519-gcm", title: "Encrypted: X25519, AES-256-GCM", key: "x25519", algorithm: "X25519", encrypts: true, cipher: cms.AES256GCM},
	{id: "sign-rsa", title: "Signed: RSA-2048 PKCS #1 v1.5", key: "rsa", signature: "RSA-2048 SHA", signs: true},
	{id: "sign-pss", title: "Signed: RSA-2048 PSS", key: "rsa", signature: "RSA-2048 PSS", signs: true, pss: true},
	{id: "sign-p256", title: "Signed: ECDSA P-256", key: "p256", signature: "ECDSA P-256", signs: true},
	{id: "sign-p384", title: "Signed: ECDSA P-384", key: "p384", signature: "ECDSA P-384", signs: true},
	{id: "sign-ed25519", title: "Signed: Ed25519", key: "ed25519", signature: "Ed25519", signs: true},
	{id: "both-rsa", title: "Signed, then encrypted: RSA-2048, AES-256-CBC", key: "rsa", algorithm: "RSA-2048 PKCS#1 v1.5", encrypts: true, signature: "RSA-2048 SHA", signs: true},
	{id: "both-p256", title: "Signed, then encrypted: P-256, AES-256-GCM", key: "p256", algorithm: "ECDH P-256", encrypts: true, signature: "ECDSA P-256", signs: true, cipher: cms.AES256GCM},
	{id: "triple-rsa", title: "Triple wrapped: RSA-2048, AES-256-CBC", key: "rsa", algorithm: "RSA-2048 PKCS#1 v1.5", encrypts: true, signature: "RSA-2048 SHA", signs: true, triple: true},
	{id: "triple-p256", title: "Triple wrapped: P-256, AES-256-GCM", key: "p256", algorithm: "ECDH P-256", encrypts: true, signature: "ECDSA P-256", signs: true, triple: true, cipher: cms.AES256GCM},
}
