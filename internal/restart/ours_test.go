package restart_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func endedRow(rows []v1alpha1.RecentRestart) []v1alpha1.RecentRestart {
	rows[0].Result, rows[0].EndTime = v1alpha1.ResultFailed, new(metav1.NewTime(noon))
	return rows
}

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
		begunAt  time.Time // when unset, when the record says
		found    string
		reported []v1alpha1.RecentRestart
		// takes says that it takes its place; believed, that this is not told as what is known.
		takes, believed bool
		// until is when it takes its place no more unless it is reported.
		until time.Time
	}{
		"this process began it":                                       {tookOver: noon.Add(-time.Hour), begun: record.Cause, takes: true},
		"this process began another":                                  {tookOver: noon.Add(-time.Hour), begun: "another"},
		"this process began it before, and its owner writes it again": {tookOver: noon.Add(-time.Hour), begun: record.Cause, begunAt: noon.Add(-time.Hour)},
		"nobody knows of it":                                          {tookOver: noon.Add(-time.Hour)},
		"the report tells of it":                                      {tookOver: noon.Add(-time.Hour), reported: reportedAt(record.Start), takes: true},
		"the report tells that it has ended":                          {tookOver: noon.Add(-time.Hour), begun: record.Cause, reported: endedRow(reportedAt(record.Start))},
		"the report tells of one that began before":                   {tookOver: noon.Add(-time.Hour), reported: reportedAt(record.Start.Add(-time.Second))},
		"the report has no room for it":                               {tookOver: noon.Add(-time.Hour), reported: make([]v1alpha1.RecentRestart, v1alpha1.MaxRecentRestarts), takes: true, believed: true},
		"the former leader may have begun it":                         {tookOver: noon, takes: true, believed: true, until: noon.Add(10*minute + 30*time.Second)},
		"the former leader would have been reporting it now":          {tookOver: noon.Add(-10*minute - 30*time.Second)},
		"it was found when this process took over":                    {tookOver: noon.Add(-10*minute - 30*time.Second), found: record.Cause, takes: true, believed: true},
		"another was found when this process took over":               {tookOver: noon.Add(-10*minute - 30*time.Second), found: "another"},
		"it began after the former leader had gone":                   {tookOver: noon.Add(-11*minute - time.Second)},
		"nobody has begun anything: it is looked at once":             {takes: true},
	} {
		t.Run(name, func(t *testing.T) {
			restarting := cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Annotated(v1alpha1.LastRestartAnnotation, record.String())
			s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil), outside(restarting, 3), outside(deployment("shop", "pay"), 3))
			s.TookOver = test.tookOver
			s.Started = startOf(cartCause().UID, restart.Start{Cause: test.begun, At: cmp.Or(test.begunAt, record.Start)})
			s.Found = func(types.UID) string { return test.found }
			plan := s.when(remembersRows(test.reported...)).decide()
			if reason := verdicts(plan)["Deployment shop/pay"].Reason; (reason == restart.ReasonBudgetUsedUp) != test.takes {
				t.Errorf("the other Deployment: %s", reason)
			}
			if told := len(plan.Namespaces[0].Restarted) == 1; told != (test.takes && !test.believed) {
				t.Errorf("it is told of: %v", told)
			}
			if !test.until.IsZero() && plan.NextLook.After(test.until) {
				t.Errorf("looked at again at %s", plan.NextLook)
			}
		})
	}
}

