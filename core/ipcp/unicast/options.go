package unicast

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/internal/pb"
	"o7s/core/ipcp/member"
	"o7s/core/ipcp/unicast/pff"
)

func number(name, value string, min, max uint64, usual string, place int, help string) ipcp.Option {
	return ipcp.Option{Name: name, Value: value, Kind: ipcp.Number, Min: min, Max: max, Default: usual, Place: place, Help: help}
}

func word(name, value string, words []string, usual string, place int, help string) ipcp.Option {
	return ipcp.Option{Name: name, Value: value, Kind: ipcp.Word, Words: words, Prefix: true, Default: usual, Place: place, Help: help}
}

func keyed(toml string, o ipcp.Option) ipcp.Option {
	o.TOML = toml
	return o
}

var (
	policies   = []string{"link_state", "lfa", "ecmp"} // by pff.Policy
	avoidances = []string{"none", "mb-ecn"}            // by their numbers on the wire
)

// options are what can be chosen when a layer is bootstrapped. A newcomer gets
// them from a member.
var layerOptions = []ipcp.Option{
	keyed("addr_size", number("addr", "BYTES", 4, 4, "4", 50, "length of an address")),
	keyed("eid_size", number("eid", "BYTES", 8, 8, "8", 60, "length of an endpoint id")),
	keyed("max_ttl", number("ttl", "HOPS", 1, 255, "60", 70, "members that a packet may pass")),
	keyed("addr-auth", word("addr_auth", "POLICY", []string{"flat"}, "flat", 100, "how members get their addresses: flat draws random ones")),
	word("directory", "POLICY", []string{"DHT"}, "DHT", 110, "where the layer keeps its names"),
	number("dht_alpha", "N", 1, 10, "3", 120, "members that one look-up asks at a time"),
	number("dht_k", "N", 1, 20, "8", 130, "members that keep a name"),
	keyed("dht_t_expiry", number("dht_t_expire", "SECONDS", 10, 86400, "86400", 140, "how long a name is kept whose owner is silent")),
	number("dht_t_refresh", "SECONDS", 3, 3600, "900", 150, "time between two looks for other members"),
	number("dht_t_replicate", "SECONDS", 3, 3600, "900", 160, "time between two times that a name is told"),
	word("routing", "POLICY", policies, "link_state", 170, "the way of packets: lfa has another one ready for when it fails, ecmp spreads them over all that are as short"),
	number("ls_t_recalc", "SECONDS", 1, 3600, "4", 180, "longest time until a change of the layer's shape has its effect"),
	number("ls_t_update", "SECONDS", 1, 3600, "15", 190, "time between two updates of an adjacency"),
	number("ls_t_timeo", "SECONDS", 1, 3600, "60", 200, "time after which an adjacency that is not updated is forgotten"),
	word("congestion", "POLICY", avoidances, "mb-ecn", 210, "how senders find out that they send too much"),
}

func checkOptions(s ipcp.Settings) error {
	if s.Number("ls_t_timeo") <= s.Number("ls_t_update") {
		return errors.New("ls_t_timeo has to be longer than ls_t_update, or each adjacency is forgotten between two updates")
	}
	return nil
}

// options is what settings mean to a member.
type options struct {
	ttl                     uint8
	policy                  pff.Policy
	recalc, update, timeout time.Duration
	alpha, k                int
	expire, refresh, repl   time.Duration
	ecn                     bool
}

func parseOptions(s ipcp.Settings) options {
	seconds := func(name string) time.Duration { return time.Duration(s.Number(name)) * time.Second }
	o := options{
		ttl: uint8(s.Number("ttl")), recalc: seconds("ls_t_recalc"), update: seconds("ls_t_update"), timeout: seconds("ls_t_timeo"),
		alpha: int(s.Number("dht_alpha")), k: int(s.Number("dht_k")),
		expire: seconds("dht_t_expire"), refresh: seconds("dht_t_refresh"), repl: seconds("dht_t_replicate"),
		ecn: s.Text("congestion") == avoidances[1],
	}
	o.policy = pff.Policy(index(policies, s.Text("routing")))
	return o
}

func index(words []string, word string) int {
	for i, w := range words {
		if w == word {
			return i
		}
	}
	return 0
}

// typeNumber is the type's number between systems.
const typeNumber = 1

