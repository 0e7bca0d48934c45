package udp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
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
	// maxAsked bounds the questions that wait for an answer.
	maxAsked = 1024
)

// dnsClient asks one DNS server, over one socket.
type dnsClient struct {
	socket port.UDP
	server netip.AddrPort
	reader sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	asked  map[uint16]*question
	closed bool
}

// question is a message to the server that waits for its answer.
type question struct {
	about  dnsmessage.Question
	answer chan dnsAnswer // takes one
}

// dnsAnswer is what came for a question. Its records are not read where the
// question was an update.
type dnsAnswer struct {
	dnsmessage.Header
	answers, authorities []dnsmessage.Resource
	err                  error // there is none, and won't be
}

// dialDNS returns a client of server whose socket is bound to own.
func dialDNS(ports port.Opener, own, server netip.Addr) (*dnsClient, error) {
	socket, err := ports.UDP(netip.AddrPortFrom(own, 0))
	if err != nil {
		return nil, err
	}
	c := &dnsClient{socket: socket, server: netip.AddrPortFrom(server, dnsPort), asked: make(map[uint16]*question)}
	c.reader.Go(c.read)
	return c, nil
}

// close ends all questions.
func (c *dnsClient) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.socket.Close()
	c.reader.Wait()
}

// read takes answers until the socket is closed. What is no answer to a question
// of ours is left out.
func (c *dnsClient) read() {
	d := make([]port.Datagram, 8)
	for {
		n, err := c.socket.Recv(d)
		if err != nil {
			c.endAll(fmt.Errorf("%w: the IPCP ends", core.ErrClosed))
			return
		}
		for _, one := range d[:n] {
			switch {
			case one.Peer != c.server:
			case one.Refused:
				c.endAll(fmt.Errorf("%w: nobody receives there", core.ErrTimeout))
			default:
				c.received(one.Body)
			}
		}
	}
}

func (c *dnsClient) endAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, q := range c.asked {
		delete(c.asked, id)
		q.answer <- dnsAnswer{err: err}
	}
}

func (c *dnsClient) received(b []byte) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.asked[h.ID]
	if q == nil {
		return
	}
	a, err := parseAnswer(b, q.about)
	if err != nil {
		return
	}
	delete(c.asked, h.ID)
	q.answer <- a
}

// parseAnswer returns the answer in b to the question about. The error is
// core.ErrMessage where b is none.
func parseAnswer(b []byte, about dnsmessage.Question) (dnsAnswer, error) {
	var p dnsmessage.Parser
	var a dnsAnswer
	var err error
	if a.Header, err = p.Start(b); err != nil {
		return a, fmt.Errorf("%w: %w", core.ErrMessage, err)
	}
	asked, err := p.AllQuestions()
	if err != nil {
		return a, fmt.Errorf("%w: %w", core.ErrMessage, err)
	}
	update := a.OpCode == opUpdate
	if !a.Response || len(asked) > 1 || len(asked) == 0 && !update {
		return a, fmt.Errorf("%w: not an answer", core.ErrMessage)
	}
	for _, q := range asked {
		if q.Type != about.Type || q.Class != about.Class || !strings.EqualFold(q.Name.String(), about.Name.String()) {
			return a, fmt.Errorf("%w: an answer to another question", core.ErrMessage)
		}
	}
	if update {
		return a, nil
	}
	if a.answers, err = p.AllAnswers(); err == nil {
		a.authorities, err = p.AllAuthorities()
	}
	if err != nil {
		return a, fmt.Errorf("%w: %w", core.ErrMessage, err)
	}
	return a, nil
}

// exchange sends a message about something to the server and waits for the
// answer. It sends it again each second until ctx ends.
func (c *dnsClient) exchange(ctx context.Context, about dnsmessage.Question, message func(id uint16) ([]byte, error)) (dnsAnswer, error) {
	q := &question{about, make(chan dnsAnswer, 1)}
	id, err := c.add(q)
	if err != nil {
		return dnsAnswer{}, err
	}
	defer c.remove(id, q)
	out, err := message(id)
	if err != nil {
		return dnsAnswer{}, fmt.Errorf("%w: %w", core.ErrInternal, err)
	}
	again := time.NewTicker(dnsAgain)
	defer again.Stop()
	for {
		if _, err := c.socket.Send([]port.Datagram{{Peer: c.server, Body: out}}); err != nil {
			return dnsAnswer{}, err
		}
		select {
		case a := <-q.answer:
			return a, a.err
		case <-again.C:
		case <-ctx.Done():
			return dnsAnswer{}, fmt.Errorf("no answer: %w", core.ContextError(ctx.Err()))
		}
	}
}

