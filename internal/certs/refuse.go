package certs

import "github.com/sealpost/sealpost/internal/fault"

// refusals are the words by which certificates are refused, and what people
// are told.
var refusals = map[string]string{
	"expired":            "The certificate has expired. Ask the recipient for their new one.",
	"not_yet_valid":      "The certificate is not valid yet.",
	"weak_algorithm":     "The certificate's key is too weak to protect mail. Ask the recipient for a certificate with RSA of 2048 to 8192 bits or an elliptic curve key.",
	"weak_signature":     "The certificate was signed with a method that can be forged (SHA-1 or older). Ask the recipient for a newer one.",
	"no_encryption_key":  "The certificate is for signatures only, and mail cannot be encrypted to it.",
	"key_usage":          "The certificate was not issued for this use of it in mail.",
	"unknown_critical":   "The certificate sets a condition that Sealpost does not understand, so it is not used.",
	"wrong_address":      "The certificate belongs to another e-mail address.",
	"no_chain":           "The certificate does not come from an authority that is trusted here.",
	"name_constraints":   "The authority that issued the certificate may not issue certificates for this address.",
	"revoked":            "The certificate was withdrawn by the authority that issued it. Ask the recipient for their new one.",
	"revocation_unknown": "It could not be learned whether the certificate is still good, so it is not used now.",
	"unsupported":        "The certificate has a key of a kind that Sealpost cannot use.",
	"malformed":          "This is not a certificate that can be read.",
	"too_large":          "There are more certificates here than Sealpost looks at.",
}

func refuse(word string) *fault.Fault { return fault.New(fault.Refused, word, refusals[word]) }
