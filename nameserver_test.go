package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver ADDR HASH is a DNS server with the root alone as its zone. It takes
// updates, and says so. For the name HASH it knows an address of IPv6 alone, and
// gives it to clients that ask for one of IPv4 too.
func nameserver() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "nameserver:", err)
			os.Exit(1)
		}
	}
	s, err := net.ListenPacket("udp", net.JoinHostPort(os.Args[1], "53"))
	fail(err)
	fmt.Println("ready")
	records := make(map[string]dnsmessage.ResourceBody)
	for b := make([]byte, 4096); ; {
		n, from, err := s.ReadFrom(b)
		fail(err)
		var p dnsmessage.Parser
		h, err := p.Start(b[:n])
		fail(err)
		questions, err := p.AllQuestions()
		fail(err)
		q := questions[0]
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode}, Questions: questions}
		name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
		answer := func(typ dnsmessage.Type, body dnsmessage.ResourceBody) {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, Type: typ}, Body: body})
		}
		root := dnsmessage.MustNewName(".")
		switch known := records[name]; {
		case h.OpCode == 5: // an update
			fail(p.SkipAllAnswers())
			for {
				r, err := p.AuthorityHeader()
				if err == dnsmessage.ErrSectionDone {
					break
				}
				fail(err)
				name := strings.ToLower(strings.TrimSuffix(r.Name.String(), "."))
				if r.Class != dnsmessage.ClassINET {
					delete(records, name)
					fmt.Println("removed", name)
					fail(p.SkipAuthority())
					continue
				}
				a, err := p.AResource()
				fail(err)
				records[name] = &a
				fmt.Println("added", name, net.IP(a.A[:]))
			}
		case q.Type == dnsmessage.TypeSOA:
			m.Authorities = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: root, Class: dnsmessage.ClassINET, Type: dnsmessage.TypeSOA},
				Body:   &dnsmessage.SOAResource{NS: root, MBox: root},
			}}
		case name == os.Args[2]:
			answer(dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}})
		case known != nil && q.Type == dnsmessage.TypeA:
			answer(q.Type, known)
		default:
			m.RCode = dnsmessage.RCodeNameError
		}
		out, err := m.Pack()
		fail(err)
		_, err = s.WriteTo(out, from)
		fail(err)
	}
}
