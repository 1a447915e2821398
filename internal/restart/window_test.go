package restart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"pgregory.net/rapid"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

const (
	allow = v1alpha1.WindowAllow
	deny  = v1alpha1.WindowDeny
)

// at reads a time as messages say it.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	read, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func usable(t interface{ Fatalf(string, ...any) }, b *builder.PolicyBuilder) *restart.Policy {
	policy, err := restart.NewPolicy(b.Build())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return policy
}

func TestWindows(t *testing.T) {
	enforcing := func() *builder.PolicyBuilder { return builder.Enforcing("mesh") }
	nightly := enforcing().Window(allow, "0 22 * * *", 360, "")
	frozen := enforcing().Window(allow, "0 22 * * *", 360, "").Window(deny, "0 0 24 12 *", 3*24*60, "")
	for name, test := range map[string]struct {
		policy *builder.PolicyBuilder
		now    string
		// open, and until when; closed where it is the other way round. Empty: for good.
		open, closed string
	}{
		"no windows":                            {policy: enforcing(), now: "2026-11-23T12:00:00Z", open: ""},
		"before a window that allows":           {policy: nightly, now: "2026-11-23T21:59:59Z", closed: "2026-11-23T22:00:00Z"},
		"when it begins":                        {policy: nightly, now: "2026-11-23T22:00:00Z", open: "2026-11-24T04:00:00Z"},
		"in its last second":                    {policy: nightly, now: "2026-11-24T03:59:59Z", open: "2026-11-24T04:00:00Z"},
		"when it ends":                          {policy: nightly, now: "2026-11-24T04:00:00Z", closed: "2026-11-24T22:00:00Z"},
		"a window that denies beats it":         {policy: frozen, now: "2026-12-25T23:00:00Z", closed: "2026-12-27T00:00:00Z"},
		"and cuts it short":                     {policy: frozen, now: "2026-12-23T23:00:00Z", open: "2026-12-24T00:00:00Z"},
		"only windows that deny: outside":       {policy: enforcing().Window(deny, "0 8 * * 1-5", 600, ""), now: "2026-11-23T07:00:00Z", open: "2026-11-23T08:00:00Z"},
		"only windows that deny: inside":        {policy: enforcing().Window(deny, "0 8 * * 1-5", 600, ""), now: "2026-11-23T12:00:00Z", closed: "2026-11-23T18:00:00Z"},
		"windows that overlap are one":          {policy: enforcing().Window(allow, "0 22 * * *", 360, "").Window(allow, "0 1 * * *", 300, ""), now: "2026-11-23T23:00:00Z", open: "2026-11-24T06:00:00Z"},
		"windows that follow each other":        {policy: enforcing().Window(allow, "0 22 * * *", 120, "").Window(allow, "0 0 * * *", 60, ""), now: "2026-11-23T22:30:00Z", open: "2026-11-24T01:00:00Z"},
		"a window that overlaps itself":         {policy: enforcing().Window(allow, "0 * * * *", 90, ""), now: "2026-11-23T12:00:00Z", open: ""},
		"a zone to the west":                    {policy: enforcing().Window(allow, "0 22 * * *", 360, "America/New_York"), now: "2026-11-24T02:59:00Z", closed: "2026-11-24T03:00:00Z"},
		"the hour that is skipped begins later": {policy: enforcing().Window(deny, "30 2 * * *", 60, "Europe/Berlin"), now: "2026-03-29T01:00:00Z", closed: "2026-03-29T02:00:00Z"},
		"the hour that comes twice, first":      {policy: enforcing().Window(deny, "30 2 * * *", 15, "Europe/Berlin"), now: "2026-10-25T00:30:00Z", closed: "2026-10-25T00:45:00Z"},
		"the hour that comes twice, second":     {policy: enforcing().Window(deny, "30 2 * * *", 15, "Europe/Berlin"), now: "2026-10-25T01:30:00Z", closed: "2026-10-25T01:45:00Z"},
		"a day that a zone leaves out":          {policy: enforcing().Window(deny, "0 12 30 12 *", 60, "Pacific/Apia"), now: "2011-12-30T10:00:00Z", closed: "2011-12-30T11:00:00Z"},
		"the last day of a leap year":           {policy: enforcing().Window(allow, "0 22 * * *", 60, "Europe/Berlin"), now: "2028-12-31T12:00:00Z", closed: "2028-12-31T21:00:00Z"},
		"a leap day":                            {policy: enforcing().Window(allow, "0 0 29 2 *", 60, ""), now: "2026-11-23T12:00:00Z", closed: "2028-02-29T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			now := at(t, test.now)
			got := restart.WindowsAt(usable(t, test.policy), now)
			var want time.Time
			if until := test.open + test.closed; until != "" {
				want = at(t, until)
			}
			if got.Open != (test.closed == "") || !got.Ends.Equal(want) || got.Never {
				t.Errorf("open %t until %s (never: %t), want open %t until %s", got.Open, got.Ends, got.Never, test.closed == "", want)
			}
		})
	}
}