// A record of a version to come takes a place where Fullmesh had begun something, or may have.
func TestARecordOfANewerVersionTakesAPlaceOnlyWhereFullmeshHadBegun(t *testing.T) {
	const minute = time.Minute
	newer := fmt.Sprintf(`{"version":2,"start":%q}`, noon.Add(-minute).Format(time.RFC3339))
	row := v1alpha1.RecentRestart{WorkloadReference: cartReference, Cause: "v2/whatever", StartTime: metav1.NewTime(noon.Add(-minute))}
	ended, longAgo := row, row
	ended.Result = v1alpha1.ResultSucceeded
	longAgo.StartTime = metav1.NewTime(noon.Add(-48 * time.Hour))
	for name, test := range map[string]struct {
		tookOver time.Time
		text     string
		reported []v1alpha1.RecentRestart
		takes    bool
	}{
		"a former leader may have begun it, and does not tell when": {tookOver: noon.Add(-minute), text: `{"version":2}`, takes: true},
		"nobody knows of it":                  {tookOver: yesterday},
		"the report tells of it":              {tookOver: yesterday, reported: []v1alpha1.RecentRestart{row}, takes: true},
		"the report tells that it has ended":  {tookOver: yesterday, reported: []v1alpha1.RecentRestart{ended}},
		"the report tells of one of long ago": {tookOver: yesterday, reported: []v1alpha1.RecentRestart{longAgo}},
		"a former leader may have begun it":   {tookOver: noon, takes: true},
	} {
		t.Run(name, func(t *testing.T) {
			paused := cart().Annotated(v1alpha1.LastRestartAnnotation, cmp.Or(test.text, newer)).With(func(d *appsv1.Deployment) { d.Spec.Paused, d.Status.UpdatedReplicas = true, 0 })
			s := newScene(meshed("bank"), builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil), runs(paused.Build(), injected, injected, injected), outside(deployment("bank", "pay"), 3)).when(tookOver(test.tookOver))
			s.Started = func(types.UID) restart.Start { return restart.Start{} }
			if reason := verdicts(s.when(remembersRows(test.reported...)).decide())["Deployment bank/pay"].Reason; (reason == restart.ReasonBudgetUsedUp) != test.takes {
				t.Errorf("the other Deployment: %s", reason)
			}
		})
	}
}

// What a policy has begun counts against its budgets until it ends, and while what has failed keeps its place, also
// where it does not govern the namespace any more.
func TestARestartCountsUnderThePolicyThatBeganIt(t *testing.T) {
	flying := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-20*time.Minute))
	flying.Replicas, flying.Ready = 3, 3
	failed := flying.Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-time.Minute))
	other := builder.Enforcing("other").Budget(v1alpha1.BudgetScopePolicy, 5, nil)
	for name, test := range map[string]struct {
		governedBy      *builder.PolicyBuilder
		begun, reported string
		waits           bool
	}{
		"nobody governs it, this process began it":      {nil, "mesh", "", true},
		"nobody governs it, the report tells":           {nil, "", "mesh", true},
		"nobody governs it, and nobody knows who began": {nil, "", "", false},
		"another governs it, this process began it":     {other, "mesh", "other", true},
		"another governs it, the report tells":          {other, "", "mesh", true},
		"another governs it and began it":               {other, "other", "other", false},
		"one that is gone began it":                     {other, "gone", "gone", false},
	} {
		for state, record := range map[string]*inventory.Record{"in flight": &flying, "failed": &failed} {
			t.Run(name+", "+state, func(t *testing.T) {
				restarting := cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, record.Cause).Annotated(v1alpha1.LastRestartAnnotation, record.String()).
					With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })
				s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil).Over("team", "bank"),
					runs(restarting.Build(), uninjected, uninjected, readyInMeshAt(noon.Add(-5*time.Minute)), crashing),
					builder.Namespace("bank").Labelled("istio-injection", "enabled", "team", "bank").CreatedAt(yesterday).Build(), outside(deployment("bank", "pay"), 3))
				if test.governedBy != nil {
					s.policies = append(s.policies, test.governedBy.Build())
				}
				s.TookOver = noon.Add(-time.Hour)
				s.Started = func(uid types.UID) restart.Start {
					if uid == cartCause().UID && test.begun != "" {
						return restart.Start{Cause: record.Cause, At: record.Start, Policy: test.begun}
					}
					return restart.Start{}
				}
				plan := s.when(remembersRows(v1alpha1.RecentRestart{Cause: record.Cause, StartTime: metav1.NewTime(record.Start), Policy: test.reported})).decide()
				if got := verdicts(plan)["Deployment bank/pay"]; (got.Reason == restart.ReasonBudgetUsedUp) != test.waits {
					t.Errorf("the other Deployment: %s: %s", got.Reason, got.Message)
				}
				if at := slices.IndexFunc(plan.Namespaces, func(n *restart.NamespacePlan) bool { return n.Name == "shop" }); !plan.Namespaces[at].Counts {
					t.Error("nothing in its namespace is said to count")
				}
			})
		}
	}
}

