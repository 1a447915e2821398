// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAJournalMissesNoWrite(t *testing.T) {
	c := ForTest(t, Options{APIServerOnly: true})
	var got []string
	journal, err := c.Follow(t.Context(), func(w *Write) {
		if w.Resource != "configmaps" || w.Namespace != "default" || w.Name != "told" {
			return
		}
		if w.Deleted() {
			got = append(got, "deleted")
			return
		}
		var object corev1.ConfigMap
		if err := w.Into(&object); err != nil {
			t.Error(err)
		}
		got = append(got, object.Data["say"])
	})
	if err != nil {
		t.Fatal(err)
	}
	configMaps := c.client.CoreV1().ConfigMaps("default")
	told := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "told"}}
	for i, say := range []string{"one", "two", "three"} {
		told.Data = map[string]string{"say": say}
		eventually(t, c, "the write of "+say, func(ctx context.Context) error {
			if i == 0 {
				_, err := configMaps.Create(ctx, told, metav1.CreateOptions{})
				return err
			}
			_, err := configMaps.Update(ctx, told, metav1.UpdateOptions{})
			return err
		})
		if err := c.RestartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := configMaps.Delete(t.Context(), "told", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := journal.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two", "three", "deleted"}, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	journal.Close()
	if err := journal.Sync(t.Context()); err == nil {
		t.Error("a closed journal claims to have seen everything")
	}
}
