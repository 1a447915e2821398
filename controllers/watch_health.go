package controllers

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// staleAfter is for how long a watch may be broken before what it would have told counts as missed.
// An API server that is replaced breaks all of them for a moment.
const staleAfter = 10 * time.Second

// watchHealth knows whether the inventory is kept up to date. Informers go on with what they knew when the API
// server no longer lets them watch or does not answer, and tell nobody; so their requests are looked at.
type watchHealth struct {
	now func() time.Time
	// changed is called when a watch breaks or is had again.
	changed func()

	mu     sync.Mutex
	broken map[string]outage // by the path of the request
}

// outage is since when a watch is broken, and why.
type outage struct {
	since time.Time
	why   string
}

func newWatchHealth(now func() time.Time, changed func()) *watchHealth {
	return &watchHealth{now: now, changed: changed, broken: map[string]outage{}}
}

// Stale says which watch is broken since when and why; empty where the inventory is up to date.
// Otherwise due is when it may come to be said; zero where nothing is broken.
func (h *watchHealth) Stale() (what string, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, request := range slices.Sorted(maps.Keys(h.broken)) {
		outage := h.broken[request]
		if counts := outage.since.Add(staleAfter); h.now().Before(counts) {
			if due.IsZero() || counts.Before(due) {
				due = counts
			}
			continue
		}
		return fmt.Sprintf("%s cannot be watched since %s (%s)", path.Base(request), outage.since.UTC().Format(time.RFC3339),
			outage.why), time.Time{}
	}
	return "", due
}

// ready is the readiness check: an operator that cannot watch the cluster is not ready.
func (h *watchHealth) ready(*http.Request) error {
	if what, _ := h.Stale(); what != "" {
		return errors.New(what)
	}
	return nil
}

// Wrap looks at the requests that go through a transport.
func (h *watchHealth) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if request.URL.Query().Get("watch") == "true" {
			h.note(request, response, err)
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

func (h *watchHealth) note(request *http.Request, response *http.Response, err error) {
	switch {
	case err != nil && request.Context().Err() != nil:
		h.markHealthy(request.URL.Path) // nobody wants it any more
	case err != nil:
		h.markBroken(request.URL.Path, "no answer: "+err.Error())
	case response.StatusCode == http.StatusNotFound, response.StatusCode < http.StatusMultipleChoices:
		h.markHealthy(request.URL.Path) // what is not served has no objects
	default:
		h.markBroken(request.URL.Path, strings.TrimSpace(response.Status))
	}
}

func (h *watchHealth) markBroken(request, why string) {
	h.mu.Lock()
	outage, already := h.broken[request]
	if !already {
		outage.since = h.now()
	}
	outage.why = why
	h.broken[request] = outage
	h.mu.Unlock()
	if !already {
		h.changed()
	}
}

func (h *watchHealth) markHealthy(request string) {
	h.mu.Lock()
	_, broken := h.broken[request]
	delete(h.broken, request)
	h.mu.Unlock()
	if broken {
		h.changed()
	}
}
