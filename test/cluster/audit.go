// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
)

// AuditEvent is one request to an API server, as it was when it was answered.
type AuditEvent struct {
	// User is who asked: "admin" for Config,
	// "system:serviceaccount:NAMESPACE:NAME" for a ServiceAccount.
	User      string
	UserAgent string

	Verb        string // as RBAC knows it: "patch", not "PATCH"
	Group       string
	Resource    string // empty when the request was not for a resource
	Subresource string
	Namespace   string
	Name        string // for a creation, if the object was sent with one
	DryRun      bool
	URI         string

	// Code is the answer's HTTP status.
	Code int
	// Stage is ResponseComplete, or ResponseStarted for a watch that has begun,
	// or Panic.
	Stage    string
	Received time.Time
	Answered time.Time

	// Object is what was sent: an object, a patch or the options of a deletion.
	// It is kept for what changes Namespaces, Pods, workloads and the objects
	// of Fullmesh.
	Object json.RawMessage
}

// Audit returns every request that the API servers have answered so far, in
// the order in which they received them. Only health checks are left out.
func (c *Cluster) Audit(ctx context.Context) ([]AuditEvent, error) {
	return c.audit(ctx, "")
}

// AuditOf is Audit for the requests of one user. It is what a cluster that has
// run for long has room for.
func (c *Cluster) AuditOf(ctx context.Context, user string) ([]AuditEvent, error) {
	return c.audit(ctx, user)
}

// audit reads the requests of a user, or of everybody if user is empty.
func (c *Cluster) audit(ctx context.Context, user string) ([]AuditEvent, error) {
	var events []AuditEvent
	for i := range c.apiServers {
		log, err := c.completeAuditLog(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("reading the audit log of API server %d: %w", i, err)
		}
		lines := bufio.NewReader(bytes.NewReader(log))
		for {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				break // a last line without its end is still being written
			}
			if !bytes.Contains(line, []byte(user)) {
				continue // parsing it would take many times as long
			}
			event, err := parseAuditEvent(line)
			if err != nil {
				return nil, fmt.Errorf("reading the audit log of API server %d: %w", i, err)
			}
			if !strings.HasPrefix(event.URI, auditMark) && (user == "" || event.User == user) {
				events = append(events, event)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b AuditEvent) int { return a.Received.Compare(b.Received) })
	return events, nil
}

const auditMark = "/version?mark="

// completeAuditLog reads the audit log of an API server when it holds all
// requests that were answered before. An API server answers first and writes
// the line then, so a request of our own goes last.
func (c *Cluster) completeAuditLog(ctx context.Context, apiServer int) ([]byte, error) {
	client, err := kubernetes.NewForConfig(c.ConfigFor(apiServer))
	if err != nil {
		return nil, err
	}
	mark := auditMark + string(uuid.NewUUID())
	if err := client.Discovery().RESTClient().Get().RequestURI(mark).Do(ctx).Error(); err != nil {
		return nil, err
	}
	var log []byte
	err = c.await(ctx, "the audit log", func(context.Context) error {
		if log, err = os.ReadFile(c.auditLog(apiServer)); err != nil {
			return err
		}
		if !bytes.Contains(log, []byte(mark)) {
			return errors.New("it does not hold the last request")
		}
		return nil
	})
	return log, err
}

// endLine takes away a last line that was torn when its API server was killed: the next one would go
// on in the middle of it.
func endLine(log string) error {
	content, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	return os.Truncate(log, int64(bytes.LastIndexByte(content, '\n')+1))
}

func parseAuditEvent(line []byte) (AuditEvent, error) {
	var raw struct {
		Stage      string
		RequestURI string
		Verb       string
		User       struct{ Username string }
		UserAgent  string
		ObjectRef  struct {
			Resource, Namespace, Name, APIGroup, Subresource string
		}
		ResponseStatus           struct{ Code int }
		RequestObject            json.RawMessage
		RequestReceivedTimestamp time.Time
		StageTimestamp           time.Time
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return AuditEvent{}, err
	}
	// Deletions and evictions carry their options in the body.
	var body struct {
		Metadata      struct{ Name string }
		DryRun        []string
		DeleteOptions struct{ DryRun []string }
	}
	if len(raw.RequestObject) > 0 {
		// A JSON patch is a list and has none of this.
		_ = json.Unmarshal(raw.RequestObject, &body)
	}
	uri, err := url.Parse(raw.RequestURI)
	if err != nil {
		return AuditEvent{}, err
	}
	return AuditEvent{
		User:        raw.User.Username,
		UserAgent:   raw.UserAgent,
		Verb:        raw.Verb,
		Group:       raw.ObjectRef.APIGroup,
		Resource:    raw.ObjectRef.Resource,
		Subresource: raw.ObjectRef.Subresource,
		Namespace:   raw.ObjectRef.Namespace,
		Name:        cmp.Or(raw.ObjectRef.Name, body.Metadata.Name),
		DryRun:      uri.Query().Has("dryRun") || len(body.DryRun) > 0 || len(body.DeleteOptions.DryRun) > 0,
		URI:         raw.RequestURI,
		Code:        raw.ResponseStatus.Code,
		Stage:       raw.Stage,
		Received:    raw.RequestReceivedTimestamp,
		Answered:    raw.StageTimestamp,
		Object:      raw.RequestObject,
	}, nil
}
