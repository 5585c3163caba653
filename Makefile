# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors

# A thin front: Meson builds, the scripts do. `make help` lists what there is.

MESON ?= meson
prefix ?= /usr/local

# Packages of the distribution (pytest and friends) belong to its own interpreter, whatever python3 is first on PATH.
PYTHON ?= /usr/bin/python3
export MESON PYTHON

# Sanitizers find what tests only pass by; without optimisation every frame of a report is a line of the source.
DEVELOPER = --buildtype=debug -Db_sanitize=address,undefined

# Races between threads; it does not go with the other two. Its finds need the frames as well.
THREADS = --buildtype=debug -Db_sanitize=thread

# What users run: -O2 -g, hardened, position independent (the addresses differ in every process).
RELEASE = --buildtype=debugoptimized -Db_sanitize=none -Db_pie=true -Dhardening=true --prefix=$(prefix)

.PHONY: all release check test fleet lint demo bench soak tsan faults fuzz install deb rpm dist lab lab-driver lab-fleet stock hardware-kit setup clean help

all: build/build.ninja ## the developer's build in build/, with sanitizers
	$(MESON) compile -C build

build/build.ninja:
	@scripts/setup --check build
	@scripts/configure build $(DEVELOPER)

release: ## the optimised, hardened build in build-release/
	@scripts/setup --check build
	@scripts/configure build-release $(RELEASE)
	$(MESON) compile -C build-release

check: ## builds, runs the unit tests and each command once: in a minute, without root, installs nothing
	@scripts/setup --check build check
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(MESON) test -C build --no-rebuild --print-errorlogs

test: ## installs what is missing (INSTALL=no: lists it), builds, runs all tests, several at a time (TESTS="...", JOBS=n)
	@scripts/setup build test
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(MAKE) --no-print-directory release # the seccomp filter is not in a build with sanitizers
	@$(PYTHON) scripts/test build $(TESTS)

fleet: ## installs what is missing, builds, tests fleet/ with Prometheus and a browser
	@scripts/setup build test fleet
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@HOLDFAST_BUILD=build $(PYTHON) -B -m pytest tests/fleet

lint: ## formatting, layers, names, lengths, shell, Python, links, addresses, -Werror with gcc and clang
	@scripts/setup build test lint
	@scripts/lint

demo: ## builds, and shows what holding a GPU saves, with no GPU (STOCK=1: NVIDIA's own nvidia-smi beside our daemon)
	@scripts/setup build demo
	@$(MAKE) --no-print-directory release
	@$(if $(STOCK),$(PYTHON) -B scripts/demo-stock,scripts/demo)

bench: ## measures, against limits and PEER=/path/to/nvidia-persistenced or PEER=stock (OPTIONS="--quick ..."; root)
	@scripts/setup build bench
	@$(MAKE) --no-print-directory release
	@PEER=$(PEER) $(PYTHON) bench/run $(OPTIONS)

soak: ## whatever happens on a node, at random, for MINUTES=1 (SEED=n does the same again)
	@scripts/setup build test
	@$(MAKE) --no-print-directory release
	HOLDFAST_BUILD=build-release HOLDFAST_SOAK_MINUTES=$(MINUTES) HOLDFAST_SOAK_SEED=$(SEED) \
		$(PYTHON) -B -m pytest tests/soak

tsan: ## the unit tests, a minute of soak and the tests with most threads at work, under ThreadSanitizer (TESTS="...")
	@scripts/setup build test
	@scripts/configure build-tsan $(THREADS) -Dtests=enabled
	$(MESON) compile -C build-tsan
	@scripts/tsan build-tsan $(TESTS)

faults: ## fails every allocation and every system call once (half an hour); docs/reliability.md gets the result
	@scripts/setup build test
	@$(MAKE) --no-print-directory release
	HOLDFAST_FAULTS=all HOLDFAST_BUILD=build-release $(PYTHON) -B -m pytest tests/system/test_faults.py \
		--junitxml=build-release/faults.xml
	@scripts/reliability-table --faults build-release/faults.xml

fuzz: ## runs each fuzz target for SECONDS=60 (clang); scripts/fuzz has more to choose
	@scripts/fuzz all $(SECONDS)

install: release ## installs the release build: make install DESTDIR=/staging prefix=/usr
	$(if $(DESTDIR),DESTDIR=$(abspath $(DESTDIR)) )$(MESON) install --no-rebuild -C build-release

deb: ## installs what is missing, builds the Debian packages into dist/deb/, and has lintian look at them (CI=1: an error if it complains)
	@scripts/setup build deb
	@scripts/deb

rpm: ## the same for RPM packages, into dist/rpm/
	@scripts/setup build rpm
	@scripts/rpm

dist: ## from a clean tree: source archive, packages, SBOM, release notes, checksums, in dist/release/ (TAG=yes: tags it)
	@scripts/setup build deb rpm dist
	@$(MAKE) --no-print-directory release
	@TAG=$(TAG) scripts/dist

lab: ## nodes with a real systemd, packages, a virtual machine: installs what is missing, builds, runs tests/lab
	@scripts/lab $(TESTS)

lab-fleet: ## the same for several nodes: Ansible, Slurm, Prometheus on them; runs tests/lab/fleet
	@scripts/setup lab-fleet
	@scripts/lab $(or $(TESTS),tests/lab/fleet)

lab-driver: ## NVIDIA's own kernel driver in a virtual machine, on fake GPUs; runs tests/driver (BRANCH=550: that one)
	@scripts/lab-driver $(if $(BRANCH),--branch $(BRANCH)) $(TESTS)

stock: ## NVIDIA's own nvidia-smi, NVML and daemon on the simulated driver (BRANCH=550: that branch of the driver; TESTS="...")
	@scripts/setup build test
	@scripts/configure build $(DEVELOPER) -Dtests=enabled
	$(MESON) compile -C build
	@$(if $(BRANCH),BRANCH=$(BRANCH)) scripts/stock $(TESTS)

hardware-kit: ## packs dist/holdfast-hardware-kit.tar.gz, to be tried on a machine with a GPU (docs/hardware.md)
	@scripts/setup build kit
	@scripts/hardware-kit

setup: ## installs whatever any of the above needs
	@scripts/setup build test lint deb demo fleet lab lab-driver lab-fleet rpm dist bench kit

clean: ## removes every build directory
	rm -rf dist build build-release build-tsan build-kit build-lab build-lint-gcc build-lint-clang build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
