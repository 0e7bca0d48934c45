package applets

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Near reports whether word is so much like want that it may be a misspelling of it:
// one letter in three, and at most two, may be missing, wrong, too much, or stand in
// the other order than the next.
func Near(word, want string) bool {
	a, b := []rune(word), []rune(want)
	most := min(2, (max(len(a), len(b))+1)/3)
	if word == "" || len(a)-len(b) > most || len(b)-len(a) > most {
		return false
	}
	// The optimal string alignment distance, three rows of it.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			wrong := 1
			if a[i] == b[j] {
				wrong = 0
			}
			row[j+1] = min(last[j]+wrong, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)] <= most
}

// Count returns n and the noun one, in the plural unless n is 1: "1 flow", "2 flows".
func Count[N int | int64 | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// dashes are what text processors make of hyphens.
const dashes = "‐‑‒–—―−"

// Hyphens returns arg as it was typed before a text processor made dashes of the
// hyphens of an option: "–-help" and "–help" are --help, "–n" is -n. What does not
// begin with a dash is returned as it is, and so is what is nothing but dashes.
func Hyphens(arg string) string {
	first, _ := utf8.DecodeRuneInString(arg)
	if !strings.ContainsRune(dashes, first) {
		return arg
	}
	word := strings.TrimLeft(arg, dashes+"-")
	name, _, _ := strings.Cut(word, "=")
	switch utf8.RuneCountInString(name) {
	case 0:
		return arg
	case 1:
		return "-" + word
	}
	return "--" + word
}
