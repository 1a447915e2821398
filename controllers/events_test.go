package controllers

import (
	"testing"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

func TestEndOfARestartIsToldAsItIsWrittenDown(t *testing.T) {
	missing, leftover := v1alpha1.FindingMissing, v1alpha1.FindingLeftover
	for name, test := range map[string]struct {
		finding v1alpha1.Finding
		result  v1alpha1.RestartResult
		message string
		want    string
	}{
		"every Pod is in the mesh": {missing, v1alpha1.ResultSucceeded, "", "Normal InMesh on Deployment cart: Every Pod is ready in the mesh."},
		"no sidecar is left": {leftover, v1alpha1.ResultSucceeded, "",
			"Normal RestartSucceeded on Deployment cart: Every Pod is ready without a sidecar."},
		"not every Pod is ready": {missing, v1alpha1.ResultSucceeded, "9 of 10 Pods are ready.",
			"Normal RestartSucceeded on Deployment cart: 9 of 10 Pods are ready."},
		"it was scaled to zero": {leftover, v1alpha1.ResultSucceeded, "It was scaled to zero meanwhile.",
			"Normal RestartSucceeded on Deployment cart: It was scaled to zero meanwhile."},
		"it has failed": {missing, v1alpha1.ResultFailed, "The restart has failed.",
			"Warning RestartFailed on Deployment cart: The restart has failed."},
	} {
		t.Run(name, func(t *testing.T) {
			object := known(t, builder.Deployment("shop", "cart").Build())
			restarted := intended(object)
			restarted.Cause.Finding = test.finding
			events := &recorder{}
			(announcer{recorder: events}).Ended(&restart.Verdict{Workload: &inventory.Workload{Key: object.Key(), Object: object},
				Restart: restarted.Ended(test.result, test.message, noon)}, builder.Enforcing("mesh").Build())
			sent := events.take()
			if len(sent) != 2 || sent[0] != test.want {
				t.Errorf("Events are %q, want %q and one on the policy", sent, test.want)
			}
		})
	}
}

// An Event that names another version than there is belongs to nothing that kubectl describe looks for.
func TestEventNamesTheWorkloadAsTheAPIServerDoes(t *testing.T) {
	deployment := builder.Deployment("shop", "web").Build()
	deployment.APIVersion, deployment.Kind = "apps/v1", "Deployment"
	canary := builder.Rollout("shop", "canary").Build()
	for _, test := range []struct {
		read *inventory.Object
		want string
	}{
		{known(t, deployment), deployment.GroupVersionKind().String()},
		{known(t, canary), canary.GroupVersionKind().String()},
	} {
		if got := referenceTo(test.read).GroupVersionKind().String(); got != test.want {
			t.Errorf("it is referred to as %s, want %s", got, test.want)
		}
	}
}