func TestWindowsThatNeverOpenSaySo(t *testing.T) {
	for name, policy := range map[string]*builder.PolicyBuilder{
		"no such day":                      builder.Enforcing("mesh").Window(allow, "0 0 30 2 *", 60, ""),
		"denied whenever it is allowed":    builder.Enforcing("mesh").Window(allow, "0 22 * * *", 60, "").Window(deny, "0 22 * * *", 60, ""),
		"denied at every minute by itself": builder.Enforcing("mesh").Window(deny, "* * * * *", 1, ""),
		"denied by windows that overlap":   builder.Enforcing("mesh").Window(deny, "0 0 * * *", 10080, ""),
	} {
		t.Run(name, func(t *testing.T) {
			verdict := only(t, newScene(policy.Unbounded(), outside(cart(), 3)).decide())
			if verdict.Reason != restart.ReasonWindowClosed || verdict.ClearsBy != byAdmin || !strings.Contains(verdict.Message, "Correct spec.windows") {
				t.Errorf("%s, cleared by %s: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
			}
			if !verdict.Until.After(noon.Add(24 * time.Hour)) {
				t.Errorf("it is looked at again at %s", verdict.Until)
			}
		})
	}
}

func TestWindowThatCannotBeReadIsNamedWithItsCure(t *testing.T) {
	for want, window := range map[string]v1alpha1.Window{
		`reading spec.windows[1].schedule: end of range (60) above maximum (59): 60; write cron's five fields`: {Action: allow, Schedule: "60 0 * * *", DurationMinutes: 1},
		`reading spec.windows[1].schedule: expected exactly 5 fields, found 4`:                                 {Action: allow, Schedule: "0 22 * *", DurationMinutes: 1},
		`"TZ=UTC" names a time zone, which belongs in timeZone`:                                                {Action: allow, Schedule: "TZ=UTC", DurationMinutes: 1},
		`spec.windows[1].timeZone: "Europe/Kopenhagen" is not in the time zone database; write`:                {Action: allow, Schedule: "0 22 * * *", DurationMinutes: 1, TimeZone: "Europe/Kopenhagen"},
		`spec.windows[1].timeZone: "Local" is not in the time zone database`:                                   {Action: allow, Schedule: "0 22 * * *", DurationMinutes: 1, TimeZone: "Local"},
		`spec.windows[1].action: "Maybe" is neither Allow nor Deny`:                                            {Action: "Maybe", Schedule: "0 22 * * *", DurationMinutes: 1},
		`spec.windows[1].durationMinutes: it must be at least 1`:                                               {Action: deny, Schedule: "0 22 * * *"},
	} {
		policy := builder.Enforcing("mesh").Window(allow, "* * * * *", 1, "").Build()
		policy.Spec.Windows = append(policy.Spec.Windows, window)
		if _, err := restart.NewPolicy(policy); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", window, err)
		}
	}
}

