package oping

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var units = map[string]time.Duration{
	"":   time.Millisecond,
	"ms": time.Millisecond,
	"s":  time.Second,
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  24 * time.Hour,
}

// parseTime returns the time that s says: a whole number of milliseconds, or
// a number and one of the units ms, s, m, h and d. It is never negative.
func parseTime(s string) (time.Duration, error) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, suffix := s[:end], s[end:]
	unit, ok := units[suffix]
	if !ok || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no time: give milliseconds, or a number and ms, s, m, h or d", s)
	}
	if suffix == "" && strings.Contains(number, ".") {
		return 0, fmt.Errorf("%q needs a unit: ms, s, m, h or d", s)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil && math.IsInf(v, 1) {
		err = nil
	}
	if err != nil {
		return 0, fmt.Errorf("%q is no time: give milliseconds, or a number and ms, s, m, h or d", s)
	}
	if v *= float64(unit); v > maxTime {
		return 0, fmt.Errorf("%q is too long: at most 100 years", s)
	}
	return time.Duration(v), nil
}

// maxTime keeps sums of times far from overflow.
const maxTime = float64(100 * 365 * 24 * time.Hour)
