package applets

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/core"
	"o7s/core/logs"
	"o7s/ipc/irmctl"
)

// completeWord is the applet that a shell's completion calls. Its arguments are
// the words of the command line; the last one is being typed. It prints the
// words that may stand there, one a line, some with a tab and an explanation.
const completeWord = "__complete"

// completeTime bounds how long a shell may wait for the names of an IRMd.
const completeTime = 2 * time.Second

// scripts are the shells' completions. APPLETS are the commands that are
// completed.
var scripts = map[string]string{
	"bash": `# bash completion of o7s: put "source <(o7s completion bash)" into ~/.bashrc
_o7s() {
  local i line word quote= prefix= blank rest=${COMP_LINE:0:COMP_POINT} words=()
  # Bash ends words at : and = too: put together what no blank parts.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    blank=${rest%%[![:blank:]]*} word=${COMP_WORDS[i]}
    rest=${rest#"$blank"}
    ((i < COMP_CWORD)) || word=$rest
    if [[ $i -gt 0 && -z $blank ]]; then words[-1]+=$word; else words+=("$word"); fi
    rest=${rest#"$word"}
  done
  # What is typed, without its quotes, and its beginning that Bash leaves alone.
  word=${words[-1]}
  case $word in
    [\'\"]*) quote=${word:0:1} word=${word:1} ;;
    *)
      i=${COMP_WORDBREAKS//[^:=]/}
      [[ -z $i ]] || prefix=${word%"${word##*[$i]}"}
      IFS= read word <<<"$word"
      ;;
  esac
  words[-1]=$word
  COMPREPLY=()
  while IFS= read -r line; do
    word=${line%%$'\t'*}
    case $quote in
      \') word=${word//\'/\'\\\'\'} ;;
      \") word=${word//\\/\\\\} word=${word//\"/\\\"} word=${word//\$/\\\$} word=${word//$'\x60'/\\$'\x60'} ;;
      *) printf -v word %q "$word" ;;
    esac
    COMPREPLY+=("${word#"$prefix"}")
  done < <(o7s __complete "${words[@]}" 2>/dev/null)
}
complete -o default -F _o7s APPLETS
`,
	"zsh": `#compdef APPLETS
# zsh completion of o7s: put "source <(o7s completion zsh)" into ~/.zshrc, after compinit
_o7s() {
  local -a lines
  local line
  for line in "${(@f)$(o7s __complete "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
    [[ -n $line ]] || continue
    line=${line//\\/\\\\}
    line=${line//:/\\:}
    lines+=("${line/$'\t'/:}")
  done
  if (( $#lines )); then _describe o7s lines; else _files; fi
}
compdef _o7s APPLETS
# As a file of fpath it is loaded by the first completion.
[[ $funcstack[1] != _o7s ]] || _o7s "$@"
`,
	"fish": `# fish completion of o7s: put "o7s completion fish | source" into ~/.config/fish/config.fish
function __o7s_complete
  # Fish compares what is typed, in its quotes; o7s has to know a flag.
  set -l words (commandline -opc)
  set -l typed (commandline -ct | string match -- '-*')
  set -l found (o7s __complete $words "$typed" 2>/dev/null)
  if set -q found[1]
    printf '%s\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
for c in APPLETS
  complete -c $c -e
  complete -c $c -f -a '(__o7s_complete)'
end
`,
}

// completion prints the script for a shell.
func completion(w io.Writer, args []string, table []Applet) error {
	if len(args) != 1 || scripts[args[0]] == "" {
		return Usagef("completion takes the name of a shell: bash, zsh or fish")
	}
	names := []string{"o7s"}
	for _, a := range table {
		if !a.Hidden && !a.NoLink {
			names = append(names, a.Name)
		}
	}
	_, err := io.WriteString(w, strings.ReplaceAll(scripts[args[0]], "APPLETS", strings.Join(names, " ")))
	return err
}

