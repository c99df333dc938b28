// Package interop measures with which other programs Sealpost exchanges sealed
// and signed mail, and writes docs/interoperability.md. It holds tests only.
//
//   - A cell of the table is a message that was made by one side and read by the
//     other, in this run. Nothing is in the table that was not done.
//   - What we make are whole artifacts of internal/seal, taken apart with the
//     standard library. What we read goes through seal.Open, whose verdict must
//     say all that is so and nothing that is not.
//   - What does not work is named in the table of exceptions, with words that the
//     other program must say. A cell that changes fails the test, to the worse
//     and to the better.
//
// To write the document again: go test ./e2e/interop -update
package interop
