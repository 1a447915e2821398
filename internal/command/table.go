package command

import (
	"strings"
	"unicode/utf8"
)

const (
	columnGap = 2
	// roomy is how wide the last column must be on a terminal to stand beside the others; in less
	// room it stands beneath them.
	roomy = 50
	// beneath is how far it is then indented.
	beneath = 4
)

// table is rows of cells under a heading. Its last column holds sentences, which are wrapped at the
// edge of a terminal.
type table [][]string

func (t table) print(out screen, indent string) {
	last := len(t[0]) - 1
	widths := make([]int, last)
	edge := len(indent)
	for column := range widths {
		for _, row := range t {
			widths[column] = max(widths[column], utf8.RuneCountInString(row[column]))
		}
		edge += widths[column] + columnGap
	}
	narrow := out.isTerminal() && out.width-edge < roomy
	for i, row := range t {
		cells := []string{indent}
		for column, width := range widths {
			cells = append(cells, row[column], strings.Repeat(" ", width-utf8.RuneCountInString(row[column])+columnGap))
		}
		text := strings.Join(cells, "")
		switch {
		case !out.isTerminal():
			out.line("%s", strings.TrimRight(text+row[last], " "))
		case !narrow:
			lines := wrap(row[last], out.width-edge)
			out.line("%s", strings.TrimRight(text+strings.Join(lines, "\n"+strings.Repeat(" ", edge)), " "))
		default:
			out.line("%s", strings.TrimRight(text, " "))
			if margin := len(indent) + beneath; i > 0 && row[last] != "" {
				lines := wrap(row[last], max(out.width-margin, roomy))
				out.line("%s", strings.Repeat(" ", margin)+strings.Join(lines, "\n"+strings.Repeat(" ", margin)))
			}
		}
	}
}

// paragraph writes a text under a heading, wrapped at the edge of a terminal.
func (s screen) paragraph(text string) {
	const indent = "  "
	lines := []string{text}
	if s.isTerminal() {
		lines = wrap(text, max(s.width-len(indent), roomy))
	}
	for _, line := range lines {
		s.line("%s", indent+line)
	}
}

// wrap breaks a text between words into lines of at most so many characters; a longer word stands
// alone.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
