# KamOtel's commands. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Build servers that stay behind would keep the pipe of a caller open.
export MSBUILDDISABLENODEREUSE := 1
export DOTNET_CLI_TELEMETRY_OPTOUT := 1
export DOTNET_NOLOGO := 1

RUNTIME := $(if $(filter aarch64 arm64,$(shell uname -m)),linux-arm64,linux-x64)

VERSION := $(shell sed -n 's:.*<VersionPrefix>\(.*\)</VersionPrefix>.*:\1:p' Directory.Build.props)

# Folders count too: a file that went away changes its folder.
SOURCES := $(shell find agent bpf \( -name bin -o -name obj \) -prune -o \( -type f -o -type d \) -print 2>/dev/null) \
	Directory.Build.props Directory.Packages.props global.json

.PHONY: help build image image-root man package dashboards chart demo test test-unit test-kernel test-e2e test-kernels pictures corpus bench fuzz format clean setup-build setup-image setup-test setup-bench

help: ## List the commands
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

build: out/kamotel ## Build out/kamotel: one native executable, the BPF object inside

out/kamotel: $(SOURCES) | setup-build
	@echo "Building $@ ($(RUNTIME), native)"
	@dotnet publish agent/KamOtel.Agent -c Release -r $(RUNTIME) -o out/publish -v q
	@install -m 755 out/publish/kamotel $@.new
	@mv -f $@.new $@

image: out/kamotel-image.tar ## Write the container image, for podman, Docker, skopeo: out/kamotel-image.tar

# Equal sources give an equal digest: the only time in it is the latest commit's.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
IMAGE_TOOL := packaging/image/KamOtel.Image/bin/Release/net10.0/KamOtel.Image

out/kamotel-image.tar: out/kamotel $(shell find packaging/image -name '*.cs' -not -path '*/obj/*') | setup-image $(IMAGE_TOOL)
	@$(IMAGE_TOOL) archive out/kamotel $@

image-root: build setup-image $(IMAGE_TOOL) ## Write what is in the image into the empty folder ROOT: for packaging/image/Dockerfile
	@$(IMAGE_TOOL) root out/kamotel "$(ROOT)"

$(IMAGE_TOOL): $(shell find packaging/image -name '*.cs*' -not -path '*/obj/*')
	@dotnet build packaging/image/KamOtel.Image -c Release -v q --nologo -clp:NoSummary
	@touch $@

man: build ## Write the man page and the completions: out/man, out/completions
	@mkdir -p out/man out/completions
	@out/kamotel man > out/man/kamotel.1
	@for shell in bash zsh fish; do out/kamotel completion $$shell > out/completions/kamotel.$$shell; done

package: build ## Make the Debian package and the RPM: out/kamotel*.deb, out/kamotel*.rpm
	@scripts/setup package
	@packaging/deb/build $(ARGS)
	@packaging/rpm/build $(ARGS)

dashboards: setup-build ## Write dashboards and alert rules anew from their source
	@dotnet build dashboards/KamOtel.Dashboards -c Release -v q --nologo -clp:NoSummary
	@dashboards/KamOtel.Dashboards/bin/Release/net10.0/KamOtel.Dashboards .

chart: ## Package the Helm chart: out/kamotel-VERSION.tgz
	@scripts/helm package helm/kamotel --destination out --version $(VERSION) --app-version $(VERSION) | sed 's/.*: //'

demo: build ## Watch a real Kamailio start: ARGS='--with db_mysql', ARGS=--once, ARGS=--help
	@demo/run $(ARGS)

test: build image setup-test ## Run all tests on this kernel: unit, kernel, end to end
	@scripts/run-tests unit kernel e2e $(ARGS)

test-unit: setup-build ## Run the unit and property tests: no root, no BPF
	@scripts/run-tests unit $(ARGS)

test-kernel: setup-build setup-test ## Run the tests of probes and ring against this kernel (root)
	@scripts/run-tests kernel $(ARGS)

test-e2e: build image setup-test ## Run out/kamotel against real servers (root)
	@scripts/run-tests e2e $(ARGS)

test-kernels: build setup-test ## Run a selection of both on Debian's other kernels, in QEMU (root)
	@scripts/setup kernels
	@scripts/run-tests kernels $(ARGS)

pictures: build setup-test ## Take the README's pictures of the status page anew (root)
	@scripts/run-tests e2e -- -class '*.PageTests'
	@for picture in fleet server; do install -D -m 644 out/screenshots/readme-$$picture.png docs/images/$$picture.png; done

corpus: build setup-test ## Record tests/corpus anew from real servers (root)
	@scripts/record-corpus $(ARGS)

bench: build setup-bench ## Measure beside bpftrace and GDB, print a table, write out/bench.json; ARGS='hit ring': parts (root)
	@dotnet build tests/KamOtel.Benchmarks -c Release -v q --nologo -clp:NoSummary
	@tests/KamOtel.Benchmarks/bin/Release/net10.0/KamOtel.Benchmarks $(ARGS)

fuzz: setup-build ## Spoil what the unwinder reads, INPUTS times or for SECONDS
	@dotnet build tests/KamOtel.Fuzz -c Release -v q --nologo -clp:NoSummary
	@tests/KamOtel.Fuzz/bin/Release/net10.0/KamOtel.Fuzz $(or $(INPUTS),10000000) $(or $(SECONDS),1500) $(SEED)

format: ## Put C# and C into the repository's format
	@dotnet format KamOtel.sln --exclude-diagnostics IDE0130
	@clang-format -i $$(find agent bpf tests -name '*.[ch]' -not -name vmlinux.h -not -path '*/obj/*')

clean: ## Remove what was built
	@rm -rf out
	@find agent dashboards packaging tests -type d \( -name bin -o -name obj \) -prune -exec rm -rf {} +

setup-build:
	@scripts/setup build

setup-image:
	@scripts/setup image

setup-test:
	@scripts/setup build test

setup-bench:
	@scripts/setup build bench
