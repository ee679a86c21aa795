# `make help` lists the targets. Tools and libraries are installed into .venv, from lock files with hashes.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SHELL_SCRIPTS := .ci/run bench/peer/serviceswitch $(addprefix packaging/,account archives check-python deb deliver history install place-rule rpm same-bytes \
	sbom serviceswitch stage uninstall version) \
	$(addprefix packaging/debian/,postinst postrm preinst prerm)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

# Tests start many processes, and byte code makes that faster.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

.PHONY: venv
venv: .venv/.runtime ## create .venv with the locked packages and the checkout itself

.venv/.runtime: requirements/runtime.lock requirements/build.lock pyproject.toml
	packaging/check-python "$(PYTHON)" >/dev/null
	$(PYTHON) -m venv .venv
	$(PIP) install --no-compile --require-hashes -r requirements/runtime.lock -r requirements/build.lock # most of it is never imported
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

.venv/.dev: .venv/.runtime requirements/dev.lock
	$(PIP) install --no-compile --require-hashes -r requirements/dev.lock
	touch $@

# Only variables of the command line: many environments have a PORT for something else.
option = $(if $(filter command line,$(origin $(1))),$(2) $($(1)))
.PHONY: demo
demo: venv ## run a bridge with simulated units, on PORT and ADDRESS if given
	$(BIN)/hkswitch demo $(call option,PORT,--port) $(call option,ADDRESS,--address)

# Fuzzing, kills and floods find more with more time, and have targets of their own.
RANDOM_TESTS := tests/protocol/test_fuzz.py tests/cli/test_fuzz.py tests/homebridge/test_anything.py \
	tests/homebridge/test_as_shells_do.py tests/homebridge/test_damaged_folder.py \
	tests/model/test_any_config.py \
	tests/hap/test_fuzz.py tests/hap/test_kill.py tests/hap/test_flood.py \
	tests/hap/test_event_order.py tests/hap/test_iid_history.py tests/daemon/test_reload_interleavings.py
LONG_TESTS := $(RANDOM_TESTS) tests/backend/test_helper_storm.py
PEER_TESTS := tests/peer/test_against_reference.py tests/peer/test_other_controllers.py tests/peer/test_take_over.py \
	tests/peer/test_take_over_on_host.py tests/peer/test_import_on_host.py
TEST := $(BIN)/python -m pytest --ignore tests/host --ignore tests/packaging \
	$(patsubst %,--ignore %,$(LONG_TESTS) $(PEER_TESTS)) \
	--numprocesses 4 --dist loadfile --no-loadscope-reorder
.PHONY: test
test: .venv/.dev ## run the linters, and the tests that need no root and no build
	$(MAKE) --no-print-directory --jobs 2 lint tests-beside-lint

.PHONY: tests-beside-lint
tests-beside-lint: .venv/.collected
	$(TEST)

# Parallel workers would each write the byte code of every test. A failure here shows up again in TEST.
.venv/.collected: .venv/.dev
	$(TEST) --numprocesses 0 --collect-only --quiet >/dev/null || true
	touch $@

# A new user's machine skips tests in these files, as they need root, mandoc or openssh-server (tests/host/test_fresh.py compares), or
# a part of a test that needs root or nft.
ROOT_TESTS := $(addprefix tests/cli/test_,alerts.py backup.py children.py man.py other_folders.py pair.py take_over.py) \
	tests/cli/test_other_host.py tests/doctor/test_hosts.py tests/remote/test_granted.py tests/remote/test_loopback.py \
	$(addprefix tests/hap/test_,guesses_on_a_full_disk.py hostile_state.py retyped_on_tmpfs.py sockets.py \
	stored_pairings.py tmpfs.py) \
	tests/control/test_control.py tests/control/test_hostile.py tests/daemon/test_moves.py tests/doctor/test_hidden.py \
	tests/editing/test_config_replacement.py tests/serviceswitch/test_interpreters.py tests/test_docs.py
.PHONY: test-as-root
test-as-root: .venv/.dev ## as root: run the test files of which `make test` skips a part for users
	$(BIN)/python -m pytest $(ROOT_TESTS) --numprocesses 3 --dist loadfile

.PHONY: test-random
test-random: .venv/.dev ## run fuzzing, kills and floods for half a minute
	$(BIN)/python -m pytest $(RANDOM_TESTS) --numprocesses 3 --dist loadfile

.PHONY: test-peer
test-peer: .venv/.dev ## compare hkswitch with HAP-NodeJS in scenarios, and try two more controllers
	$(BIN)/python -m pytest $(PEER_TESTS)

.PHONY: test-packages
test-packages: .venv/.dev ## build the packages and test them
	$(BIN)/python -m pytest tests/packaging

TEST_HOST := $(BIN)/python -m pytest tests/host -p tests.host.scheduling --numprocesses 5 --dist loadscope --no-loadscope-reorder

.PHONY: test-host
test-host: .venv/.dev ## as root: run each host test at most once, like CI
	$(TEST_HOST) -m ci

.PHONY: test-host-all
test-host-all: .venv/.dev ## as root: run all host tests on both Debian releases, with both helper transports
	$(TEST_HOST) -m host

