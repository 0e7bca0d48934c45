//go:build !race

package ipc_test

const racing = false
