//go:build race

package seal

// slower is how much more everything takes under the race detector, time and
// memory.
const slower = 10
