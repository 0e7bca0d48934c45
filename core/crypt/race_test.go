//go:build race

package crypt

const racing = true
