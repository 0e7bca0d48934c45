package stage

// Idle reports whether the shared goroutine tends s.
func (s *Stage) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle
}

// Pumping reports whether a call waits for the ring.
func (s *Stage) Pumping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pumping
}

// Timed reports whether the timer of s runs.
func (s *Stage) Timed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.timerAt.IsZero()
}

// Unwatch takes s out of its set, as flow.Set.Remove does.
func (s *Stage) Unwatch() { s.end.Unwatch() }
