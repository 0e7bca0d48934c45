//go:build race

package udp

func init() { manyFlows = 500 } // the race detector makes more take minutes
