package restart

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// The search for the next opening looks at so many windows that begin or end, which is more than there are
// minutes in a week, and cron gives up after so many years.
const searchedAtMost, searchedYears = 11_000, 5

// windows are the times in which a policy's restarts may start: any time where there are none; where
// some allow, only inside of those; and never inside of one that denies.
type windows struct{ allow, deny []window }

// window begins when cron says so.
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
		return window{}, fmt.Errorf("schedule: %w; write cron's five fields (minute, hour, day of month, month, day of week), for instance "+
			"\"0 22 * * 1-5\"", err)
	}
	zone, err := time.LoadLocation(from.TimeZone)
	if err != nil || from.TimeZone == "Local" { // that is the zone of whatever machine this runs on
		return window{}, fmt.Errorf("timeZone: %q is not in the time zone database; write a name like \"Europe/Berlin\", or leave it unset "+
			"for UTC", from.TimeZone)
	}
	if from.DurationMinutes < 1 {
		return window{}, errors.New("durationMinutes: it must be at least 1")
	}
	return window{schedule: schedule, zone: zone, duration: time.Duration(from.DurationMinutes) * time.Minute}, nil
}

// readSchedule refuses what the library takes in addition to the five fields: a zone of its own.
func readSchedule(text string) (cron.Schedule, error) {
	if strings.Contains(text, "=") {
		return nil, fmt.Errorf("%q names a time zone, which belongs in timeZone", text)
	}
	return fiveFields.Parse(text)
}

// next is the first time after t at which the window begins; zero where cron finds none.
func (w *window) next(t time.Time) time.Time { return w.schedule.Next(t.In(w.zone)).UTC() }

// latestEnd is up to when one of the windows lasts in which t is, at least; zero where t is in none. One that
// begins anew before it ends is taken by the earlier beginning.
func latestEnd(all []window, t time.Time) time.Time {
	var latest time.Time
	for i := range all {
		begun := all[i].next(t.Add(-all[i].duration))
		if !begun.IsZero() && !begun.After(t) {
			latest = later(latest, begun.Add(all[i].duration))
		}
	}
	return latest
}

// nextBeginning is when the first of the windows begins after t; zero where none does.
func nextBeginning(all []window, t time.Time) time.Time {
	var first time.Time
	for i := range all {
		first = earlier(first, all[i].next(t))
	}
	return first
}

// opens is the first moment from t on that is open. It is false where none was found, and says up to when
// it looked for one.
func (w *windows) opens(t time.Time) (time.Time, bool) {
	for range searchedAtMost {
		if end := latestEnd(w.deny, t); !end.IsZero() {
			t = end
			continue
		}
		if len(w.allow) == 0 || !latestEnd(w.allow, t).IsZero() {
			return t, true
		}
		begins := nextBeginning(w.allow, t)
		if begins.IsZero() {
			return t.AddDate(searchedYears, 0, 0), false
		}
		t = begins
	}
	return t, false
}

// Stretch is a time in which a policy's windows stay open or closed.
type Stretch struct {
	Open bool
	// Ends is up to when that is certain; zero where it does not change.
	Ends time.Time
	// Opens is when windows that are closed open; where Never is set, up to when an opening was looked for and
	// none found.
	Opens time.Time
	Never bool
}

// stretchAt is the stretch that begins now.
func (w *windows) stretchAt(now time.Time) Stretch {
	opens, found := w.opens(now)
	if !found || opens.After(now) {
		return Stretch{Ends: opens, Opens: opens, Never: !found}
	}
	return Stretch{Open: true, Ends: earlier(latestEnd(w.allow, now), nextBeginning(w.deny, now))}
}
