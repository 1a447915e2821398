package restart

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

const (
	// longestRestart bounds what a restart is taken to need of a window.
	longestRestart = 24 * time.Hour
	// searchedAtMost and searchedYears bound the search for the next opening, in windows that begin or
	// end and in time.
	searchedAtMost, searchedYears = 5000, 5
)

// windows are the times in which a policy's restarts may start: any time where there are none; where
// some allow, only inside of those; and never inside of one that denies.
type windows struct{ allow, deny []window }

// window begins whenever the clock of its zone shows what its schedule says. A beginning that the clock
// leaves out (daylight saving begins) is the moment in which it does so; one that it shows twice
// (daylight saving ends) counts twice.
type window struct {
	schedule cron.Schedule
	zone     *time.Location
	duration time.Duration
}

// fiveFields reads minute, hour, day of month, month and day of week.
var fiveFields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func newWindows(from []v1alpha1.Window) (windows, error) {
	var all windows
	for i := range from {
		one, err := newWindow(&from[i])
		if err != nil {
			return windows{}, fmt.Errorf("reading spec.windows[%d].%w", i, err)
		}
		switch from[i].Action {
		case v1alpha1.WindowAllow:
			all.allow = append(all.allow, one)
		case v1alpha1.WindowDeny:
			all.deny = append(all.deny, one)
		default:
			return windows{}, fmt.Errorf("reading spec.windows[%d].action: %q is neither Allow nor Deny", i, from[i].Action)
		}
	}
	return all, nil
}

func newWindow(from *v1alpha1.Window) (window, error) {
	schedule, err := readSchedule(from.Schedule)
	if err != nil {
		return window{}, fmt.Errorf("schedule: %w; write cron's five fields (minute, hour, day of month, month, day of week), for instance \"0 22 * * 1-5\"", err)
	}
	zone, err := time.LoadLocation(from.TimeZone)
	if err != nil || from.TimeZone == "Local" { // that is the zone of whatever machine this runs on
		return window{}, fmt.Errorf("timeZone: %q is not in the time zone database; write a name like \"Europe/Berlin\", or leave it unset for UTC", from.TimeZone)
	}
	if from.DurationMinutes < 1 {
		return window{}, errors.New("durationMinutes: it must be at least 1")
	}
	return window{schedule: schedule, zone: zone, duration: time.Duration(from.DurationMinutes) * time.Minute}, nil
}

// readSchedule refuses what the library takes beside the five fields: a zone of its own.
func readSchedule(text string) (cron.Schedule, error) {
	if strings.Contains(text, "=") {
		return nil, fmt.Errorf("%q names a time zone, which belongs in timeZone", text)
	}
	return fiveFields.Parse(text)
}

// next is the first time after t at which the window begins; zero where it does not within five years.
// The library is asked in UTC only, between two changes of the zone's clock: by itself it leaves out
// what begins in an hour that the clock skips.
func (w *window) next(t time.Time) time.Time {
	period := t.In(w.zone)
	for {
		_, east := period.Zone()
		offset := time.Duration(east) * time.Second
		begins := w.schedule.Next(t.UTC().Add(offset))
		if begins.IsZero() {
			return time.Time{}
		}
		begins = begins.Add(-offset)
		change := nextChange(period)
		if change.IsZero() || begins.Before(change) {
			return begins
		}
		period = change.In(w.zone)
		_, east = period.Zone()
		if skipped := time.Duration(east)*time.Second - offset; begins.Before(change.Add(skipped)) {
			return change.UTC()
		}
		t = change.Add(-time.Second)
	}
}

// nextChange is when the offset of a time's zone may change next; zero where it never does. On 31
// December of a leap year ZoneBounds names a moment that is past (its years have 365 days:
// https://cs.opensource.google/go/go/+/refs/tags/go1.26.0:src/time/zoneinfo.go, tzset).
func nextChange(t time.Time) time.Time {
	_, change := t.ZoneBounds()
	if !change.IsZero() && !change.After(t) {
		return t.Add(time.Hour)
	}
	return change
}

// endAt is when the window ends in which t is, or one that lasts longer than the first of them; zero
// where t is in none.
func (w *window) endAt(t time.Time) time.Time {
	begun := w.next(t.Add(-w.duration))
	if begun.IsZero() || begun.After(t) {
		return time.Time{}
	}
	for back := time.Minute; back < w.duration; back *= 2 {
		if later := w.next(t.Add(-back)); !later.After(t) {
			begun = later
			break
		}
	}
	return begun.Add(w.duration)
}

// latestEnd is when the last of those windows ends in which t is; zero where t is in none.
func latestEnd(all []window, t time.Time) time.Time {
	var latest time.Time
	for i := range all {
		if end := all[i].endAt(t); end.After(latest) {
			latest = end
		}
	}
	return latest
}

// nextBeginning is when the first of the windows begins after t; zero where none does.
func nextBeginning(all []window, t time.Time) time.Time {
	var first time.Time
	for i := range all {
		if begins := all[i].next(t); !begins.IsZero() && (first.IsZero() || begins.Before(first)) {
			first = begins
		}
	}
	return first
}

