package mesh_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/mesh"
)

// golden is a Pod template of Istio's own tests of its injector, and what the injector makes of it;
// no Pod where it refuses the template. Of either is kept what injection and Observe look at.
type golden struct {
	File     string      `json:"file"`
	Template corev1.Pod  `json:"template"`
	Pod      *corev1.Pod `json:"pod"`
}

func goldens(t testing.TB) []golden {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "goldens.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var read []golden
	decoder := json.NewDecoder(bytes.NewReader(content))
	for decoder.More() {
		var one golden
		if err := decoder.Decode(&one); err != nil {
			t.Fatal(err)
		}
		read = append(read, one)
	}
	return read
}

// What would be expected of each template is what Istio's tests expect, and every Pod that results
// is judged to be as it should be.
func TestIstiosOwnGoldens(t *testing.T) {
	istio := injector([]*webhookConfiguration{helm()})
	type counts struct {
		Templates, Refused, Injected, NotInjected                 int
		Native, Classic, Gateway, Agent, None, Capture, NoCapture int
	}
	var got counts
	for _, golden := range goldens(t) {
		got.Templates++
		spec := golden.Template.Spec
		expected := istio.Expect(
			mesh.Namespace{Name: golden.Template.Namespace, Labels: set{"istio-injection": "enabled"}},
			mesh.Template{Labels: golden.Template.Labels, Annotations: golden.Template.Annotations, HostNetwork: spec.HostNetwork, Spec: &spec})
		if golden.Pod == nil {
			got.Refused++
			if !expected.Inject {
				t.Errorf("%s: the injector is asked, and refuses it; expected %+v", golden.File, expected)
			}
			continue
		}
		_, injected := golden.Pod.Annotations["sidecar.istio.io/status"]
		if expected.Inject != injected {
			t.Errorf("%s: injected=%t; expected %+v", golden.File, injected, expected)
		}
		observed := mesh.Observe(golden.Pod)
		judgement := mesh.Judge(expected, observed)
		want := v1alpha1.FindingNotExpected
		if injected {
			got.Injected++
			want = v1alpha1.FindingMeshed
		} else {
			got.NotInjected++
		}
		if judgement.Finding != want || injected && observed.Revision != "default" || observed.Spoofed != "" {
			t.Errorf("%s: %+v is judged %+v, want %s", golden.File, observed, judgement, want)
		}
		switch observed.Proxy {
		case mesh.ProxyNative:
			got.Native++
		case mesh.ProxyClassic:
			got.Classic++
		case mesh.ProxyGateway:
			got.Gateway++
		case mesh.ProxyAgent:
			got.Agent++
		case mesh.ProxyNone:
			got.None++
		}
		if observed.Capture == mesh.CaptureOn {
			got.Capture++
		} else {
			got.NoCapture++
		}
	}
	want := counts{
		Templates: 126, Refused: 5, Injected: 118, NotInjected: 3,
		// sidecar-spire.yaml has both, which no API server would take: it counts as classic.
		Native: 102, Classic: 10, Gateway: 3, Agent: 3, None: 3, Capture: 111, NoCapture: 10,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