// toWire returns what a member tells a newcomer of cfg. own is its address, where
// the newcomer begins to look for the directory.
func toWire(cfg ipcp.Config, own uint64) member.Config {
	n := cfg.Settings.Number
	ls := pb.Uint(nil, 1, uint64(index(policies, cfg.Settings.Text("routing"))))
	ls = pb.Uint(pb.Uint(pb.Uint(ls, 2, n("ls_t_recalc")), 3, n("ls_t_update")), 4, n("ls_t_timeo"))
	routing := pb.Bytes(pb.Uint(nil, 1, 0), 2, ls)
	transfer := pb.Uint(pb.Uint(pb.Uint(nil, 1, n("addr")), 2, n("eid")), 3, n("ttl"))
	transfer = pb.Bytes(transfer, 4, routing)
	dht := pb.Uint(pb.Uint(nil, 1, n("dht_alpha")), 2, n("dht_k"))
	dht = pb.Uint(pb.Uint(pb.Uint(dht, 3, n("dht_t_expire")), 4, n("dht_t_refresh")), 5, n("dht_t_replicate"))
	dht = pb.Uint(dht, 6, own)
	parts := pb.Bytes(nil, 1, transfer)
	parts = pb.Bytes(parts, 2, pb.Bytes(pb.Uint(nil, 1, 0), 2, dht))
	parts = pb.Uint(parts, 3, 0)
	parts = pb.Uint(parts, 4, uint64(index(avoidances, cfg.Settings.Text("congestion"))))
	return member.Config{Layer: cfg.Layer, Hash: cfg.Hash.Wire(), Type: typeNumber, Parts: parts}
}

// fromWire returns the Config that a member told, and the address where the
// directory is to be looked for. What the member told has the bounds of what
// people choose.
func fromWire(w member.Config) (cfg ipcp.Config, peer uint64, err error) {
	if w.Type != typeNumber {
		return cfg, 0, fmt.Errorf("%w: it is a layer of another type, number %d", core.ErrIPCPType, w.Type)
	}
	alg, err := hash.FromWire(w.Hash)
	if err != nil {
		return cfg, 0, err
	}
	all, err := pb.Parse(w.Parts)
	if err != nil {
		return cfg, 0, err
	}
	transfer := all.Message(1)
	routing := transfer.Message(4)
	ls := routing.Message(2)
	directory := all.Message(2)
	dht := directory.Message(2)
	var given []ipcp.Setting
	set := func(name, value string) { given = append(given, ipcp.Setting{Name: name, Value: value}) }
	for _, f := range []struct {
		from *pb.Message
		num  int32
		name string
	}{
		{transfer, 1, "addr"}, {transfer, 2, "eid"}, {transfer, 3, "ttl"},
		{ls, 2, "ls_t_recalc"}, {ls, 3, "ls_t_update"}, {ls, 4, "ls_t_timeo"},
		{dht, 1, "dht_alpha"}, {dht, 2, "dht_k"}, {dht, 3, "dht_t_expire"}, {dht, 4, "dht_t_refresh"}, {dht, 5, "dht_t_replicate"},
	} {
		set(f.name, strconv.FormatUint(uint64(f.from.Uint32(f.num)), 10))
	}
	policy, avoidance := ls.Uint(1), all.Uint(4)
	unknown := routing.Uint(1) + directory.Uint(1) + all.Uint(3) // each has one policy: 0
	peer = dht.Uint(6)
	for _, m := range []*pb.Message{all, transfer, routing, ls, directory, dht} {
		if m.Err() != nil {
			return cfg, 0, fmt.Errorf("the configuration of the layer: %w", m.Err())
		}
	}
	if unknown != 0 || policy >= uint64(len(policies)) || avoidance >= uint64(len(avoidances)) {
		return cfg, 0, fmt.Errorf("%w: the layer has a policy that is not known here", core.ErrNotSupported)
	}
	if peer > maxAddr {
		return cfg, 0, fmt.Errorf("%w: address %d", core.ErrMessage, peer)
	}
	set("routing", policies[policy])
	set("congestion", avoidances[avoidance])
	cfg, err = Type.Config(ipcp.Draft{Layer: w.Layer, Hash: alg.String(), Settings: given})
	return cfg, peer, err
}
