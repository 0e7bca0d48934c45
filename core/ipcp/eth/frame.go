package eth

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"o7s/core"
)

// format is how the frames of a layer look: those of eth-dix, or those of
// eth-llc. Endpoint ids are plain numbers in it; what is on the wire differs.
type format struct {
	mgmt  uint16 // the id of management messages
	maxID uint16 // the highest id of a flow
	head  int    // bytes before the payload, within what port.Frame carries

	// put writes the head of a frame with n bytes of payload to b.
	put func(b []byte, dst, src uint16, n int)
	// parse returns the ids and the payload of a received frame. src is 0
	// where the format has none.
	parse func(b []byte) (dst, src uint16, payload []byte, err error)
}

const (
	dixHead = 4 // eid, length
	llcHead = 3 // DSAP, SSAP, control

	llcControl = 3 // unnumbered information
	llcMgmt    = 1
	llcMaxSAP  = 63 // the C prototype has no more
	dixMaxEID  = 0xfffe

	// llcMTU is the most that the length field of an IEEE 802.3 header says.
	llcMTU = 1500
)

var dix = &format{mgmt: 0, maxID: dixMaxEID, head: dixHead, put: putDix, parse: parseDix}

var llc = &format{mgmt: llcMgmt, maxID: llcMaxSAP, head: llcHead, put: putLLC, parse: parseLLC}

// isMgmt reports whether a frame with these ids is a management message.
func (f *format) isMgmt(dst, src uint16) bool {
	return dst == f.mgmt && (f == dix || src == f.mgmt)
}

// maxPayload returns how many bytes of payload a frame carries on a device of
// that MTU.
func (f *format) maxPayload(mtu int) int {
	if f == llc {
		mtu = min(mtu, llcMTU)
	}
	return max(mtu-f.head, 0)
}

func putDix(b []byte, dst, _ uint16, n int) {
	binary.BigEndian.PutUint16(b, dst)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
}

// parseDix trims the padding that short frames have.
func parseDix(b []byte) (dst, src uint16, payload []byte, err error) {
	if len(b) < dixHead {
		return 0, 0, nil, fmt.Errorf("%w: a frame of %d bytes", core.ErrMessage, len(b))
	}
	dst = binary.BigEndian.Uint16(b)
	n := int(binary.BigEndian.Uint16(b[2:]))
	payload = b[dixHead:]
	if n > len(payload) {
		return 0, 0, nil, fmt.Errorf("%w: length %d in a frame with %d bytes", core.ErrMessage, n, len(payload))
	}
	return dst, 0, payload[:n], nil
}

// putLLC writes the service access points (SAPs), whose bits are in reverse
// order on the wire.
func putLLC(b []byte, dst, src uint16, _ int) {
	b[0], b[1], b[2] = bits.Reverse8(uint8(dst)), bits.Reverse8(uint8(src)), llcControl
}

// parseLLC leaves padding alone: the port has trimmed the frame by the length
// in its header.
func parseLLC(b []byte) (dst, src uint16, payload []byte, err error) {
	if len(b) < llcHead {
		return 0, 0, nil, fmt.Errorf("%w: a frame of %d bytes", core.ErrMessage, len(b))
	}
	if b[2] != llcControl {
		return 0, 0, nil, fmt.Errorf("%w: LLC control %#x", core.ErrMessage, b[2])
	}
	return uint16(bits.Reverse8(b[0])), uint16(bits.Reverse8(b[1])), b[llcHead:], nil
}
