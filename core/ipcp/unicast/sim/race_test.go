//go:build race

package sim

// With the race detector everything takes much longer.
func init() { raced = true }