// A policy with a window that cannot be read keeps its namespaces: another one must not restart there
// what this one would have held.
func TestNothingIsRestartedUnderAPolicyThatCannotBeUsed(t *testing.T) {
	s := newScene(outside(cart(), 3))
	in := s.input()
	broken, err := restart.NewPolicy(unusable().Priority(1).Build())
	if err == nil {
		t.Fatal("the schedule was read")
	}
	in.Policies = append(in.Policies, broken)
	verdict := only(t, restart.Decide(in))
	if verdict.Reason != restart.ReasonInvalidMeshPolicy || verdict.ClearsBy != byAdmin || !strings.Contains(verdict.Message, "MeshPolicy frozen") || !strings.Contains(verdict.Message, "spec.windows[0].schedule") {
		t.Errorf("%s, cleared by %s: %s", verdict.Reason, verdict.ClearsBy, verdict.Message)
	}
}

// A restart that may not come to its end is not begun in the second half of a window.
func TestNothingStartsThatCannotFinish(t *testing.T) {
	brokers := func(startup, replicas int32) []any {
		return outside(builder.StatefulSet("shop", "db").Replicas(replicas).CreatedAt(yesterday).RolledOut().With(func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(0))
			s.Spec.Template.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: startup, FailureThreshold: 1}
		}), int(replicas))
	}
	servers := func(startup, replicas int32) []any {
		return outside(cart().Replicas(replicas).Unavailable(5).Surge(0).RolledOut().With(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(0))
			d.Spec.Template.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: startup, FailureThreshold: 1}
		}), int(replicas))
	}
	for name, test := range map[string]struct {
		minutes  int32 // that are left of a window of ten hours
		startup  int32
		replicas int32
		// allowed is how many Pods of a Deployment that takes down five a PodDisruptionBudget lets be down; 0 for
		// brokers without one.
		allowed int32
		held    bool
	}{
		"five at once fit": {minutes: 11, startup: 300, replicas: 10, allowed: 5},
		"one that is evicted after the other may not": {minutes: 11, startup: 300, replicas: 10, allowed: 1, held: true},
		"it fits":                          {minutes: 61, startup: 300, replicas: 12},
		"it may not fit":                   {minutes: 60, startup: 300, replicas: 12, held: true},
		"it never fits, in the first half": {minutes: 301, startup: 3600, replicas: 12},
		"it never fits, in the second":     {minutes: 300, startup: 3600, replicas: 12, held: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "0 12 * * *", 600, ""), brokers(test.startup, test.replicas))
			if test.allowed > 0 {
				s = newScene(builder.Enforcing("mesh").Unbounded().Window(allow, "0 12 * * *", 600, ""), servers(test.startup, test.replicas),
					builder.DisruptionBudget("shop", "cart").Healthy(test.replicas, test.replicas-test.allowed, test.replicas).Build())
			}
			s.Now = noon.Add(time.Duration(600-test.minutes) * time.Minute)
			s.answer(restart.Check{Observed: sidecar("default"), At: s.Now, Received: s.Now})
			plan := s.decide()
			verdict := only(t, plan)
			if held := verdict.Reason == restart.ReasonWindowClosed; held != test.held {
				t.Fatalf("%s: %s", verdict.Reason, verdict.Message)
			}
			switch {
			case !test.held:
				if want := s.Now.Add(time.Minute); !plan.NextLook.Equal(want) {
					t.Errorf("the next look is at %s, and it is too late at %s", plan.NextLook, want)
				}
			case verdict.ClearsBy != byTime || !verdict.Until.Equal(noon.Add(24*time.Hour)) || !strings.Contains(verdict.Message, fmt.Sprintf("(%d Pods, 1 at once, up to", test.replicas)):
				t.Errorf("cleared by %s until %s: %s", verdict.ClearsBy, verdict.Until, verdict.Message)
			}
		})
	}
}

// zones whose clocks change in all the ways there are: by an hour, by half of one and by two, at
// midnight, in the south, by a day, the other way round in winter, during Ramadan, and never.
var zones = []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "America/Sao_Paulo",
	"America/St_Johns", "Pacific/Apia", "Europe/Dublin", "Africa/Casablanca", "Asia/Kathmandu", "Asia/Tehran", "Pacific/Chatham"}

// drawnWindow is a window by the minutes in which it begins, without a schedule to be read.
type drawnWindow struct {
	minutes, hours, days, months, weekdays sets.Set[int] // nil: every one
	duration                               time.Duration
	zone                                   *time.Location
}

