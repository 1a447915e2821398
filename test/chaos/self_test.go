package chaos

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/test/cluster"
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

// A witness that blames nobody would show nothing.
func TestTheWitnessBlamesWhatNoRestartSends(t *testing.T) {
	const tests = `{"op":"test","path":"/metadata/uid","value":"u"},{"op":"test","path":"/metadata/generation","value":1}`
	const touch = `[` + tests + `,{"op":"add","path":"/spec/template/metadata/annotations/fullmesh.dev~1restarted-by","value":"a"}]`
	evicting := func(uid string) []byte {
		return fmt.Appendf(nil, `{"deleteOptions":{"preconditions":{"uid":%q}}}`, uid)
	}
	patch := func(body string) cluster.AuditEvent {
		return cluster.AuditEvent{Verb: "patch", Resource: "deployments", Namespace: "shop", Name: "web", Code: 200, Object: []byte(body)}
	}
	eviction := func(body []byte) cluster.AuditEvent {
		return cluster.AuditEvent{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: "shop", Code: 201, Object: body}
	}
	create := cluster.AuditEvent{Verb: "create", Group: "fullmesh.dev", Resource: "meshrestarts", Namespace: "shop", Name: "a", Code: 201}
	refused := create
	refused.Code = 409
	for name, test := range map[string]struct {
		audit []cluster.AuditEvent
		want  string
	}{
		"a restart":                          {[]cluster.AuditEvent{create, refused, patch(touch), eviction(evicting("old"))}, ""},
		"a MeshRestart created twice":        {[]cluster.AuditEvent{create, create}, "was created 2 times"},
		"a workload touched twice":           {[]cluster.AuditEvent{patch(touch), patch(touch)}, "was written onto its workload 2 times"},
		"metadata of a workload":             {[]cluster.AuditEvent{patch(`[` + tests + `,{"op":"add","path":"/metadata/annotations/a","value":"b"}]`)}, "more than restart"},
		"an eviction that nothing has named": {[]cluster.AuditEvent{eviction(evicting("other"))}, "no MeshRestart has named"},
		"an eviction of a Pod that is new":   {[]cluster.AuditEvent{eviction(evicting("new"))}, "was created at second 200"},
		"an eviction of whatever is there":   {[]cluster.AuditEvent{eviction([]byte(`{}`))}, "no precondition"},
		"a deletion of a Pod":                {[]cluster.AuditEvent{{Verb: "delete", Resource: "pods", Namespace: "shop", Name: "p", Code: 200}}, "it was sent"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(&fleet{})
			r := &inventory.Restart{Cause: inventory.Cause{Newest: 100}}
			a := types.NamespacedName{Namespace: "shop", Name: "a"}
			w.created[a], w.touched[a] = 1, 1
			w.named["old"], w.named["new"], w.evicted["old"], w.evicted["new"] = r, r, 100, 200
			errs := w.checkAudit(test.audit)
			if got := fmt.Sprint(errs); (len(errs) == 0) != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("it blames %v, want %q", errs, test.want)
			}
		})
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