// complete prints what may stand in the place of the last word.
func complete(ctx context.Context, w io.Writer, words []string, table []Applet) {
	if len(words) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	name, args := words[0][strings.LastIndexByte(words[0], '/')+1:], words[1:]
	if name == "o7s" {
		if len(args) == 1 {
			for _, a := range table {
				if !a.Hidden {
					Candidate(w, args[0], a.Name, a.Summary)
				}
			}
			for _, c := range multiCommands {
				Candidate(w, args[0], c.name, c.summary)
			}
			return
		}
		if args[0] == "completion" {
			for _, s := range []string{"bash", "zsh", "fish"} {
				Candidate(w, args[1], s, "")
			}
			return
		}
		name, args = args[0], args[1:]
	}
	for _, a := range table {
		if a.Name != name {
			continue
		}
		if a.Complete != nil {
			a.Complete(ctx, w, args)
			return
		}
		typed := args[len(args)-1]
		if flag, part, ok := strings.Cut(typed, "="); ok {
			var values bytes.Buffer
			completeValue(ctx, &values, part, valueOf(ctx, a, flag))
			for v := range strings.Lines(values.String()) {
				fmt.Fprintf(w, "%s=%s", flag, v)
			}
			return
		}
		if len(args) > 1 {
			if value := valueOf(ctx, a, args[len(args)-2]); value != "" {
				completeValue(ctx, w, typed, value)
				return
			}
		}
		for _, f := range flagsOf(ctx, a) {
			Candidate(w, typed, f.name, f.usage)
		}
		return
	}
}

// valueOf returns the word that help has for the value of a flag: NAME, LEVEL.
// It returns "" if word is no flag, or a flag without a value.
func valueOf(ctx context.Context, a Applet, word string) string {
	for _, f := range appOf(ctx, a).VisibleFlags() {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok || !d.TakesValue() {
			continue
		}
		for _, n := range f.Names() {
			if word != "--"+n && (word != "-"+n || len(n) > 1) {
				continue
			}
			if parts := strings.SplitN(d.GetUsage(), "`", 3); len(parts) == 3 {
				return parts[1]
			}
			return "VALUE"
		}
	}
	return ""
}

// completeValue prints the values of a flag for which help has the word value.
func completeValue(ctx context.Context, w io.Writer, typed, value string) {
	words := map[string][]string{
		"LEVEL":  logs.LevelNames(),
		"FORMAT": {"text", "json"},
		"QOS":    core.QoSNames(),
	}[value]
	for _, word := range words {
		Candidate(w, typed, word, "")
	}
	if value != "NAME" {
		return
	}
	c, err := irmctl.Dial(ctx)
	if err != nil {
		return // without an IRMd there are no names
	}
	defer c.Close()
	names, _ := c.Names(ctx)
	for _, n := range names {
		Candidate(w, typed, n.Name, n.Policy)
	}
}

// Candidate prints word and its meaning if word begins with typed. It leaves out
// a word that a line can't hold.
func Candidate(w io.Writer, typed, word, meaning string) {
	if strings.HasPrefix(word, typed) && word != "" && logs.Escape(word) == word {
		if meaning != "" {
			word += "\t" + meaning
		}
		fmt.Fprintln(w, word)
	}
}

type flagText struct{ name, usage string }

// flagsOf returns the flags of an applet whose command line is flags.
func flagsOf(ctx context.Context, a Applet) []flagText {
	var all []flagText
	for _, f := range appOf(ctx, a).VisibleFlags() {
		usage := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(d.GetUsage(), "`", "")
		}
		for _, n := range f.Names() {
			if len(n) > 1 {
				all = append(all, flagText{"--" + n, usage})
			}
		}
	}
	return append(all, flagText{"--help", "explain it"}, flagText{"--version", "print the version"})
}

// appOf returns the command line of an applet that CLI runs; an empty one for
// another.
func appOf(ctx context.Context, a Applet) *cli.App {
	app := &cli.App{}
	env := &Env{Name: a.Name, Stdin: strings.NewReader(""), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	env.describe = func(c *cli.App) { app = c }
	// CLI only describes it: nothing runs.
	if a.Manual == nil {
		_ = a.Run(ctx, env)
	}
	return app
}
