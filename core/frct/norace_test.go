//go:build !race

package frct

const racing = false
