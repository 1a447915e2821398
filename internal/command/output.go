package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// format is how a command prints what it found.
type format string

const (
	formatTable format = "table"
	formatText  format = "text" // of commands whose output for people is no table
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

func (f *format) addFlag(flags *pflag.FlagSet) {
	*f = formatTable
	flags.VarP(f, "output", "o", "how to print it: table, json or yaml")
}

func (f *format) addTextFlag(flags *pflag.FlagSet) {
	*f = formatText
	flags.VarP(f, "output", "o", "how to print it: text, json or yaml")
}

// String, Set and Type make a format a flag.
func (f *format) String() string { return string(*f) }

func (f *format) Set(value string) error {
	people := formatTable
	if *f == formatText {
		people = formatText
	}
	switch format(value) {
	case people, formatJSON, formatYAML:
		*f = format(value)
		return nil
	default:
		return fmt.Errorf("must be %s, json or yaml", people)
	}
}

func (f *format) Type() string { return "format" }

// print writes a document in JSON or YAML, or calls the function that writes it for people.
func (f *format) print(out screen, document any, forPeople func(screen)) error {
	switch *f {
	case formatTable, formatText:
		forPeople(out)
		return nil
	case formatJSON:
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(document)
	default:
		data, err := yaml.Marshal(document)
		if err != nil {
			return fmt.Errorf("writing YAML: %w", err)
		}
		_, err = out.Write(data)
		return err
	}
}

// screen is where output goes.
type screen struct {
	io.Writer
	// width of the terminal; 0 where it is none, and lines are as long as they are.
	width int
}

// screenOf finds out whether a writer is a terminal.
func screenOf(out io.Writer) screen {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return screen{Writer: out}
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return screen{Writer: out, width: width}
}

func (s screen) isTerminal() bool { return s.width > 0 }

// line writes a line. An error shows on the next write to a broken pipe and ends the program there.
func (s screen) line(format string, args ...any) {
	_, _ = fmt.Fprintf(s, format+"\n", args...)
}
