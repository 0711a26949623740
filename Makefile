# Thin names over cargo. Cargo itself does the work: see CONTRIBUTING.md.
CARGO ?= cargo

.PHONY: build demo test test-pg lint fmt doc soak scenarios bench microbench fuzz rejoin-figures growth

build:                     ## the three programs, optimised: target/release/{slon,slonik,slonctl}
	$(CARGO) build --release --workspace --bins

demo: build                ## three throwaway nodes under load, with proof; KEEP=1 leaves them running
	target/release/slonctl demo $(if $(KEEP),--keep)

test:                      ## the whole test suite, on the PostgreSQL found or installed
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace

test-pg:                   ## the same on another PostgreSQL: make test-pg VERSION=18 (10 to 18, downloaded)
	@test -n "$(VERSION)" || { echo "which version? make test-pg VERSION=18"; exit 2; }
	$(CARGO) build --workspace --bins
	TRUNKLINE_PGBIN="$$(tests/fetch-postgresql $(VERSION))" && export TRUNKLINE_PGBIN && $(CARGO) test --workspace

SOAK ?= 20
soak:                      ## the tests with random load, SOAK times with fresh seeds
	$(CARGO) build --workspace --bins
	for run in $$(seq $(SOAK)); do echo "run $$run"; \
	  $(CARGO) test -p trunkline-tests --test e2e -- --include-ignored load random moves hundreds original_slony || exit 1; \
	  TRUNKLINE_TEST_ROUNDS=200 $(CARGO) test -p trunkline-sql --test schema -- capture_order || exit 1; done

scenarios:                 ## writes the table of docs/src/reference/failover.md from what the tests see
	$(CARGO) build --workspace --bins
	tests/scenarios

FUZZ ?= 600
fuzz:                      ## any bytes as a script, for FUZZ seconds: cargo install cargo-fuzz, and a nightly compiler
	mkdir -p fuzz/corpus/script
	cp grammar/tests/corpus/*/*.slonik fuzz/corpus/script
	$(CARGO) +nightly fuzz run script -- -max_total_time=$(FUZZ) -timeout=10

rejoin-figures: build      ## a node that comes back against a fresh copy: 1 GB with 1,000 different rows
	TRUNKLINE_TEST_REJOIN_MB=1024 $(CARGO) test --release -p trunkline-tests --test e2e -- --nocapture --ignored --test-threads 1 rejoin_figures

lint:                      ## formatting, clippy, documentation: no warning passes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

fmt:
	$(CARGO) fmt --all

doc:                       ## API documentation: target/doc
	$(CARGO) doc --workspace --no-deps

bench: build               ## beside Slony-I and native replication: prints the promises, writes docs/src/performance.md; FULL=1 for an hour
	tests/bench/run $(if $(FULL),--full)

growth:                    ## 10 times the backlog, 100 times the tables, 10 times the subscribers: rate and memory, a few minutes
	$(CARGO) build --release --bin slon --bin slonik
	tests/bench/run growth

microbench:                ## decoding, folding and parsing alone
	$(CARGO) bench -p trunkline-engine -p trunkline-grammar
