// Package settings holds what an administrator sets of names and of layers.
package settings

import (
	"fmt"
	"strings"

	"o7s/core"
	"o7s/core/view"
)

// Policy says which of the processes bound to a name gets the next flow.
type Policy uint8

const (
	// RoundRobin gives it to the process that has waited longest.
	RoundRobin Policy = iota
	// Spillover gives it to the process that came last, as long as that accepts.
	Spillover
)

func (p Policy) String() string {
	if p == Spillover {
		return "spillover"
	}
	return "round-robin"
}

// ParsePolicy returns the policy called s.
func ParsePolicy(s string) (Policy, error) {
	switch s {
	case "round-robin":
		return RoundRobin, nil
	case "spillover", "spill":
		return Spillover, nil
	}
	return 0, fmt.Errorf("%w: load-balance policy %q is neither round-robin nor spillover", core.ErrUsage, s)
}

// Protection is what an administrator wants of flows to other systems, of a name
// or of a layer. The zero value wants nothing.
type Protection struct {
	Encrypt bool // refuse a plain flow
	Auth    bool // refuse an end without a certificate
	// Server and Client say where the files of a name are that are not in the
	// folder of its name.
	Server, Client Files
}

// Files are paths; "" is the file in the folder of the name.
type Files struct{ Enc, Crt, Key string }

// And returns what p and q want together; the files are p's.
func (p Protection) And(q Protection) Protection {
	p.Encrypt = p.Encrypt || q.Encrypt
	p.Auth = p.Auth || q.Auth
	return p
}

// required is the value of the settings encrypt and authenticate.
const required = "required"

// files are the settings of Files, with what each sets.
var files = []struct {
	key string
	of  func(*Protection) *string
}{
	{"server_enc_file", func(p *Protection) *string { return &p.Server.Enc }},
	{"server_crt_file", func(p *Protection) *string { return &p.Server.Crt }},
	{"server_key_file", func(p *Protection) *string { return &p.Server.Key }},
	{"client_enc_file", func(p *Protection) *string { return &p.Client.Enc }},
	{"client_crt_file", func(p *Protection) *string { return &p.Client.Crt }},
	{"client_key_file", func(p *Protection) *string { return &p.Client.Key }},
}

// ProtectionKeys are the settings of a Protection: of a layer the first two, of a
// name all.
func ProtectionKeys(name bool) []string {
	keys := []string{"encrypt", "authenticate"}
	if name {
		for _, f := range files {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Set sets what key says. The error is core.ErrUsage.
func (p *Protection) Set(key, value string) error {
	flag := map[string]*bool{"encrypt": &p.Encrypt, "authenticate": &p.Auth}[key]
	if flag != nil {
		if value != required {
			return fmt.Errorf("%w for %s: %q; it is \"required\", or not there", core.ErrUsage, key, value)
		}
		*flag = true
		return nil
	}
	for _, f := range files {
		if f.key == key {
			if value == "" || strings.IndexByte(value, 0) >= 0 {
				return fmt.Errorf("%w for %s: it is the path of a file", core.ErrUsage, key)
			}
			*f.of(p) = value
			return nil
		}
	}
	return fmt.Errorf("%w: there is no setting %q", core.ErrUsage, key)
}

// Settings returns what is set, as Set takes it.
func (p Protection) Settings() view.Options {
	var all view.Options
	if p.Encrypt {
		all = append(all, view.Option{Name: "encrypt", Value: required})
	}
	if p.Auth {
		all = append(all, view.Option{Name: "authenticate", Value: required})
	}
	for _, f := range files {
		if v := *f.of(&p); v != "" {
			all = append(all, view.Option{Name: f.key, Value: v})
		}
	}
	return all
}