// opens is the first moment from t on that is open. It is false where there is none before the moment
// that it returns.
func (w *windows) opens(t time.Time) (time.Time, bool) {
	limit := t.AddDate(searchedYears, 0, 0)
	for n := 0; n < searchedAtMost && t.Before(limit); n++ {
		if end := latestEnd(w.deny, t); !end.IsZero() {
			t = end
			continue
		}
		if len(w.allow) == 0 || !latestEnd(w.allow, t).IsZero() {
			return t, true
		}
		begins := nextBeginning(w.allow, t)
		if begins.IsZero() {
			return limit, false
		}
		t = begins
	}
	return t, false
}

// closes is the first moment after t, which is open, that is not; zero where that is after the limit.
func (w *windows) closes(t, limit time.Time) time.Time {
	denied := nextBeginning(w.deny, t)
	inSight := !denied.IsZero() && !denied.After(limit)
	if !inSight {
		denied = limit.Add(time.Nanosecond)
	}
	if len(w.allow) > 0 {
		for t.Before(denied) {
			end := latestEnd(w.allow, t)
			if end.IsZero() {
				return t
			}
			t = end
		}
	}
	if !inSight {
		return time.Time{}
	}
	return denied
}

// Stretch is a time in which a policy's windows stay open or closed.
type Stretch struct {
	Open bool
	// Begins is when it began to be open, or a day ago where that is longer.
	Begins time.Time
	// Ends is when that changes; zero where it does not change within two days, or not at all.
	Ends time.Time
	// Opens is when the windows are open again; where Never is set, until when it was looked for in
	// vain.
	Opens time.Time
	Never bool
}

// stretchAt is the stretch in which a moment lies.
func (w *windows) stretchAt(now time.Time) Stretch {
	if len(w.allow)+len(w.deny) == 0 {
		return Stretch{Open: true}
	}
	for t := now.Add(-longestRestart); ; {
		opens, found := w.opens(t)
		if !found || opens.After(now) {
			return Stretch{Ends: opens, Opens: opens, Never: !found}
		}
		closes := w.closes(opens, now.Add(2*longestRestart))
		if closes.IsZero() {
			return Stretch{Open: true, Begins: opens}
		}
		if closes.After(now) {
			again, found := w.opens(closes)
			return Stretch{Open: true, Begins: opens, Ends: closes, Opens: again, Never: !found}
		}
		t = closes
	}
}

// lastStart is the moment from which on a restart is not begun any more in an open stretch: it might
// not come to its end. One that needs more than half of the stretch may begin in the first half;
// otherwise it would never begin.
func (s *situation) lastStart() time.Time {
	stretch := &s.windows
	if stretch.Ends.IsZero() {
		return time.Time{}
	}
	last, half := stretch.Ends.Add(-s.mayTake()), stretch.Begins.Add(stretch.Ends.Sub(stretch.Begins)/2)
	if half.After(last) {
		return half
	}
	return last
}

// mayTake is how long a restart may take by the workload's own account: as many turns as its strategy
// needs, each as long as a Pod may take to go and come.
func (s *situation) mayTake() time.Duration {
	object := s.workload.Object
	if object == nil {
		return 0
	}
	pods, atOnce := s.inTurns()
	turns := min((pods+atOnce-1)/atOnce, int(longestRestart/time.Second))
	return min(time.Duration(turns)*object.Patience(), longestRestart)
}

// inTurns is how many Pods a restart replaces, and how many of them at once.
func (s *situation) inTurns() (pods, atOnce int) {
	method := s.method().name
	pods, atOnce = s.workload.Object.Replicas, s.atOnce(method)
	if method == v1alpha1.MethodEviction {
		pods = s.workload.Pods.ToReplace
		for _, budget := range s.disruptionBudgets() {
			atOnce = min(atOnce, budget.Allowed)
		}
	}
	return pods, max(atOnce, 1)
}

// windowIsClosed also notes when a window that is open now will be closed for this workload.
func windowIsClosed(s *situation) *hold {
	stretch := &s.windows
	var message string
	switch last := s.lastStart(); {
	case !stretch.Open:
		message = fmt.Sprintf("The windows of MeshPolicy %s are closed.", s.policy.Name)
	case last.IsZero():
		return nil
	case last.After(s.pass.Now):
		s.look = earlier(s.look, last)
		return nil
	default:
		pods, atOnce := s.inTurns()
		message = fmt.Sprintf("The windows of MeshPolicy %s close at %s, and a restart may take up to %s (%d Pods, %d at once, up to %s each): it is not begun any more.",
			s.policy.Name, moment(stretch.Ends), s.mayTake(), pods, atOnce, s.workload.Object.Patience())
	}
	answer := &hold{reason: ReasonWindowClosed, clearsBy: v1alpha1.ClearedByTime, until: stretch.Opens}
	if stretch.Never {
		answer.clearsBy = v1alpha1.ClearedByAdmin
		answer.message = fmt.Sprintf("%s They do not open before %s, as far as that was looked for. Correct spec.windows.", message, moment(stretch.Opens))
	} else {
		answer.message = fmt.Sprintf("%s They open at %s; change spec.windows to restart it earlier.", message, moment(stretch.Opens))
	}
	return answer
}

// moment formats a time for messages.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
