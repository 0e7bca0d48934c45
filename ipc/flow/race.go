//go:build race

package flow

import "sync/atomic"

// The race detector does not see the shared memory, so it would call it a race
// when a program has both ends and orders its own data by packets. This tells
// it what package net tells it about sockets: a read comes after every write
// before it.
var raceSync atomic.Uint64

func raceRelease() { raceSync.Add(1) }
func raceAcquire() { raceSync.Load() }
