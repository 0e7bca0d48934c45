package oping

import (
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

// result is what --json prints.
type result struct {
	Tool       string  `json:"tool"`
	Name       string  `json:"name"`
	Size       int     `json:"size_bytes"`
	QoS        string  `json:"qos"`
	Sent       uint64  `json:"transmitted"`
	Received   uint64  `json:"received"`
	OutOfOrder uint64  `json:"out_of_order"`
	Loss       float64 `json:"loss_percent"`
	Time       float64 `json:"time_ms"`
	RTT        *rtt    `json:"rtt_ms"`              // null: no reply came
	Histogram  []row   `json:"histogram,omitempty"` // with --histogram
	Error      string  `json:"error,omitempty"`     // how the flow ended, should it have

	Order *measure.Order `json:"order,omitempty"` // of a flow that keeps order itself
}

type rtt struct {
	Min  float64 `json:"min"`
	Avg  float64 `json:"avg"`
	Max  float64 `json:"max"`
	Mdev float64 `json:"mdev"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
}

type row struct {
	From  float64 `json:"from_ms"`
	To    float64 `json:"to_ms"`
	Count uint64  `json:"count"`
}

func newResult(cfg *config, s *stats, total time.Duration, failure error) result {
	inMS := func(d time.Duration) float64 { return measure.MS(float64(d)) }
	r := result{
		Tool: "oping", Name: cfg.name, Size: cfg.size, QoS: core.QoSName(cfg.qos),
		Sent: s.sent, Received: s.received, OutOfOrder: s.outOfOrder, Loss: measure.Loss(s.sent, s.received), Time: inMS(total),
	}
	if s.received > 0 {
		r.RTT = &rtt{
			Min: inMS(s.rtt.Min), Avg: measure.MS(s.rtt.Mean), Max: inMS(s.rtt.Max), Mdev: measure.MS(s.rtt.Deviation()),
			P50: inMS(s.percentile(50)), P90: inMS(s.percentile(90)), P99: inMS(s.percentile(99)), P999: inMS(s.percentile(99.9)),
		}
	}
	if cfg.histogram {
		for _, h := range s.hist.Rows() {
			r.Histogram = append(r.Histogram, row{inMS(h.From), inMS(h.To), h.Count})
		}
	}
	if failure != nil {
		r.Error = failure.Error()
	}
	return r
}
