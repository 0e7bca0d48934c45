package operf

import (
	"encoding/binary"
	"time"

	"o7s/applets/internal/measure"
)

// The base form, which the C prototype's operf speaks too: the first packet is
// the type of the test, a u32 little-endian, and a pause of one second; then
// data, each a sequence number from 0, u32 little-endian, and zeros. In a test
// of type bi the server echoes data. It ends a flow after one second of
// silence.
//
// This project's own form puts control packets (see package measure) around
// that. A Hello, whose first word is the type, is the first packet, and the
// server's Welcome takes the place of the pause. After the data the sender
// sends End with its summary, and again until the receiver answers with
// Report and its own. A server that does not answer the Hello for a second is
// taken for one of the base form.
const (
	typeUni = 0
	typeBi  = 1

	baseHello = 4 // bytes
	pause     = time.Second
	silence   = time.Second
	patience  = 5 * time.Second // with a peer that would say End
	endAgain  = 200 * time.Millisecond
	endTries  = 10
	straggle  = 100 * time.Millisecond // for packets that End has overtaken
	echoWait  = 2 * time.Second        // for the last echoes, in the base form

	minSize     = 64 // bytes
	maxDuration = 100 * 365 * 24 * time.Hour
	maxStreams  = 128
)

// plan is the body of a Hello: what the server is to know of the test.
type plan struct {
	Test     string        `json:"test"` // the same in all flows of a test, and in no other
	Streams  int           `json:"streams"`
	Reverse  bool          `json:"reverse"` // the server sends
	Size     int           `json:"size"`    // bytes
	Duration time.Duration `json:"duration_ns"`
	Rate     float64       `json:"rate"`  // bit/s in each flow; 0: as fast as can be
	Sleep    bool          `json:"sleep"` // sleep before each packet

	both bool // the type is bi
	base bool // it came, or goes, in the base form
}

// word returns the type as the base form has it.
func (p *plan) word() uint32 {
	if p.both {
		return typeBi
	}
	return typeUni
}

// valid reports whether a plan from the network can be carried out.
func (p *plan) valid() bool {
	return p.Size >= minSize && p.Size <= maxSize && p.Duration > 0 && p.Duration <= maxDuration &&
		p.Rate >= 0 && p.Rate <= 1e15 && p.Streams >= 1 && p.Streams <= maxStreams && !(p.both && p.Reverse)
}

// firstPacket returns what the first packet of a flow asks for; false if it is
// none of operf's.
func firstPacket(p []byte) (*plan, bool) {
	var pl plan
	if len(p) < baseHello {
		return nil, false
	}
	word := binary.LittleEndian.Uint32(p)
	if word > typeBi {
		return nil, false
	}
	pl.both = word == typeBi
	if len(p) == baseHello {
		pl.base = true
		return &pl, true
	}
	kind, ok := measure.ParseControl(p, &pl)
	if !ok || kind != measure.Hello || !pl.valid() {
		return nil, false
	}
	return &pl, true
}

// figures is the body of End and Report: what one end of a flow has sent or
// received. The receiver alone knows the last three.
type figures struct {
	Packets  uint64  `json:"packets"`
	Bytes    uint64  `json:"bytes"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_percent"` // of the whole process
	Lost     uint64  `json:"lost"`
	Late     uint64  `json:"late"`
	Repeated uint64  `json:"repeated"`
}
