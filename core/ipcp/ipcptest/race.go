//go:build race

package ipcptest

const raceDetector = true
