package restart

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

func policyCannotBeUsed(s *situation) *hold {
	if s.policy.invalid == nil {
		return nil
	}
	return &hold{reason: ReasonInvalidMeshPolicy, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("Nothing is restarted under MeshPolicy %s until it is corrected: %v.", s.policy.Name, s.policy.invalid)}
}

func policyOnlyReports(s *situation) *hold {
	if s.policy.Mode == v1alpha1.ModeEnforce {
		return nil
	}
	return &hold{reason: ReasonReportMode, clearsBy: v1alpha1.ClearedByAdmin,
		message: fmt.Sprintf("%s MeshPolicy %s is in mode Report, so it is not restarted. Set mode: Enforce.", s.workload.Message, s.policy.Name)}
}

func pictureIsOld(s *situation) *hold {
	if s.pass.Blind == "" {
		return nil
	}
	return &hold{reason: ReasonNotObserved, clearsBy: v1alpha1.ClearedByCluster,
		message: BlindInWords(s.pass.Blind)}
}

func redButtonIsPressed(s *situation) *hold {
	if !s.pass.Stopped {
		return nil
	}
	return &hold{reason: ReasonStopped, clearsBy: v1alpha1.ClearedByAdmin,
		message: "Everything is stopped. " + StoppedCure}
}

func guardIsNotProven(s *situation) *hold {
	switch s.pass.Guard {
	case GuardHolds:
		return nil
	case GuardMissing:
		return &hold{reason: ReasonGuardMissing, clearsBy: v1alpha1.ClearedByAdmin,
			message: GuardMissingInWords}
	default:
		return &hold{reason: ReasonGuardUnknown, clearsBy: v1alpha1.ClearedByCluster,
			message: GuardUnknownInWords}
	}
}

// clusterHasNotBeenRead speaks where something may be in flight, or ask for care, of which nothing is
// known yet.
func clusterHasNotBeenRead(s *situation) *hold {
	text, lasts := UnreadInWords(s.pass.Snapshot.Unread)
	switch {
	case text == "":
		return nil
	case lasts:
		return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByAdmin, message: text}
	default:
		return &hold{reason: ReasonNotReadYet, clearsBy: v1alpha1.ClearedByCluster, message: text}
	}
}

// What is said of a policy as well as of its workloads.
const (
	GuardMissingInWords = "The admission guard does not hold the operator's account to restarts. Apply config/guard, whose policies must name the ServiceAccount of this operator, or start the operator with --allow-unguarded."
	StoppedCure         = "Run: fullmesh stop --clear (with -n where the operator is not in fullmesh-system)"
	GuardUnknownInWords = "It has not been shown yet that the admission guard is in force; this is tried again. Where that lasts, something else refuses the operator's writes: its log says what."
)

// BlindInWords says that the cluster cannot be watched, and what helps.
func BlindInWords(blind string) string {
	return fmt.Sprintf("It is not known how things are now: %s. Where that lasts, see whether the API server answers and the operator's account has the rights of config/rbac.", blind)
}

// UnreadInWords says which kind has not been read yet, by kind and why; "" where every kind has been.
// It lasts until somebody does something where the kind cannot be read.
func UnreadInWords(unread map[string]string) (text string, lasts bool) {
	kinds := slices.Sorted(maps.Keys(unread))
	for _, kind := range kinds {
		if why := unread[kind]; why != "" {
			return fmt.Sprintf("Nothing is restarted before every %s has been read, and that cannot be done (%s). Apply config/rbac of this version.", kind, why), true
		}
	}
	if len(kinds) == 0 {
		return "", false
	}
	return fmt.Sprintf("Nothing is restarted before every %s has been read, which is being done.", kinds[0]), false
}

func isSettling(s *situation) *hold {
	last, what := s.namespace.Changed, "the namespace's labels"
	if changed := s.pass.Snapshot.ChangedFor(s.workload.Expectation); changed.After(last) {
		last, what = changed, "the injector"
	}
	if object := s.workload.Object; object != nil && object.TemplateChanged.After(last) {
		last, what = object.TemplateChanged, "the template"
	}
	until := last.Add(s.policy.settle)
	if until.After(s.pass.Now) {
		return &hold{reason: ReasonSettling, clearsBy: v1alpha1.ClearedByTime, until: until,
			message: fmt.Sprintf("Waiting until %s, which is %s after the last change of %s.", moment(until), s.policy.settle, what)}
	}
	// A cause is told by the second in which the newest Pod was created: those that follow must have a later one.
	if until := time.Unix(s.workload.NewestToReplace, 0).Add(LeastSettle); until.After(s.pass.Now) {
		return &hold{reason: ReasonSettling, clearsBy: v1alpha1.ClearedByTime, until: until,
			message: fmt.Sprintf("Waiting until %s, which is %s after its newest Pod was created.", moment(until), LeastSettle)}
	}
	return nil
}
