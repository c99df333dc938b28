// Package house holds the rules of the source tree itself, as tests: who may
// import whom, who may call what, and how large things may grow. It offers no
// code. The table of rooms is in rooms_test.go.
package house
