# Everything here needs cargo alone: the servers are found, or fetched once, by deploy/local.

# Outside the checkout, and one for each: cargo tells the sources of two checkouts apart by their
# times alone, so in a shared folder one would run what was built from the other.
CHECKOUT := $(shell printf %s '$(CURDIR)' | cksum | cut -d ' ' -f 1)
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pled/target-$(CHECKOUT)

PLED := $(CARGO_TARGET_DIR)/release/pled
WITH_SERVERS := deploy/local/with-servers.sh

.DEFAULT_GOAL := help
.PHONY: help demo test simulate chaos bench-core bench-flow fmt lint doc

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the demo with servers of its own (DEMO_ARGS=...)
	cargo build --locked --release --bin pled
	$(WITH_SERVERS) --postgres-optional -- $(PLED) demo $(DEMO_ARGS)

test: ## run all tests against real servers (TEST_ARGS=...)
	@deploy/local/test.sh $(TEST_ARGS)

simulate: ## run the commit protocol against seeded faults (SEEDS=10000; SEED=n: one, with a trace)
	PLED_SIM_SEEDS=$(SEEDS) PLED_SIM_SEED=$(SEED) cargo test --locked -p pled-engine --test simulation -- whatever --nocapture

CHAOS = deploy/local/test.sh --test chaos

chaos: ## kill, stop and cut off everything for five minutes: one server, three, power cuts (CHAOS_SEED=...)
	CHAOS_SECS=$(or $(CHAOS_SECS),110) $(CHAOS)
	CHAOS_SECS=$(or $(CHAOS_SECS),110) CHAOS_SERVERS=3 $(CHAOS)
	@if [ "$$(id -u)" = 0 ]; then set -x; CHAOS_SECS=$(or $(CHAOS_SECS),60) CHAOS_POWER=1 $(CHAOS); \
	else echo "power cuts: SKIPPED, they take root"; fi

bench-core: ## measure the statechart core (BENCH_ARGS=...)
	cargo bench --locked -p pled-engine --bench core -- $(BENCH_ARGS)

bench-flow: ## measure the order flow end to end (DURABLE=1, BENCH_ARGS=...)
	cargo build --locked --release --bin pled
	$(PLED) bench flow $(if $(DURABLE),--durable,--relaxed) $(BENCH_ARGS)

fmt: ## format the sources
	cargo fmt --all

lint: ## check format and lints, as CI does
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc: ## build the API documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
