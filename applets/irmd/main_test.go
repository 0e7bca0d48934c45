package irmd

import (
	"os"
	"testing"

	"o7s/applets"
)

// TestMain makes the test's executable a helper too.
func TestMain(m *testing.M) {
	if os.Args[0] == "irmd" {
		os.Exit(applets.Main(os.Args, []applets.Applet{Applet(nil)}))
	}
	os.Exit(m.Run())
}
