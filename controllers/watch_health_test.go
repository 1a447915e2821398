package controllers

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// answers is what the API server answers to a request; 0: it does not.
type answers int

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	if a == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: int(a), Status: http.StatusText(int(a)), Body: http.NoBody}, nil
}

// request sends one through the watchHealth. That the answer is passed on is what the watchHealth must not change.
func request(ctx context.Context, t *testing.T, s *watchHealth, url string, answer answers) {
	t.Helper()
	sent, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster"+url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Wrap(answer).RoundTrip(sent)
	if (err != nil) != (answer == 0) || err == nil && response.StatusCode != int(answer) {
		t.Errorf("answer %d became %v, %v", answer, response, err)
	}
	if err == nil {
		response.Body.Close()
	}
}

const watchPods = "/api/v1/pods?allowWatchBookmarks=true&watch=true"

func TestABrokenWatchIsNoticed(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		url     string
		answers []answers
		ctx     context.Context
		want    string
	}{
		"one that is had": {watchPods, []answers{200}, t.Context(), ""},
		"one that is refused": {watchPods, []answers{200, 403}, t.Context(),
			"pods cannot be watched since 2026-11-23T12:00:00Z (Forbidden)"},
		"one without an answer": {watchPods, []answers{0}, t.Context(),
			"pods cannot be watched since 2026-11-23T12:00:00Z (no answer: connection refused)"},
		"one that is had again":            {watchPods, []answers{0, 500, 200}, t.Context(), ""},
		"one of a kind that is not served": {watchPods, []answers{0, 404}, t.Context(), ""},
		"one that nobody wants any more":   {watchPods, []answers{500, 0}, cancelled, ""},
		"a request that is no watch":       {"/api/v1/namespaces/a/pods?limit=500", []answers{403}, t.Context(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			time := atNoon()
			s := newWatchHealth(time.Now, func() {})
			for _, answer := range test.answers {
				request(test.ctx, t, s, test.url, answer)
			}
			if what, _ := s.Stale(); what != "" {
				t.Errorf("It counts at once: %s", what)
			}
			time.pass(staleAfter)
			if what, _ := s.Stale(); what != test.want {
				t.Errorf("It says %q, want %q", what, test.want)
			}
			if err := s.ready(nil); (err != nil) != (test.want != "") {
				t.Errorf("ready: %v", err)
			}
		})
	}
}

func TestABrokenWatchIsLookedAtAgainInTime(t *testing.T) {
	time, changes := atNoon(), 0
	s := newWatchHealth(time.Now, func() { changes++ })
	request(t.Context(), t, s, watchPods, 0)
	time.pass(staleAfter / 2)
	request(t.Context(), t, s, watchPods, 0)
	request(t.Context(), t, s, "/apis/apps/v1/deployments?watch=true", 0)
	if _, again := s.Stale(); !again.Equal(noon.Add(staleAfter)) {
		t.Errorf("It asks to be looked at again at %s", again)
	}
	if changes != 2 {
		t.Errorf("It told %d changes, want one of each watch", changes)
	}
	request(t.Context(), t, s, watchPods, 200)
	if changes != 3 {
		t.Error("It does not tell that the watch is had again.")
	}
}

func TestNothingIsRestartedWhileAWatchIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, "shop")
		request(t.Context(), t, s.watchHealth, watchPods, 403)
		time.Sleep(staleAfter)
		if err := s.pass(t, 3); err != nil || s.wrote() != nil {
			t.Errorf("something was restarted, or %v", err)
		}
		policy := &v1alpha1.MeshPolicy{}
		policy.Name = "production"
		if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(inShort(policy.Status.Conditions),
			" "); got != "FullMesh=Unknown/WatchStale Ready=Unknown/WatchStale RestartsAllowed=Unknown/WatchStale" {
			t.Errorf("The policy says %s", got)
		}
		if got := strings.Join(inShort(reportIn(t, s.client, "shop").Status.Conditions),
			" "); got != "FullMesh=Unknown/WatchStale Ready=Unknown/WatchStale Settled=Unknown/WatchStale" {
			t.Errorf("The report says %s", got)
		}
		request(t.Context(), t, s.watchHealth, watchPods, 200)
		if err := s.pass(t, 3); err != nil || len(s.wrote()) != 1 {
			t.Errorf("it does not go on, or %v", err)
		}
		time.Sleep(time.Second) // in the bubble's time: a report is written once a second
		if err := s.pass(t, 1); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(inShort(reportIn(t, s.client, "shop").Status.Conditions), " "); strings.Contains(got, "Unknown") {
			t.Errorf("The report says %s", got)
		}
	})
}
