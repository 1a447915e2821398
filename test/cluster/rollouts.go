// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

const (
	rolloutsController = "rollouts-controller"
	// rolloutsDefinitions is the file with the definitions that the controller
	// was built with.
	rolloutsDefinitions = "rollouts-crds.yaml"
)

var (
	definitionResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	rolloutResource    = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "rollouts"}
)

// DefineRollouts installs Argo Rollouts' own definitions and waits until
// Rollouts are served. Definitions that are there stay.
func (c *Cluster) DefineRollouts(ctx context.Context) error {
	client, definitions, err := c.rolloutsDefinitions()
	if err != nil {
		return err
	}
	for _, definition := range definitions {
		_, err := client.Resource(definitionResource).Create(ctx, definition, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s: %w", definition.GetName(), err)
		}
	}
	return c.await(ctx, "Rollouts to be served", func(ctx context.Context) error {
		_, err := client.Resource(rolloutResource).List(ctx, metav1.ListOptions{Limit: 1})
		return err
	})
}

// RemoveRollouts stops Argo's controller, if it runs, and takes its definitions
// away, and with them every Rollout. It waits until they are gone. The Pods may
// go on running: the garbage collector need not have known of their owners.
func (c *Cluster) RemoveRollouts(ctx context.Context) error {
	c.StopRollouts()
	client, definitions, err := c.rolloutsDefinitions()
	if err != nil {
		return err
	}
	for _, definition := range definitions {
		err := client.Resource(definitionResource).Delete(ctx, definition.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s: %w", definition.GetName(), err)
		}
	}
	return c.await(ctx, "the definitions of Rollouts to be gone", func(ctx context.Context) error {
		for _, definition := range definitions {
			_, err := client.Resource(definitionResource).Get(ctx, definition.GetName(), metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return errors.Join(fmt.Errorf("%s is still there", definition.GetName()), err)
			}
		}
		return nil
	})
}

// StartRollouts defines Rollouts and starts Argo's controller, which then runs
// them. Where it was stopped it is started again.
func (c *Cluster) StartRollouts(ctx context.Context) error {
	if err := c.DefineRollouts(ctx); err != nil {
		return err
	}
	p := c.rollouts()
	if p == nil {
		var err error
		if p, err = c.newRollouts(); err != nil {
			return err
		}
	}
	p.stop()
	return p.start(ctx)
}

// StopRollouts stops Argo's controller: nobody runs Rollouts any more.
func (c *Cluster) StopRollouts() {
	if p := c.rollouts(); p != nil {
		p.stop()
	}
}

func (c *Cluster) rollouts() *part {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.parts, func(p *part) bool { return p.name == rolloutsController })
	if at < 0 {
		return nil
	}
	return c.parts[at]
}

func (c *Cluster) newRollouts() (*part, error) {
	p, err := c.part(rolloutsController, rolloutsController, 2)
	if err != nil {
		return nil, err
	}
	if p.kubeconfig, err = c.userKubeconfig(rolloutsController, "system:masters"); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.args = func(ports []int) []string {
		return []string{
			"--kubeconfig=" + p.kubeconfig,
			"--leader-elect=false",
			"--metricsPort=" + strconv.Itoa(ports[0]),
			"--healthzPort=" + strconv.Itoa(ports[1]),
			"--qps=500",
			"--burst=1000",
		}
	}
	p.ready = func(ctx context.Context) error {
		return get(ctx, "http://"+loopback(p.ports[1])+"/healthz")
	}
	return p, nil
}

// rolloutsDefinitions reads the definitions.
func (c *Cluster) rolloutsDefinitions() (dynamic.Interface, []*unstructured.Unstructured, error) {
	client, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return nil, nil, err
	}
	path, err := c.program(rolloutsDefinitions)
	if err != nil {
		return nil, nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the definitions of Rollouts: %w", err)
	}
	var definitions []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096); ; {
		definition := &unstructured.Unstructured{}
		err := decoder.Decode(&definition.Object)
		switch {
		case errors.Is(err, io.EOF):
			return client, definitions, nil
		case err != nil:
			return nil, nil, fmt.Errorf("reading %s: %w", path, err)
		case len(definition.Object) > 0:
			definitions = append(definitions, definition)
		}
	}
}
