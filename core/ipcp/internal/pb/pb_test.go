package pb

import (
	"bytes"
	"errors"
	"testing"

	"o7s/core"
)

func TestFields(t *testing.T) {
	b := Uint(nil, 1, 0)
	b = Int(b, 2, -1009)
	b = Bytes(b, 3, "one")
	b = Bytes(b, 3, []byte("two"))
	b = Bytes(b, 4, Uint(nil, 1, 1<<40))
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Uint(1) != 0 || m.Int32(2) != -1009 || !bytes.Equal(m.Bytes(3), []byte("two")) || !m.Has(4) || m.Has(5) {
		t.Errorf("%x is not read as it was written", b)
	}
	var all []string
	m.All(3, func(v []byte) { all = append(all, string(v)) })
	if len(all) != 2 || all[0] != "one" {
		t.Errorf("field 3 holds %q", all)
	}
	if sub := m.Message(4); sub.Uint(1) != 1<<40 || sub.Err() != nil || m.Err() != nil {
		t.Errorf("the message in field 4: %v, %v", sub.Err(), m.Err())
	}
}

func TestFieldsThatAreNotThere(t *testing.T) {
	b := Bytes(Uint(Uint(nil, 1, 1<<32), 2, 1), 3, []byte{0xff})
	for what, read := range map[string]func(*Message){
		"a number that is missing":    func(m *Message) { m.Uint(9) },
		"bytes that are missing":      func(m *Message) { m.Bytes(9) },
		"a number that is bytes":      func(m *Message) { m.Uint(3) },
		"bytes that are a number":     func(m *Message) { m.Bytes(2) },
		"a number of 33 bits":         func(m *Message) { m.Uint32(1) },
		"a message that is rubbish":   func(m *Message) { m.Message(3) },
		"repeated, of another kind":   func(m *Message) { m.All(2, func([]byte) {}) },
		"a message that is not there": func(m *Message) { m.Message(9) },
	} {
		m, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if read(m); !errors.Is(m.Err(), core.ErrMessage) {
			t.Errorf("%s: %v", what, m.Err())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Bytes(Uint(nil, 1, 7), 2, "x"))
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		for num := range int32(8) {
			m.Has(num)
			m.Uint(num)
			m.Bytes(num)
			m.Message(num)
			m.All(num, func([]byte) {})
		}
	})
}
