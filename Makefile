# Everything runs out of .venv; tests/environment/setup.py makes it, and whatever else is missing.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check benchmark crash canary faults clean setup-demo setup-test setup-check

# A shell's own Compose and Ansible variables would change what the tests see.
unexport COMPOSE_FILE COMPOSE_PROJECT_NAME COMPOSE_ENV_FILES COMPOSE_PROFILES
unexport ANSIBLE_INVENTORY ANSIBLE_VAULT_PASSWORD_FILE ANSIBLE_COLLECTIONS_PATH
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Private: the set-up, a prerequisite, must not run out of the environment that it makes.
demo check test benchmark crash canary faults: private export PATH := $(CURDIR)/.venv/bin:$(PATH)

SETUP = @command -v python3 >/dev/null \
	|| { echo "Set-up stopped: python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }; \
	python3 tests/environment/setup.py

help: ## this list
	@echo "make TARGET, where TARGET is"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup-demo ## rotate a running stack's database password under load, beside the usual procedure
	@python tests/benchmarks/demo.py

check: setup-check ## the quick tests: lint, sanity, units
	@tests/quality/check

test: setup-test ## check, the tests with containers, a part of crash, faults and canary, molecule: 50 minutes
	@python tests/images/images.py --list
	@tests/quality/check
	@tests/quality/artifact
	@PYTHONPATH=$(CURDIR)/build/collections python -m pytest -p no:cacheprovider --numprocesses 2 --dist loadfile tests/integration_docker \
		tests/faults/test_hostile_files.py tests/faults/test_second_owner.py tests/machines/test_hosts.py
	@PYTHONPATH=$(CURDIR)/build/collections python -m pytest -p no:cacheprovider --numprocesses 2 --dist loadfile tests/crash
	@PYTHONPATH=$(CURDIR)/build/collections python -m pytest -p no:cacheprovider tests/canary
	@tests/quality/molecule

benchmark: setup-test ## the figures of docs/benchmarks.md and docs/jwt.md, into build/benchmark
	@python tests/benchmarks/rotation.py
	@PYTHONPATH=$(CURDIR)/build/collections python tests/benchmarks/signing_keys.py

crash: setup-demo ## kill rotations at every point and see them recover, about 4 hours; writes build/crash.json
	@PYTHONPATH=$(CURDIR)/build/collections python tests/crash/crash.py

faults: setup-test ## full disks, cut connections and hosts, second owners, hostile files: what a rotation says and does then
	@test ! -e build/dockerd.json || export CHAT4ALL_MAY_STOP_DOCKER=1; \
		PYTHONPATH=$(CURDIR)/build/collections python -m pytest -p no:cacheprovider tests/faults tests/machines

canary: setup-test ## no channel shows a secret: oldest and newest ansible-core, into build/canary.json
	@python tests/canary/canary.py

clean: ## remove stacks, test images, .venv, build, and the Docker engine if the set-up started it
	$(SETUP) --clean

setup-demo setup-test setup-check: setup-%:
	$(SETUP) --for $*
