package mesh

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// PeerAuthenticationGroup and PeerAuthenticationKind name Istio's resource that says whether workloads
// take plain traffic.
const (
	PeerAuthenticationGroup = "security.istio.io"
	PeerAuthenticationKind  = "PeerAuthentication"
)

// Modes of mutual TLS, as Istio writes them. What is unset is inherited.
const (
	modeUnset      = "UNSET"
	modePermissive = "PERMISSIVE"
	modeStrict     = "STRICT"
)

// PeerAuthentication is what is kept of one.
type PeerAuthentication struct {
	Meta
	// created is in seconds since 1970.
	created int64
	// revision is the only one whose control plane reads it; empty where all do.
	revision string
	selector map[string]string
	mode     string
	// ports have a mode of their own.
	ports map[string]string
}

// FromPeerAuthentication keeps what is judged. A mode that cannot be read is unset.
func FromPeerAuthentication(object *unstructured.Unstructured) *PeerAuthentication {
	policy := &PeerAuthentication{
		Meta:     MetaOf(object),
		created:  object.GetCreationTimestamp().Unix(),
		revision: object.GetLabels()[RevisionLabel],
	}
	policy.selector, _, _ = unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
	policy.mode, _, _ = unstructured.NestedString(object.Object, "spec", "mtls", "mode")
	ports, _, _ := unstructured.NestedMap(object.Object, "spec", "portLevelMtls")
	for port, mtls := range ports {
		if of, is := mtls.(map[string]any); is {
			mode, _, _ := unstructured.NestedString(of, "mode")
			if policy.ports == nil {
				policy.ports = map[string]string{}
			}
			policy.ports[port] = mode
		}
	}
	return policy
}

// DeepCopyObject implements runtime.Object. A PeerAuthentication is never changed once it is made.
func (p *PeerAuthentication) DeepCopyObject() runtime.Object {
	cut := *p
	return &cut
}

// String names it as people do.
func (p *PeerAuthentication) String() string {
	return PeerAuthenticationKind + " " + p.Namespace + "/" + p.Name
}

// PeerAuthentications are all that there are. They do not change once they are made.
type PeerAuthentications struct {
	// byNamespace has them in the order in which Istio prefers them: the oldest first.
	byNamespace map[string][]*PeerAuthentication
}

// NewPeerAuthentications orders them as Istio does: by creation time, which is in seconds, then by name
// (pilot/pkg/model/config.go, configCompareByCreationTime).
func NewPeerAuthentications(all map[types.NamespacedName]*PeerAuthentication) *PeerAuthentications {
	ordered := &PeerAuthentications{byNamespace: map[string][]*PeerAuthentication{}}
	for _, policy := range slices.SortedFunc(maps.Values(all), func(a, b *PeerAuthentication) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.Name, b.Name))
	}) {
		ordered.byNamespace[policy.Namespace] = append(ordered.byNamespace[policy.Namespace], policy)
	}
	return ordered
}

// MutualTLS is what a workload in the mesh does with plain traffic, and by whose word.
type MutualTLS struct {
	// Strict: it refuses plain traffic, on all ports or on those that are listed.
	Strict bool
	// Ports are those on which it refuses it, where it does not on all, in order.
	Ports []string
	// By is what decides; nil where nothing does and Istio's default holds, which is to take it.
	By *PeerAuthentication
}

// Effective composes what holds for the Pods of a template once a control plane of the revision serves
// them (pilot/pkg/security/authn/policy_applier.go, ComposePeerAuthentication): the policy of the root
// namespace, that of the Pods' namespace and that which selects them, the narrower before the wider; what
// is unset is inherited; of several in the same scope, the oldest. One with a selector in the root
// namespace counts for nothing, not even there. Port levels come from the one that selects the Pods.
func (i *Injector) Effective(policies *PeerAuthentications, revision, namespace string, podLabels map[string]string) MutualTLS {
	root := i.rootNamespace(revision)
	effective, mode := MutualTLS{}, modePermissive
	inherit := func(policy *PeerAuthentication) {
		if policy != nil && policy.mode != "" && policy.mode != modeUnset {
			mode, effective.By = policy.mode, policy
		}
	}
	inherit(i.oldest(policies.byNamespace[root], revision, isForAll))
	if namespace != root {
		inherit(i.oldest(policies.byNamespace[namespace], revision, isForAll))
		own := i.oldest(policies.byNamespace[namespace], revision, func(policy *PeerAuthentication) bool {
			return !isForAll(policy) && labels.SelectorFromSet(policy.selector).Matches(labels.Set(podLabels))
		})
		inherit(own)
		if own != nil && mode != modeStrict {
			effective.refuseOn(own)
		}
	}
	effective.Strict = mode == modeStrict || len(effective.Ports) > 0
	return effective
}

// refuseOn adds the ports on which a policy has plain traffic refused.
func (m *MutualTLS) refuseOn(policy *PeerAuthentication) {
	for port, mode := range policy.ports {
		if mode == modeStrict {
			m.Ports, m.By = append(m.Ports, port), policy
		}
	}
	slices.SortFunc(m.Ports, func(a, b string) int {
		numberA, _ := strconv.Atoi(a)
		numberB, _ := strconv.Atoi(b)
		return cmp.Compare(numberA, numberB)
	})
}

// isForAll reports whether it is for its whole namespace, or the mesh.
func isForAll(policy *PeerAuthentication) bool { return len(policy.selector) == 0 }

// oldest is the first of those in order that fits and that the revision's control plane reads.
func (i *Injector) oldest(ordered []*PeerAuthentication, revision string, fits func(*PeerAuthentication) bool) *PeerAuthentication {
	for _, policy := range ordered {
		if fits(policy) && i.isReadBy(policy, revision) {
			return policy
		}
	}
	return nil
}

// isReadBy reports whether the revision's control plane reads a policy: one with a label istio.io/rev is
// for the control plane of that revision or tag alone.
func (i *Injector) isReadBy(policy *PeerAuthentication, revision string) bool {
	revision = cmp.Or(revision, DefaultRevision)
	return policy.revision == "" || policy.revision == revision || i.asked[policy.revision] == revision
}

// rootNamespace is the one whose policies hold for the whole mesh.
func (i *Injector) rootNamespace(revision string) string {
	return cmp.Or(i.revision(revision).rootNamespace, IstioNamespace)
}

// rootNamespaceOf reads it from a mesh configuration; empty where that does not say.
func rootNamespaceOf(meshConfig string) string {
	var content struct {
		RootNamespace string `json:"rootNamespace"`
	}
	if yaml.Unmarshal([]byte(meshConfig), &content) != nil {
		return ""
	}
	return content.RootNamespace
}
