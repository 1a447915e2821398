# Fullmesh. `make` alone lists the targets.
#
# Go, GNU make, bash and, for tests, gcc are all that is needed: every other
# tool is a pinned Go module, in hack/tools/go.mod or hack/cluster/go.mod.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The version comes from git by -ldflags; Go's own stamping fails in a checkout
# that another user owns, so it is off. Personal workspaces stay outside.
export GOFLAGS := $(shell go env GOFLAGS) -buildvcs=false
export GOWORK := off

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS ?= -X main.version=$(VERSION)
IMG ?= fullmesh:$(VERSION)
CONTAINER_TOOL ?= docker
KUBECTL ?= $(or $(shell command -v kubectl),bin/kubectl)
CLUSTER ?= embedded
TEST_TIMEOUT ?= 60m
TEST_ARGS ?=
CASES ?= 3000
SEED ?= 1
DURATION ?= 5m
WORKLOADS ?= 200
WORLDS ?= 500

TOOL := go tool -modfile=hack/tools/go.mod
CONTROLLER_GEN := $(TOOL) controller-gen
KUSTOMIZE := $(TOOL) kustomize
CRD_REF_DOCS := $(TOOL) crd-ref-docs
GOLANGCI_LINT := bin/golangci-lint

# golangci-lint remembers findings by content, with the path they were found
# at: a cache shared between checkouts reports files of one that is gone.
export GOLANGCI_LINT_CACHE := $(CURDIR)/bin/golangci-lint-cache

# Tests, vet and lint all look at the -race build: the libraries of Kubernetes
# are then compiled once, not once for each.
RACE := CGO_ENABLED=1 GOFLAGS="$$GOFLAGS -race"

# What generate, manifests and api-docs write to.
GENERATED := api config/crd $(wildcard docs/api.md)

# The test cluster's parts: cluster-binaries, cluster-up, cluster-down.
include hack/cluster/cluster.mk

##@ General

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-zA-Z0-9_-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin

##@ Development

.PHONY: generate
generate: ## Generate the deep copies of the API types.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: manifests
manifests: ## Generate the CustomResourceDefinitions.
	$(CONTROLLER_GEN) crd:omitToolVersion=true paths=./api/... output:crd:dir=config/crd

.PHONY: api-docs
api-docs: ## Generate the API reference, docs/api.md.
	@mkdir -p docs
	$(CRD_REF_DOCS) --log-level=ERROR --source-path=api --config=hack/tools/crd-ref-docs.yaml --renderer=markdown --output-path=docs/api.md

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go code and sort its imports.
	$(GOLANGCI_LINT) fmt ./...

.PHONY: vet
vet: require-gcc ## Run go vet.
	$(RACE) go vet ./...

.PHONY: lint
lint: require-gcc $(GOLANGCI_LINT) ## Run the linters, kube-api-linter and logcheck among them.
	$(RACE) $(GOLANGCI_LINT) run ./...

.PHONY: lint-fix
lint-fix: require-gcc $(GOLANGCI_LINT) ## Run the linters and apply the fixes they suggest.
	$(RACE) $(GOLANGCI_LINT) run --fix ./...

.PHONY: verify
verify: verify-generated verify-format verify-modules vet lint ## Check all that needs no running: generated files, format, modules, vet, lint.

# Compares the files before and after, so that it neither needs git nor minds
# work that is not committed yet.
.PHONY: verify-generated
verify-generated:
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	cp -r --parents $(GENERATED) "$$before"; \
	$(MAKE) --no-print-directory generate manifests $(if $(wildcard docs/api.md),api-docs); \
	fresh=yes; for path in $(GENERATED); do diff -ruN "$$before/$$path" "$$path" || fresh=no; done; \
	[[ $$fresh == yes ]] || { echo 'The generated files were out of date. They are up to date now: commit them.' >&2; exit 1; }

.PHONY: verify-format
verify-format:
	@unformatted=$$(gofmt -s -l .); [[ -z $$unformatted ]] || { \
		echo "Not formatted, run 'make fmt':" >&2; echo "$$unformatted" >&2; exit 1; }

.PHONY: verify-modules
verify-modules:
	go mod tidy -diff

##@ Tests

.PHONY: test
test: require-gcc ## Run every test: unit, property, CEL, integration and e2e, with the race detector.
	@echo 'Building the test cluster and the operator (about 15 minutes the first time), then running every test.'
	@$(MAKE) --no-print-directory cluster-binaries bin/fullmesh-race
	CGO_ENABLED=1 go test -race -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./...
	@$(MAKE) --no-print-directory test-worlds

