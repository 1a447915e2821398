package mesh_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

const proxyImage = "istio/proxyv2:1.31.0"

func TestObserveWhatIstioInjects(t *testing.T) {
	tests := []struct {
		pod  string
		want mesh.Observation
	}{
		{"native", mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: proxyImage}},
		{"classic", mesh.Observation{Proxy: mesh.ProxyClassic, Capture: mesh.CaptureOn, Revision: "default", Image: proxyImage}},
		{"cni", mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: proxyImage}},
		{"interception-none", mesh.Observation{Proxy: mesh.ProxyNative, Revision: "default", Image: proxyImage}},
		{"proxy-override-args", mesh.Observation{Proxy: mesh.ProxyNative, Capture: mesh.CaptureOn, Revision: "default", Image: proxyImage}},
		{"gateway", mesh.Observation{Proxy: mesh.ProxyGateway, Revision: "default", Image: proxyImage}},
		{"grpc-agent", mesh.Observation{Proxy: mesh.ProxyAgent, Revision: "default", Image: proxyImage}},
		{"grpc-simple", mesh.Observation{Proxy: mesh.ProxyAgent, Revision: "default"}},
		{"custom-template", mesh.Observation{Proxy: mesh.ProxyAgent, Revision: "default"}},
		{"host-network", mesh.Observation{}},
		{"opted-out", mesh.Observation{}},
		{"kube-gateway", mesh.Observation{Proxy: mesh.ProxyGateway, Revision: "default", Image: proxyImage}},
		{"waypoint", mesh.Observation{Proxy: mesh.ProxyGateway, Revision: "default", Image: proxyImage}},
		{"agentgateway", mesh.Observation{Proxy: mesh.ProxyGateway, Revision: "default", Image: "istio/agentgateway:1.31.0"}},
		{"agentgateway-waypoint", mesh.Observation{Proxy: mesh.ProxyGateway, Revision: "default", Image: "istio/agentgateway:1.31.0"}},
	}
	for _, test := range tests {
		t.Run(test.pod, func(t *testing.T) {
			if diff := cmp.Diff(test.want, mesh.Observe(podFrom(t, test.pod))); diff != "" {
				t.Errorf("Observe (-want +got):\n%s", diff)
			}
		})
	}
}

// edited reads a Pod of testdata/pods and changes it.
func edited(t testing.TB, name string, edit func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := podFrom(t, name)
	edit(pod)
	return pod
}

func TestObserveIsNotFooled(t *testing.T) {
	status := func(containers ...string) set {
		text, err := json.Marshal(map[string]any{"initContainers": nil, "containers": containers, "revision": "default"})
		if err != nil {
			t.Fatal(err)
		}
		return set{"sidecar.istio.io/status": string(text)}
	}
	running := func(annotations, labels set, containers ...corev1.Container) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: annotations, Labels: labels},
			Spec:       corev1.PodSpec{Containers: containers},
		}
	}
	app := corev1.Container{Name: "app", Image: "app:1"}
	busybox := corev1.Container{Name: "istio-proxy", Image: "busybox:1"}
	envoy := corev1.Container{Name: "istio-proxy", Image: proxyImage, Args: []string{"proxy", "sidecar"}}

	tests := []struct {
		name    string
		pod     *corev1.Pod
		want    mesh.Proxy
		spoofed bool
	}{
		{name: "no trace of a proxy", pod: running(nil, nil, app)},
		{name: "a container of that name", pod: running(nil, nil, app, busybox), spoofed: true},
		{name: "a proxy that injection did not bring", pod: running(nil, nil, app, envoy), spoofed: true},
		{name: "a gateway whose image was to be filled in", pod: running(nil, nil, corev1.Container{Name: "istio-proxy", Image: "auto"}), spoofed: true},
		{name: "a copied annotation", pod: running(status("istio-proxy"), nil, app), spoofed: true},
		{name: "a copied annotation of a custom template", pod: running(status("app", "agent"), nil, app), spoofed: true},
		{name: "a copied annotation and a container of that name, which it does not list", pod: running(status("agent"), nil, app, busybox), spoofed: true},
		{name: "an annotation that is not JSON", pod: running(set{"sidecar.istio.io/status": "injected"}, nil, app), spoofed: true},
		{name: "an annotation that says nothing", pod: running(set{"sidecar.istio.io/status": "{}"}, nil, app), spoofed: true},
		{name: "an annotation of a template that adds no container", pod: running(status(), nil, app), want: mesh.ProxyAgent},
		{name: "an annotation that injection could not read either", pod: running(set{"sidecar.istio.io/status": "injected"}, nil, app, envoy), want: mesh.ProxyClassic},
		{name: "a gateway's labels alone", pod: running(nil, set{"gateway.istio.io/managed": "istio.io-gateway-controller"}, app)},
		{name: "a gateway's labels and a container of that name", pod: running(nil, set{"gateway.istio.io/managed": "istio.io-gateway-controller"}, busybox), spoofed: true},
		{name: "an agentgateway without a gateway's labels", pod: running(nil, nil, corev1.Container{Name: "agentgateway"})},
		{name: "an agent for gRPC", pod: running(status("istio-proxy"), nil, app, corev1.Container{
			Name: "istio-proxy", Args: envoy.Args, Env: []corev1.EnvVar{{Name: "ISTIO_META_GENERATOR", Value: "grpc"}},
		}), want: mesh.ProxyAgent},
		{name: "a sidecar without Envoy", pod: running(status("istio-proxy"), nil, app, corev1.Container{
			Name: "istio-proxy", Args: envoy.Args, Env: []corev1.EnvVar{{Name: "DISABLE_ENVOY", Value: "true"}},
		}), want: mesh.ProxyAgent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := mesh.Observe(test.pod)
			if got.Proxy != test.want || (got.Spoofed != "") != test.spoofed {
				t.Errorf("got %+v, want proxy %d, spoofed %t", got, test.want, test.spoofed)
			}
			if test.spoofed && (got.Revision != "" || got.Image != "" || got.Capture != mesh.CaptureNone) {
				t.Errorf("what is no sidecar has its properties: %+v", got)
			}
		})
	}
}

