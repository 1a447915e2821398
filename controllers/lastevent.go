package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// Events are read when a restart has failed, of one object, so many at most, and waited for so long. Of
// what one says so many bytes are kept: a record is an annotation.
const (
	eventsReadAtMost  = 100
	readingEventsTime = 2 * time.Second
	longestEvent      = 300
)

// lastEvents reads what the cluster's components say of an object that is in trouble.
type lastEvents struct {
	// reader reads from the API server: Events come and go, and are not watched.
	reader client.Reader
}

// Tell is the verdict on a restart that ends, with the last Warning Event of what made it fail. Events
// that cannot be read keep nothing from ending.
func (e lastEvents) Tell(ctx context.Context, verdict *restart.Verdict) *restart.Verdict {
	if verdict.Record.Result != v1alpha1.ResultFailed || verdict.EventsOf == "" {
		return verdict
	}
	event, err := e.last(ctx, verdict)
	if err != nil {
		log.FromContext(ctx).Info("Events could not be read", "kind", verdict.Workload.Key.Kind, "workload", klog.KObj(verdict.Workload.Object), "reason", err.Error())
	}
	if event == nil {
		return verdict
	}
	told := *verdict
	told.Record.Message += " " + eventInWords(event)
	return &told
}

// last is the newest Warning since the restart began; nil where there is none.
func (e lastEvents) last(ctx context.Context, verdict *restart.Verdict) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, readingEventsTime)
	defer cancel()
	var list corev1.EventList
	err := e.reader.List(ctx, &list, client.InNamespace(verdict.Workload.Key.Namespace), client.Limit(eventsReadAtMost),
		client.MatchingFieldsSelector{Selector: fields.SelectorFromSet(fields.Set{"involvedObject.uid": string(verdict.EventsOf), "type": corev1.EventTypeWarning})})
	if err != nil {
		return nil, fmt.Errorf("listing Events: %w", err)
	}
	var newest *corev1.Event
	for i := range list.Items {
		event := &list.Items[i]
		if at := happened(event); !at.Before(verdict.Record.Start) && (newest == nil || at.After(happened(newest))) {
			newest = event
		}
	}
	return newest, nil
}

// happened is when an Event happened last. Which of its times says so depends on who wrote it.
func happened(event *corev1.Event) time.Time {
	last := latest(event.LastTimestamp.Time, event.EventTime.Time)
	if event.Series != nil {
		last = latest(last, event.Series.LastObservedTime.Time)
	}
	return last
}

// eventInWords quotes an Event in one line: anybody may have written it.
func eventInWords(event *corev1.Event) string {
	on := event.InvolvedObject.Kind + " " + event.InvolvedObject.Name
	if _, container, is := strings.Cut(event.InvolvedObject.FieldPath, "{"); is {
		on += ", container " + strings.TrimSuffix(container, "}")
	}
	says := strings.Join(strings.Fields(event.Reason+": "+event.Message), " ")
	return fmt.Sprintf("The last Event of %s says %s.", on, strings.TrimSuffix(shorten(says, longestEvent), "."))
}
