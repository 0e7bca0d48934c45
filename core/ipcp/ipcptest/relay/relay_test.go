package relay

import (
	"testing"

	"o7s/core/ipcp/ipcptest"
)

func TestSuite(t *testing.T) { ipcptest.Run(t, Type) }

func TestTutorial(t *testing.T) { ipcptest.Tutorial(t, Type, "../../../../testdata/irmd.golden") }
