package restart_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
	berlin := enforcing().Window(allow, "30 2 * * *", 15, "Europe/Berlin")
	for name, test := range map[string]struct {
		policy *builder.PolicyBuilder
		now    string
		// open, and until when that is certain; closed where it is the other way round. Empty: for good.
		open, closed string
	}{
		"no windows":                       {policy: enforcing(), now: "2026-11-23T12:00:00Z", open: ""},
		"before a window that allows":      {policy: nightly, now: "2026-11-23T21:59:59Z", closed: "2026-11-23T22:00:00Z"},
		"when it begins":                   {policy: nightly, now: "2026-11-23T22:00:00Z", open: "2026-11-24T04:00:00Z"},
		"in its last second":               {policy: nightly, now: "2026-11-24T03:59:59Z", open: "2026-11-24T04:00:00Z"},
		"when it ends":                     {policy: nightly, now: "2026-11-24T04:00:00Z", closed: "2026-11-24T22:00:00Z"},
		"a window that denies beats it":    {policy: frozen, now: "2026-12-25T23:00:00Z", closed: "2026-12-27T00:00:00Z"},
		"and cuts it short":                {policy: frozen, now: "2026-12-23T23:00:00Z", open: "2026-12-24T00:00:00Z"},
		"only windows that deny: outside":  {policy: enforcing().Window(deny, "0 8 * * 1-5", 600, ""), now: "2026-11-23T07:00:00Z", open: "2026-11-23T08:00:00Z"},
		"only windows that deny: inside":   {policy: enforcing().Window(deny, "0 8 * * 1-5", 600, ""), now: "2026-11-23T12:00:00Z", closed: "2026-11-23T18:00:00Z"},
		"another begins before it ends":    {policy: enforcing().Window(allow, "0 22 * * *", 360, "").Window(allow, "0 1 * * *", 300, ""), now: "2026-11-23T23:00:00Z", open: "2026-11-24T04:00:00Z"},
		"another begins when it ends":      {policy: enforcing().Window(allow, "0 22 * * *", 120, "").Window(allow, "0 0 * * *", 60, ""), now: "2026-11-23T22:30:00Z", open: "2026-11-24T00:00:00Z"},
		"a window that overlaps itself":    {policy: enforcing().Window(allow, "0 * * * *", 90, ""), now: "2026-11-23T12:20:00Z", open: "2026-11-23T12:30:00Z"},
		"a zone to the west":               {policy: enforcing().Window(allow, "0 22 * * *", 360, "America/New_York"), now: "2026-11-24T02:59:00Z", closed: "2026-11-24T03:00:00Z"},
		"a beginning that the clock skips": {policy: berlin, now: "2026-03-28T12:00:00Z", closed: "2026-03-30T00:30:00Z"},
		"one that it shows twice, first":   {policy: berlin, now: "2026-10-25T00:20:00Z", closed: "2026-10-25T00:30:00Z"},
		"one that it shows twice, second":  {policy: berlin, now: "2026-10-25T00:50:00Z", closed: "2026-10-25T01:30:00Z"},
		"the last day of a leap year":      {policy: enforcing().Window(allow, "0 22 * * *", 60, "Europe/Berlin"), now: "2028-12-31T12:00:00Z", closed: "2028-12-31T21:00:00Z"},
		"a leap day":                       {policy: enforcing().Window(allow, "0 0 29 2 *", 60, ""), now: "2026-11-23T12:00:00Z", closed: "2028-02-29T00:00:00Z"},
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

// What windows say is what a look at every minute says.
func TestWindowsAreAsTheMinutesSay(t *testing.T) {
	const hour, day, ahead = 60, 24 * 60, 10 * 24 * 60
	rapid.Check(t, func(t *rapid.T) {
		b := builder.Enforcing("mesh")
		start := time.Date(2026, 1, 1+rapid.IntRange(0, 364).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
		inside := map[v1alpha1.WindowAction][]bool{allow: make([]bool, day+ahead), deny: make([]bool, day+ahead)}
		allows := false
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			action := rapid.SampledFrom([]v1alpha1.WindowAction{allow, deny}).Draw(t, "action")
			minute, first := rapid.IntRange(0, 59).Draw(t, "minute"), rapid.IntRange(0, 23).Draw(t, "first hour")
			last := rapid.IntRange(first, 23).Draw(t, "last hour")
			lasts := rapid.SampledFrom([]int{1, 30, 60, 61, 360, day}).Draw(t, "minutes")
			b.Window(action, fmt.Sprintf("%d %d-%d * * *", minute, first, last), int32(lasts), "")
			allows = allows || action == allow
			for at := minute; at < day+ahead; at += hour {
				if of := at % day / hour; first <= of && of <= last {
					for i := at; i < min(at+lasts, day+ahead); i++ {
						inside[action][i] = true
					}
				}
			}
		}
		open := func(minute int) bool { return !inside[deny][minute] && (!allows || inside[allow][minute]) }
		at := day + rapid.IntRange(0, day).Draw(t, "now")
		moment := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

		got := restart.WindowsAt(usable(t, b), moment(at))
		if got.Open != open(at) {
			t.Fatalf("at %s open is %t", moment(at), got.Open)
		}
		if !got.Open {
			got.Ends = got.Opens
		}
		for minute := at; minute < day+ahead && (got.Ends.IsZero() || moment(minute).Before(got.Ends)); minute++ {
			if open(minute) != got.Open {
				t.Fatalf("at %s open is %t, and would be until %s; it changes at %s", moment(at), got.Open, got.Ends, moment(minute))
			}
		}
		if opens := int(got.Opens.Sub(start) / time.Minute); !got.Open && !got.Never && opens < day+ahead && !open(opens) {
			t.Fatalf("at %s it would open at %s, and does not", moment(at), got.Opens)
		}
	})
}

// unusable is a policy with a window that cannot be read.
func unusable() *builder.PolicyBuilder {
	return builder.Enforcing("frozen").Unbounded().Window(deny, "60 0 * * *", 60, "")
}