func TestObserveTheRevision(t *testing.T) {
	const nothing = `{"initContainers":["istio-init"],"containers":["istio-proxy"]}`
	tests := []struct {
		name string
		edit func(*corev1.Pod)
		want string
	}{
		{name: "the annotation counts before the status", want: "canary", edit: func(pod *corev1.Pod) {
			pod.Annotations["istio.io/rev"] = "canary"
		}},
		{name: "an empty annotation is the default revision", want: "default", edit: func(pod *corev1.Pod) {
			pod.Annotations["istio.io/rev"] = ""
			pod.Annotations["sidecar.istio.io/status"] = `{"containers":["istio-proxy"],"revision":"canary"}`
		}},
		{name: "the status counts before the label, which may be a tag", want: "canary", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = `{"containers":["istio-proxy"],"revision":"canary"}`
			pod.Labels["istio.io/rev"] = "prod"
		}},
		{name: "Istio 1.10 wrote a label", want: "1-10", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			pod.Labels["istio.io/rev"] = "1-10"
		}},
		{name: "a label beside an unreadable status may be a tag", want: "", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = "injected"
			pod.Labels["istio.io/rev"] = "prod"
			setEnv(pod, "CA_ADDR", "")
			setEnv(pod, "PROXY_CONFIG", "")
		}},
		{name: "else the certificate authority's address tells", want: "canary", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "istiod-canary.istio-system.svc:15012")
		}},
		{name: "the address of the default revision", want: "default", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "istiod.istio-system.svc:15012")
		}},
		{name: "else the control plane's address", want: "1-22", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "ca.example.com:443")
			setEnv(pod, "PROXY_CONFIG", `{"discoveryAddress":"istiod-1-22.mesh.svc:15012"}`)
		}},
		{name: "a tag's address does not tell", want: "", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "istiod-revision-tag-prod.istio-system.svc:15012")
		}},
		{name: "an address of another name does not tell", want: "", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "istiodemo.istio-system.svc:15012")
			setEnv(pod, "PROXY_CONFIG", `not JSON`)
		}},
		{name: "nothing tells", want: "", edit: func(pod *corev1.Pod) {
			delete(pod.Annotations, "istio.io/rev")
			pod.Annotations["sidecar.istio.io/status"] = nothing
			setEnv(pod, "CA_ADDR", "")
			setEnv(pod, "PROXY_CONFIG", "")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := mesh.Observe(edited(t, "classic", test.edit))
			if got.Revision != test.want || got.Proxy != mesh.ProxyClassic {
				t.Errorf("got %+v, want revision %q", got, test.want)
			}
		})
	}
}

func setEnv(pod *corev1.Pod, name, value string) {
	for i := range pod.Spec.Containers {
		container := &pod.Spec.Containers[i]
		if container.Name != "istio-proxy" {
			continue
		}
		for j := range container.Env {
			if container.Env[j].Name == name {
				container.Env[j].Value = value
				return
			}
		}
		container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
	}
}

