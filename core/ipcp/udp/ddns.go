package udp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"o7s/core"
	"o7s/core/ipcp/port"
)

const (
	dnsPort = 53
	// dnsTTL is for how long others may keep the address of a name of ours, in
	// seconds. It is the C prototype's.
	dnsTTL = 86400
	// dnsAgain is the time after which a question is asked again.
	dnsAgain = time.Second
	// dnsTime bounds an update.
	dnsTime = 4 * time.Second
	// opUpdate is the operation code of RFC 2136.
	opUpdate = 5
	// classAny deletes a set of records, in an update.
	classAny = dnsmessage.Class(255)
)

// publish tells the DNS server, if there is one, that h is here, or is not
// (RFC 2136).
func (d *directory) publish(ctx context.Context, h core.Hash, here bool) error {
	if !d.dns.IsValid() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	name, err := dnsmessage.NewName(h.Full() + ".")
	if err != nil {
		return fmt.Errorf("%w: host name: %w", core.ErrInternal, err)
	}
	zone, err := d.zone(ctx, name)
	if err != nil {
		return fmt.Errorf("DNS server %v: find the zone of %v: %w", d.dns, name, err)
	}
	head, err := d.exchange(ctx, func(id uint16) ([]byte, error) { return d.update(id, zone, name, here) }, nil)
	if err != nil {
		return fmt.Errorf("DNS server %v: update %v: %w", d.dns, name, err)
	}
	if head.RCode != dnsmessage.RCodeSuccess {
		return fmt.Errorf("%w: DNS server %v refused to update %v: %v", core.ErrPermission, d.dns, name, head.RCode)
	}
	return nil
}

// update returns the message that makes name have this system's address, and no
// other, or none.
func (d *directory) update(id uint16, zone, name dnsmessage.Name, here bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, OpCode: opUpdate})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: zone, Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}); err != nil {
		return nil, err
	}
	if err := b.StartAuthorities(); err != nil {
		return nil, err
	}
	remove := dnsmessage.ResourceHeader{Name: name, Type: d.recordType(), Class: classAny}
	if err := b.UnknownResource(remove, dnsmessage.UnknownResource{Type: d.recordType()}); err != nil {
		return nil, err
	}
	if here {
		add := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: dnsTTL}
		var err error
		if own := d.own.Addr(); d.family.v6() {
			err = b.AAAAResource(add, dnsmessage.AAAAResource{AAAA: own.As16()})
		} else {
			err = b.AResource(add, dnsmessage.AResource{A: own.As4()})
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

func (d *directory) recordType() dnsmessage.Type {
	if d.family.v6() {
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeA
}

func question(name dnsmessage.Name, typ dnsmessage.Type) func(uint16) ([]byte, error) {
	return func(id uint16) ([]byte, error) {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: name, Type: typ, Class: dnsmessage.ClassINET}},
		}
		return m.Pack()
	}
}

// zone returns the zone that name is in.
func (d *directory) zone(ctx context.Context, name dnsmessage.Name) (dnsmessage.Name, error) {
	var zone dnsmessage.Name
	_, err := d.exchange(ctx, question(name, dnsmessage.TypeSOA), func(r dnsmessage.Resource) {
		if r.Header.Type == dnsmessage.TypeSOA && zone.Length == 0 {
			zone = r.Header.Name
		}
	})
	if zone.Length == 0 {
		zone = dnsmessage.MustNewName(".")
	}
	return zone, err
}

// ask asks the DNS server for the addresses of host.
func (d *directory) ask(ctx context.Context, host string) ([]netip.Addr, error) {
	name, err := dnsmessage.NewName(host + ".")
	if err != nil {
		return nil, fmt.Errorf("%w: host name: %w", core.ErrInternal, err)
	}
	var found []netip.Addr
	head, err := d.exchange(ctx, question(name, d.recordType()), func(r dnsmessage.Resource) {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			found = append(found, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			found = append(found, netip.AddrFrom16(body.AAAA))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("DNS server %v: %w", d.dns, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: DNS server %v knows no address of %s (%v)", core.ErrName, d.dns, host, head.RCode)
	}
	return found, nil
}

// exchange sends a message to the DNS server and waits for the answer, of whose
// records it calls each, if that is not nil. It asks again each second until ctx
// ends.
func (d *directory) exchange(ctx context.Context, message func(id uint16) ([]byte, error), each func(dnsmessage.Resource)) (dnsmessage.Header, error) {
	socket, err := d.env.Ports.UDP(netip.AddrPortFrom(d.own.Addr(), 0))
	if err != nil {
		return dnsmessage.Header{}, err
	}
	defer socket.Close()
	id := uint16(rand.Uint32())
	out, err := message(id)
	if err != nil {
		return dnsmessage.Header{}, err
	}
	server := netip.AddrPortFrom(d.dns, dnsPort)
	answers := make(chan []byte, 1)
	go receiveFrom(socket, server, id, answers)
	again := time.NewTicker(dnsAgain)
	defer again.Stop()
	for {
		if _, err := socket.Send([]port.Datagram{{Peer: server, Body: out}}); err != nil {
			return dnsmessage.Header{}, err
		}
		select {
		case b := <-answers:
			return parseAnswer(b, each)
		case <-again.C:
		case <-ctx.Done():
			return dnsmessage.Header{}, fmt.Errorf("no answer: %w", core.ContextError(ctx.Err()))
		}
	}
}

// receiveFrom passes on the first answer of server with that id. It ends with
// the socket.
func receiveFrom(socket port.UDP, server netip.AddrPort, id uint16, answers chan<- []byte) {
	d := make([]port.Datagram, 1)
	for {
		n, err := socket.Recv(d)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		if n == 0 || d[0].Peer != server {
			continue
		}
		if h, err := p.Start(d[0].Body); err == nil && h.Response && h.ID == id {
			answers <- append([]byte(nil), d[0].Body...)
			return
		}
	}
}

// parseAnswer calls each with the answers and the authorities of a message.
func parseAnswer(b []byte, each func(dnsmessage.Resource)) (dnsmessage.Header, error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return dnsmessage.Header{}, fmt.Errorf("%w: its answer: %w", core.ErrMessage, err)
	}
	if each != nil {
		for _, r := range append(m.Answers, m.Authorities...) {
			each(r)
		}
	}
	return m.Header, nil
}
