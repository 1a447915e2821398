# The test cluster: its programs, and starting and stopping one by hand.
# The Makefile includes this file; package test/cluster says what a cluster
# consists of.

CLUSTER_DIR := bin/cluster

# Clients and istiod refuse an API server that reports no version, so what the
# release scripts of Kubernetes stamp is stamped here too.
CLUSTER_KUBERNETES := $(shell sed -n 's|^[[:space:]]*k8s.io/kubernetes \(v[^ ]*\).*|\1|p' hack/cluster/go.mod)
CLUSTER_MINOR := $(word 2,$(subst ., ,$(CLUSTER_KUBERNETES)))
CLUSTER_LDFLAGS := -s -w $(foreach pkg,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
	-X $(pkg).gitVersion=$(CLUSTER_KUBERNETES) -X $(pkg).gitMajor=1 -X $(pkg).gitMinor=$(CLUSTER_MINOR))

# Programs that KUBEBUILDER_ASSETS brings are used from there and not built.
CLUSTER_ASSETS = $(if $(KUBEBUILDER_ASSETS),$(notdir $(wildcard $(addprefix $(KUBEBUILDER_ASSETS)/,\
	etcd kube-apiserver kube-controller-manager kube-scheduler kubectl))))
CLUSTER_PROGRAMS := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok pilot-discovery istioctl \
	rollouts-controller

# $(1) program, $(2) package, $(3) how long it takes cold.
# The times were taken in the order above, downloads apart: what the programs
# share is compiled with the first that needs it.
define cluster-program
bin/$(1): hack/cluster/go.mod hack/cluster/go.sum
	@echo "Building $$@ from $(2): about $(3) on two cores with a cold build cache"
	@CGO_ENABLED=0 go build -C hack/cluster -ldflags '$$(CLUSTER_LDFLAGS)' -o '$$(CURDIR)/$$@' $(2)
	@touch $$@
endef
$(eval $(call cluster-program,etcd,go.etcd.io/etcd/server/v3,1 minute))
$(eval $(call cluster-program,kube-apiserver,k8s.io/kubernetes/cmd/kube-apiserver,5 minutes))
$(eval $(call cluster-program,kube-controller-manager,k8s.io/kubernetes/cmd/kube-controller-manager,1 minute))
$(eval $(call cluster-program,kube-scheduler,k8s.io/kubernetes/cmd/kube-scheduler,20 seconds))
$(eval $(call cluster-program,kubectl,k8s.io/kubernetes/cmd/kubectl,20 seconds))
$(eval $(call cluster-program,kwok,sigs.k8s.io/kwok/cmd/kwok,20 seconds))
$(eval $(call cluster-program,pilot-discovery,istio.io/istio/pilot/cmd/pilot-discovery,4 minutes))
$(eval $(call cluster-program,istioctl,istio.io/istio/istioctl/cmd/istioctl,40 seconds))

# Argo Rollouts' controller and, beside it, the definitions of its module.
bin/rollouts-controller: hack/cluster/rollouts/go.mod hack/cluster/rollouts/go.sum
	@echo "Building $@ from github.com/argoproj/argo-rollouts/cmd/rollouts-controller: about 5 minutes on two cores with a cold build cache"
	@CGO_ENABLED=0 go build -C hack/cluster/rollouts -ldflags '-s -w' -o '$(CURDIR)/$@' github.com/argoproj/argo-rollouts/cmd/rollouts-controller
	@for crd in "$$(go list -C hack/cluster/rollouts -m -f '{{.Dir}}' github.com/argoproj/argo-rollouts)"/manifests/crds/*-crd.yaml; do \
		echo ---; cat "$$crd"; done > bin/rollouts-crds.yaml
	@touch $@

.PHONY: cluster-binaries
cluster-binaries: $(addprefix bin/,$(filter-out $(CLUSTER_ASSETS),$(CLUSTER_PROGRAMS))) ## Build what is missing of the test cluster's programs into bin/.

.PHONY: bin/testcluster
bin/testcluster:
	@go build -o $@ ./hack/testcluster

.PHONY: cluster-up
cluster-up: cluster-binaries bin/testcluster ## Start a cluster with Istio on loopback and write bin/cluster/kubeconfig.
	@bin/testcluster up --dir $(CLUSTER_DIR)

.PHONY: cluster-down
cluster-down: bin/testcluster ## Stop the cluster that cluster-up started.
	@bin/testcluster down --dir $(CLUSTER_DIR)
