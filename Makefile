# Everything a developer calls. Needs git, make and Python 3.11 or later; what else it needs
# comes from PyPI into .uv/, .venv/ and .demo/.

PYTHON ?= python3
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
BIN := .venv/bin
# Tests start hundreds of Pythons, Meltano's and dlt's among them: each would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE
# For scripts/generate-protos, which calls uv.
export PATH := $(CURDIR)/.uv/bin:$(PATH)

SCRIPTS := scripts/demo scripts/generate-docs scripts/check-release

.PHONY: help install test test-quick check lint types generated site demo release-check publish clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 15

install: $(filter .uv/bin/uv,$(UV)) ## the locked packages and tap-vitess itself, into .venv/
	$(UV) sync --locked --quiet

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or later is needed; name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.*'

test: install check ## check, then all tests; those against a real Vitess when there is one
	$(BIN)/pytest tests/cluster
	$(BIN)/pytest --ignore tests/cluster -n 3 --dist loadfile

test-quick: install ## all other tests than those marked `environments`, `slow`, `fuzz` and `cluster`
	$(BIN)/pytest --ignore tests/cluster -m 'not environments and not slow and not fuzz' -n 3 --dist loadfile

check: lint types generated site ## lint, format, types, the site, and whether generated files are current

lint: install
	$(BIN)/ruff check . $(SCRIPTS)
	$(BIN)/ruff format --check . $(SCRIPTS)

types: install
	$(BIN)/mypy
	$(BIN)/mypy --scripts-are-modules $(SCRIPTS)

generated: install
	scripts/generate-protos --check
	$(BIN)/python scripts/generate-docs --check

site: $(filter .uv/bin/uv,$(UV)) ## the documentation as a site, into site/; what MkDocs warns of is an error
	UV_PROJECT_ENVIRONMENT=.venv-docs $(UV) sync --locked --quiet --only-group docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

demo: install ## copy and follow a simulated Vitess into target-jsonl (about half a minute)
	$(BIN)/python scripts/demo

release-check: install ## build into dist/ what is released, and check it (half a minute)
	$(BIN)/python scripts/check-release $(if $(TAG),--tag '$(TAG)')

publish: install ## upload what `make release-check` has left in dist/
	$(UV) publish dist/*.tar.gz dist/*.whl

clean: ## remove all that the other targets made
	rm -rf .uv .venv .venv-docs .demo dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
