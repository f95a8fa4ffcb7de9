# make quickstart   the whole path on real data, in a virtual environment of its own
# make test         the tests, in an environment of their own
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: quickstart test test-all lint format bench clean
.DEFAULT_GOAL := test

# A stamp is newer than the files that say what to install: a second run installs nothing.
$(VENV)/.quickstart: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Lepton and what the quickstart needs into $(VENV) (once) …"
	@$(PIP) --editable '.[quickstart]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Lepton and its test tools into $(VENV) (once) …"
	@$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.quickstart

quickstart: $(VENV)/.quickstart
	@$(BIN)/lepton quickstart

# Three processes on two cores: tests wait for servers much of the time.
test: $(VENV)/.test
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile -m "not long"

test-all: $(VENV)/.test
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile

lint: $(VENV)/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.test
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.test
	@left=; for file in $$(grep -l __main__ tests/benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file || left="$$left $$file"; done; \
	test -z "$$left" || { echo "not measured:$$left"; exit 1; }

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
