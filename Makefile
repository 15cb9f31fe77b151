# Copyright The Warden Authors
# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

# The build depends on nothing around the checkout: no workspace file, no
# personal flags, and no stamp of git's state, which fails in a checkout of
# another user.
export GOWORK := off
export GOFLAGS := -buildvcs=false

TOOL := go tool -modfile=tools/go.mod
OUT := _build
VERSION := $(shell sed -n 's/^  version: //p' builder-config.yaml)

# The directories that hold Go code of ours; _build, which is generated, is not among them.
GO_DIRS := $(wildcard cmd extension internal processor receiver test)
# The end-to-end tests are behind this tag, so that `make test` needs no binary.
TAGS := e2e

# The race detector needs cgo, and cgo a C compiler, which need not be there.
RACE ?= $(shell command -v "$$(go env CC)" >/dev/null && echo -race)

CONFIG ?= config.yaml
RUN ?= .
BENCH ?= .
BENCHTIME ?= 1s

##@ Build and run

.PHONY: build
build: $(OUT)/generated.stamp ## build _build/otelcol-warden and _build/warden
	cd $(OUT) && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o otelcol-warden .
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -X main.version=$(VERSION)' -o $(OUT)/warden ./cmd/warden

# ocb writes the distribution's main package and resolves its modules. Both
# follow from these files alone; whether to compile is for `go build` to decide.
$(OUT)/generated.stamp: builder-config.yaml go.mod tools/go.mod
	$(TOOL) builder --config builder-config.yaml --skip-strict-versioning=false --skip-compilation
	touch $@

.PHONY: run
run: build ## build, and run config.yaml in the foreground (CONFIG=… for another)
	@test/run-foreground ./$(OUT)/otelcol-warden --config $(CONFIG)

##@ Test

.PHONY: test
test: ## unit tests of the whole module, with the race detector where there is a C compiler
	@$(if $(RACE),true,echo 'no C compiler: testing without the race detector')
	go test $(RACE) ./...

.PHONY: test-integration
test-integration: build ## end-to-end tests with the real binary; as root also as an ordinary user
	test/integration $(OUT)

.PHONY: bench
bench: build ## benchmarks of all packages, of the binary, and those against peers (BENCH=regexp BENCHTIME=1s)
	WARDEN_BINARY=$(abspath $(OUT))/otelcol-warden go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...
	for dir in $(dir $(wildcard test/bench/*/go.mod)); do \
		(cd "$$dir" && go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...); \
	done

##@ Check

.PHONY: check
check: check-format check-vet check-generated check-modules check-house ## formatting, vet, staticcheck, generated files, go.mod, house rules

.PHONY: check-format
check-format:
	@files=$$($(TOOL) gofumpt -l $(GO_DIRS)); \
	if [ -n "$$files" ]; then printf 'not formatted, run `make format`:\n%s\n' "$$files" >&2; exit 1; fi

.PHONY: check-vet
check-vet:
	go vet -tags $(TAGS) ./...
	$(TOOL) staticcheck -tags $(TAGS) ./...

.PHONY: check-generated
check-generated:
	test/check-generated

.PHONY: check-modules
check-modules:
	go mod verify
	go mod tidy -diff

.PHONY: check-house
check-house:
	go test ./test/house

.PHONY: format
format: ## format the Go code
	$(TOOL) gofumpt -l -w $(GO_DIRS)

.PHONY: generate
generate: ## write the generated files again
	go generate ./...

##@ Other

.PHONY: clean
clean: ## remove what was built
	rm -rf $(OUT)

.PHONY: help
help: ## print this
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
