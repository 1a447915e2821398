package inventory

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// recordVersion is the format of records and causes that this version writes and reads.
const recordVersion = 1

// Cause is why a workload needs a restart. There is at most one restart per cause, ever.
type Cause struct {
	Finding v1alpha1.Finding
	// Revision that injection gives now; empty where it gives none.
	Revision string
	// UID of the workload: the cause of another workload counts for nothing.
	UID types.UID
	// Newest is the creation second of the newest Pod to be replaced.
	Newest int64
	// Retry tells what was asked for again from what was not; empty where nobody asked.
	Retry string
}

// String is the cause as the template carries it: 1/Missing/default/UID/1764000000, and one part more
// where it was asked for again.
func (c Cause) String() string {
	token := fmt.Sprintf("%d/%s/%s/%s/%d", recordVersion, c.Finding, c.Revision, c.UID, c.Newest)
	if c.Retry != "" {
		token += "/" + c.Retry
	}
	return token
}

// Covers reports whether a restart for this cause was to replace all that another one is about: the
// same but for Pods that were there before. Those that have gone since do not make a cause new.
func (c Cause) Covers(other Cause) bool {
	newest := c.Newest
	c.Newest = other.Newest
	return c == other && newest >= other.Newest
}

// ParseCause reads what String wrote. A cause of an unknown version is an error that says so.
func ParseCause(token string) (Cause, error) {
	parts := strings.Split(token, "/")
	if version, err := strconv.Atoi(parts[0]); err != nil || version != recordVersion || len(parts) != 5 && (len(parts) != 6 || parts[5] == "") {
		return Cause{}, fmt.Errorf("%.100q is not a cause that this version knows", token)
	}
	newest, err := strconv.ParseInt(parts[4], 10, 64)
	if err != nil {
		return Cause{}, fmt.Errorf("%.100q is not a cause that this version knows", token)
	}
	return Cause{Finding: v1alpha1.Finding(parts[1]), Revision: parts[2], UID: types.UID(parts[3]), Newest: newest, Retry: strings.Join(parts[5:], "")}, nil
}

// Record is the last restart of a workload, kept on the workload itself so that it outlives the
// operator.
type Record struct {
	Version int    `json:"version"`
	Cause   string `json:"cause"`
	// Method is how it was restarted.
	Method v1alpha1.RestartMethod `json:"method"`
	// Decided is a hash over what decided that a restart would help: the template, the
	// namespace's injection labels, the injector. When it changes after a failure, the restart
	// may be tried anew.
	Decided string    `json:"decided"`
	Start   time.Time `json:"start"`
	// Excused counts how often in a row a restart was ineffective for a reason that is not held
	// against the workload.
	Excused int `json:"excused,omitempty"`
	// Replicas is how many Pods it asked for when it was restarted, and Ready how many were ready:
	// what was not ready before is not held against the restart.
	Replicas int `json:"replicas,omitempty"`
	Ready    int `json:"ready,omitempty"`
	// Retry is the value of the workload's annotation retry-requested that was served last. Asked is
	// which of the requests on its namespace or policy was, by the second in which it was taken in.
	Retry string `json:"retry,omitempty"`
	Asked int64  `json:"asked,omitempty"`
	// Mended is what decided when a restart was tried anew last that had failed under something else.
	Mended string `json:"mended,omitempty"`
	// Probe says which breakers the restart was to try.
	Probe Probe `json:"probe,omitzero"`
	// End, Result and Message are unset while the restart is in flight.
	End     *time.Time             `json:"end,omitempty"`
	Result  v1alpha1.RestartResult `json:"result,omitempty"`
	Message string                 `json:"message,omitempty"`
}

// Methods that a record can have.
var methods = []v1alpha1.RestartMethod{v1alpha1.MethodRolloutRestart, v1alpha1.MethodEviction, v1alpha1.MethodRestartAt}

