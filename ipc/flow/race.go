//go:build race

package flow

import "sync/atomic"

// The race detector does not see the shared memory. A program that has both ends
// and orders its own data by packets would be told of a race. So each read is
// ordered after all earlier writes here, as package net does for sockets.
var raceSync atomic.Uint64

func raceRelease() { raceSync.Add(1) }
func raceAcquire() { raceSync.Load() }
