# The few verbs of this project. Needs a Python 3.11 to 3.14, make, and whatever package index pip is configured for.
BIN := .venv/bin

.PHONY: help venv demo test bench bench-live check lock clean

help:  ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile

venv:  ## make or repair .venv (every other verb does so by itself)
	@sh scripts/venv

demo: venv  ## backtest the shipped strategies, then play a whole trading day of them on simulated brokers
	@$(BIN)/northstar demo $(ARGS)

test: venv  ## run every test; ARGS="tests/engine -k fill" for some
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

bench: venv  ## measure Northstar and its peers side by side; ARGS=--quick for small sizes
	@$(BIN)/python -m benchmarks.bench $(ARGS)

bench-live: venv  ## measure the live desk: orders, fan-out, what it costs; ARGS=--quick for short runs
	@$(BIN)/python -m benchmarks.live $(ARGS)

check: venv  ## ruff and mypy
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/mypy || status=1; exit $$status

lock: venv  ## renew requirements.lock from pyproject.toml; ARGS="--upgrade" for newer versions
	@$(BIN)/uv pip compile pyproject.toml --quiet --group dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-emit-index-url --custom-compile-command "make lock" $(ARGS) --output-file requirements.lock
	@sh scripts/venv

clean:  ## remove what the verbs made: .venv, benchmark environments, caches
	@rm -rf .venv benchmarks/.peers build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
