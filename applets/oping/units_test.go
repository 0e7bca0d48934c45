package oping

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration // negative: an error
	}{
		{"0", 0},
		{"1000", time.Second},
		{"250ms", 250 * time.Millisecond},
		{"2s", 2 * time.Second},
		{"0.5s", 500 * time.Millisecond},
		{"1.5ms", 1500 * time.Microsecond},
		{".5s", 500 * time.Millisecond},
		{"3m", 3 * time.Minute},
		{"2h", 2 * time.Hour},
		{"1d", 24 * time.Hour},
		{"36500d", 36500 * 24 * time.Hour},
		{"36501d", -1},
		{"99999999999999999999999", -1},
		{"", -1},
		{".", -1},
		{"s", -1},
		{".s", -1},
		{"-1", -1},
		{"+1", -1},
		{"0.5", -1}, // seconds, as with ping(8), or milliseconds?
		{"1e3", -1},
		{"0x10", -1},
		{"1_000", -1},
		{"1 s", -1},
		{"1S", -1},
		{"1us", -1},
		{"1.2.3s", -1},
		{"inf", -1},
		{"1m30s", -1},
	}
	for _, tt := range tests {
		got, err := parseTime(tt.in)
		if tt.want < 0 && err == nil || tt.want >= 0 && (err != nil || got != tt.want) {
			t.Errorf("parseTime(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}
