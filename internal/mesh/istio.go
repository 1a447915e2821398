package mesh

// What Istio calls things. No other package spells these names out.

// IstioNamespace is where Istio is installed unless somebody chooses otherwise.
const IstioNamespace = "istio-system"

// WebhookSuffix is how the names of the injectors' webhooks end.
const WebhookSuffix = "sidecar-injector.istio.io"

// The labels by which namespaces and Pods ask for injection or for the ambient mesh.
const (
	// InjectionLabel on a namespace asks for the default revision, or for nothing.
	InjectionLabel = "istio-injection"
	// RevisionLabel on a namespace or Pod asks for a revision or a tag. Injection writes an
	// annotation of the same name.
	RevisionLabel = "istio.io/rev"
	// InjectLabel on a Pod asks for a sidecar, or for none; in older manifests it is an annotation.
	InjectLabel = "sidecar.istio.io/inject"
	// DataplaneModeLabel on a namespace or Pod asks for the ambient mesh, or for none.
	DataplaneModeLabel = "istio.io/dataplane-mode"

	ambientMode = "ambient"
	noneMode    = "none"
)

const (
	tagLabel = "istio.io/tag"
	// deactivatedLabel is asked of namespaces and Pods by webhooks that were switched off
	// (istioctl/pkg/util/common.go): nothing carries it.
	deactivatedLabel = "istio.io/deactivated"
	managedLabel     = "gateway.istio.io/managed"
	gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"

	// The label by which Istio's charts mark the Pods of a control plane.
	controlPlaneLabel = "app"
	controlPlaneApp   = "istiod"
)

const (
	statusAnnotation         = "sidecar.istio.io/status"
	redirectionAnnotation    = "ambient.istio.io/redirection"
	templatesAnnotation      = "inject.istio.io/templates"
	proxyConfigAnnotation    = "proxy.istio.io/config"
	overridesAnnotation      = "proxy.istio.io/overrides"
	proxyImageAnnotation     = "sidecar.istio.io/proxyImage"
	proxyImageTypeAnnotation = "sidecar.istio.io/proxyImageType"
)

const (
	proxyContainer      = "istio-proxy"
	initContainer       = "istio-init"
	validationContainer = "istio-validation"
	agentgateway        = "agentgateway"
)

const (
	// InjectorConfigMap is how the name of the ConfigMap begins that configures an injector. A
	// revision's name follows it.
	InjectorConfigMap = "istio-sidecar-injector"
	// RootCertificateConfigMap has the mesh's root certificate. Istiod keeps it in every namespace
	// that it serves, and every injected Pod mounts it.
	RootCertificateConfigMap = "istio-ca-root-cert"

	// meshConfigMap configures the mesh; a revision's name follows it.
	meshConfigMap = "istio"
	// cniConfigMap configures Istio's CNI agent.
	cniConfigMap = "istio-cni-config"
)

// Where to look when injection fails in one of these ways.
const (
	HintInjectorSilent      = "look at istiod"
	HintInjectorUnreachable = "look at istiod, its Service and the webhook's caBundle"
	HintInjectorDenied      = "Correct the template's sidecar.istio.io and inject.istio.io annotations."
	HintSidecarResources    = "in Istio's global.proxy.resources"
	HintPodSecurity         = "Install Istio's CNI plugin, which makes that container harmless"
	HintRootCertificate     = "See whether the mesh's discoverySelectors leave the namespace out."
)

// Hint is what most often helps a Pod in the mesh that is in such trouble; empty where nothing is
// known to.
func (t *Trouble) Hint() string {
	if t.Reason != "CrashLoopBackOff" || t.Container == proxyContainer {
		return ""
	}
	return "where it needs the network at once, set holdApplicationUntilProxyStarts: true"
}

// AsksForAmbient reports whether the labels of a namespace and of a Pod in it ask for the ambient
// mesh. The Pod's own label decides where it has one.
func AsksForAmbient(namespaceLabels, podLabels map[string]string) bool {
	own, set := podLabels[DataplaneModeLabel]
	return own == ambientMode || namespaceLabels[DataplaneModeLabel] == ambientMode && (!set || own != noneMode)
}