// No further Pod is evicted where nobody governs: what is down is all that counts.
func TestEvictionsThatNobodyGovernsTakeWhatIsDown(t *testing.T) {
	web := evicting(builder.Deployment("shop", "cart").Replicas(40).Unavailable(20).Surge(0).CreatedAt(yesterday).RolledOut())
	pods := slices.Repeat([]func(*builder.PodBuilder){uninjected}, 38)
	pods = append(pods, crashing)
	s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 5, 3).Over("team", "bank"), runs(web.Build(), pods...),
		builder.Namespace("bank").Labelled("istio-injection", "enabled", "team", "bank").CreatedAt(yesterday).Build(), outside(deployment("bank", "pay"), 3))
	s.TookOver = yesterday
	s.Started = startOf(cartCause().UID, restart.Start{Cause: cartCause().String(), At: began, Policy: "mesh"})
	if got := verdicts(s.decide())["Deployment bank/pay"]; got.Reason != restart.ReasonRestartDue {
		t.Errorf("the other Deployment: %s: %s", got.Reason, got.Message)
	}
	s = s.with(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 5, 2).Over("team", "bank"))
	if got := verdicts(s.decide())["Deployment bank/pay"]; got.Reason != restart.ReasonBudgetUsedUp {
		t.Errorf("with room for two, the other Deployment: %s: %s", got.Reason, got.Message)
	}
}

// A restart that failed long ago counts against nobody's budgets, and a namespace that nobody governs is not told of
// for its sake.
func TestAnOldFailureBringsNoUngovernedNamespaceIn(t *testing.T) {
	failed := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, decidedNow(), noon.Add(-48*time.Hour)).Ended(v1alpha1.ResultFailed, "It has failed.", noon.Add(-47*time.Hour))
	if plan := newScene(builder.Enforcing("mesh").Over("team", "bank"), outside(cart().Annotated(v1alpha1.LastRestartAnnotation, failed.String()), 3)).decide(); len(plan.Namespaces) > 0 {
		t.Errorf("namespace %s is told of", plan.Namespaces[0].Name)
	}
}

// A restart keeps its place while it goes on, whatever becomes of the record on its workload.
func TestARestartWhoseRecordIsTakenAwayKeepsItsPlace(t *testing.T) {
	record := inventory.NewRecord(cartCause(), v1alpha1.MethodRolloutRestart, "decided", noon.Add(-time.Minute))
	older := record
	older.Start = noon.Add(-2 * time.Minute)
	start := restart.Start{Cause: record.Cause, At: record.Start, Replicas: 3, Policy: "mesh"}
	row := v1alpha1.RecentRestart{WorkloadReference: cartReference, Cause: record.Cause, Policy: "mesh", Method: record.Method, StartTime: metav1.NewTime(record.Start)}
	evicted := row
	evicted.Method = v1alpha1.MethodEviction
	former := evicted
	former.Cause = others(cartCause()).String()
	for name, test := range map[string]struct {
		record  string
		started restart.Start
		rows    []v1alpha1.RecentRestart
		// cause is what stands on the template; when unset, that of the restart.
		cause string
		// updated Pods, of three.
		updated int32
		now     time.Time
		takes   bool
	}{
		"nothing is left, this process began it":                  {started: start, updated: 1, takes: true},
		"nothing is left, the report tells":                       {rows: []v1alpha1.RecentRestart{row}, updated: 1, takes: true},
		"its owner says that it has ended":                        {record: record.Ended(v1alpha1.ResultSucceeded, "", noon).String(), started: start, updated: 1, takes: true},
		"its owner says that it began before":                     {record: older.String(), started: start, rows: []v1alpha1.RecentRestart{row}, updated: 1, takes: true},
		"its owner writes something":                              {record: "yes", started: start, updated: 1, takes: true},
		"evictions, the report tells":                             {rows: []v1alpha1.RecentRestart{evicted}, cause: "none", updated: 1, takes: true},
		"this process has ended it":                               {record: record.Ended(v1alpha1.ResultSucceeded, "", noon).String(), started: restart.Start{Cause: start.Cause, At: start.At, Ended: true}, updated: 1},
		"the report tells that it has ended":                      {rows: endedRow([]v1alpha1.RecentRestart{row}), updated: 1},
		"the template has been changed back":                      {started: start, rows: []v1alpha1.RecentRestart{row}, cause: "none", updated: 1},
		"every Pod is updated and ready":                          {started: start, rows: []v1alpha1.RecentRestart{row}, updated: 3},
		"it has gone on for longer than its Pods may take":        {started: start, rows: []v1alpha1.RecentRestart{row}, updated: 1, now: noon.Add(time.Hour)},
		"the workload tells of a later one than the report":       {record: record.Ended(v1alpha1.ResultSucceeded, "", noon).String(), rows: []v1alpha1.RecentRestart{row}, updated: 1},
		"the report tells of a workload of its name that is gone": {rows: []v1alpha1.RecentRestart{former}, cause: "none", updated: 1},
		"nobody knows of any":                                     {updated: 1},
	} {
		t.Run(name, func(t *testing.T) {
			restarting := cart().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, cmp.Or(test.cause, record.Cause)).
				With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = test.updated })
			if test.record != "" {
				restarting = restarting.Annotated(v1alpha1.LastRestartAnnotation, test.record)
			}
			s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil), outside(restarting, 3), outside(deployment("shop", "pay"), 3)).when(tookOver(yesterday))
			if !test.now.IsZero() {
				s.Now = test.now
			}
			s.Started = startOf(cartCause().UID, test.started)
			plan := s.when(remembersRows(test.rows...)).decide()
			given := verdicts(plan)
			if reason := given["Deployment shop/pay"].Reason; (reason == restart.ReasonBudgetUsedUp) != test.takes {
				t.Errorf("the other Deployment: %s, and this one: %s", reason, given["Deployment shop/cart"].Message)
			}
			if untold := len(plan.Namespaces[0].Untold); (untold == 1) != test.takes || untold > 1 {
				t.Errorf("%d are not told of", untold)
			}
		})
	}
}

