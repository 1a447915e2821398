package restart_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/restart"
)

// What is refused is tried again later and later, and what is accepted begins anew.
func TestRecorderOfEvictions(t *testing.T) {
	recorder := &restart.Recorder{}
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	know := func(want restart.Evictions) {
		t.Helper()
		if diff := cmp.Diff(want, recorder.Memory().Evictions["uid"]); diff != "" {
			t.Errorf("evictions (-want +got):\n%s", diff)
		}
	}
	know(restart.Evictions{})
	if first := recorder.EvictionRefused("uid", "no", at(0)); !first {
		t.Error("the first refusal is not the first")
	}
	know(restart.Evictions{Refused: "no", RefusedSince: at(0), Until: at(2), Refusals: 1})
	if first := recorder.EvictionRefused("uid", "still no", at(2)); first {
		t.Error("the second refusal is the first")
	}
	know(restart.Evictions{Refused: "still no", RefusedSince: at(0), Until: at(6), Refusals: 2})
	recorder.EvictionAccepted("uid", at(6))
	know(restart.Evictions{Last: at(6)})
	if first := recorder.EvictionRefused("uid", "no", at(8)); !first {
		t.Error("the first refusal after one that was accepted is not the first")
	}
	know(restart.Evictions{Last: at(6), Refused: "no", RefusedSince: at(8), Until: at(10), Refusals: 1})
}

// A memory that was handed out does not change: everything that a decision depends on is a value.
func TestMemoryIsAValue(t *testing.T) {
	recorder := &restart.Recorder{}
	recorder.EvictionAccepted("uid", noon)
	before := recorder.Memory()
	recorder.EvictionAccepted("uid", noon.Add(time.Second))
	recorder.SpecChanged("uid", noon)
	if got := before.Evictions["uid"].Last; !got.Equal(noon) || len(before.SpecChanges) != 0 {
		t.Errorf("it is %s now, with %d changes of specs", got, len(before.SpecChanges))
	}
}

// Changes of a spec are counted until the workload could be restarted.
func TestRecorderOfSpecChanges(t *testing.T) {
	recorder := &restart.Recorder{}
	for n, wait := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second, 15 * time.Second} {
		recorder.SpecChanged("uid", noon)
		if got := recorder.Memory().SpecChanges["uid"]; got.InARow != n+1 || !got.Until.Equal(noon.Add(wait)) {
			t.Errorf("after %d changes: %+v", n+1, got)
		}
	}
	recorder.Restarted("uid")
	if got, known := recorder.Memory().SpecChanges["uid"]; known {
		t.Errorf("after a restart: %+v", got)
	}
}

// What counts is the newest turn of a namespace, for a day.
func TestRecorderOfTurns(t *testing.T) {
	recorder := &restart.Recorder{}
	recorder.Served("shop", noon)
	recorder.Served("shop", noon.Add(-time.Minute))
	if got := recorder.Memory().Served["shop"]; !got.Equal(noon) {
		t.Errorf("served last at %s", got)
	}
	recorder.Served("bank", noon.Add(25*time.Hour))
	if got, known := recorder.Memory().Served["shop"]; known {
		t.Errorf("a day later it was served at %s", got)
	}
}

// Nobody is remembered forever of whom nothing has happened for a day.
func TestRecorderForgets(t *testing.T) {
	recorder := &restart.Recorder{}
	recorder.EvictionAccepted("old", noon)
	recorder.SpecChanged("old", noon)
	later := noon.Add(24*time.Hour + 3*time.Second)
	recorder.EvictionRefused("new", "no", later)
	recorder.SpecChanged("new", later)
	memory := recorder.Memory()
	for _, uid := range []types.UID{"old", "new"} {
		_, evicted := memory.Evictions[uid]
		if _, changed := memory.SpecChanges[uid]; evicted != (uid == "new") || changed != (uid == "new") {
			t.Errorf("of the %s one, evictions are known: %t, changes of the spec: %t", uid, evicted, changed)
		}
	}
}

// A time in the future does not overflow, however often something was refused.
func TestBackoffIsBounded(t *testing.T) {
	for before, want := range map[int]time.Duration{0: 2 * time.Second, 2: 8 * time.Second, 3: 15 * time.Second, 1000: 15 * time.Second} {
		if got := restart.Backoff(before, restart.LastRetry); got != want {
			t.Errorf("after %d refusals: %s, want %s", before, got, want)
		}
	}
}
