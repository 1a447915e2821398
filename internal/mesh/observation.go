package mesh

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Observation is what a running Pod carries. It is comparable: Pods that carry the same share
// one.
type Observation struct {
	// Proxy is how the sidecar runs.
	Proxy Proxy
	// Capture says whether traffic is sent through it.
	Capture Capture
	// Revision of the control plane that injected it; empty where the Pod does not say.
	Revision string
	// Image of the proxy container.
	Image string
	// Spoofed says what pretends to be a sidecar and is none; empty where nothing does.
	Spoofed string
	// Ambient is what the CNI agent says of the Pod.
	Ambient Ambient
	// Asks is what the Pod's own labels ask for, in a form of this package; empty where it is
	// nothing. Only CutDown sets it.
	Asks string
}

// InMesh reports whether the Pod can speak mutual TLS with others: its traffic goes through a proxy, or
// it is a proxy, or speaks it by itself, or is captured into the ambient mesh.
func (o Observation) InMesh() bool {
	return o.Proxy != ProxyNone && o.Capture != CaptureBroken || o.Ambient == AmbientEnabled
}

// Proxy is how a sidecar runs.
type Proxy uint8

// The ways.
const (
	// ProxyNone: no proxy; the Pod is uninjected.
	ProxyNone Proxy = iota
	// ProxyClassic: a container among the others.
	ProxyClassic
	// ProxyNative: an init container that is restarted always.
	ProxyNative
	// ProxyGateway: a gateway or waypoint, injected or managed by the Gateway controller.
	ProxyGateway
	// ProxyAgent: injected for gRPC or by a custom template; no Envoy of Istio's own name.
	ProxyAgent
)

// Capture says whether a Pod's traffic is sent through its proxy.
type Capture uint8

// The states.
const (
	// CaptureNone: nothing redirects traffic, and it was not asked for either (gateways, gRPC,
	// interception NONE).
	CaptureNone Capture = iota
	// CaptureOn: traffic is redirected.
	CaptureOn
	// CaptureBroken: redirection was to be set up and was not.
	CaptureBroken
)

// Ambient is what Istio's CNI agent says of a Pod.
type Ambient uint8

// The states.
const (
	// AmbientNone: not captured.
	AmbientNone Ambient = iota
	// AmbientPending: rules are in place, ztunnel has not accepted; traffic goes nowhere.
	AmbientPending
	// AmbientEnabled: captured.
	AmbientEnabled
)

// validationFailed is how istio-validation exits where the CNI plugin did not redirect
// (tools/istio-iptables/pkg/constants).
const validationFailed = 126

// What pretends to be a sidecar.
const (
	spoofedName   = "a container is named istio-proxy, but injection left no annotation sidecar.istio.io/status"
	spoofedProxy  = "a container is named istio-proxy, but it runs no proxy and the annotation sidecar.istio.io/status does not list it"
	spoofedStatus = "the annotation sidecar.istio.io/status lists containers that the Pod does not have"
	spoofedText   = "the annotation sidecar.istio.io/status was not written by injection"
)

// Observe says what a running Pod carries. Neither the annotation that injection leaves nor the
// name of a container decides alone: manifests are copied, and containers are named at will.
func Observe(pod *corev1.Pod) Observation {
	observed := Observation{Ambient: ambientOf(pod)}
	text, injected := pod.Annotations[statusAnnotation]
	managed := isManagedGateway(pod.Labels)
	proxy, native := findProxy(&pod.Spec)
	switch {
	case proxy != nil && (injected || managed):
		observeProxy(&observed, pod, proxy, native, text)
	case managed && findContainer(pod.Spec.Containers, agentgateway) != nil:
		container := findContainer(pod.Spec.Containers, agentgateway)
		observed.Proxy = ProxyGateway
		observed.Image = container.Image
		observed.Revision = revisionOf(pod, container, text)
	case injected:
		observeAgent(&observed, pod, text)
	case proxy != nil:
		observed.Spoofed = spoofedName
	}
	return observed
}

// observeProxy tells what the container istio-proxy of a Pod is.
func observeProxy(observed *Observation, pod *corev1.Pod, proxy *corev1.Container, native bool, text string) {
	role := roleOf(proxy)
	if role == "" && !readStatus(text).lists(proxyContainer) {
		observed.Spoofed = spoofedProxy
		return
	}
	observed.Image = proxy.Image
	observed.Revision = revisionOf(pod, proxy, text)
	switch {
	case role == "router" || role == "waypoint":
		observed.Proxy = ProxyGateway
		return
	case hasEnv(proxy, "ISTIO_META_GENERATOR", "grpc") || hasEnv(proxy, "DISABLE_ENVOY", "true"):
		observed.Proxy = ProxyAgent
	case native:
		observed.Proxy = ProxyNative
	default:
		observed.Proxy = ProxyClassic
	}
	observed.Capture = captureOf(pod, proxy, native)
}

// observeAgent tells what injection left in a Pod without a container istio-proxy.
func observeAgent(observed *Observation, pod *corev1.Pod, text string) {
	status := readStatus(text)
	switch {
	case status.empty() && status.Revision == "":
		observed.Spoofed = spoofedText
	case !status.standsIn(&pod.Spec):
		observed.Spoofed = spoofedStatus
	default:
		observed.Proxy = ProxyAgent
		observed.Revision = revisionOf(pod, nil, text)
		observed.Capture = captureOf(pod, nil, false)
	}
}

// findProxy finds the container istio-proxy and says whether it is an init container.
func findProxy(spec *corev1.PodSpec) (proxy *corev1.Container, native bool) {
	if proxy := findContainer(spec.Containers, proxyContainer); proxy != nil {
		return proxy, false
	}
	proxy = findContainer(spec.InitContainers, proxyContainer)
	return proxy, proxy != nil
}

