package irm

import (
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// A Process is a process that has announced itself. With it the Manager is called in
// the name of that process. It is good for nothing else. The zero Process is no process.
type Process struct{ record *registry.Process }

// An IPCP is an IPC process that a Spawner starts. The Spawner calls the Manager
// with it in the name of that IPCP. Its name and its type never change.
type IPCP struct{ record *registry.IPCP }

// Name returns the name of i.
func (i IPCP) Name() string { return i.record.Name }

// Type returns the type of i.
func (i IPCP) Type() ipcp.Type { return i.record.Type }

// What the registry shares with those who call the Manager, or are called by it. Only
// this package imports the registry.
type (
	// Program is a program, or an IPCP, that is bound to a name.
	Program = registry.Program
	// Owner is whose something is.
	Owner = registry.Owner
	// End is one end of the memory of a flow, until it is given to a process.
	End = registry.End
	// Metered is an End whose use can be counted, by a Meter.
	Metered = registry.Metered
	// Meter counts what passes at an End.
	Meter = registry.Meter
	// Count is what a Meter has counted.
	Count = registry.Count
	// HandedFlow is a flow as its process gets it.
	HandedFlow = registry.HandedFlow
	// User is the way to a process.
	User = registry.User
)
