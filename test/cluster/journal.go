// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/scheme"
)

// Write is one change of an object as etcd took it.
type Write struct {
	// Revision orders the writes of the whole cluster.
	Revision int64
	// Resource is "pods", or "meshpolicies.fullmesh.dev" for what a CustomResourceDefinition defines.
	// Nodes are "minions".
	Resource  string
	Namespace string
	Name      string

	value []byte
}

// Deleted reports whether the write took the object away.
func (w *Write) Deleted() bool { return w.value == nil }

// Into reads the object as it was written.
func (w *Write) Into(object runtime.Object) error {
	if !bytes.HasPrefix(w.value, []byte("k8s\x00")) {
		return json.Unmarshal(w.value, object)
	}
	_, _, err := scheme.Codecs.UniversalDeserializer().Decode(w.value, nil, object)
	return err
}

// Journal follows what is written to a cluster. It misses nothing, and goes on while API servers are
// restarted, because it reads from etcd itself.
type Journal struct {
	client string
	end    context.CancelFunc
	done   chan struct{}
	err    error // why it ended; valid after done

	mu    sync.Mutex
	marks map[string]chan struct{}
}

// watchAnswer is a line of etcd's answer to a watch.
type watchAnswer struct {
	Result struct {
		Created  bool
		Canceled bool
		Reason   string `json:"cancel_reason"`
		Events   []struct {
			Type string
			KV   struct {
				Key      []byte
				Value    []byte
				Revision int64 `json:"mod_revision,string"`
			} `json:"kv"`
		}
	}
	Error json.RawMessage
}

// journalMarks is where a journal writes what it waits for.
const journalMarks = "/journal/"

// Follow calls each for every write to the cluster from now on, in the order in which etcd took them
// and never two at a time, until the journal is closed.
func (c *Cluster) Follow(ctx context.Context, each func(*Write)) (*Journal, error) {
	ctx, end := context.WithCancel(ctx)
	j := &Journal{
		client: "http://" + loopback(c.etcd.ports[0]),
		end:    end,
		done:   make(chan struct{}),
		marks:  map[string]chan struct{}{},
	}
	// Every key begins with a slash; '0' is the character after it.
	body, err := j.post(ctx, "/v3/watch", map[string]any{"create_request": map[string]any{
		"key": []byte("/"), "range_end": []byte("0"),
	}})
	if err != nil {
		end()
		return nil, fmt.Errorf("watching etcd: %w", err)
	}
	answers := json.NewDecoder(body)
	var first watchAnswer
	if err := answers.Decode(&first); err != nil || !first.Result.Created {
		end()
		return nil, fmt.Errorf("watching etcd: %w, %s", errors.Join(err, body.Close()), first.Error)
	}
	go func() {
		defer close(j.done)
		j.err = errors.Join(j.read(answers, each), body.Close())
	}()
	return j, nil
}

func (j *Journal) read(answers *json.Decoder, each func(*Write)) error {
	for {
		var answer watchAnswer
		if err := answers.Decode(&answer); err != nil {
			return err
		}
		if answer.Error != nil || answer.Result.Canceled {
			return fmt.Errorf("etcd ended the watch: %s%s", answer.Result.Reason, answer.Error)
		}
		for _, event := range answer.Result.Events {
			if key := string(event.KV.Key); strings.HasPrefix(key, journalMarks) {
				j.reach(key)
			} else if write := writeOf(key); write != nil {
				write.Revision, write.value = event.KV.Revision, event.KV.Value
				each(write)
			}
		}
	}
}

// writeOf reads a key such as /registry/pods/NAMESPACE/NAME or /registry/GROUP/RESOURCE/NAME; it is
// nil for one that is no object's.
func writeOf(key string) *Write {
	path, found := strings.CutPrefix(key, "/registry/")
	if !found {
		return nil
	}
	parts := strings.Split(path, "/")
	if strings.Contains(parts[0], ".") && len(parts) > 1 {
		parts = append([]string{parts[1] + "." + parts[0]}, parts[2:]...)
	}
	switch len(parts) {
	case 2:
		return &Write{Resource: parts[0], Name: parts[1]}
	case 3:
		return &Write{Resource: parts[0], Namespace: parts[1], Name: parts[2]}
	default:
		return nil
	}
}

// Sync waits until each was called for everything that was written before.
func (j *Journal) Sync(ctx context.Context) error {
	mark := journalMarks + string(uuid.NewUUID())
	reached := make(chan struct{})
	j.mu.Lock()
	j.marks[mark] = reached
	j.mu.Unlock()
	body, err := j.post(ctx, "/v3/kv/put", map[string]any{"key": []byte(mark)})
	if err == nil {
		err = body.Close()
	}
	if err != nil {
		return fmt.Errorf("writing a mark into etcd: %w", err)
	}
	select {
	case <-reached:
		return nil
	case <-j.done:
		return fmt.Errorf("following the writes to etcd: %w", j.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *Journal) reach(mark string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if reached, asked := j.marks[mark]; asked {
		close(reached)
		delete(j.marks, mark)
	}
}

// Close ends the journal.
func (j *Journal) Close() {
	j.end()
	<-j.done
}

// post sends a request to etcd's gateway from JSON, and returns the body of the answer.
func (j *Journal) post(ctx context.Context, path string, body any) (io.ReadCloser, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, j.client+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("etcd answers %s", response.Status), response.Body.Close())
	}
	return response.Body, nil
}