# Tests outside of test/ that want an API server skip themselves with -short.
.PHONY: test-unit
test-unit: require-gcc ## Run the tests that need no cluster.
	CGO_ENABLED=1 go test -race -short $(TEST_ARGS) $$(go list ./... | grep -v '/test/')

.PHONY: test-e2e
test-e2e: require-gcc ## Run the end-to-end tests on a real cluster with real Istio.
	@echo 'Building the test cluster and the operator (about 15 minutes the first time), then running the end-to-end tests.'
	@$(MAKE) --no-print-directory cluster-binaries bin/fullmesh-race
	CGO_ENABLED=1 go test -race -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./test/e2e/...

# Nothing here runs at the same time as anything else, and without the race detector it is many times faster.
.PHONY: test-worlds
test-worlds: ## Hold what is decided to its promises in thousands of random clusters: WORLDS=500 for each promise, SEED=1.
	CGO_ENABLED=0 go test -count=1 -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./internal/inventory ./internal/restart -rapid.checks=$(WORLDS) -rapid.seed=$(SEED)

.PHONY: test-differential
test-differential: require-gcc ## Hold the evaluator against the API server and Istio: CASES=3000 SEED=1.
	@$(MAKE) --no-print-directory cluster-binaries
	CGO_ENABLED=1 go test -race -count=1 -v -timeout $(TEST_TIMEOUT) ./test/differential -args -cases=$(CASES) -seed=$(SEED)

.PHONY: test-chaos
test-chaos: require-gcc ## Bring a cluster into the mesh while everything breaks: SEED=1 DURATION=5m WORKLOADS=200.
	@$(MAKE) --no-print-directory cluster-binaries bin/fullmesh-race
	CGO_ENABLED=1 go test -race -count=1 -v -timeout 3h ./test/chaos -args -seed=$(SEED) -duration=$(DURATION) -workloads=$(WORKLOADS)

##@ Build

.PHONY: build
build: ## Build bin/fullmesh.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w $(LDFLAGS)' -o bin/fullmesh .

# The operator as the end-to-end tests run it. Go decides what is out of date.
.PHONY: bin/fullmesh-race
bin/fullmesh-race: require-gcc
	CGO_ENABLED=1 go build -race -ldflags '$(LDFLAGS)' -o $@ .

.PHONY: docker-build
docker-build: ## Build the image IMG (default: fullmesh:<version>).
	@command -v $(CONTAINER_TOOL) >/dev/null || { \
		echo '$(CONTAINER_TOOL) is not installed. CONTAINER_TOOL=podman takes another; make build needs none.' >&2; exit 1; }
	$(CONTAINER_TOOL) build --build-arg VERSION=$(VERSION) -t $(IMG) .

##@ Cluster

.PHONY: run
run: ## Run the operator here against the cluster of the current kubeconfig.
	go run -ldflags '$(LDFLAGS)' . manager

.PHONY: demo
demo: $(if $(filter embedded,$(CLUSTER)),cluster-binaries) build ## Show a namespace being healed; CLUSTER=embedded (default) or current.
	go build -o bin/demo ./hack/demo
	CLUSTER=$(CLUSTER) exec bin/demo

.PHONY: install
install: $(filter bin/kubectl,$(KUBECTL)) ## Install the CustomResourceDefinitions into the current cluster.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: uninstall
uninstall: $(filter bin/kubectl,$(KUBECTL)) ## Remove the CustomResourceDefinitions, and every policy and report with them.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: deploy
deploy: $(filter bin/kubectl,$(KUBECTL)) ## Install Fullmesh with the image IMG into the current cluster.
	$(KUSTOMIZE) build config/default | $(SET_IMAGE) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: $(filter bin/kubectl,$(KUBECTL)) ## Remove Fullmesh from the current cluster, with every policy and report.
	$(KUSTOMIZE) build config/default | $(KUBECTL) delete --ignore-not-found -f -

# config/ names the image "fullmesh" wherever it is pulled from.
SET_IMAGE = sed -E 's|(image: )([^ ]*/)?fullmesh(:[^ ]*)?$$|\1$(IMG)|'

# golangci-lint is too large to link for every run. Built once, and again when
# its version changes.
$(GOLANGCI_LINT): hack/tools/go.mod hack/tools/go.sum hack/tools/golangci-lint/main.go
	@echo 'Building golangci-lint with kube-api-linter and logcheck (a few minutes the first time).'
	cd hack/tools && go build -ldflags '-s -w' -o $(CURDIR)/$@ ./golangci-lint

.PHONY: require-gcc
require-gcc:
	@echo '#include <stdlib.h>' | $$(go env CC) -E - >/dev/null 2>&1 || { \
		echo 'The race detector needs a C compiler and its headers. Debian: apt-get install gcc libc6-dev' >&2; exit 1; }