# HELPER is sudo or socket, SEED any number.
MINUTES := 20
SEED := 2026
HELPER := sudo
.PHONY: soak
soak: .venv/.dev ## as root: run random operations on a real host for MINUTES, and compare all views
	SOAK_MINUTES=$(MINUTES) SOAK_SEED=$(SEED) $(BIN)/python -m pytest tests/host/test_soak.py -k 'trixie and $(HELPER)'

# With SEED, it replays one seed and prints the whole trace of events.
SECONDS_OF_SEEDS := 60
.PHONY: simulate
simulate: .venv/.dev ## simulate worlds from new seeds for SECONDS_OF_SEEDS, or the world of SEED
	$(BIN)/python -m tests.world $(if $(filter command line,$(origin SEED)),--seed $(SEED),--seconds $(SECONDS_OF_SEEDS))

.PHONY: test-long
test-long: .venv/.dev ## run long fuzzing, kills and floods and, as root, make system calls fail
	$(TEST) --real-starts
	$(BIN)/python -m pytest --long $(LONG_TESTS) tests/containers/test_answers.py tests/containers/test_shuffled.py \
		tests/daemon/test_hostile_messages.py tests/daemon/test_lying_host.py tests/model/test_restart_rule.py \
		tests/packaging/test_reproducible.py
	$(BIN)/python -m pytest --long -m ci tests/host/test_system_calls.py tests/host/test_hostile_network.py \
		tests/host/test_idle.py tests/host/test_container_changes.py tests/host/test_engines_away.py

.PHONY: bench
bench: .venv/.dev ## as root: compare with systemd alone and with Homebridge, and update docs/benchmarks.md
	$(BIN)/python -m bench

.PHONY: bench-targets
bench-targets: .venv/.dev ## as root: measure what has a target again, and show this run beside the last ones
	$(BIN)/python -m bench --targets

.PHONY: bench-quick
bench-quick: .venv/.dev ## as root: compare with systemd alone, and print the results in about a minute
	$(BIN)/python -m bench --quick

.PHONY: bench-hosts
bench-hosts: .venv/.dev ## as root: measure a bridge with fifty other hosts, and update docs/benchmarks.md
	$(BIN)/python -m bench --hosts

.PHONY: picture
picture: .venv/.dev ## draw docs/picture.svg again, in a network namespace
	$(BIN)/python -m docs.picture

.PHONY: reference
reference: venv ## write config.example.yaml and its manual page from the table of keys
	$(BIN)/python -m docs.config_reference

# Builds are reproducible: see packaging/same-bytes and docs/releasing.md.
.PHONY: dist
dist: venv ## build an sdist and a wheel into dist/
	mkdir -p dist
	PYTHON="$(BIN)/python" packaging/archives dist

.PHONY: deb
deb: ## build dist/hkswitch_*.deb for this release of Debian
	mkdir -p dist
	packaging/deb dist

.PHONY: rpm
rpm: ## build dist/hkswitch-*.rpm for this release of Fedora
	mkdir -p dist
	packaging/rpm dist

.PHONY: sbom
sbom: .venv/.dev ## write dist/hkswitch-*.cdx.json, the CycloneDX list of bundled packages
	mkdir -p dist
	CYCLONEDX="$(BIN)/cyclonedx-py" packaging/sbom dist

# After the signature, which docs/releasing.md describes.
.PHONY: release-page
release-page: venv ## write dist/RELEASE.md: the files of a release, their checksums and the changes
	$(BIN)/python -m release.page

# Both take PREFIX and DESTDIR; install also takes PYTHON and STAGED. packaging/install describes them.
.PHONY: install
install: ## as root: install hkswitch
	packaging/install

.PHONY: uninstall
uninstall: ## as root: remove what `make install` installed
	packaging/uninstall

# .pre-commit-config.yaml has the same linters.
.PHONY: lint
lint: .venv/.dev ## run ruff, mypy and shellcheck
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	@$(MAKE) --no-print-directory shellcheck

.PHONY: shellcheck
shellcheck: .venv/.dev
	$(BIN)/shellcheck --external-sources $(SHELL_SCRIPTS)

.PHONY: format
format: .venv/.dev ## format the code and apply fixes
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet

.PHONY: lock
lock: .venv/.dev ## update the lock files from pyproject.toml
	$(LOCK) --upgrade pyproject.toml --output-file requirements/runtime.lock
	$(LOCK) --upgrade --group build --output-file requirements/build.lock
	$(LOCK) --upgrade pyproject.toml --group dev -c requirements/runtime.lock -c requirements/build.lock \
		--output-file requirements/dev.lock
	$(LOCK) --upgrade tests/peer/homekit.in --output-file tests/peer/homekit.lock

.PHONY: outdated
outdated: .venv/.dev ## list outdated pins; fail if one has no reason in requirements/held.toml
	@$(BIN)/python -m release.outdated

.PHONY: clean
clean: ## remove everything that make created, test hosts included
	rm -rf .venv .cache dist .mypy_cache .pytest_cache .ruff_cache
