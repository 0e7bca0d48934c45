package core

import (
	"math"
	"time"
)

// QoS is what a process asks of a flow. A zero field is the strictest bound, so start
// from one of the named specs.
type QoS struct {
	Delay        uint32 // ms, one way
	Bandwidth    uint64 // bit/s
	Availability uint8  // class of nines
	Loss         uint32 // 1: packets may be lost
	BER          uint32 // 1: bits may be wrong
	InOrder      bool
	MaxGap       uint32        // ms between packets that are delivered
	Timeout      time.Duration // of a silent peer
}

// The QoS specs that programs ask for by name. Within one system every flow keeps
// order and loses nothing. To another system:
//
//   - QoSRaw: packets may be lost, come twice or in another order, or be damaged, as the
//     layer has it.
//   - QoSRawNoErrors: the same, but no packet is damaged.
//   - QoSBest: packets come in order and once, and some may be missing.
//   - QoSVideo, QoSVoice: as QoSBest. They also ask for a bound on the delay and for
//     bandwidth; the request reaches the other system, and no layer guarantees it yet.
//   - QoSData: all packets come, in order and once: what a byte stream needs.
var (
	QoSRaw         = QoS{Delay: math.MaxUint32, Loss: 1, BER: 1, MaxGap: math.MaxUint32, Timeout: 120 * time.Second}
	QoSRawNoErrors = QoS{Delay: math.MaxUint32, Loss: 1, MaxGap: math.MaxUint32, Timeout: 120 * time.Second}
	QoSBest        = QoS{Delay: math.MaxUint32, Loss: 1, InOrder: true, MaxGap: math.MaxUint32, Timeout: 120 * time.Second}
	QoSVideo       = QoS{Delay: 100, Bandwidth: math.MaxUint64, Availability: 3, Loss: 1, InOrder: true, MaxGap: 100, Timeout: 120 * time.Second}
	QoSVoice       = QoS{Delay: 50, Bandwidth: 100000, Availability: 5, Loss: 1, InOrder: true, MaxGap: 50, Timeout: 120 * time.Second}
	QoSData        = QoS{Delay: 1000, InOrder: true, MaxGap: 2000, Timeout: 120 * time.Second}
)

// qosNames has the names of those specs, in the order in which people list them.
var qosNames = []struct {
	name string
	qos  QoS
}{
	{"raw", QoSRaw}, {"raw_no_errors", QoSRawNoErrors}, {"best", QoSBest},
	{"video", QoSVideo}, {"voice", QoSVoice}, {"data", QoSData},
}

// QoSNames returns the names that QoSByName knows.
func QoSNames() []string {
	var names []string
	for _, n := range qosNames {
		names = append(names, n.name)
	}
	return names
}

// QoSByName returns the named spec: raw, raw_no_errors, best, video, voice or
// data.
func QoSByName(name string) (QoS, bool) {
	for _, n := range qosNames {
		if n.name == name {
			return n.qos, true
		}
	}
	return QoS{}, false
}

// QoSName returns the word for q, "custom" where there is none.
func QoSName(q QoS) string {
	for _, n := range qosNames {
		if n.qos == q {
			return n.name
		}
	}
	return "custom"
}
