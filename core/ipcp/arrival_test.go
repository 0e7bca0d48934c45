package ipcp

import "testing"

// TestSystem: a host does not become many by its ports, or by the addresses of its network.
func TestSystem(t *testing.T) {
	system := func(from string) string { return (&Arrival{From: from}).System() }
	for _, same := range [][2]string{
		{"10.0.0.1:3435", "10.0.0.1:9"}, {"[::ffff:10.0.0.1]:1", "10.0.0.1:2"},
		{"[2001:db8::1]:3435", "[2001:db8::ffff:1]:9"}, {"[fe80::1%eth0]:1", "[fe80::2%eth0]:2"},
		{"02:00:00:00:00:01", "02:00:00:00:00:01"},
	} {
		if a, b := system(same[0]), system(same[1]); a != b {
			t.Errorf("%v and %v", a, b)
		}
	}
	for _, other := range [][2]string{
		{"10.0.0.1:1", "10.0.0.2:1"}, {"[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1"}, {"02:00:00:00:00:01", "02:00:00:00:00:02"},
	} {
		if a, b := system(other[0]), system(other[1]); a == b {
			t.Errorf("%v is taken for %v", other[0], other[1])
		}
	}
}
