package crypt

// replay remembers which packet numbers have come: the highest, and which of the
// window before it. The zero value has seen none.
type replay struct {
	any  bool
	top  uint64
	bits [window / 64]uint64 // by number modulo window
}

// fresh reports whether n has not come, and is not too far behind to tell.
func (r *replay) fresh(n uint64) bool {
	switch {
	case !r.any || n > r.top:
		return true
	case r.top-n >= window:
		return false
	}
	return r.bits[n%window/64]&(1<<(n%64)) == 0
}

// note says that n, which is fresh, has come.
func (r *replay) note(n uint64) {
	if !r.any {
		r.any, r.top = true, n
	}
	if n > r.top {
		if n-r.top >= window {
			clear(r.bits[:])
		} else {
			for i := r.top + 1; i < n; i++ {
				r.bits[i%window/64] &^= 1 << (i % 64)
			}
		}
		r.top = n
	}
	r.bits[n%window/64] |= 1 << (n % 64)
}
