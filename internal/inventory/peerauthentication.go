package inventory

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fullmesh/fullmesh/internal/mesh"
)

// SetPeerAuthentication takes in a PeerAuthentication.
func (i *Inventory) SetPeerAuthentication(policy *mesh.PeerAuthentication) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.peers[types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}] = policy
	i.ordered = nil
}

// DeletePeerAuthentication forgets a PeerAuthentication.
func (i *Inventory) DeletePeerAuthentication(policy *mesh.PeerAuthentication) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.peers, types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name})
	i.ordered = nil
}

func (i *Inventory) peerAuthentications() *mesh.PeerAuthentications {
	if i.ordered == nil {
		i.ordered = mesh.NewPeerAuthentications(i.peers)
	}
	return i.ordered
}
