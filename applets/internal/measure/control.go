package measure

import (
	"encoding/binary"
	"encoding/json"
)

// A control packet is how the tools of this project talk about a test beside
// its data. Data packets have zeros where it has its mark:
//
//	0 word   u32 little-endian: in the first packet of a test the type of the
//	         test, as programs without control packets expect it; else 2^32-1
//	4 mark   "o7s" and the version, 1
//	8 kind   u8, one of the kinds below
//	9 body   JSON
const (
	controlHeader = 9
	noWord        = 1<<32 - 1
	mark          = uint32('o') | '7'<<8 | 's'<<16 | 1<<24
)

// Kind says what a control packet is for.
type Kind uint8

// The kinds.
const (
	Hello   Kind = 1 + iota // the client asks for a test
	Welcome                 // the server takes it
	Refusal                 // the server does not; the body is a RefusalBody
	End                     // the sender has sent all; its figures
	Report                  // the receiver's figures
	Stop                    // the receiver asks the sender to end
)

// RefusalBody is the body of a Refusal.
type RefusalBody struct {
	Why string `json:"why"` // for people: "the server is busy"
}

// Control returns a control packet; word is 0 or 1 in a Hello and not looked
// at elsewhere. body must be something that JSON can say.
func Control(kind Kind, word uint32, body any) []byte {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // the caller's mistake: see above
	}
	if kind != Hello {
		word = noWord
	}
	p := binary.LittleEndian.AppendUint32(nil, word)
	p = binary.LittleEndian.AppendUint32(p, mark)
	return append(append(p, byte(kind)), b...)
}

// IsControl reports whether p is a control packet.
func IsControl(p []byte) bool {
	return len(p) >= controlHeader && binary.LittleEndian.Uint32(p[4:]) == mark
}

// ParseControl returns the kind of the control packet p, and its body in body,
// a pointer or nil. It reports false for any other packet.
func ParseControl(p []byte, body any) (Kind, bool) {
	if !IsControl(p) || body != nil && json.Unmarshal(p[controlHeader:], body) != nil {
		return 0, false
	}
	return Kind(p[8]), true
}

// Refuse returns the answer of a server to p, nil unless p is the Hello of
// another tool: it says what the server is, "an oping server".
func Refuse(p []byte, server string) []byte {
	if kind, ok := ParseControl(p, nil); !ok || kind != Hello {
		return nil
	}
	return Control(Refusal, 0, RefusalBody{Why: "it is " + server})
}
