// Package fake is a whole internet on loopback.
package fake
