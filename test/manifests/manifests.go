// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests renders the kustomizations under config/ and applies them, so tests run
// under the very RBAC, guard and definitions that an administrator installs.
package manifests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// FieldManager owns what Apply writes.
const FieldManager = "install"

const (
	pollInterval = 50 * time.Millisecond
	// establishTimeout bounds how long a definition may take until its resource is served.
	establishTimeout = time.Minute
)

var definitionKind = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}

// Root is the root of the Go module that the working directory belongs to.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is in no Go module")
		}
		dir = filepath.Dir(dir)
	}
}

// Render builds the kustomization in the directory path, relative to root.
func Render(root, path string) ([]*unstructured.Unstructured, error) {
	// The order of the kustomizations, with Namespaces and definitions first.
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	rendered, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(root, path))
	if err != nil {
		return nil, fmt.Errorf("rendering %s: %w", path, err)
	}
	var objects []*unstructured.Unstructured
	for _, resource := range rendered.Resources() {
		content, err := resource.Map()
		if err != nil {
			return nil, fmt.Errorf("reading %s from %s: %w", resource.CurId(), path, err)
		}
		objects = append(objects, &unstructured.Unstructured{Object: content})
	}
	return objects, nil
}

// Apply renders the kustomizations in the directories paths, relative to root, and applies their
// objects server-side, one kustomization after the other: "config/default" for everything, or
// "config/crd", "config/rbac" and "config/guard" where the operator runs outside of the cluster.
// It returns when the resources of the definitions among them are served. Admission policies are
// in force a moment later.
func Apply(ctx context.Context, c client.Client, root string, paths ...string) error {
	for _, path := range paths {
		objects, err := Render(root, path)
		if err != nil {
			return err
		}
		for _, object := range objects {
			if err := apply(ctx, c, object); err != nil {
				return fmt.Errorf("applying %s %s of %s: %w",
					object.GetKind(), client.ObjectKeyFromObject(object), path, err)
			}
		}
	}
	return nil
}

func apply(ctx context.Context, c client.Client, object *unstructured.Unstructured) error {
	err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object),
		client.FieldOwner(FieldManager), client.ForceOwnership)
	if err != nil {
		return err
	}
	if object.GroupVersionKind().GroupKind() == definitionKind {
		return awaitServed(ctx, c, object)
	}
	return nil
}

// awaitServed waits until the resource of a definition can be listed: the API server says
// "established" a moment before all of it serves the resource.
func awaitServed(ctx context.Context, c client.Client, definition *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	if len(versions) == 0 {
		return errors.New("the definition has no versions")
	}
	version, _ := versions[0].(map[string]any)["name"].(string)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: kind + "List"})
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, establishTimeout, true,
		func(ctx context.Context) (bool, error) {
			last = c.List(ctx, list, client.Limit(1))
			if meta.IsNoMatchError(last) || apierrors.IsNotFound(last) {
				return false, nil
			}
			return last == nil, last
		})
	if err != nil {
		return fmt.Errorf("waiting until it is served: %w", errors.Join(err, last))
	}
	return nil
}