// add gives q an id that no other question has, and that nobody can guess.
func (c *dnsClient) add(q *question) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, fmt.Errorf("%w: the IPCP ends", core.ErrClosed)
	}
	if len(c.asked) >= maxAsked {
		return 0, fmt.Errorf("%w: %d questions wait for an answer", core.ErrLimit, maxAsked)
	}
	for {
		id := uint16(rand.Uint32())
		if c.asked[id] == nil {
			c.asked[id] = q
			return id, nil
		}
	}
}

func (c *dnsClient) remove(id uint16, q *question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[id] == q {
		delete(c.asked, id)
	}
}

// query asks for the records of typ that name has.
func (c *dnsClient) query(ctx context.Context, name dnsmessage.Name, typ dnsmessage.Type) (dnsAnswer, error) {
	about := dnsmessage.Question{Name: name, Type: typ, Class: dnsmessage.ClassINET}
	return c.exchange(ctx, about, func(id uint16) ([]byte, error) {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{about}}
		return m.Pack()
	})
}

// zone returns the zone that name is in.
func (c *dnsClient) zone(ctx context.Context, name dnsmessage.Name) (dnsmessage.Name, error) {
	a, err := c.query(ctx, name, dnsmessage.TypeSOA)
	for _, r := range append(a.answers, a.authorities...) {
		if r.Header.Type == dnsmessage.TypeSOA {
			return r.Header.Name, err
		}
	}
	return dnsmessage.MustNewName("."), err
}

// lookup returns the addresses of host. The error is core.ErrName where the
// server knows none, core.ErrTimeout where it could not tell.
func (c *dnsClient) lookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
	name, err := dnsmessage.NewName(host + ".")
	if err != nil {
		return nil, fmt.Errorf("%w: host name: %w", core.ErrInternal, err)
	}
	a, err := c.query(ctx, name, recordType(v6))
	if err != nil {
		return nil, fmt.Errorf("DNS server %v: %w", c.server.Addr(), err)
	}
	if a.RCode != dnsmessage.RCodeSuccess && a.RCode != dnsmessage.RCodeNameError {
		return nil, fmt.Errorf("%w: DNS server %v could not look up %s: %s", core.ErrTimeout, c.server.Addr(), host, rcode(a.RCode))
	}
	var found []netip.Addr
	for _, r := range a.answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			found = append(found, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			found = append(found, netip.AddrFrom16(body.AAAA))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: DNS server %v knows no address of %s", core.ErrName, c.server.Addr(), host)
	}
	return found, nil
}

// publish makes host have the address own, and no other, or none where here is
// false (RFC 2136).
func (c *dnsClient) publish(ctx context.Context, host string, own netip.Addr, here bool) error {
	ctx, cancel := context.WithTimeout(ctx, dnsTime)
	defer cancel()
	name, err := dnsmessage.NewName(host + ".")
	if err != nil {
		return fmt.Errorf("%w: host name: %w", core.ErrInternal, err)
	}
	zone, err := c.zone(ctx, name)
	if err != nil {
		return fmt.Errorf("find the zone of %s at DNS server %v: %w", host, c.server.Addr(), err)
	}
	about := dnsmessage.Question{Name: zone, Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}
	a, err := c.exchange(ctx, about, func(id uint16) ([]byte, error) { return update(id, about, name, own, here) })
	if err != nil {
		return fmt.Errorf("update %s at DNS server %v: %w", host, c.server.Addr(), err)
	}
	if a.RCode != dnsmessage.RCodeSuccess {
		return fmt.Errorf("%w: DNS server %v did not update %s: %s", core.ErrPermission, c.server.Addr(), host, rcode(a.RCode))
	}
	return nil
}

// update returns the message that makes name have the address own, and no other,
// or none where here is false.
func update(id uint16, zone dnsmessage.Question, name dnsmessage.Name, own netip.Addr, here bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, OpCode: opUpdate})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(zone); err != nil {
		return nil, err
	}
	if err := b.StartAuthorities(); err != nil {
		return nil, err
	}
	typ := recordType(own.Is6())
	remove := dnsmessage.ResourceHeader{Name: name, Type: typ, Class: classAny}
	if err := b.UnknownResource(remove, dnsmessage.UnknownResource{Type: typ}); err != nil {
		return nil, err
	}
	if here {
		add := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: dnsTTL}
		var err error
		if own.Is6() {
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

func recordType(v6 bool) dnsmessage.Type {
	if v6 {
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeA
}

// rcode returns what a code of an answer means, as DNS tools print it.
func rcode(c dnsmessage.RCode) string {
	names := []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", c)
}
