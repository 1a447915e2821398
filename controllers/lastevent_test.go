package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// eventOn is a Warning about a Pod, as kubelets write it.
func eventOn(namespace, name, uid string, at time.Time, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, GenerateName: name + "."},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name, UID: types.UID(uid), FieldPath: "spec.containers{app}"},
		Type:           corev1.EventTypeWarning,
		Reason:         "Unhealthy",
		Message:        message,
		FirstTimestamp: metav1.NewTime(noon),
		LastTimestamp:  metav1.NewTime(at),
		Count:          3,
	}
}

// failedFor is the verdict that a restart has failed, and that a Pod's Events tell more.
func failedFor(verdict *restart.Verdict, uid types.UID) *restart.Verdict {
	return &restart.Verdict{
		Workload: verdict.Workload, Step: restart.StepFinish, EventsOf: uid,
		Record: verdict.Record.Ended(v1alpha1.ResultFailed, "The restart has failed: Pod web-1 is not ready.", noon.Add(time.Hour)),
	}
}

func TestFailedRestartTellsTheLastEvent(t *testing.T) {
	w := apiServer(t)
	const failed = "The restart has failed: Pod web-1 is not ready."
	later := func(event *corev1.Event, change func(*corev1.Event)) *corev1.Event { change(event); return event }
	for _, test := range []struct {
		name   string
		events func(shop string) []client.Object
		reader client.Reader
		want   string
	}{
		{
			name: "the newest one of the Pod that fails",
			events: func(shop string) []client.Object {
				return []client.Object{
					eventOn(shop, "web-1", "failing", noon.Add(2*time.Minute), "Readiness probe failed: HTTP 500"),
					eventOn(shop, "web-1", "failing", noon.Add(9*time.Minute), "Readiness probe failed:\n HTTP 503."),
					eventOn(shop, "web-1", "failing", noon.Add(3*time.Minute), "Readiness probe failed: HTTP 404"),
					eventOn(shop, "web-2", "other", noon.Add(10*time.Minute), "of another Pod"),
					later(eventOn(shop, "web-1", "failing", noon.Add(10*time.Minute), "Pulled"), func(e *corev1.Event) { e.Type = corev1.EventTypeNormal }),
				}
			},
			want: failed + " The last Event of Pod web-1, container app says Unhealthy: Readiness probe failed: HTTP 503.",
		},
		{
			name: "one that a controller wrote in the newer form",
			events: func(shop string) []client.Object {
				at := metav1.NewMicroTime(noon.Add(5 * time.Minute))
				return []client.Object{
					eventOn(shop, "web-1", "failing", noon.Add(2*time.Minute), "older"),
					&eventsv1.Event{
						ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-1.newer"}, EventTime: metav1.NewMicroTime(noon),
						Series:              &eventsv1.EventSeries{Count: 2, LastObservedTime: at},
						ReportingController: "kubelet", ReportingInstance: "north", Action: "Mount", Type: corev1.EventTypeWarning,
						Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: shop, Name: "web-1", UID: "failing"}, Reason: "FailedMount", Note: "no such volume",
					},
				}
			},
			want: failed + " The last Event of Pod web-1 says FailedMount: no such volume.",
		},
		{
			name: "none that happened before the restart",
			events: func(shop string) []client.Object {
				return []client.Object{eventOn(shop, "web-1", "failing", noon.Add(-time.Second), "of yesterday")}
			},
			want: failed,
		},
		{
			name: "no more of a long one than fits in",
			events: func(shop string) []client.Object {
				return []client.Object{eventOn(shop, "web-1", "failing", noon.Add(time.Minute), strings.Repeat("ä", 500))}
			},
			want: failed + " The last Event of Pod web-1, container app says Unhealthy: " + strings.Repeat("ä", 143) + "...",
		},
		{
			name:   "none that may not be read",
			reader: refusing(apierrors.NewForbidden(corev1.Resource("events"), "", errors.New("not allowed"))),
			want:   failed,
		},
		{
			name: "none for which it would have to wait for long",
			reader: answering(interceptor.Funcs{List: func(ctx context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
				<-ctx.Done()
				return ctx.Err()
			}}),
			want: failed,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			shop := w.namespace(t)
			object := builder.Deployment(shop, "web").Build()
			w.create(t, object)
			if test.events != nil {
				for _, event := range test.events(shop) {
					w.create(t, event)
				}
			}
			r := &Reconciler{
				actor:     &actor{client: w.operator, inventory: pictureOf(t, builder.Namespace(shop).Build(), object)},
				events:    lastEvents{reader: w.operator},
				announcer: announcer{recorder: &recorder{}},
			}
			if test.reader != nil {
				r.events.reader = test.reader
			}
			begun := restartOf(known(t, object))
			if became, err := r.actor.restart(t.Context(), begun); became != writtenDone || err != nil {
				t.Fatalf("the restart became %d, %v", became, err)
			}
			begun.Workload = workloadIn(t, r.actor.inventory, begun.Workload.Key)
			if became, err := r.finish(t.Context(), failedFor(begun, "failing"), nil); became != writtenDone || err != nil {
				t.Fatalf("its end became %d, %v", became, err)
			}
			record := workloadIn(t, r.actor.inventory, begun.Workload.Key).Record
			if record.Result != v1alpha1.ResultFailed || record.Message != test.want {
				t.Errorf("it is written down as %s: %s\nwant %s", record.Result, record.Message, test.want)
			}
			if sent := strings.Join(r.announcer.recorder.(*recorder).take(), "\n"); !strings.Contains(sent, test.want) {
				t.Errorf("Events are %s", sent)
			}
		})
	}
}

// refusing answers every list with an error.
func refusing(err error) client.Reader {
	return answering(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return err }})
}

// What needs no Event, or has none to name, costs no request.
func TestEventsAreReadOfFailuresAlone(t *testing.T) {
	reader := answering(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		t.Error("Events are read")
		return nil
	}})
	failed := failedFor(restartOf(known(t, builder.Deployment("shop", "web").Build())), "")
	succeeded := failedFor(failed, "failing")
	succeeded.Record.Result = v1alpha1.ResultSucceeded
	for _, verdict := range []*restart.Verdict{failed, succeeded} {
		if told := (lastEvents{reader: reader}).Tell(t.Context(), verdict); told != verdict {
			t.Errorf("told is %+v", told.Record)
		}
	}
}
