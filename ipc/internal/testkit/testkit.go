// Package testkit is what the tests of ipc and its packages share. Programs do not
// use it.
package testkit

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"time"
)

// Packet returns n bytes that depend on seed.
func Packet(n, seed int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(seed + i*7)
	}
	return p
}

// Eventually waits until ok returns true, for at most 10 s, and reports whether it
// did.
func Eventually(ok func() bool) bool {
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Files maps each open descriptor of this process to what it is, as /proc says.
func Files() map[string]string {
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	open := make(map[string]string)
	for _, e := range entries {
		// The descriptor of the directory itself is closed by now.
		if what, err := os.Readlink(dir + e.Name()); err == nil {
			open[e.Name()] = what
		}
	}
	return open
}

// FlowMaps returns how many mappings of the memory of flows this process has.
func FlowMaps() int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	return bytes.Count(maps, []byte("memfd:o7s"))
}

// Goroutines returns the stacks of all goroutines that contain text, and none of
// the texts but.
func Goroutines(text string, but ...string) (stacks []string) {
	buf := make([]byte, 4<<20)
next:
	for s := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, b := range but {
			if strings.Contains(s, b) {
				continue next
			}
		}
		if strings.Contains(s, text) {
			stacks = append(stacks, s)
		}
	}
	return stacks
}
