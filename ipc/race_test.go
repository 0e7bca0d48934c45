//go:build race

package ipc_test

// racing reports whether the race detector runs, which makes load another.
const racing = true