// Probe is a restart that was made alone, to see whether a breaker may be closed. Each number says
// which probe it was since that breaker opened, from 1; 0 where it tried none.
type Probe struct {
	Policy    int `json:"policy,omitempty"`
	Namespace int `json:"namespace,omitempty"`
	Injector  int `json:"injector,omitempty"`
}

// NewRecord begins a record.
func NewRecord(cause Cause, method v1alpha1.RestartMethod, decided string, start time.Time) Record {
	return Record{Version: recordVersion, Cause: cause.String(), Method: method, Decided: decided, Start: start.UTC().Truncate(time.Second)}
}

// InFlight reports whether the restart has begun and not ended.
func (r *Record) InFlight() bool { return r != nil && r.Result == "" }

// Failed reports whether the restart was given up.
func (r *Record) Failed() bool { return r != nil && r.Result == v1alpha1.ResultFailed }

// Ended is the record with its outcome.
func (r Record) Ended(result v1alpha1.RestartResult, message string, end time.Time) Record {
	end = end.UTC().Truncate(time.Second)
	r.End, r.Result, r.Message = &end, result, message
	return r
}

// String is the record as the annotation holds it.
func (r Record) String() string {
	data, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("a record of plain fields cannot be marshalled: %v", err))
	}
	return string(data)
}

// recordOf reads the record of an object. None, or one that belongs to another object (a copied
// manifest) or to a kind that is never restarted, is nil; one that this version cannot have written
// is an error.
func recordOf(object *Object) (*Record, error) {
	text, set := object.Annotations[v1alpha1.LastRestartAnnotation]
	if !set || !object.Restartable() {
		return nil, nil
	}
	format := struct {
		Version int `json:"version"`
	}{}
	if err := json.Unmarshal([]byte(text), &format); err != nil {
		return nil, fmt.Errorf("annotation %s is not a record: %w", v1alpha1.LastRestartAnnotation, err)
	}
	var record Record
	err := json.Unmarshal([]byte(text), &record)
	switch {
	case format.Version > recordVersion:
		return nil, &NewerRecordError{Version: format.Version, Start: record.Start}
	case format.Version < recordVersion:
		return nil, fmt.Errorf("annotation %s has format %d, which no version writes", v1alpha1.LastRestartAnnotation, format.Version)
	case err != nil:
		return nil, fmt.Errorf("annotation %s is not a record: %w", v1alpha1.LastRestartAnnotation, err)
	}
	cause, err := ParseCause(record.Cause)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", v1alpha1.LastRestartAnnotation, err)
	}
	if cause.UID != object.UID {
		return nil, nil
	}
	if !cause.plausible() || !record.plausible() {
		return nil, fmt.Errorf("annotation %s is not as this version writes it", v1alpha1.LastRestartAnnotation)
	}
	return &record, nil
}

// NewerRecordError says that a newer version wrote a record. Start is when that restart began; zero where
// this version does not understand it.
type NewerRecordError struct {
	Version int
	Start   time.Time
}

func (e *NewerRecordError) Error() string {
	return fmt.Sprintf("annotation %s has format %d and this version knows %d", v1alpha1.LastRestartAnnotation, e.Version, recordVersion)
}

// plausible reports whether this version may have made the cause.
func (c *Cause) plausible() bool {
	switch c.Finding {
	case v1alpha1.FindingMissing, v1alpha1.FindingStale, v1alpha1.FindingLeftover:
		return true
	default:
		return false
	}
}

// plausible reports whether this version may have written the record.
func (r *Record) plausible() bool {
	switch r.Result {
	case "", v1alpha1.ResultSucceeded, v1alpha1.ResultFailed, v1alpha1.ResultIneffective, v1alpha1.ResultReverted, v1alpha1.ResultRolledBack, v1alpha1.ResultInterrupted:
		return slices.Contains(methods, r.Method) && min(r.Excused, r.Replicas, r.Ready, r.Probe.Policy, r.Probe.Namespace, r.Probe.Injector) >= 0
	default:
		return false
	}
}
