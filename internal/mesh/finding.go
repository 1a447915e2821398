package mesh

import (
	"fmt"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// Judgement is a finding about one Pod, and why.
type Judgement struct {
	Finding v1alpha1.Finding
	Reason  Reason
	Message string
}

// Why a Pod is judged as it is, where the expectation does not say it already.
const (
	// ReasonSidecarMissing: a sidecar is expected and the Pod has none.
	ReasonSidecarMissing Reason = "SidecarMissing"
	// ReasonSidecarSpoofed: a sidecar is expected; the Pod only looks as if it had one.
	ReasonSidecarSpoofed Reason = "SidecarSpoofed"
	// ReasonAmbientInstead: a sidecar is expected and the Pod is in the ambient mesh.
	ReasonAmbientInstead Reason = "AmbientInstead"
	// ReasonCaptureBroken: the sidecar is there and traffic is not sent through it.
	ReasonCaptureBroken Reason = "CaptureBroken"
	// ReasonStaleRevision: the sidecar is of another revision than injection gives now.
	ReasonStaleRevision Reason = "StaleRevision"
	// ReasonStaleImage: the sidecar is of another image than injection gives now.
	ReasonStaleImage Reason = "StaleImage"
	// ReasonInAmbientMesh: no sidecar is expected; the Pod is in the ambient mesh.
	ReasonInAmbientMesh Reason = "InAmbientMesh"
	// ReasonAmbientPending: as InAmbientMesh, but ztunnel has not accepted the Pod, and its
	// traffic goes nowhere.
	ReasonAmbientPending Reason = "AmbientPending"
	// ReasonAmbientNotCaptured: the Pod is labelled for the ambient mesh, and the CNI agent has not
	// captured it. Labels take effect on running Pods, so this does not last where the agent
	// and ztunnel are well.
	ReasonAmbientNotCaptured Reason = "AmbientNotCaptured"
	// ReasonAmbientBlocked: the Pod is labelled for the ambient mesh, and an annotation that only
	// injection should write keeps it out.
	ReasonAmbientBlocked Reason = "AmbientBlocked"
)

// Judge holds what is expected against what is there.
func Judge(expected Expectation, observed Observation) Judgement {
	switch {
	case expected.Inject && observed.Proxy == ProxyNone:
		return judgeUninjected(expected, observed)
	case expected.Inject:
		return judgeInjected(expected, observed)
	case observed.Proxy == ProxyNone:
		return judgeUnexpecting(expected, observed)
	case expected.Reason == ReasonGatewayManaged && observed.Proxy == ProxyGateway, expected.Reason == ReasonSidecarInTemplate:
		return Judgement{v1alpha1.FindingMeshed, expected.Reason, expected.Message}
	default:
		return Judgement{v1alpha1.FindingLeftover, expected.Reason, "The Pod has a sidecar, though a new one would get none. " + expected.Message}
	}
}

// judgeUninjected: a sidecar is expected and there is none.
func judgeUninjected(expected Expectation, observed Observation) Judgement {
	switch {
	case observed.Ambient != AmbientNone:
		return Judgement{v1alpha1.FindingMissing, ReasonAmbientInstead,
			"The Pod is in the ambient mesh and has no sidecar; a new one would get the sidecar instead. " + expected.Message}
	case observed.Spoofed != "":
		return Judgement{v1alpha1.FindingMissing, ReasonSidecarSpoofed,
			"The Pod has no sidecar, though it looks so: " + observed.Spoofed + ". " + expected.Message}
	default:
		return Judgement{v1alpha1.FindingMissing, ReasonSidecarMissing,
			"The Pod was created without a sidecar; a new one would get it. " + expected.Message}
	}
}

// judgeInjected: a sidecar is expected and there is one. Where the Pod does not tell its revision,
// it passes for the expected one: a restart needs a proof.
func judgeInjected(expected Expectation, observed Observation) Judgement {
	switch {
	case observed.Capture == CaptureBroken:
		return Judgement{v1alpha1.FindingMissing, ReasonCaptureBroken,
			"The Pod has a sidecar, but its traffic is not redirected to it: istio-validation failed, or istio-proxy is an init container that " +
				"never ends."}
	case observed.Revision != "" && observed.Revision != expected.Revision:
		return Judgement{v1alpha1.FindingStale, ReasonStaleRevision,
			fmt.Sprintf("The sidecar is of revision %s; a new Pod would get revision %s.", observed.Revision, expected.Revision)}
	case isOtherImage(expected.Image, observed.Image):
		return Judgement{v1alpha1.FindingStale, ReasonStaleImage,
			fmt.Sprintf("The sidecar runs the image %s; a new Pod would get %s.", observed.Image, expected.Image)}
	default:
		return Judgement{v1alpha1.FindingMeshed, expected.Reason, expected.Message}
	}
}

// judgeUnexpecting: no sidecar is expected and there is none.
func judgeUnexpecting(expected Expectation, observed Observation) Judgement {
	switch {
	case observed.Ambient == AmbientEnabled:
		return Judgement{v1alpha1.FindingNotExpected, ReasonInAmbientMesh, "The Pod is in the ambient mesh: Istio's CNI agent has captured it."}
	case observed.Ambient == AmbientPending:
		return Judgement{v1alpha1.FindingNotExpected, ReasonAmbientPending,
			"Istio's CNI agent has redirected the Pod's traffic, but ztunnel on its node has not accepted it, and its traffic goes nowhere; " +
				"look at ztunnel and the CNI agent there."}
	case expected.Ambient && observed.Spoofed != "" && observed.Spoofed != spoofedName:
		return Judgement{v1alpha1.FindingNotExpected, ReasonAmbientBlocked,
			"The CNI agent leaves Pods with the annotation sidecar.istio.io/status out of the ambient mesh, and this one has no sidecar " +
				"either; remove the annotation from the template."}
	case expected.Ambient:
		return Judgement{v1alpha1.FindingNotExpected, ReasonAmbientNotCaptured,
			"The Pod is labelled for the ambient mesh, but Istio's CNI agent has not captured it; where that lasts, look at the agent and at " +
				"ztunnel on its node. A restart does not help."}
	case observed.Spoofed != "":
		return Judgement{v1alpha1.FindingNotExpected, expected.Reason, expected.Message + " Besides, " + observed.Spoofed + "."}
	default:
		return Judgement{v1alpha1.FindingNotExpected, expected.Reason, expected.Message}
	}
}
