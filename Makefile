# The commands of the repository. `make help` lists them. Nothing here needs Docker or a cluster; `make test-kube` alone
# needs Go, and root or user namespaces.
#
# Virtual environments: .venv is for development (pure Python, editable, so an edited source is what runs);
# .venv-run, .venv-compiled and .venv-bench hold the product as users get it (compiled where there is a C compiler,
# not editable, because a compiled module beside an edited source would hide the edit).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PIP_FLAGS := --quiet --disable-pip-version-check
SOURCES := $(shell find ingressd -name '*.py' -o -name '*.pxd') setup.py pyproject.toml README.md
UV := uv==0.13.9
COMPILE_LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" .venv-lock/bin/uv pip compile --quiet --upgrade \
	--generate-hashes --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help run test test-kube scan-tls check format audit bench bench-quick bench-control bench-abuse bench-security compiled lock clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: .venv-run/.installed  ## start ingressd from examples/ with small demo upstreams; prints curl lines that work
	@exec .venv-run/bin/python examples/demo.py

test: $(VENV)/.installed  ## all tests; those that start real processes at the end
	$(VENV)/bin/pytest -n 2 -m "not process and not kube"
	$(VENV)/bin/pytest -n 2 -m process

test-kube: $(VENV)/.installed  ## tests in a real Kubernetes (API server, etcd, controllers), built once from Go modules
	$(VENV)/bin/python tests/kube/build.py
	PYTHONPATH=tests $(VENV)/bin/python -m kube inside -- $(VENV)/bin/pytest -m kube

scan-tls: $(VENV)/.installed  ## what sslscan and testssl.sh say: no finding of medium severity or above (three minutes)
	PYTHONPATH=tests $(VENV)/bin/python -m tls_scan

check: $(VENV)/.installed  ## format, lint, types, import law, fast tests: under a minute
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest -n 2 -m "not process and not slow and not kube"

format: $(VENV)/.installed  ## rewrite the sources in the one format, and fix what ruff can fix
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

compiled: .venv-compiled/.installed  ## the same tests on the compiled build
	.venv-compiled/bin/ingressd version
	.venv-compiled/bin/pytest -n 2 -m "not process and not kube"
	.venv-compiled/bin/pytest -n 2 -m process

audit: .venv-audit/.installed  ## known vulnerabilities of the pinned dependencies; says so when nobody can be asked
	.venv-audit/bin/python requirements/audit.py

bench: .venv-bench/.installed  ## CPU, latency and memory beside nginx, haproxy, caddy, envoy and a plain aiohttp proxy
	.venv-bench/bin/python -m loadtest --ingressd .venv-bench/bin/ingressd

bench-quick: .venv-bench/.installed  ## half a minute: nginx beside ingressd, the usual small exchange
	.venv-bench/bin/python -m loadtest.quick --ingressd .venv-bench/bin/ingressd

bench-control: .venv-bench/.installed  ## speed of change among 10,000 Ingresses: five minutes
	.venv-bench/bin/python -m loadtest.control --ingressd .venv-bench/bin/ingressd

bench-abuse: .venv-bench/.installed  ## slow clients, no descriptors, killed workers, new certificates: five minutes
	.venv-bench/bin/python -m loadtest.abuse --ingressd .venv-bench/bin/ingressd

bench-security: $(VENV)/.installed  ## hostile bytes beside nginx and HAProxy, side by side: three minutes
	PYTHONPATH=tests $(VENV)/bin/python -m cases.compare

lock:  ## pin every dependency again, with hashes
	test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install $(PIP_FLAGS) $(UV); }
	$(COMPILE_LOCK) requirements/build.in -o requirements/build.lock
	$(COMPILE_LOCK) pyproject.toml -o requirements/run.lock
	$(COMPILE_LOCK) --extra dev pyproject.toml requirements/build.in -o requirements/dev.lock
	$(COMPILE_LOCK) --extra bench pyproject.toml requirements/build.in -o requirements/bench.lock
	$(COMPILE_LOCK) requirements/audit.in -o requirements/audit.lock

clean:  ## remove what the other commands made
	rm -rf .venv .venv-run .venv-compiled .venv-bench .venv-audit .venv-lock build .cache *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# --- virtual environments ---------------------------------------------------------------------------------------------

# $(1) environment, $(2) lock files
define make-venv
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ingressd needs Python 3.11 or newer")'
	$(1)/bin/pip install $(PIP_FLAGS) --require-hashes $(foreach lock,$(2),-r requirements/$(lock).lock)
endef

# build/lib would otherwise keep modules that no longer exist.
define install-product
	rm -rf build/lib*
	$(1)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation --force-reinstall .
	touch $@
endef

$(VENV)/.installed: requirements/dev.lock pyproject.toml setup.py
	@echo "setting up $(VENV) (once; takes about half a minute)"
	$(call make-venv,$(VENV),dev)
	INGRESSD_PURE=1 $(VENV)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	touch $@

.venv-run/.installed: requirements/run.lock requirements/build.lock $(SOURCES)
	@echo "setting up .venv-run (again only when sources change; the first time takes about a minute)"
	$(call make-venv,.venv-run,run build)
	$(call install-product,.venv-run)

.venv-compiled/.installed: requirements/dev.lock $(SOURCES)
	$(call make-venv,.venv-compiled,dev)
	$(call install-product,.venv-compiled)

.venv-audit/.installed: requirements/audit.lock
	$(call make-venv,.venv-audit,audit)
	touch $@

.venv-bench/.installed: requirements/bench.lock $(SOURCES)
	$(call make-venv,.venv-bench,bench)
	$(call install-product,.venv-bench)
