package applets

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestSpread(t *testing.T) {
	flags := []cli.Flag{
		&cli.IntFlag{Name: "count", Aliases: []string{"c"}},
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
		&cli.BoolFlag{Name: "D"},
	}
	for in, want := range map[string]string{
		"":                 "",
		"-c5":              "-c 5",
		"-c 5":             "-c 5",
		"-c=5":             "-c=5",
		"-qDc5 -nx":        "-q -D -c 5 -n x",
		"-qc 5 -D":         "-q -c 5 -D",
		"-q -c":            "-q -c",
		"-c-5":             "-c -5",
		"-n -c5 -c5":       "-n -c5 -c 5", // a value is a value
		"-n-c 5":           "-n -c 5",     // and ends here: 5 is no flag
		"--count=5 -Dq":    "--count=5 -D -q",
		"--count 5 -Dq":    "--count 5 -D -q",
		"-count 5 -quiet":  "-count 5 -quiet",
		"-x5 -Dx -Dq":      "-x5 -Dx -D -q", // for the package cli to refuse
		"--c5":             "--c5",
		"-q -- -c5":        "-q -- -c5",
		"-q file -c5":      "-q file -c5",
		"-hq - -Dq":        "-h -q - -Dq",
		"--name -c5 -D=no": "--name -c5 -D=no",
	} {
		if got := spread(flags, strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", in, got, want)
		}
	}
}
