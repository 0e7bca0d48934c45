package oping

import (
	"testing"
	"time"
)

func TestStatsSummary(t *testing.T) {
	tests := []struct {
		name string
		sent uint64
		rtts []time.Duration // us; negative: out of order
		want string
	}{
		{"nothing sent", 0, nil, `--- n ping statistics ---
0 packets transmitted, 0 received, 0 out-of-order, 0% packet loss, time: 1234.567 ms
`},
		{"all lost", 3, nil, `--- n ping statistics ---
3 packets transmitted, 0 received, 0 out-of-order, 100% packet loss, time: 1234.567 ms
`},
		{"one reply", 2, []time.Duration{50}, `--- n ping statistics ---
2 packets transmitted, 1 received, 0 out-of-order, 50% packet loss, time: 1234.567 ms
rtt min/avg/max/mdev = 0.050/0.050/0.050/0.000 ms
`},
		{"the tutorial's", 5, []time.Duration{633, 498, -471, 505, 441}, `--- n ping statistics ---
5 packets transmitted, 5 received, 1 out-of-order, 0% packet loss, time: 1234.567 ms
rtt min/avg/max/mdev = 0.441/0.510/0.633/0.073 ms
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stats{sent: tt.sent}
			for _, us := range tt.rtts {
				s.add(us.Abs()*time.Microsecond, us < 0)
			}
			if got := s.summary("n", 1234567*time.Microsecond); got != tt.want {
				t.Errorf("summary:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
