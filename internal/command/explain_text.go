package command

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// print prints an explanation for people, in the order in which it is decided.
func (e *explanation) print(out screen) {
	workload := e.row.String() + " in namespace " + e.Namespace
	if e.Pod != nil && e.Kind != "Pod" {
		out.line("Pod %s of %s", e.Pod.Name, workload)
	} else {
		out.line("%s", workload)
	}
	e.printPolicy(out)
	e.printInjection(out)
	e.printPods(out)
	out.line("\nFinding")
	out.paragraph(fmt.Sprintf("%s (%s): %s", e.Finding.Finding, e.Finding.Reason, e.Finding.Message))
	e.printPhases(out)
	e.printRestarts(out)
	out.line("\nVerdict")
	text := e.Verdict.Message
	if e.Verdict.Action != "" {
		text = fmt.Sprintf("%s (%s): %s", e.Verdict.Action, e.Verdict.Reason, text)
	}
	out.paragraph(text)
	out.line("\nWhat to do")
	for _, text := range e.WhatToDo {
		out.paragraph(text)
	}
}

func (e *explanation) printPolicy(out screen) {
	switch {
	case e.Policy != "" && e.PolicyAssumed:
		out.line("There is no MeshPolicy; one in mode Enforce is assumed that accepts no risk.")
	case e.Policy != "":
		out.line("MeshPolicy %s governs it.", e.Policy)
	}
}

func (e *explanation) printInjection(out screen) {
	explained := &e.Injection
	out.line("\nInjection")
	gets := "no sidecar"
	if explained.Inject {
		gets = "a sidecar of revision " + explained.Revision
		if explained.Image != "" {
			gets += ", image " + explained.Image
		}
	}
	out.line("  A new Pod gets %s (%s).", gets, explained.Reason)
	out.paragraph(explained.Message)
	out.line("  What asks for it: namespace %s; template %s.", pairs(explained.NamespaceLabels, "no label"), explained.templateInWords())
	if explained.Assumed != "" {
		out.paragraph("Assumed: " + explained.Assumed + ".")
	}
	for _, note := range explained.Notes {
		out.paragraph(fmt.Sprintf("Note (%s): %s", note.Reason, note.Message))
	}
	rows := table{{"WEBHOOK", "CONFIGURATION", "REVISION", "ANSWER", "WHY"}}
	for _, call := range explained.Webhooks {
		rows = append(rows, []string{call.Webhook, call.Configuration, call.Revision, string(call.Answer), call.Message})
	}
	if len(rows) > 1 {
		out.line("  The webhooks, in the order in which the API server goes through them:")
		rows.print(out, "  ")
	}
}

func (i *injection) templateInWords() string {
	var parts []string
	if len(i.TemplateLabels) > 0 {
		parts = append(parts, pairs(i.TemplateLabels, ""))
	}
	if len(i.TemplateAnnotations) > 0 {
		parts = append(parts, "annotation "+pairs(i.TemplateAnnotations, ""))
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}

func pairs(set map[string]string, none string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(set)) {
		parts = append(parts, key+"="+set[key])
	}
	return cmp.Or(strings.Join(parts, ", "), none)
}

func (e *explanation) printPods(out screen) {
	out.line("\nPods")
	if e.Pod != nil {
		ready := "not ready"
		if e.Pod.Ready {
			ready = "ready"
		}
		out.paragraph(fmt.Sprintf("Pod %s is %s and %s. It carries %s: %s (%s). %s",
			e.Pod.Name, strings.ToLower(e.Pod.State), ready, e.Pod.inWords(), e.Pod.Finding, e.Pod.Reason, e.Pod.Message))
	}
	rows := table{{"PODS", "READY", "STATE", "FINDING", "REASON", "CARRY"}}
	var troubles []string
	for i := range e.Pods {
		group := &e.Pods[i]
		rows = append(rows, []string{fmt.Sprint(group.Pods), fmt.Sprint(group.Ready), group.State, string(group.Finding), string(group.Reason),
			group.inWords()})
		if group.State == running {
			troubles = append(troubles, group.Troubles...)
		}
	}
	if len(rows) == 1 {
		out.line("  There are none.")
		return
	}
	rows.print(out, "  ")
	for i, trouble := range troubles {
		const few = 3
		if i == few {
			out.line("  %d more are in trouble.", len(troubles)-few)
			break
		}
		out.paragraph(trouble + ".")
	}
}

// inWords is what Pods carry, as the part of a sentence.
func (c *carries) inWords() string {
	text := map[string]string{"None": "no sidecar", "Sidecar": "a sidecar", "NativeSidecar": "a native sidecar",
		"Gateway": "a gateway's proxy", "Agent": "an agent without Envoy"}[c.Proxy]
	if c.Revision != "" {
		text += ", revision " + c.Revision
	}
	if c.Image != "" {
		text += ", image " + c.Image
	}
	if c.Capture == "Broken" {
		text += ", whose traffic is not redirected"
	}
	switch c.Ambient {
	case "Enabled":
		text += ", captured by the ambient mesh"
	case "Pending":
		text += ", waiting for ztunnel"
	}
	if c.Spoofed != "" {
		text += " (" + c.Spoofed + ")"
	}
	return text
}

