# Every target sets itself up: a virtualenv in .venv and what pip brings, nothing else.
# make PYTHON=/path/to/python3 chooses the interpreter, make VENV=folder another place.

VENV ?= .venv
PYTHON ?=
# Extra arguments for pytest: make test ARGS='-k resume -x'
ARGS ?=
JOBS ?= 2
# Of each three tests one waits; and who is done takes over what others have left, or the last would be alone.
ABREAST := -n $(shell expr $(JOBS) + $(JOBS) / 2) --dist worksteal

PY := $(VENV)/bin/python

.PHONY: help venv demo-venv lint test test-real promises demo soak bench sample clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       watch images arrive intact over connections that break"
	@echo "make test       lint, types and every test that needs no outside server"
	@echo "make test-real  the tests against real servers (installs them by apt and pip where it may)"
	@echo "make lint       ruff, import-linter, mypy --strict"
	@echo "make promises   measures each promise again and writes docs/promises.md"
	@echo "make soak       mutants and long runs: minutes to hours"
	@echo "make bench      speed beside curl, rclone, requests, glance_store ... (installs them where it may)"
	@echo "make sample     etc/imgstore/imgstore.conf.sample anew, after an option has changed"
	@echo "make clean      removes what the tools left, and the virtualenvs"

venv:
	@tools/venv "$(VENV)" dev "$(PYTHON)"

demo-venv:
	@tools/venv "$(VENV)" demo "$(PYTHON)"

lint: venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m mypy

test: lint
	$(PY) -m pytest $(ABREAST) -m "not soak and not wide" --ignore=tests/real $(ARGS)

# A file stays in one worker, and each worker has servers of its own: the tests stop and start them.
test-real: venv
	@tools/real-servers "$(VENV)"
	$(PY) -m pytest -n $(JOBS) --dist loadfile tests/real $(ARGS)
	$(PY) -m pytest -n $(JOBS) -m wide tests --ignore=tests/real $(ARGS) || [ $$? -eq 5 ]

demo: demo-venv
	@$(PY) -m demo

# Those against real servers too; one after the other, as some measure seconds.
promises: venv
	@tools/real-servers "$(VENV)"
	$(PY) -m pytest -m "promise" --promises docs/promises.md tests $(ARGS)

# pytest's 5 says that no test carries the mark.
soak: venv
	$(PY) -m pytest -m soak tests $(ARGS) || [ $$? -eq 5 ]
	$(PY) tools/soak.py

# ARGS='http --size 128M --rounds 9' runs less, and then saves nothing.
bench:
	@tools/venv "$(VENV)" dev,bench "$(PYTHON)"
	@tools/bench-peers
	$(PY) -m benchmarks $(or $(ARGS),--save)

# A driver that was added since is found by its entry point: venv brings those up to date.
sample: venv
	$(VENV)/bin/oslo-config-generator --config-file etc/imgstore/config-generator.conf

clean:
	rm -rf build dist ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
	for each in "$(VENV)" .venv-3.* .venv-servers; do if [ -e "$$each/pyvenv.cfg" ]; then rm -rf "$$each"; fi; done
