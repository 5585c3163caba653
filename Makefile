# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors

# Short names for Meson and the scripts, which do the work. `make help` lists the targets.

MESON ?= meson
prefix ?= /usr/local

# The distribution's packages (pytest and others) work only with its own interpreter, not with another python3 on PATH.
PYTHON ?= /usr/bin/python3
export MESON PYTHON

# Sanitizers find errors that tests alone would miss. Without optimisation, each frame of a report is a line of the
# source.
DEVELOPER = --buildtype=debug -Db_sanitize=address,undefined

# Finds races between threads. It cannot be combined with the other two sanitizers, and also needs frame pointers.
THREADS = --buildtype=debug -Db_sanitize=thread

# The build that users run: -O2 -g, hardened, position independent (so addresses differ in each process).
RELEASE = --buildtype=debugoptimized -Db_sanitize=none -Db_pie=true -Dhardening=true --prefix=$(prefix)

.PHONY: all release check test fleet lint demo bench soak tsan faults fuzz install deb rpm dist lab lab-driver lab-fleet stock hardware-kit setup clean help

all: build/build.ninja ## builds the developer's build in build/, with sanitizers
	$(MESON) compile -C build

build/build.ninja:
	@scripts/setup --check build
	@scripts/configure build $(DEVELOPER)

release: ## builds the optimised, hardened release build in build-release/
	@scripts/setup --check build
	@scripts/configure build-release $(RELEASE)
	$(MESON) compile -C build-release

check: ## builds, runs the unit tests and each command once: takes a minute, needs no root, installs nothing
	@scripts/setup --check build check
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(MESON) test -C build --no-rebuild --print-errorlogs

test: ## installs missing packages (INSTALL=no: only lists them), builds, runs all tests in parallel (TESTS="...", JOBS=n)
	@scripts/setup build test
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(MAKE) --no-print-directory release # the seccomp filter is not in a build with sanitizers
	@$(PYTHON) scripts/test build $(TESTS)

fleet: ## installs missing packages, builds, tests fleet/ with Prometheus and a browser
	@scripts/setup build test fleet
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@HOLDFAST_BUILD=build $(PYTHON) -B -m pytest tests/fleet

lint: ## checks formatting, layers, names, lengths, shell, Python, links, addresses; compiles with -Werror (gcc, clang)
	@scripts/setup build test lint
	@scripts/lint

demo: ## builds, and shows on simulated GPUs how much time holding saves (STOCK=1: NVIDIA's own nvidia-smi with our daemon)
	@scripts/setup build demo
	@$(MAKE) --no-print-directory release
	@$(if $(STOCK),$(PYTHON) -B scripts/demo-stock,scripts/demo)

bench: ## measures the daemon and the command, compares the results with limits and PEER=/path/to/nvidia-persistenced or PEER=stock (OPTIONS="--quick ..."; as root)
	@scripts/setup build bench
	@$(MAKE) --no-print-directory release
	@PEER=$(PEER) $(PYTHON) bench/run $(OPTIONS)

soak: ## runs random events of a node's life for MINUTES=1 (SEED=n repeats a run)
	@scripts/setup build test
	@$(MAKE) --no-print-directory release
	HOLDFAST_BUILD=build-release HOLDFAST_SOAK_MINUTES=$(MINUTES) HOLDFAST_SOAK_SEED=$(SEED) \
		$(PYTHON) -B -m pytest tests/soak

tsan: ## runs the unit tests, a minute of soak and the tests with most threads under ThreadSanitizer (TESTS="...")
	@scripts/setup build test
	@scripts/configure build-tsan $(THREADS) -Dtests=enabled
	$(MESON) compile -C build-tsan
	@scripts/tsan build-tsan $(TESTS)

faults: ## makes each allocation and system call fail once (half an hour); writes the result to docs/reliability.md
	@scripts/setup build test
	@$(MAKE) --no-print-directory release
	HOLDFAST_FAULTS=all HOLDFAST_BUILD=build-release $(PYTHON) -B -m pytest tests/system/test_faults.py \
		--junitxml=build-release/faults.xml
	@scripts/reliability-table --faults build-release/faults.xml

fuzz: ## runs each fuzz target for SECONDS=60 (clang); scripts/fuzz has more options
	@scripts/fuzz all $(SECONDS)

install: release ## installs the release build: make install DESTDIR=/staging prefix=/usr
	$(if $(DESTDIR),DESTDIR=$(abspath $(DESTDIR)) )$(MESON) install --no-rebuild -C build-release

deb: ## installs missing packages, builds the Debian packages into dist/deb/, checks them with lintian (CI=1: complaints are errors)
	@scripts/setup build deb
	@scripts/deb

rpm: ## builds the RPM packages into dist/rpm/
	@scripts/setup build rpm
	@scripts/rpm

dist: ## builds a release in dist/release/ from a clean tree: source archive, packages, SBOM, notes, checksums (TAG=yes: tags it)
	@scripts/setup build deb rpm dist
	@$(MAKE) --no-print-directory release
	@TAG=$(TAG) scripts/dist

lab: ## installs missing packages, builds, runs tests/lab: nodes with a real systemd, packages, a virtual machine
	@scripts/lab $(TESTS)

lab-fleet: ## does the same with tests/lab/fleet: several nodes with Ansible, Prometheus
	@scripts/setup lab-fleet
	@scripts/lab $(or $(TESTS),tests/lab/fleet)

lab-driver: ## runs tests/driver with NVIDIA's own kernel driver on fake GPUs in a virtual machine (BRANCH=550: only that branch)
	@scripts/lab-driver $(if $(BRANCH),--branch $(BRANCH)) $(TESTS)

stock: ## runs NVIDIA's own nvidia-smi, NVML and daemon on the simulated driver (BRANCH=550: only that branch; TESTS="...")
	@scripts/setup build test
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(if $(BRANCH),BRANCH=$(BRANCH)) scripts/stock $(TESTS)

hardware-kit: ## packs dist/holdfast-hardware-kit.tar.gz, to test a machine with a GPU (docs/hardware.md)
	@scripts/setup build kit
	@scripts/hardware-kit

setup: ## installs the packages that all targets need
	@scripts/setup build test lint deb demo fleet lab lab-driver lab-fleet rpm dist bench kit

clean: ## removes all build directories
	rm -rf dist build build-release build-tsan build-kit build-lab build-lint-gcc build-lint-clang build-fuzz

help: ## prints this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
