// Package mail reads and writes e-mail: addresses, header fields, MIME
// messages, and the strict line endings of SMTP.
//
// Invariants:
//   - What somebody else wrote is never rewritten by accident: a header field
//     that is not touched and a body that is not re-encoded on purpose leave
//     with exactly the bytes they came with.
//   - CR, LF and NUL never enter a header field from a value: every setter
//     refuses them, and non-ASCII text is encoded (RFC 2047, RFC 2231).
//   - Every parser is bounded in bytes, fields, parts and depth before it
//     works, and takes time linear in its input.
//   - A message that does not parse is still whole: View offers it as a file.
//   - An Address shows its domain and hides its local part however it is
//     printed; Reveal and Local are the only ways out.
package mail