// printPhases prints phase by phase what passed, what holds, and what was not reached.
func (e *explanation) printPhases(out screen) {
	out.line("\nDecision, phase by phase")
	if len(e.Phases) == 0 || e.Verdict.Action == v1alpha1.ActionNone || e.Verdict.Action == "" {
		out.line("  Nothing is decided.")
		return
	}
	rows := table{{"PHASE", "ANSWER", "CHECKS"}}
	for _, phase := range e.Phases {
		var holds, parts []string
		counts := map[restart.Answer]int{}
		for _, asked := range phase.Checks {
			if asked.Answer == restart.AnswerHolds {
				holds = append(holds, asked.Check)
			} else {
				counts[asked.Answer]++
			}
		}
		if len(holds) > 0 {
			parts = append(parts, strings.Join(holds, ", "))
		}
		for _, of := range []struct {
			answer restart.Answer
			words  string
		}{{restart.AnswerPassed, "passed"}, {restart.AnswerAssumed, "assumed"}, {restart.AnswerNotReached, "not reached"}} {
			if count := counts[of.answer]; count > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", count, of.words))
			}
		}
		rows = append(rows, []string{phase.Phase, answers[phase.Answer], strings.Join(parts, "; ")})
	}
	rows.print(out, "  ")
}

// answers in words.
var answers = map[restart.Answer]string{
	restart.AnswerPassed: "passed", restart.AnswerHolds: "holds", restart.AnswerNotReached: "not reached",
	restart.AnswerAssumed: "assumed: no dry run is made here",
}

// printRestarts prints the restarts that Fullmesh has made of the workload.
func (e *explanation) printRestarts(out screen) {
	if len(e.Restarts) == 0 {
		return
	}
	out.line("\nRestarts by Fullmesh")
	rows := table{{"STARTED", "FINDING", "METHOD", "RESULT", "MESSAGE"}}
	for _, past := range e.Restarts {
		rows = append(rows, []string{
			past.Start.Format(time.RFC3339), string(past.Finding), string(past.Method), cmp.Or(string(past.Result), "in flight"), past.Message,
		})
	}
	rows.print(out, "  ")
}

// whatToDo says who can do what about a verdict. The verdict itself names the cure of a hold.
func whatToDo(trace *restart.Trace, assumed bool) []string {
	verdict := &trace.Verdict
	key := verdict.Workload.Key
	var todo []string
	switch {
	case verdict.Reason == restart.ReasonEvictionHeld:
		todo = append(todo, "Its evictions have started and wait; the verdict says what ends that.")
	case verdict.Action == v1alpha1.ActionInFlight:
		todo = append(todo, "Nothing: its restart is in progress.")
	case verdict.Action == v1alpha1.ActionRestart && assumed:
		todo = append(todo, "Under a MeshPolicy in mode Enforce, Fullmesh restarts it.")
	case verdict.Action == v1alpha1.ActionRestart:
		todo = append(todo, "Nothing: it is restarted. To have it left alone, its owner sets the annotation "+
			v1alpha1.RestartAnnotation+"="+v1alpha1.RestartDisabled+" on it.")
	case verdict.Waits():
		todo = append(todo, "Nothing, as a rule: this may end by itself. If it does not, the verdict says what helps.")
	case verdict.ClearsBy == v1alpha1.ClearedByOwner:
		todo = append(todo, "Its owner ends this as the verdict says.")
	case verdict.ClearsBy == v1alpha1.ClearedByAdmin:
		todo = append(todo, "An administrator ends this as the verdict says.")
	case verdict.Workload.Finding == v1alpha1.FindingMeshed:
		return []string{"Nothing: it is as injection would make it."}
	case verdict.Workload.Complete():
		return []string{"Nothing, unless it should be in the mesh: what keeps it out is said under Injection."}
	default:
		todo = append(todo, fmt.Sprintf("An administrator can have a MeshPolicy govern the namespace %s.", key.Namespace))
	}
	if command := restartByHand(trace, assumed); command != "" {
		todo = append(todo, "Whoever may change it can restart it at a time of their own choice: "+command)
	}
	return todo
}

// unaided are the reasons of holds that a restart by hand ends as well as one by Fullmesh would: they
// say that nobody wanted it yet, and not that it would do harm or no good.
var unaided = []restart.Reason{
	restart.ReasonNotSelected, restart.ReasonOptedOut, restart.ReasonInvalidAnnotation, restart.ReasonNotRemediated,
	restart.ReasonReportMode, restart.ReasonStopped, restart.ReasonGuardMissing, restart.ReasonWouldCauseDowntime,
	restart.ReasonExceedsBudget,
}

// restartByHand is the command by which somebody may restart a workload instead of Fullmesh; empty
// where it would not help, or do more harm than leave no Pod ready for a moment.
func restartByHand(trace *restart.Trace, assumed bool) string {
	verdict := &trace.Verdict
	workload, object := verdict.Workload, verdict.Workload.Object
	harms := slices.ContainsFunc(trace.Risks, func(risk restart.Reason) bool { return risk != restart.ReasonWouldCauseDowntime })
	wanted := slices.Contains(unaided, verdict.Reason) || assumed && verdict.Reason == restart.ReasonRestartDue
	switch {
	case !wanted || harms || workload.Complete() || object == nil || object.Is().ByHand == "":
		return ""
	case verdict.Method == v1alpha1.MethodEviction || object.Paused || object.Strategy.Type == inventory.StrategyNone || object.RollingOut():
		return ""
	default:
		return fmt.Sprintf(object.Is().ByHand, object.Name, object.Namespace)
	}
}
