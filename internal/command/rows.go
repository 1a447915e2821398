package command

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// namespaceRow is what plan and status print of a namespace.
type namespaceRow struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
	Pods   pods   `json:"pods"`
	// Workloads are by kind and name.
	Workloads []workloadRow `json:"workloads"`

	// notExpected counts the Pods that injection does not expect by reason.
	notExpected map[string]int
	// worstFirst are the positions of the workloads that are not complete, the worst first.
	worstFirst []int
}

// pods counts a namespace's running Pods.
type pods struct {
	Eligible    int `json:"eligible"`
	Meshed      int `json:"meshed"`
	NotExpected int `json:"notExpected"`
}

// workloadRow is what plan and status print of a workload.
type workloadRow struct {
	Group    string           `json:"group"`
	Kind     string           `json:"kind"`
	Name     string           `json:"name"`
	Pods     int              `json:"pods"`
	Meshed   int              `json:"meshed"`
	Finding  v1alpha1.Finding `json:"finding"`
	Expected *expected        `json:"expected,omitempty"`
	Action   v1alpha1.Action  `json:"action"`
	// Method is how it is restarted, or would be once a hold has ended.
	Method v1alpha1.RestartMethod `json:"method,omitempty"`
	Reason string                 `json:"reason"`
	// ClearsBy says who or what ends a hold.
	ClearsBy v1alpha1.ClearedBy `json:"clearsBy,omitempty"`
	Message  string             `json:"message"`
	// Notes are worth knowing in addition.
	Notes []mesh.Note `json:"notes,omitempty"`
}

// expected is what injection would do to a new Pod.
type expected struct {
	Inject   bool   `json:"inject"`
	Revision string `json:"revision"`
}

// String is the workload as people write it: Deployment/cart, Rollout.argoproj.io/cart.
func (w *workloadRow) String() string {
	kind := w.Kind
	if w.Group != "" && w.Group != "apps" && w.Group != "batch" {
		kind += "." + w.Group
	}
	return kind + "/" + w.Name
}

// needsSomething reports whether something is to be done, or to pass, until it is as it should be. Runs
// of Jobs end by themselves.
func (w workloadRow) needsSomething() bool {
	return w.Action != v1alpha1.ActionNone && w.Group != "batch"
}

func (w *workloadRow) waits() bool {
	return w.Action == v1alpha1.ActionHold && (w.ClearsBy == v1alpha1.ClearedByTime || w.ClearsBy == v1alpha1.ClearedByCluster)
}

// counts are a namespace's numbers, or those of several.
type counts struct {
	pods
	restart, inFlight, waiting, held int
}

func (c *counts) add(row *namespaceRow) {
	c.Eligible += row.Pods.Eligible
	c.Meshed += row.Pods.Meshed
	c.NotExpected += row.Pods.NotExpected
	for i := range row.Workloads {
		switch workload := &row.Workloads[i]; {
		case workload.Action == v1alpha1.ActionRestart:
			c.restart++
		case workload.Action == v1alpha1.ActionInFlight:
			c.inFlight++
		case workload.waits():
			c.waiting++
		case workload.Action == v1alpha1.ActionHold:
			c.held++
		}
	}
}

// String is the counts as the part of a sentence: 12 of 20 Pods are in the mesh, 3 workloads to
// restart, 2 held.
func (c *counts) String() string {
	text := fmt.Sprintf("%d of %s in the mesh", c.Meshed, plural(c.Eligible, "Pod is", "Pods are"))
	if c.Eligible == 0 {
		text = "injection expects no Pod"
	}
	workloads := func(n int) string { return plural(n, "workload", "workloads") }
	for _, part := range []struct {
		workloads int
		what      string
	}{
		{c.restart, "to restart"}, {c.inFlight, "being restarted"}, {c.waiting, "waiting"}, {c.held, "held"},
	} {
		if part.workloads == 0 {
			continue
		}
		text += fmt.Sprintf(", %s %s", workloads(part.workloads), part.what)
		workloads = func(n int) string { return fmt.Sprint(n) }
	}
	return text
}

func plural(n int, one, many string) string {
	return fmt.Sprintf("%d %s", n, map[bool]string{true: one, false: many}[n == 1])
}

// summary is the namespace in one line.
func (n *namespaceRow) summary() string {
	sum := counts{}
	sum.add(n)
	text := fmt.Sprintf("%s: %s", n.Name, &sum)
	if len(n.notExpected) > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(n.notExpected)) {
			reasons = append(reasons, fmt.Sprintf("%d %s", n.notExpected[reason], reason))
		}
		text += fmt.Sprintf("; not expected: %s", strings.Join(reasons, ", "))
	}
	if n.Policy != "" {
		text += fmt.Sprintf(" (MeshPolicy %s)", n.Policy)
	}
	return text
}

// isQuiet reports whether the summary says it all: injection expects nothing and has made nothing.
func (n *namespaceRow) isQuiet() bool {
	return n.Pods.Eligible == 0 && len(n.worstFirst) == 0 && !slices.ContainsFunc(n.Workloads,
		func(w workloadRow) bool { return w.Meshed > 0 })
}

// printWorkloads prints those that are not complete, the worst first, and then the others. Of runs
// that are over it prints nothing, and of what is in the mesh not why.
func (n *namespaceRow) printWorkloads(out screen) {
	rows := table{{"WORKLOAD", "PODS", "MESHED", "FINDING", "ACTION", "METHOD", "REASON", "CLEARED BY", "MESSAGE"}}
	order := slices.Clone(n.worstFirst)
	for i := range n.Workloads {
		if over := n.Workloads[i].Group == "batch" && n.Workloads[i].Pods == 0; !over && !slices.Contains(n.worstFirst, i) {
			order = append(order, i)
		}
	}
	for _, i := range order {
		w := &n.Workloads[i]
		message := w.Message
		if w.Action == v1alpha1.ActionNone && w.Finding == v1alpha1.FindingMeshed {
			message = ""
		}
		rows = append(rows, []string{
			w.String(), fmt.Sprint(w.Pods), fmt.Sprint(w.Meshed), string(w.Finding),
			string(w.Action), cmp.Or(string(w.Method), "-"), w.Reason, cmp.Or(string(w.ClearsBy), "-"), message,
		})
	}
	if len(rows) > 1 {
		rows.print(out, "  ")
	}
	n.printNotes(out)
}

// printNotes prints each note once, with the workloads that it is about.
func (n *namespaceRow) printNotes(out screen) {
	about := map[mesh.Note][]string{}
	var notes []mesh.Note
	for i := range n.Workloads {
		for _, note := range n.Workloads[i].Notes {
			if about[note] == nil {
				notes = append(notes, note)
			}
			about[note] = append(about[note], n.Workloads[i].String())
		}
	}
	const few = 3
	for _, note := range notes {
		names := about[note]
		text := strings.Join(names[:min(few, len(names))], ", ")
		if more := len(names) - few; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		out.paragraph(fmt.Sprintf("Note (%s) on %s: %s", note.Reason, text, note.Message))
	}
}
