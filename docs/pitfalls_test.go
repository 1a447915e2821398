// Package docs holds what the documentation says against the repository.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pitfalls is how many there are.
const pitfalls = 28

var (
	heading = regexp.MustCompile(`(?m)^## (\d+)\. .+$`)
	thread  = regexp.MustCompile(`\]\(https://github\.com/[^)]+\)`)
	// shown is a test as the page names it, perhaps with one of its cases, and the directory it is in:
	// `TestChecks//a Pod crashes` in internal/restart. An empty part between stands for every group of cases,
	// as it does for go test -run.
	shown = regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([^`]+))?` in ([a-z0-9/]+)")
	named = regexp.MustCompile("`Test[^`]*`")
)

// Every pitfall has the thread of somebody who fell into it, and tests that exist.
func TestPitfallsAreShownByTests(t *testing.T) {
	page, err := os.ReadFile("pitfalls.md")
	if err != nil {
		t.Fatal(err)
	}
	heads := heading.FindAllStringSubmatchIndex(string(page), -1)
	if len(heads) != pitfalls {
		t.Fatalf("the page has %d pitfalls, want %d", len(heads), pitfalls)
	}
	for i, head := range heads {
		end := len(page)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		number, section := string(page[head[2]:head[3]]), string(page[head[0]:end])
		if number != fmt.Sprint(i+1) {
			t.Errorf("after pitfall %d comes %s", i, number)
		}
		if !thread.MatchString(section) {
			t.Errorf("pitfall %s has no link to where somebody fell into it", number)
		}
		tests := shown.FindAllStringSubmatch(section, -1)
		if all := named.FindAllString(section, -1); len(tests) == 0 || len(all) != len(tests) {
			t.Errorf("pitfall %s names the tests %v; of %d of them it says where they are", number, all, len(tests))
		}
		for _, test := range tests {
			if err := exists(test[3], test[1], test[2]); err != nil {
				t.Errorf("pitfall %s names %s: %v", number, test[0], err)
			}
		}
	}
}

// exists says why there is no such test, or no such case of it, in a directory.
func exists(directory, test, name string) error {
	paths, err := filepath.Glob(filepath.Join("..", directory, "*_test.go"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(source), "func "+test+"(") {
			continue
		}
		if name == "" {
			return nil
		}
		return hasCase(paths, strings.TrimPrefix(name, "/"))
	}
	return fmt.Errorf("there is no such test in %d files", len(paths))
}

// hasCase says whether a case is written in one of a package's files: what a test tries may stand
// beside it.
func hasCase(paths []string, name string) error {
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(source), `"`+name+`"`) {
			return nil
		}
	}
	return fmt.Errorf("there is no case %q", name)
}
