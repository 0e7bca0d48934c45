//go:build !race

package flow

func raceRelease() {}
func raceAcquire() {}
