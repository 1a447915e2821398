package mesh_test

import (
	"testing"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

func TestThePodsOwnModeDecidesWhetherAmbientIsAskedFor(t *testing.T) {
	mode := func(value string) set { return set{mesh.DataplaneModeLabel: value} }
	for _, test := range []struct {
		name           string
		namespace, pod set
		want           bool
	}{
		{"nobody asks", nil, nil, false},
		{"the namespace asks", mode("ambient"), nil, true},
		{"the namespace asks, the Pod declines", mode("ambient"), mode("none"), false},
		{"the namespace asks, the Pod says something else", mode("ambient"), mode("x"), true},
		{"the Pod asks", nil, mode("ambient"), true},
		{"the Pod asks, the namespace declines", mode("none"), mode("ambient"), true},
		{"the namespace declines", mode("none"), nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := mesh.AsksForAmbient(test.namespace, test.pod); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestCrashesOfTheApplicationHaveAHint(t *testing.T) {
	for _, test := range []struct {
		name    string
		trouble mesh.Trouble
		hinted  bool
	}{
		{"the application crashes", mesh.Trouble{Container: "app", Reason: "CrashLoopBackOff"}, true},
		{"the sidecar crashes", mesh.Trouble{Container: "istio-proxy", Reason: "CrashLoopBackOff"}, false},
		{"an image cannot be pulled", mesh.Trouble{Container: "app", Reason: "ImagePullBackOff"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.trouble.Hint(); (got != "") != test.hinted {
				t.Errorf("got %q", got)
			}
		})
	}
}