func drawWindow(t *rapid.T) (v1alpha1.Window, drawnWindow) {
	field := func(name string, lowest, highest int) (string, sets.Set[int]) {
		if rapid.IntRange(0, 2).Draw(t, name+": any") > 0 {
			return "*", nil
		}
		values := rapid.SliceOfNDistinct(rapid.IntRange(lowest, highest), 1, 3, rapid.ID[int]).Draw(t, name)
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(values), "[]"), " ", ","), sets.New(values...)
	}
	var drawn drawnWindow
	var texts [5]string
	texts[0], drawn.minutes = field("minutes", 0, 59)
	texts[1], drawn.hours = field("hours", 0, 23)
	if rapid.Bool().Draw(t, "at night") {
		texts[1], drawn.hours = "0-3", sets.New(0, 1, 2, 3)
	}
	texts[2], drawn.days = field("days", 1, 31)
	texts[3], drawn.months = "*", nil
	texts[4], drawn.weekdays = field("weekdays", 0, 6)
	minutes := rapid.SampledFrom([]int32{1, 15, 30, 60, 61, 360, 1440, 10080}).Draw(t, "duration")
	drawn.duration = time.Duration(minutes) * time.Minute
	zone := rapid.SampledFrom(zones).Draw(t, "zone")
	var err error
	if drawn.zone, err = time.LoadLocation(zone); err != nil {
		t.Fatal(err)
	}
	return v1alpha1.Window{
		Action:   rapid.SampledFrom([]v1alpha1.WindowAction{allow, deny}).Draw(t, "action"),
		Schedule: strings.Join(texts[:], " "), DurationMinutes: minutes, TimeZone: zone,
	}, drawn
}

// shows reports whether a clock that shows this begins the window.
func (w *drawnWindow) shows(clock time.Time) bool {
	in := func(values sets.Set[int], value int) bool { return values == nil || values.Has(value) }
	day, weekday := in(w.days, clock.Day()), in(w.weekdays, int(clock.Weekday()))
	matches := day && weekday
	if w.days != nil && w.weekdays != nil {
		matches = day || weekday
	}
	return matches && in(w.minutes, clock.Minute()) && in(w.hours, clock.Hour())
}

// inside says of every minute from a moment on whether the window contains it.
func (w *drawnWindow) inside(from time.Time, minutes int) []bool {
	inside := make([]bool, minutes)
	left := 0
	clock := func(minute int) time.Time {
		t := from.Add(time.Duration(minute) * time.Minute).In(w.zone)
		_, offset := t.Zone()
		return t.UTC().Add(time.Duration(offset) * time.Second)
	}
	before := clock(-1)
	for minute := range minutes {
		now := clock(minute)
		// All that the clock shows now for the first time, with what it skipped.
		for shown := before.Add(time.Minute); shown.Before(now); shown = shown.Add(time.Minute) {
			if w.shows(shown) {
				left = int(w.duration / time.Minute)
			}
		}
		if w.shows(now) {
			left = int(w.duration / time.Minute)
		}
		inside[minute] = left > 0
		left--
		before = now
	}
	return inside
}

