package stage

import (
	"encoding/binary"
	"hash/crc32"
)

// crcLen is the length of the check at the end of a packet, the CRC-32 of IEEE 802.3
// of all before it, big-endian.
const crcLen = 4

func appendCRC(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

// cutCRC returns the packet in b, which is not empty, and whether its check is
// right.
func cutCRC(b []byte) ([]byte, bool) {
	n := len(b) - crcLen
	if n < 1 || binary.BigEndian.Uint32(b[n:]) != crc32.ChecksumIEEE(b[:n]) {
		return nil, false
	}
	return b[:n], true
}
