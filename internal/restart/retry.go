package restart

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
)

// longestRequest is how much of a request's value is kept.
const longestRequest = 64

// requested is the request to try again that annotations hold; empty where they hold none. Of a value
// that is too long to be written down a hash stands for it.
func requested(annotations map[string]string) string {
	value := strings.TrimSpace(annotations[v1alpha1.RetryAnnotation])
	if len(value) <= longestRequest && strings.ToValidUTF8(value, "") == value {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:12])
}

// serve takes in a request on a namespace or policy: what had failed until then is tried again, once.
// What is returned is written into the status, and counts from when it is read from there. A request
// that was there before anything was written about the object is old, and is only acknowledged.
func serve(value string, served *v1alpha1.ServedRetry, isNew bool, at time.Time) *v1alpha1.ServedRetry {
	switch {
	case value == "" || served != nil && served.Value == value:
		return served
	case isNew:
		return &v1alpha1.ServedRetry{Value: value, Time: metav1.NewTime(time.Unix(0, 0).UTC())}
	default:
		return &v1alpha1.ServedRetry{Value: value, Time: metav1.NewTime(at.UTC().Truncate(time.Second))}
	}
}

// askedScope is which request on the policy or the namespace was taken in last, by its second; 0 where
// none was.
func (s *situation) askedScope() int64 {
	var asked int64
	if s.policy != nil {
		asked = servedAt(s.policy.retryServed)
	}
	if report := s.pass.reported(s.namespace.Name); report != nil {
		asked = max(asked, servedAt(report.RetryServed))
	}
	return asked
}

func servedAt(served *v1alpha1.ServedRetry) int64 {
	if served == nil {
		return 0
	}
	return max(0, served.Time.Unix())
}

// askedAgain reports whether somebody has asked for another try since the workload's last restart
// ended, and none was made: its former causes count for nothing.
func (s *situation) askedAgain() bool { return s.ownerAsks() || s.scopeAsks() }

// isMended reports whether something else that decides than the template has changed since the workload's
// last restart failed or was taken back: the former causes count for nothing. A template that changes is rolled
// out by itself.
func (s *situation) isMended() bool {
	record := s.workload.Record
	return s.workload.Object != nil && (record.Failed() || record != nil && record.Result == v1alpha1.ResultReverted) && record.Decided != s.decided() && ofSameTemplate(record.Decided, s.decided())
}

// triesAgain reports whether what had failed is to be tried once more.
func (s *situation) triesAgain() bool { return s.askedAgain() || s.isMended() }

// ownerAsks: on the workload. Its record keeps the request that was served last.
func (s *situation) ownerAsks() bool {
	if s.workload.Object == nil {
		return false
	}
	value := requested(s.workload.Object.Annotations)
	return value != "" && (s.workload.Record == nil || s.workload.Record.Retry != value)
}

// scopeAsks: on its namespace or policy. A request is about what had ended when it was taken in.
func (s *situation) scopeAsks() bool {
	asked, record := s.askedScope(), s.workload.Record
	return asked > 0 && (record == nil || asked > record.Asked && record.End != nil && record.End.Unix() <= asked)
}

// serving is what a restart that begins now serves: the request on the workload, that on its namespace or
// policy, and what has been mended.
func (s *situation) serving() (own string, scope int64, mended string) {
	if record := s.workload.Record; record != nil {
		own, scope, mended = record.Retry, record.Asked, record.Mended
	}
	own = cmp.Or(requested(s.workload.Object.Annotations), own)
	if s.scopeAsks() {
		scope = s.askedScope()
	}
	if s.isMended() {
		mended = s.decided()
	}
	return own, scope, mended
}

// retryToken makes a cause that is to be tried again another one. It stays the same when that is done, so
// that the cause is not new once more.
func (s *situation) retryToken() string {
	own, scope, mended := s.serving()
	if own == "" && scope == 0 && mended == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", own, scope, mended))
	return hex.EncodeToString(sum[:4])
}

// ownRolloutIsToBeRepeated reports whether the rollout that goes on is of a restart that failed and is to be
// tried again.
func (s *situation) ownRolloutIsToBeRepeated() bool {
	record := s.workload.Record
	return record.Failed() && s.triesAgain() && s.workload.Object.Template.Annotations[v1alpha1.RestartCauseAnnotation] == record.Cause &&
		s.workload.Object.ObservedGeneration >= s.workload.Object.Generation
}

// retryCure is what to type for another try.
func retryCure(workload *inventory.Workload) string {
	return RetryCommand(strings.ToLower(workload.Key.Kind), workload.Key.Name, workload.Key.Namespace)
}

// RetryCommand is what to type to ask for another try; namespace is empty for what is in none.
func RetryCommand(kind, name, namespace string) string {
	if namespace != "" {
		namespace = " -n " + namespace
	}
	return fmt.Sprintf(`kubectl annotate %s/%s%s %s="$(date)" --overwrite`, kind, name, namespace, v1alpha1.RetryAnnotation)
}