// The rows and answers are those of TestMatchesFilter in Istio's cni/pkg/repair, for the filter
// that its chart sets.
func TestObserveBrokenRedirection(t *testing.T) {
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	exited := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}
	}
	validation := func(now, last corev1.ContainerState) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "istio-validation", State: now, LastTerminationState: last}}
	}
	tests := []struct {
		name     string
		statuses []corev1.ContainerStatus
		want     mesh.Capture
	}{
		{name: "nothing has run", want: mesh.CaptureOn},
		{name: "succeeded", statuses: validation(exited(0, "Completed"), corev1.ContainerState{}), want: mesh.CaptureOn},
		{name: "failed once and succeeded then", statuses: validation(exited(0, "Completed"), exited(126, "Error")), want: mesh.CaptureOn},
		{name: "failed and waits", statuses: validation(waiting, exited(126, "Error")), want: mesh.CaptureBroken},
		{name: "failed and failed again", statuses: validation(exited(126, "Error"), exited(126, "Error")), want: mesh.CaptureBroken},
		{name: "failed for the first time", statuses: validation(exited(126, "Error"), corev1.ContainerState{}), want: mesh.CaptureOn},
		{name: "failed otherwise", statuses: validation(waiting, exited(121, "Error")), want: mesh.CaptureOn},
		{name: "another container failed so", statuses: []corev1.ContainerStatus{{Name: "init", State: waiting, LastTerminationState: exited(126, "Error")}}, want: mesh.CaptureOn},
		{name: "a status without a name", statuses: []corev1.ContainerStatus{{}}, want: mesh.CaptureOn},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := edited(t, "cni", func(pod *corev1.Pod) { pod.Status.InitContainerStatuses = test.statuses })
			if got := mesh.Observe(pod); got.Capture != test.want || got.Proxy != mesh.ProxyNative {
				t.Errorf("got %+v, want capture %d", got, test.want)
			}
		})
	}

	withoutAnnotation := edited(t, "cni", func(pod *corev1.Pod) {
		delete(pod.Annotations, "sidecar.istio.io/status")
		pod.Status.InitContainerStatuses = validation(waiting, exited(126, "Error"))
	})
	if got := mesh.Observe(withoutAnnotation); got.Capture != mesh.CaptureNone {
		t.Errorf("without the annotation the Pod is left alone: got %+v", got)
	}
}

func TestObserveANativeSidecarThatNeverEnds(t *testing.T) {
	pod := edited(t, "native", func(pod *corev1.Pod) {
		for i := range pod.Spec.InitContainers {
			pod.Spec.InitContainers[i].RestartPolicy = nil
		}
	})
	if got := mesh.Observe(pod); got.Capture != mesh.CaptureBroken {
		t.Errorf("got %+v", got)
	}
}

func TestObserveAmbient(t *testing.T) {
	for text, want := range map[string]mesh.Ambient{
		"enabled": mesh.AmbientEnabled, "pending": mesh.AmbientPending, "": mesh.AmbientNone, "disabled": mesh.AmbientNone,
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: set{"ambient.istio.io/redirection": text}}}
		if diff := cmp.Diff(mesh.Observation{Ambient: want}, mesh.Observe(pod)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func FuzzObserve(f *testing.F) {
	for _, status := range []string{
		`{"initContainers":["istio-init","istio-proxy"],"containers":null,"revision":"default"}`,
		`{"initContainers":null,"containers":["app"],"revision":"canary"}`,
		`{}`, `null`, `[]`, `injected`, ``, `{"containers":[""]}`, `{"revision":7}`,
	} {
		f.Add(status, "", `{"discoveryAddress":"istiod-canary.istio-system.svc:15012"}`, "istiod.istio-system.svc:15012", "proxy", true)
		f.Add(status, "prod", "", "", "", false)
	}
	f.Fuzz(func(t *testing.T, status, label, proxyConfig, address, arg string, proxied bool) {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: set{"sidecar.istio.io/status": status}, Labels: set{"istio.io/rev": label}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
		}
		if proxied {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
				Name: "istio-proxy", Args: []string{arg, "sidecar"},
				Env: []corev1.EnvVar{{Name: "PROXY_CONFIG", Value: proxyConfig}, {Name: "CA_ADDR", Value: address}},
			})
		}
		got := mesh.Observe(pod)
		if (got.Proxy == mesh.ProxyNone) == (got.Spoofed == "") {
			t.Errorf("a Pod with the annotation has a proxy or pretends to: %+v", got)
		}
		if got.Proxy == mesh.ProxyNone && got.Revision != "" {
			t.Errorf("no proxy, yet a revision: %+v", got)
		}
		if got.Proxy == mesh.ProxyClassic && !proxied {
			t.Errorf("a sidecar without a container: %+v", got)
		}
		if again := mesh.Observe(pod); again != got {
			t.Errorf("observed %+v, then %+v", got, again)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	for _, name := range []string{"native", "classic", "grpc-simple", "opted-out"} {
		pod := podFrom(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mesh.Observe(pod)
			}
		})
	}
}
