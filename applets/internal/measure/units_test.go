package measure

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
		got, err := ParseTime(tt.in, time.Millisecond)
		if tt.want < 0 && err == nil || tt.want >= 0 && (err != nil || got != tt.want) {
			t.Errorf("ParseTime(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseTimeSeconds(t *testing.T) {
	for in, want := range map[string]time.Duration{"60": time.Minute, "0.5": 500 * time.Millisecond, "10ms": 10 * time.Millisecond} {
		if got, err := ParseTime(in, time.Second); got != want || err != nil {
			t.Errorf("ParseTime(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := ParseTime("x", time.Second); err == nil {
		t.Error("x is a time")
	}
}

func TestParseRate(t *testing.T) {
	tests := []struct {
		in   string
		want float64 // 0: an error
	}{
		{"1M", 1e6}, {"1000", 1e6}, {"1", 1e3}, {"64k", 64e3}, {"2.5G", 2.5e9}, {"10000G", 1e13},
		{"", 0}, {"k", 0}, {"0", 0}, {"-1", 0}, {"1K", 0}, {"1m", 0}, {"1e3", 0}, {"1T", 0}, {"10001G", 0}, {"inf", 0}, {"0x1", 0},
	}
	for _, tt := range tests {
		if got, err := ParseRate(tt.in); got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("ParseRate(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int{"64": 64, "63": 64, "1500": 1500, "-5": 64, "65536": 65535, "99999999999999999999": 65535} {
		got, clamped, err := ParseSize(in, 64, 65535)
		if got != want || err != nil || clamped != (in != "64" && in != "1500") {
			t.Errorf("ParseSize(%q) = %d, %v, %v, want %d", in, got, clamped, err, want)
		}
	}
	if _, _, err := ParseSize("big", 64, 65535); err == nil {
		t.Error("big is a size")
	}
}

func TestSI(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.000 b/s", 1: "1.000 b/s", 12.34: "12.34 b/s", 123.4: "123.4 b/s", 999.94: "999.9 b/s", 999.96: "1.000 kb/s",
		1e6: "1.000 Mb/s", 9.412e9: "9.412 Gb/s", 262e9: "262.0 Gb/s", 3.2e12: "3.200 Tb/s", 9.9999e3: "10.00 kb/s",
	} {
		if got := SI(v, "b/s"); got != want {
			t.Errorf("SI(%v) = %q, want %q", v, got, want)
		}
	}
}
