// Package dnssec sends mail by what DNSSEC says: Knot DNS signs, Unbound
// validates, Postfix receives, and the built program is in between.
package dnssec