func findContainer(containers []corev1.Container, name string) *corev1.Container {
	for i := range containers {
		if containers[i].Name == name {
			return &containers[i]
		}
	}
	return nil
}

// roleOf reads what pilot-agent was started as: sidecar, router or waypoint. Empty where the
// container's arguments are not those that Istio's templates give.
func roleOf(proxy *corev1.Container) string {
	if len(proxy.Args) < 2 || proxy.Args[0] != "proxy" {
		return ""
	}
	return proxy.Args[1]
}

func hasEnv(container *corev1.Container, name, value string) bool {
	return envOf(container, name) == value
}

func envOf(container *corev1.Container, name string) string {
	for i := range container.Env {
		if container.Env[i].Name == name {
			return container.Env[i].Value
		}
	}
	return ""
}

// captureOf says whether traffic is redirected: istio-init does it, istio-validation checks that
// the CNI plugin did.
func captureOf(pod *corev1.Pod, proxy *corev1.Container, native bool) Capture {
	if native && (proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways) {
		// Something took the restart policy away: as an ordinary init container it never ends, and
		// the Pod never starts.
		return CaptureBroken
	}
	if redirectionFailed(pod) {
		return CaptureBroken
	}
	if findContainer(pod.Spec.InitContainers, initContainer) != nil ||
		findContainer(pod.Spec.InitContainers, validationContainer) != nil {
		return CaptureOn
	}
	return CaptureNone
}

// redirectionFailed is how Istio's CNI repair controller recognises a Pod that the plugin left out
// (cni/pkg/repair/repaircontroller.go, matchesFilter): istio-validation has failed with its own
// exit code and has not succeeded since.
func redirectionFailed(pod *corev1.Pod) bool {
	for i := range pod.Status.InitContainerStatuses {
		status := &pod.Status.InitContainerStatuses[i]
		if status.Name != validationContainer {
			continue
		}
		if now := status.State.Terminated; now != nil && (now.Reason == "Completed" || now.ExitCode == 0) {
			continue
		}
		if last := status.LastTerminationState.Terminated; last != nil && last.ExitCode == validationFailed {
			return true
		}
	}
	return false
}

func ambientOf(pod *corev1.Pod) Ambient {
	switch pod.Annotations[redirectionAnnotation] {
	case "enabled":
		return AmbientEnabled
	case "pending":
		return AmbientPending
	default:
		return AmbientNone
	}
}

// injectionStatus is what injection writes into the annotation sidecar.istio.io/status
// (pkg/kube/inject/inject.go, SidecarInjectionStatus).
type injectionStatus struct {
	InitContainers []string `json:"initContainers"`
	Containers     []string `json:"containers"`
	Revision       string   `json:"revision"`
}

// readStatus reads the annotation; nothing where it is not what injection writes.
func readStatus(text string) injectionStatus {
	var status injectionStatus
	if json.Unmarshal([]byte(text), &status) != nil {
		return injectionStatus{}
	}
	return status
}

func (s injectionStatus) empty() bool { return len(s.Containers) == 0 && len(s.InitContainers) == 0 }

func (s injectionStatus) lists(name string) bool {
	return slices.Contains(s.InitContainers, name) || slices.Contains(s.Containers, name)
}

// standsIn reports whether every container that is listed exists. Templates may list none.
func (s injectionStatus) standsIn(spec *corev1.PodSpec) bool {
	missing := func(name string) bool {
		return findContainer(spec.Containers, name) == nil && findContainer(spec.InitContainers, name) == nil
	}
	return !slices.ContainsFunc(s.InitContainers, missing) && !slices.ContainsFunc(s.Containers, missing)
}

// revisionOf tells the revision that injected a Pod: the annotation that injection writes since
// Istio 1.18, its status since 1.11, the label that 1.9 and 1.10 wrote (later it is the owner's
// and may name a tag), else the control plane that the proxy was given.
func revisionOf(pod *corev1.Pod, proxy *corev1.Container, text string) string {
	if revision, written := pod.Annotations[RevisionLabel]; written {
		return orDefault(revision)
	}
	status := readStatus(text)
	if status.Revision != "" {
		return status.Revision
	}
	if label := pod.Labels[RevisionLabel]; label != "" && !status.empty() {
		return label
	}
	if proxy == nil {
		return ""
	}
	if revision := revisionOfAddress(envOf(proxy, "CA_ADDR")); revision != "" {
		return revision
	}
	return revisionOfAddress(discoveryAddress(envOf(proxy, "PROXY_CONFIG")))
}

func orDefault(revision string) string {
	if revision == "" {
		return DefaultRevision
	}
	return revision
}

// discoveryAddress reads the control plane's address from a ProxyConfig in JSON.
func discoveryAddress(proxyConfig string) string {
	if proxyConfig == "" {
		return ""
	}
	var content struct {
		DiscoveryAddress string `json:"discoveryAddress"`
	}
	if json.Unmarshal([]byte(proxyConfig), &content) != nil {
		return ""
	}
	return content.DiscoveryAddress
}

// revisionOfAddress reads canary from istiod-canary.istio-system.svc:15012. Empty for addresses
// that are not those of istiod's own service, and for the services of tags.
func revisionOfAddress(address string) string {
	service, _, found := strings.Cut(address, ".")
	if !found {
		return ""
	}
	revision, found := strings.CutPrefix(service, "istiod")
	switch {
	case !found || strings.HasPrefix(revision, "-revision-tag-"):
		return ""
	case revision == "":
		return DefaultRevision
	}
	revision, found = strings.CutPrefix(revision, "-")
	if !found {
		return ""
	}
	return revision
}
