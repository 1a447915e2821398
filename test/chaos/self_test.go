package chaos

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASeedGivesTheSameSteps(t *testing.T) {
	first := func(seed uint64) []step {
		var all []step
		for next := range steps(seed) {
			if all = append(all, next); len(all) == 500 {
				break
			}
		}
		return all
	}
	if diff := cmp.Diff(first(7), first(7), cmp.AllowUnexported(step{})); diff != "" {
		t.Errorf("the steps of one seed differ (-first +second):\n%s", diff)
	}
	if slices.Equal(first(7), first(8)) {
		t.Error("two seeds give the same steps")
	}
	for _, happening := range happenings {
		if !slices.ContainsFunc(first(7), func(s step) bool { return s.happening == happening.name }) {
			t.Errorf("of 500 steps none is %q", happening.name)
		}
	}
}

// Chaos that breaks nothing would show nothing.
func TestTheNetworkDoesWhatItSays(t *testing.T) {
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(1)
				n.become(s, 3*time.Second)
				reached, begun := 0, time.Now()
				handler := n.inFrontOf(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					reached++
					if r.URL.Query().Get("watch") == "true" {
						if _, err := w.Write([]byte("told")); err != nil {
							t.Error(err)
						}
						select {
						case <-r.Context().Done():
						case <-time.After(time.Minute):
						}
					}
				}))
				answers := map[int]int{}
				for range 100 {
					answer := httptest.NewRecorder()
					handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPatch, "/", nil))
					answers[answer.Code]++
				}
				late := time.Since(begun)
				handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?watch=true", nil))
				watched := time.Since(begun) - late

				wants := map[string]bool{
					"409 are answered":      answers[http.StatusConflict] > 0 == (s.conflict > 0),
					"429 are answered":      answers[http.StatusTooManyRequests] > 0 == (s.busy > 0),
					"500 are answered":      answers[http.StatusInternalServerError] > 0 == (s.broken > 0 || s.lost > 0),
					"answers are late":      late > 0 == (s.slow > 0),
					"what was lost arrived": s.lost == 0 || n.lost > 0 && reached >= 100,
					"a watch stands still":  s.frozen.IsZero() || watched > time.Minute,
					"a watch is cut":        s.cut == 0 || watched < time.Minute,
					"a watch is left alone": s != states[0] || watched == time.Minute,
				}
				for what, so := range wants {
					if !so {
						t.Errorf("%s where it should not be so, or not where it should: %v, late by %s, watched for %s", what, answers, late, watched)
					}
				}
			})
		})
	}
}
