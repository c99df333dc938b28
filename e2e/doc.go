// Package e2e tests the built binary: on both databases, against the internet
// of internal/fake, real programs and a real browser. It holds tests only.
package e2e
