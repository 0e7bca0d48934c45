package measure

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 1, 31, 32, 33, 63, 64, 65, 1000, 1e6, 1e9, 1<<62 - 1, 1<<63 - 1} {
		i := bucket(d)
		if lo := floor(i); lo > max(d, 0) || i+1 < (64-5)*subBuckets && floor(i+1) <= d {
			t.Errorf("%d ns is in bucket %d, from %d", d, i, lo)
		}
	}
	for i := range (64-5)*subBuckets - 1 {
		if got := bucket(floor(i)); got != i {
			t.Fatalf("bucket(floor(%d)) = %d", i, got)
		}
	}
}

// Percentiles are those of the sorted times, to 1/32.
func TestPercentile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	if h.Percentile(50) != 0 || h.Text() != "" {
		t.Error("a histogram of nothing has a percentile or text")
	}
	var all []time.Duration
	for range 10_001 {
		d := time.Duration(rng.ExpFloat64() * 1e5)
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, p := range []float64{0, 1, 50, 90, 99, 99.9, 100} {
		want := all[max(1, int(p*float64(len(all))/100+0.999))-1]
		got := h.Percentile(p)
		if diff := (got - want).Abs(); diff > want/32+1 {
			t.Errorf("percentile %v = %v, want %v", p, got, want)
		}
	}
	var sum uint64
	rows := h.Rows()
	for i, r := range rows {
		sum += r.Count
		if i > 0 && r.From != rows[i-1].To {
			t.Errorf("row %d starts at %v, the one before ends at %v", i, r.From, rows[i-1].To)
		}
	}
	if sum != 10_001 || rows[0].Count == 0 || rows[len(rows)-1].Count == 0 {
		t.Errorf("the rows have %d times, of 10001: %v", sum, rows)
	}
}

func TestHistogramText(t *testing.T) {
	var h Histogram
	for range 80 {
		h.Add(1200 * time.Nanosecond)
	}
	h.Add(4 * time.Microsecond)
	want := `   0.0010 -   0.0015 ms         80  98.8% |` + strings.Repeat("#", 40) + `
   0.0015 -   0.0020 ms          0   0.0% |
   0.0020 -   0.0030 ms          0   0.0% |
   0.0030 -   0.0050 ms          1   1.2% |#
`
	if got := h.Text(); got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
}