// What windows say is what a look at the clock in every minute says.
func TestWindowsAreAsTheClockShows(t *testing.T) {
	const day = 24 * 60
	rapid.Check(t, func(t *rapid.T) {
		// A moment, more often than not close to one in which a clock changes.
		now := time.Date(2008+rapid.IntRange(0, 25).Draw(t, "year"), 1, 1+rapid.IntRange(0, 364).Draw(t, "day"), 0, rapid.IntRange(0, day).Draw(t, "minute"), 0, 0, time.UTC)
		b := builder.Enforcing("mesh")
		var drawn []drawnWindow
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			window, parts := drawWindow(t)
			b.Window(window.Action, window.Schedule, window.DurationMinutes, window.TimeZone)
			drawn = append(drawn, parts)
		}
		if _, changes := now.In(drawn[0].zone).ZoneBounds(); !changes.IsZero() && rapid.IntRange(0, 3).Draw(t, "as the clock changes") > 0 {
			now = changes.UTC().Truncate(time.Minute).Add(time.Duration(rapid.IntRange(-2*day, 2*day).Draw(t, "minutes after that")) * time.Minute)
		}
		policy := b.Build()

		const back, ahead = 9 * day, 10 * day
		open := make([]bool, back+ahead)
		allows := slices.ContainsFunc(policy.Spec.Windows, func(w v1alpha1.Window) bool { return w.Action == allow })
		for minute := range open {
			open[minute] = !allows
		}
		for _, action := range []v1alpha1.WindowAction{allow, deny} {
			for i := range drawn {
				if policy.Spec.Windows[i].Action != action {
					continue
				}
				for minute, inside := range drawn[i].inside(now.Add(-back*time.Minute), back+ahead) {
					if inside {
						open[minute] = action == allow
					}
				}
			}
		}
		// next is when it is so from a minute on; zero where that is not within so many.
		next := func(from, within int, so bool) time.Time {
			for minute := from; minute <= from+within && minute < len(open); minute++ {
				if open[minute] == so {
					return now.Add(time.Duration(minute-back) * time.Minute)
				}
			}
			return time.Time{}
		}
		got := restart.WindowsAt(usable(t, b), now)
		if got.Open != open[back] {
			t.Fatalf("%v at %s: open is %t", policy.Spec.Windows, now, got.Open)
		}
		if !got.Open {
			if want := next(back, len(open), true); !want.IsZero() && (!got.Opens.Equal(want) || got.Never) || want.IsZero() && got.Opens.Before(now.Add(9*24*time.Hour)) && !got.Never {
				t.Fatalf("%v at %s: it opens at %s (never: %t), want %s", policy.Spec.Windows, now, got.Opens, got.Never, want)
			}
			return
		}
		if want := next(back, 2*day, false); !got.Ends.Equal(want) {
			t.Fatalf("%v at %s: it closes at %s, want %s", policy.Spec.Windows, now, got.Ends, want)
		}
		begins := back
		for begins > back-day && open[begins-1] {
			begins--
		}
		if want := now.Add(time.Duration(begins-back) * time.Minute); !got.Begins.Equal(want) {
			t.Fatalf("%v at %s: it opened at %s, want %s", policy.Spec.Windows, now, got.Begins, want)
		}
	})
}

// Evictions take one Pod after the other where a rolling update would surge.
func TestEvictionsAreReckonedByWhatTheyTakeAtOnce(t *testing.T) {
	slow := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 27}
	}
	policy := func() *builder.PolicyBuilder {
		return builder.Enforcing("mesh").Unbounded().Window(v1alpha1.WindowAllow, "0 0 * * *", 12*60+6, "")
	}
	wide := func() *builder.Workload[*appsv1.Deployment] {
		return builder.Deployment("shop", "web").Replicas(20).Unavailable(2).Surge(18).With(slow).CreatedAt(yesterday).RolledOut()
	}
	lets := func(pods int32) any { return builder.DisruptionBudget("shop", "web").Healthy(20, 20-pods, 20).Build() }
	for name, test := range map[string]struct {
		scene *scene
		want  v1alpha1.Action
	}{
		"twenty Pods, one after the other":    {newScene(policy(), outside(wide(), 20), lets(1)), v1alpha1.ActionHold},
		"twenty Pods at once, as they may":    {newScene(policy(), outside(wide(), 20), lets(2)), v1alpha1.ActionRestart},
		"one Pod of twenty, which is evicted": {newScene(policy(), runs(wide().Surge(0).Build(), share(1, 20)...), lets(2)), v1alpha1.ActionRestart},
	} {
		t.Run(name, func(t *testing.T) {
			if got := only(t, test.scene.decide()); got.Action != test.want {
				t.Errorf("%s %s by %s: %s", got.Action, got.Reason, got.Method, got.Message)
			}
		})
	}
}

// unusable is a policy with a window that cannot be read.
func unusable() *builder.PolicyBuilder {
	return builder.Enforcing("frozen").Unbounded().Window(deny, "60 0 * * *", 60, "")
}
