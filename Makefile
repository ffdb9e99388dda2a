# `make demo` and `make test` are all that a newcomer needs: each sets up what it uses, and only once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench stack setup lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo:  ## store two states of real files, see what deduplication saves, read them back
	@scripts/setup base
	@scripts/in-venv python -m graviton.cli.demo

test:  ## everything: lint, Rust tests, all Python tests with both kernels
	@scripts/setup base dev
	@scripts/in-venv scripts/test

lint:  ## the fast part of it: style, format, types, import contracts
	@scripts/setup base dev
	@scripts/in-venv scripts/lint

bench:  ## speed and memory side by side with other tools, results in benchmarks/
	@scripts/setup base bench
	@scripts/in-venv python -m benchmarks

stack:  ## PostgreSQL, an S3 server, a store on both and the HTTP server, until Ctrl-C; no containers
	@scripts/setup base dev
	@scripts/in-venv python scripts/stack.py

setup:  ## only the set-up, for working in .venv by hand
	@scripts/setup base dev

lock:  ## write requirements/*.txt again (UPGRADE=1: with the newest versions)
	@scripts/setup --packages lock
	@scripts/lock $(if $(UPGRADE),--upgrade)

clean:  ## remove everything that was made here
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist build native/target benchmarks/work
	find src tests benchmarks scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: campaign
campaign:  ## the fault tests in their long form, about 20 minutes; figures in benchmarks/campaigns
	@scripts/setup base dev
	@scripts/in-venv scripts/campaigns/faults
