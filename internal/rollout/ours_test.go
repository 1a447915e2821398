package rollout_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/rollout"
	"github.com/fullmesh/fullmesh/test/builder"
)

// What a workload tells of a restart takes a place in the budgets of others only where Fullmesh began it.
func TestARestartThatFullmeshDidNotBeginTakesNoPlace(t *testing.T) {
	const minute = time.Minute
	record := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-minute))
	record.Replicas, record.Ready = 3, 3
	reportedAt := func(start time.Time) []v1alpha1.RecentRestart {
		return []v1alpha1.RecentRestart{{Cause: record.Cause, StartTime: metav1.NewTime(start)}}
	}
	for name, test := range map[string]struct {
		tookOver time.Time
		begun    string
		reported []v1alpha1.RecentRestart
		takes    bool
		// until is when it takes its place no more unless it is reported.
		until time.Time
	}{
		"this process began it":                              {tookOver: noon.Add(-time.Hour), begun: record.Cause, takes: true},
		"this process began another":                         {tookOver: noon.Add(-time.Hour), begun: "another"},
		"nobody knows of it":                                 {tookOver: noon.Add(-time.Hour)},
		"the report tells of it":                             {tookOver: noon.Add(-time.Hour), reported: reportedAt(record.Start), takes: true},
		"the report tells of one that began before":          {tookOver: noon.Add(-time.Hour), reported: reportedAt(record.Start.Add(-time.Second))},
		"the report has no room for it":                      {tookOver: noon.Add(-time.Hour), reported: make([]v1alpha1.RecentRestart, v1alpha1.MaxRecentRestarts), takes: true},
		"the former leader may have begun it":                {tookOver: noon, takes: true, until: noon.Add(10*minute + 30*time.Second)},
		"the former leader would have been reporting it now": {tookOver: noon.Add(-10*minute - 30*time.Second)},
		"it began after the former leader had gone":          {tookOver: noon.Add(-11*minute - time.Second)},
		"nobody has begun anything: it is looked at once":    {takes: true},
	} {
		t.Run(name, func(t *testing.T) {
			restarting := cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Annotated(v1alpha1.LastRestartAnnotation, record.String())
			s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil), outside(restarting, 3), outside(deployment("shop", "pay"), 3))
			s.TookOver = test.tookOver
			s.Started = func(uid types.UID) rollout.Start {
				if uid == cartCause().UID {
					return rollout.Start{Cause: test.begun}
				}
				return rollout.Start{}
			}
			s.Reported = func(string) *v1alpha1.MeshReportStatus {
				return &v1alpha1.MeshReportStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady}}, Recent: test.reported}
			}
			plan := s.decide()
			if reason := verdicts(plan)["Deployment shop/pay"].Reason; (reason == rollout.ReasonBudgetUsedUp) != test.takes {
				t.Errorf("the other Deployment: %s", reason)
			}
			if told := len(plan.Namespaces[0].Restarted) == 1; told != test.takes {
				t.Errorf("it is told of: %v", told)
			}
			if !test.until.IsZero() && plan.NextLook.After(test.until) {
				t.Errorf("looked at again at %s", plan.NextLook)
			}
		})
	}
}
