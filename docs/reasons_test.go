package docs

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	reasons     = regexp.MustCompile(`(?m)^\s+Reason[A-Za-z]+\s+Reason = "([A-Za-z]+)"$`)
	listed      = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| ((?:Time|Cluster|Owner|Admin)(?:, (?:Time|Cluster|Owner|Admin))*)? ?\\| .+ \\|$")
	notExpected = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| [^|]+ \\|$")
	notHolds    = []string{"RestartDue", "RestartInProgress", "RestartEnded"}
)

// Every reason for a hold is on the page, once, and no other is.
func TestEveryReasonIsExplained(t *testing.T) {
	areExplained(t, "../internal/restart/verdict.go", 50, listed, notHolds...)
}

// Every reason for which no sidecar is expected is on the page as well.
func TestEveryReasonForNoSidecarIsExplained(t *testing.T) {
	areExplained(t, "../internal/mesh/expectation.go", 15, notExpected)
}

// areExplained compares the reasons in a file of the code, but for some, with those that the page lists in one form.
func areExplained(t *testing.T, code string, least int, listed *regexp.Regexp, except ...string) {
	t.Helper()
	source, err := os.ReadFile(code)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(found(reasons, source), func(reason string) bool { return slices.Contains(except, reason) })
	if len(want) < least {
		t.Fatalf("only %d reasons were found in the code", len(want))
	}
	if diff := cmp.Diff(want, found(listed, page)); diff != "" {
		t.Errorf("reasons (-in the code +on the page):\n%s", diff)
	}
}

// found are the first groups of all matches, sorted.
func found(expression *regexp.Regexp, text []byte) []string {
	var all []string
	for _, match := range expression.FindAllSubmatch(text, -1) {
		all = append(all, string(match[1]))
	}
	slices.Sort(all)
	return all
}
