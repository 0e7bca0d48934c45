package irm

import (
	"testing"

	"o7s/core/view"
)

var ipcps = []view.IPCP{
	{PID: 70, Name: "a", Type: "udp4", Layer: "internet"},
	{PID: 9000000, Name: "b", Type: "local", Layer: ""},
	{PID: 35, Name: "local-ipcp", Type: "local", Layer: "local-layer"},
}

func TestIPCPTable(t *testing.T) {
	const all = `+---------+----------------------+------------+----------------------+
|     pid |                 name |       type |                layer |
+---------+----------------------+------------+----------------------+
| 9000000 |                    b |      local |        Not enrolled. |
|      35 |           local-ipcp |      local |          local-layer |
|      70 |                    a |       udp4 |             internet |
+---------+----------------------+------------+----------------------+

`
	const one = `+---------+----------------------+------------+----------------------+
|     pid |                 name |       type |                layer |
+---------+----------------------+------------+----------------------+
|      35 |           local-ipcp |      local |          local-layer |
+---------+----------------------+------------+----------------------+

`
	const none = "No such IPCPs in system.\n\n"
	tests := []struct {
		name  string
		ipcps []view.IPCP
		args  []string
		want  string
	}{
		{"none at all", nil, nil, "No IPCPs in system.\n\n"},
		{"none at all, with a filter", nil, []string{"name", "x"}, "No IPCPs in system.\n\n"},
		{"all", ipcps, nil, all},
		{"every name", ipcps, []string{"name", "*"}, all},
		{"a name", ipcps, []string{"name", "local-ipcp"}, one},
		{"part of a name is not the name", ipcps, []string{"name", "local"}, none},
		{"a pattern", ipcps, []string{"n", "l*-*p"}, one},
		{"every layer is not no layer", ipcps, []string{"layer", "*", "type", "local"}, one},
		{"the text for no layer is no layer", ipcps, []string{"layer", "Not enrolled."}, none},
		{"filters narrow", ipcps, []string{"layer", "local-layer", "type", "udp4"}, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := irm(&fakeIRMd{view: picture{IPCPs: tt.ipcps}}, append([]string{"ipcp", "list"}, tt.args...)...)
			if err != nil || out != tt.want {
				t.Errorf("error %v, printed\n%s, want\n%s", err, out, tt.want)
			}
		})
	}
}

func TestNameTable(t *testing.T) {
	names := []view.Name{{Name: "a-binding"}, {Name: "db", Exists: true, Policy: "round-robin"}, {Name: "oping-server", Exists: true, Policy: "spillover"}}
	const head = `+----------------------------------------------------+----------------------+
|                                               name |  load-balance policy |
+----------------------------------------------------+----------------------+
`
	const db = `|                                                 db |          round-robin |
`
	const oping = `|                                       oping-server |            spillover |
`
	const foot = `+----------------------------------------------------+----------------------+

`
	tests := []struct {
		name  string
		names []view.Name
		args  []string
		want  string
	}{
		{"none at all", nil, nil, "No names in system.\n\n"},
		{"none that match", names, []string{"x"}, "No such names in system.\n\n"},
		{"all", names, nil, head + db + oping + foot},
		{"a prefix", names, []string{"o"}, head + oping + foot},
		{"no suffix", names, []string{"server"}, "No such names in system.\n\n"},
		{"a pattern", names, []string{"*server"}, head + oping + foot},
		{"a pattern is whole", names, []string{"*serve"}, "No such names in system.\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := irm(&fakeIRMd{view: picture{Names: tt.names}}, append([]string{"name", "list"}, tt.args...)...)
			if err != nil || out != tt.want {
				t.Errorf("error %v, printed\n%s, want\n%s", err, out, tt.want)
			}
		})
	}
}

func TestTableAlignsAnyName(t *testing.T) {
	list := []view.IPCP{
		{PID: 1, Name: "a-name-of-more-than-twenty", Type: "local", Layer: "søn"},
		{PID: 2, Name: "東京", Type: "local", Layer: "e\u0301te\u0301"},
		{PID: 3, Name: "x\n\x1b[2J", Type: "local", Layer: "🐍\xff"},
	}
	const want = `+---------+----------------------------+------------+----------------------+
|     pid |                       name |       type |                layer |
+---------+----------------------------+------------+----------------------+
|       1 | a-name-of-more-than-twenty |      local |                  søn |
|       3 |                 x\n\x1b[2J |      local |               🐍\xff |
|       2 |                       東京 |      local |                  ` + "e\u0301te\u0301" + ` |
+---------+----------------------------+------------+----------------------+

`
	out, err := irm(&fakeIRMd{view: picture{IPCPs: list}}, "ipcp", "list")
	if err != nil || out != want {
		t.Errorf("error %v, printed\n%s, want\n%s", err, out, want)
	}
}

func TestWidth(t *testing.T) {
	tests := []struct {
		s    string
		want int
	}{
		{"", 0}, {"abc", 3}, {"é", 1}, {"e\u0301", 1}, {"東京", 4}, {"ｱ", 1}, {"Ａ", 2},
		{"한글", 4}, {"\u1112\u1161\u11ab", 2}, {"🐍", 2}, {"☃", 1}, {"❌", 2}, {"a\u20dd", 1},
	}
	for _, tt := range tests {
		if got := width(tt.s); got != tt.want {
			t.Errorf("width(%q): got %d, want %d", tt.s, got, tt.want)
		}
	}
}
