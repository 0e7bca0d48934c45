package measure

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var units = map[string]time.Duration{
	"":   0, // the caller says what a bare number means
	"ms": time.Millisecond,
	"s":  time.Second,
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  24 * time.Hour,
}

// ParseTime returns the time that s says: a whole number of bare, which is one
// of the units, or a number and one of the units ms, s, m, h and d. It is never
// negative.
func ParseTime(s string, bare time.Duration) (time.Duration, error) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, suffix := s[:end], s[end:]
	unit, ok := units[suffix]
	v, err := strconv.ParseFloat(number, 64)
	if err != nil && math.IsInf(v, 1) {
		err = nil
	}
	if !ok || strings.Trim(number, "0123456789.") != "" || err != nil {
		return 0, fmt.Errorf("%q is no time: give %s, or a number and ms, s, m, h or d", s, bareWords[bare])
	}
	if suffix == "" {
		if strings.Contains(number, ".") && bare < time.Second {
			return 0, fmt.Errorf("%q needs a unit: ms, s, m, h or d", s)
		}
		unit = bare
	}
	if v *= float64(unit); v > maxTime {
		return 0, fmt.Errorf("%q is too long: at most 100 years", s)
	}
	return time.Duration(v), nil
}

var bareWords = map[time.Duration]string{time.Millisecond: "milliseconds", time.Second: "seconds"}

// maxTime keeps sums of times far from overflow.
const maxTime = float64(100 * 365 * 24 * time.Hour)

// ParseRate returns the bit/s that s says: a number and k, M or G; a bare one
// is in k. It is above 0.
func ParseRate(s string) (float64, error) {
	number, unit := s, 1e3
	if s != "" {
		if u, ok := map[byte]float64{'k': 1e3, 'M': 1e6, 'G': 1e9}[s[len(s)-1]]; ok {
			number, unit = s[:len(s)-1], u
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if strings.Trim(number, "0123456789.") != "" || err != nil {
		return 0, fmt.Errorf("%q is no rate: give a number and k, M or G, for kb/s, Mb/s or Gb/s", s)
	}
	if v *= unit; v < 1 || v > maxRate {
		return 0, fmt.Errorf("%q is no rate: it is 1 b/s to 10000 Gb/s", s)
	}
	return v, nil
}

const maxRate = 1e13 // bit/s

// ParseSize returns the bytes that s says, a whole number, moved to be within
// low and high; clamped says that it was not.
func ParseSize(s string, low, high int) (size int, clamped bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // where it is out of range, n is the bound
		return 0, false, fmt.Errorf("%q is no number of bytes", s)
	}
	size = int(min(max(n, int64(low)), int64(high)))
	return size, int64(size) != n, nil
}

// SI returns v with four digits, a prefix of the SI, and unit: "9.412 Gb/s".
func SI(v float64, unit string) string {
	prefix := ""
	for _, p := range []string{"k", "M", "G", "T"} {
		if v < 999.95 {
			break
		}
		v, prefix = v/1000, p
	}
	digits := 3
	switch {
	case v >= 99.995:
		digits = 1
	case v >= 9.9995:
		digits = 2
	}
	return fmt.Sprintf("%.*f %s%s", digits, v, prefix, unit)
}

// MS returns ns nanoseconds in milliseconds.
func MS(ns float64) float64 { return ns / float64(time.Millisecond) }
