package operf

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure/schematest"
)

const document = "../../docs/tools-json.md"

// What both ends print is as the document says, in every kind of test.
func TestJSON(t *testing.T) {
	schema, err := schematest.Load(document, "operf")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"", "-t bi", "-R", "-P 3", "-i 0", "-R -P 2 -i 100ms"} {
		t.Run(args, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "--json")
				out, _, err := run(t.Context(), w.network(), append(strings.Fields(args), "-d", "2", "-n", "x", "--json")...)
				synctest.Wait()
				if err != nil {
					t.Error(err)
				}
				if err := schema.Check([]byte(out)); err != nil {
					t.Errorf("the client's: %v\n%s", err, out)
				}
				for d := json.NewDecoder(strings.NewReader(w.out.String())); d.More(); {
					var one json.RawMessage
					if err := d.Decode(&one); err != nil {
						t.Fatal(err)
					}
					if err := schema.Check(one); err != nil {
						t.Errorf("the server's: %v\n%s", err, one)
					}
				}
			})
		})
	}
}

// A test that fails is told in JSON, too.
func TestJSONFailure(t *testing.T) {
	schema, err := schematest.Load(document, "operf")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.AfterFunc(1500*time.Millisecond, w.cancel)
		out, errs, _ := run(t.Context(), w.network(), "-n", "x", "--json")
		if err := schema.Check([]byte(out)); err != nil || !strings.Contains(out, `"error": "x closed the flow`) || errs == "" {
			t.Errorf("%v, stderr %q, stdout:\n%s", err, errs, out)
		}
	})
}

// Each line of a stream is an event, in order.
func TestJSONStream(t *testing.T) {
	schema, err := schematest.Load(document, "operf")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "--json-stream")
		out, _, _ := run(t.Context(), w.network(), "-d", "3", "-n", "x", "--json-stream")
		synctest.Wait()
		for what, text := range map[string]string{"client": out, "server": w.out.String()} {
			var events []string
			for line := range strings.Lines(text) {
				var e struct {
					Event string
					Data  json.RawMessage
				}
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatalf("%s: %v: %s", what, err, line)
				}
				events = append(events, e.Event)
				def, err := schema.Def(e.Event)
				if err == nil {
					err = def.Check(e.Data)
				}
				if err != nil {
					t.Errorf("%s: %v: %s", what, err, line)
				}
			}
			if got := strings.Join(events, " "); got != "start interval interval interval end" {
				t.Errorf("%s: events %s", what, got)
			}
		}
	})
}
