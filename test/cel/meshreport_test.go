// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cel

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

func testReports(t *testing.T, c client.Client) {
	const namespace = "reports"
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	report := func(name string) *v1alpha1.MeshReport {
		return &v1alpha1.MeshReport{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}

	for _, name := range []string{"meshes", "shop", "mesh.shop"} {
		t.Run("a report named "+name+" is refused", func(t *testing.T) {
			checkRefused(t, c.Create(t.Context(), report(name)),
				"a MeshReport is named mesh; there is one per namespace and the operator writes it")
		})
	}

	mesh := report(v1alpha1.ReportName)
	if err := c.Create(t.Context(), mesh); err != nil {
		t.Fatalf("A report named mesh was refused: %v", err)
	}

	for _, test := range []struct {
		name       string
		mutate     func(*v1alpha1.MeshReportStatus)
		wantErrors []string
	}{{
		name: "65 workloads",
		mutate: func(s *v1alpha1.MeshReportStatus) {
			s.Workloads = repeat(v1alpha1.MaxReportedWorkloads+1, s.Workloads[0])
		},
		wantErrors: []string{"status.workloads", "must have at most 64 items"},
	}, {
		name:       "an unknown finding",
		mutate:     func(s *v1alpha1.MeshReportStatus) { s.Workloads[0].Finding = "Absent" },
		wantErrors: []string{"status.workloads[0].finding", `"Absent"`},
	}, {
		name:       "a workload without a message",
		mutate:     func(s *v1alpha1.MeshReportStatus) { s.Workloads[0].Message = "" },
		wantErrors: []string{"status.workloads[0].message", "Required value"},
	}, {
		name:       "a negative count",
		mutate:     func(s *v1alpha1.MeshReportStatus) { s.Pods.Meshed = new(int32(-1)) },
		wantErrors: []string{"status.pods.meshed", "greater than or equal to 0"},
	}, {
		name: "the same reason twice",
		mutate: func(s *v1alpha1.MeshReportStatus) {
			s.Pods.NotExpected = repeat(2, s.Pods.NotExpected[0])
		},
		wantErrors: []string{"status.pods.notExpected[1]", "Duplicate value"},
	}} {
		t.Run("a status with "+test.name+" is refused", func(t *testing.T) {
			wrong := mesh.DeepCopy()
			wrong.Status = fullStatus()
			test.mutate(&wrong.Status)
			checkRefused(t, c.Status().Update(t.Context(), wrong), test.wantErrors...)
		})
	}

	t.Run("the longest status is accepted", func(t *testing.T) {
		full := mesh.DeepCopy()
		full.Status = fullStatus()
		full.Status.Workloads = repeat(v1alpha1.MaxReportedWorkloads, full.Status.Workloads[0])
		for i := range 31 {
			full.Status.Pods.NotExpected = append(full.Status.Pods.NotExpected,
				v1alpha1.NotExpectedPods{Reason: fmt.Sprintf("Reason%d", i), Pods: 1})
		}
		if err := c.Status().Update(t.Context(), full); err != nil {
			t.Error(err)
		}
	})
}

// fullStatus is a status with every field set.
func fullStatus() v1alpha1.MeshReportStatus {
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	workload := v1alpha1.WorkloadReference{Group: "apps", Kind: "Deployment", Name: "web"}
	return v1alpha1.MeshReportStatus{
		Policy: "production",
		Pods: &v1alpha1.ReportedPods{
			Eligible:    new(int32(3)),
			Meshed:      new(int32(0)),
			NotExpected: []v1alpha1.NotExpectedPods{{Reason: "PodLabelOptOut", Pods: 1}},
		},
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionFullMesh, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInProgress,
			Message: "0 of 3 Pods are in the mesh.", LastTransitionTime: now,
		}},
		Workloads: []v1alpha1.ReportedWorkload{{
			WorkloadReference: workload,
			Pods:              new(int32(3)),
			Meshed:            new(int32(0)),
			Finding:           v1alpha1.FindingMissing,
			Action:            v1alpha1.ActionHold,
			Reason:            "WouldCauseDowntime",
			ClearsBy:          v1alpha1.ClearedByAdmin,
			Since:             now,
			Message:           "A restart leaves no Pod ready for a moment; accept Downtime in the policy.",
		}},
		OmittedWorkloads: new(int32(0)),
	}
}
