package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// holds FILE PID... says which of the processes and of their children hold the key in
// FILE, which is in hexadecimal, in memory. Its exit status is 2 where it can't look.
func holds() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "holds:", err)
		os.Exit(2)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != 32 {
		fmt.Fprintf(os.Stderr, "holds: %q is no key\n", text)
		os.Exit(2)
	}
	var pids []string
	for _, pid := range os.Args[2:] {
		pids = append(append(pids, pid), children(pid)...)
	}
	for _, pid := range pids {
		n, looked, err := inMemory(pid, key)
		if err != nil || looked == 0 {
			fmt.Fprintf(os.Stderr, "holds: process %s: %d bytes seen, %v\n", pid, looked, err)
			os.Exit(2)
		}
		program, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		name, _, _ := strings.Cut(string(program), "\x00")
		word := "has not"
		if n > 0 {
			word = "has"
		}
		fmt.Printf("%s %s the key\n", filepath.Base(name), word)
	}
}

func children(pid string) (all []string) {
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for _, c := range strings.Fields(string(text)) {
			all = append(append(all, c), children(c)...)
		}
	}
	return all
}

// inMemory returns how often key is in the memory of a process, and how many bytes
// were looked at.
func inMemory(pid string, key []byte) (n, looked int, err error) {
	maps, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		return 0, 0, err
	}
	mem, err := os.Open("/proc/" + pid + "/mem")
	if err != nil {
		return 0, 0, err
	}
	defer mem.Close()
	for _, line := range strings.Split(string(maps), "\n") {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || rights[0] != 'r' || strings.HasSuffix(line, "[vvar]") {
			continue
		}
		const chunk = 1 << 20
		b := make([]byte, chunk+len(key))
		for at := from; at < to; at += chunk {
			got, _ := mem.ReadAt(b[:min(int64(len(b)), to-at)], at)
			looked += got
			n += bytes.Count(b[:got], key)
		}
	}
	return n, looked, nil
}