// What goes on without a record keeps others away that share its PodDisruptionBudget.
func TestARestartWhoseRecordIsTakenAwaySharesItsDisruptionBudget(t *testing.T) {
	cause := inventory.Cause{Finding: v1alpha1.FindingMissing, Revision: "default", UID: "statefulset-shop-db", Newest: yesterday.Unix()}.String()
	restarting := db().TemplateAnnotated(v1alpha1.RestartCauseAnnotation, cause).With(func(s *appsv1.StatefulSet) { s.Status.UpdatedReplicas = 1 })
	s := newScene(outside(restarting, 3), outside(builder.StatefulSet("shop", "queue").Replicas(3).CreatedAt(yesterday).RolledOut(), 3),
		builder.DisruptionBudget("shop", "all").Covering().Healthy(6, 5, 6).Build())
	s.Started = startOf("statefulset-shop-db", restart.Start{Cause: cause, At: noon.Add(-time.Minute), Replicas: 3, Policy: "mesh"})
	given := verdicts(s.decide())
	if got := given["StatefulSet shop/queue"]; got.Reason != restart.ReasonSharesDisruptionBudget {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
	if got := given["StatefulSet shop/db"]; got.Reason != restart.ReasonRolloutInProgress || got.ClearsBy != byCluster {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
}

// Its place is free when no further Pod becomes ready, as that of any other.
func TestARestartWhoseRecordIsTakenAwayKeepsItsPlaceWhilePodsBecomeReady(t *testing.T) {
	for name, test := range map[string]struct {
		ready time.Time
		takes bool
	}{
		"they do":                              {noon.Add(-5 * time.Minute), true},
		"none has for longer than it may take": {noon.Add(-15 * time.Minute), false},
	} {
		t.Run(name, func(t *testing.T) {
			start := restart.Start{Cause: cartCause().String(), At: noon.Add(-25 * time.Minute), Replicas: 4, Policy: "mesh"}
			came := func(b *builder.PodBuilder) { b.CreatedAt(start.At).Injected("default").Ready(test.ready) }
			going := cart().Replicas(4).TemplateAnnotated(v1alpha1.RestartCauseAnnotation, start.Cause).With(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 3 })
			s := newScene(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil),
				runs(going.Build(), came, came, notReadySince(noon.Add(-20*time.Minute)), uninjected), outside(deployment("shop", "pay"), 3)).when(tookOver(yesterday))
			s.Started = startOf(cartCause().UID, start)
			if got := verdicts(s.decide())["Deployment shop/pay"]; (got.Reason == restart.ReasonBudgetUsedUp) != test.takes {
				t.Errorf("the other Deployment: %s: %s", got.Reason, got.Message)
			}
		})
	}
}
