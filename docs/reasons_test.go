package docs

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	held        = regexp.MustCompile(`(?m)^\s+Reason[A-Za-z]+\s+Reason = "([A-Za-z]+)"$`)
	listed      = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| ((?:Time|Cluster|Owner|Admin)(?:, (?:Time|Cluster|Owner|Admin))*)? ?\\| .+ \\|$")
	notExpected = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| [^|]+ \\|$")
	notHolds    = []string{"RestartDue", "RestartInProgress", "RestartEnded"}
)

// Every reason for a hold is on the page, once, and no other is.
func TestEveryReasonIsExplained(t *testing.T) {
	source, err := os.ReadFile("../internal/rollout/verdict.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(found(held, source), func(reason string) bool { return slices.Contains(notHolds, reason) })
	if len(want) < 50 {
		t.Fatalf("only %d reasons were found in the code", len(want))
	}
	if diff := cmp.Diff(want, found(listed, page)); diff != "" {
		t.Errorf("reasons (-in the code +on the page):\n%s", diff)
	}
}

// Every reason for which no sidecar is expected is on the page as well. A template that admission refuses is
// wanted in the mesh.
func TestEveryReasonForNoSidecarIsExplained(t *testing.T) {
	source, err := os.ReadFile("../internal/mesh/expectation.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(found(held, source), func(reason string) bool { return reason == "AdmissionRefused" })
	if len(want) < 15 {
		t.Fatalf("only %d reasons were found in the code", len(want))
	}
	if diff := cmp.Diff(want, found(notExpected, page)); diff != "" {
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
