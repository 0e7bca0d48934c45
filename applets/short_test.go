package applets

import (
	"bytes"
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
		"":                "",
		"-c5":             "-c 5",
		"-c 5":            "-c 5",
		"-c=5":            "-c=5",
		"-qDc5 -nx":       "-q -D -c 5 -n x",
		"-qc 5 -D":        "-q -c 5 -D",
		"-c-5":            "-c -5",
		"-n -c5 -c5":      "-n -c5 -c 5", // a value is a value
		"-n-c 5":          "-n -c 5",     // and ends here: 5 is no flag
		"--name --size":   "--name --size",
		"--count=5 -Dq":   "--count=5 -D -q",
		"--count 5 -Dq":   "--count 5 -D -q",
		"-count 5 -quiet": "-count 5 -quiet",
		"---count=5 --=5": "---count=5 --=5", // for the package cli to refuse
		"-q -- -c5":       "-q -- -c5",
		"-q file -c5":     "-q file -c5",
		"-hq - -Dq":       "-h -q - -Dq",
		"--name -c5 -D=f": "--name -c5 -D=f",
	} {
		if got, err := spread(flags, strings.Fields(in)); err != nil || !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, %v; want %s", in, got, err, want)
		}
	}
}

// A flag is named as it is typed, not as the package flag knows it.
func TestWrongFlags(t *testing.T) {
	for in, want := range map[string]string{
		"--size 5":            `there is no flag "--size"`,
		"--size=5":            `there is no flag "--size"`,
		"-size 5":             `there is no flag "-size"`,
		"-q -s":               `there is no flag "-s"`,
		"-x5":                 `there is no flag "-x5"`,
		"-qx":                 `there is no flag "-qx"`,
		"--c5":                `there is no flag "--c5"`,
		"-c 1 --size":         `there is no flag "--size"`,
		"--count":             `the flag "--count" needs a value`,
		"-q -c":               `the flag "-c" needs a value`,
		"-qDc":                `the flag "-c" needs a value`,
		"--count five":        `--count: "five" is no whole number`,
		"--count=-for:x":      `--count: "-for:x" is no whole number`,
		"-c five":             `-c: "five" is no whole number`,
		"--quiet=for -count:": `--quiet: "for" is neither true nor false`,
		"-c 1 --count 2":      `"-c" and "--count" are one flag: give one of them`,
		"-c 1 -c 2":           `"-c" is given twice: give it once`,
		"-c1 -qc1":            `"-c" is given twice: give it once`,
		"--count=1 --count=1": `"--count" is given twice: give it once`,
		"-n x -c 1 --name=y":  `"-n" and "--name" are one flag: give one of them`,
		"-n x -c1 -qn y":      `"-n" is given twice: give it once`,
		"---count 5":          `bad flag syntax: ---count`,
	} {
		app := &cli.App{
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "count", Aliases: []string{"c"}},
				&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
				&cli.BoolFlag{Name: "D"},
				&cli.StringFlag{Name: "name", Aliases: []string{"n"}},
			},
			Action: func(*cli.Context) error { t.Errorf("%s: it runs", in); return nil },
		}
		var stdout, stderr bytes.Buffer
		env := &Env{Name: "x", Args: strings.Fields(in), Stdout: &stdout, Stderr: &stderr}
		got := status(env, CLI(t.Context(), env, app))
		want = "x: " + want + "; \"x --help\" lists the flags\n"
		if got != StatusUsage || stdout.Len() > 0 || stderr.String() != want {
			t.Errorf("%s: status %d, %q and %q, want %q", in, got, stdout.String(), stderr.String(), want)
		}
	}
}
