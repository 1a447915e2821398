// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// voice tells the story: in colours on a terminal, plainly elsewhere.
type voice struct {
	out      *os.File
	colours  bool
	chapters int
}

const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	plain = "\x1b[0m"
)

func newVoice(out *os.File) *voice {
	return &voice{out: out, colours: term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (v *voice) in(colour, text string) string {
	if !v.colours {
		return text
	}
	return colour + text + plain
}

// chapter begins a new part.
func (v *voice) chapter(title string) {
	v.chapters++
	v.line("\n%s\n", v.in(bold, fmt.Sprintf("== %d. %s", v.chapters, title)))
}

// text says something.
func (v *voice) text(format string, args ...any) {
	v.line("%s", fmt.Sprintf(format, args...))
}

// command shows what one would type.
func (v *voice) command(format string, args ...any) {
	v.line("%s", v.in(cyan, "$ "+fmt.Sprintf(format, args...)))
}

// good says that something is as it should be.
func (v *voice) good(format string, args ...any) {
	v.line("%s", v.in(green, "  ok  ")+fmt.Sprintf(format, args...))
}

func (v *voice) line(format string, args ...any) {
	// A demo without audience goes on, so it cleans up.
	_, _ = fmt.Fprintf(v.out, format+"\n", args...)
}

// drawBar shows a part of a whole.
func drawBar(part, whole int) string {
	const width = 24
	filled := 0
	if whole > 0 {
		filled = width * part / whole
	}
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", width-filled) + "]"
}
