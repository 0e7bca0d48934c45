package lower

import (
	"context"
	"errors"
	"testing"

	"o7s/core"
	"o7s/core/ipcp"
)

// foreign is a flow of another kind.
type foreign struct{ ipcp.Flow }

func TestSetTakesItsOwnFlowsAlone(t *testing.T) {
	s, err := Net{}.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(foreign{}, 1); !errors.Is(err, core.ErrUsage) {
		t.Errorf("Add: %v, want %v", err, core.ErrUsage)
	}
	s.Remove(foreign{})
	s.Room(foreign{}, 1)
	if v, ok := s.Next(); ok {
		t.Errorf("Next: %v", v)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Wait(context.Background()); !errors.Is(err, core.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
}

func TestWithoutIRMd(t *testing.T) {
	t.Setenv("O7S_RUNTIME_DIR", t.TempDir())
	if _, err := (Net{}).Dial(context.Background(), "x", core.QoSRaw); !errors.Is(err, core.ErrIRMd) {
		t.Errorf("Dial: %v, want %v", err, core.ErrIRMd)
	}
	if _, err := (Net{}).Listen(context.Background()); !errors.Is(err, core.ErrIRMd) {
		t.Errorf("Listen: %v, want %v", err, core.ErrIRMd)
	}
}
