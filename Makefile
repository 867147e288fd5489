# The menu. `make` prints it; each line below that has two hashes is an entry.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET)/release/data-platform
# The whole workspace, always: a part of it alone turns on other features of shared dependencies, and then DataFusion is
# compiled a second time.
BUILD := cargo build --release --workspace

# Clippy as the compiler of our own crates, not optimised: it then finds the dependencies as they were built, where
# `cargo clippy` would check each of them once more (6 minutes).
LINT := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ \
	cargo build --release --workspace --all-targets --keep-going \
	$(foreach crate,bench crds memory operator page runner tests,--config 'profile.release.package.data-platform-$(crate).opt-level=0')

.DEFAULT_GOAL := help
.PHONY: help run build test check generate release bench bench-report bench-batch bench-idle bench-latency bench-local bench-places bench-operator bench-spark bench-flink soak simulate kafka kafka-stop images kube kube-stop kind-up findings clean

help: ## this menu
	@if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then on=$$(printf '\033[1;36m'); off=$$(printf '\033[0m'); fi; \
	awk -F ':.*## ' -v on="$$on" -v off="$$off" '/^[a-z-]+:.*## / { printf "  %s%-15s%s %s\n", on, $$1, off, $$2 }' $(MAKEFILE_LIST)

run: build ## see it work: broker, events, job and tables in one process (ARGS="--for 60s" ends by itself)
	$(BINARY) demo $(ARGS)

build: ## compile everything (release)
	@tests/env/tools.sh build
	@[ -e $(BINARY) ] || echo "The first build takes about 25 minutes on 2 cores: DataFusion. Later ones take a minute or two."
	$(BUILD)

test: ## all tests, on a real Kafka broker and with independent readers (NAME=part of a name)
	tests/run $(NAME)

soak: ## the random tests with many rounds, and two hours of a steady stream: hours (NAME=part of a name: only tests)
	tests/run --soak $(NAME)
	$(if $(NAME),,bench/soak)

simulate: ## whole jobs and the commit protocol on a simulated disk, 10,000 seeds
	DATA_PLATFORM_SIMULATION_SEEDS=10000 cargo test --release --workspace simulation

check: ## formatting and lints of Rust, scripts and Python, as far as the tools are there
	cargo fmt --all --check
	$(LINT)
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run tests/run tests/env/*.sh tests/env/*/*.sh deploy/kind-up bench/batch bench/flink/run bench/idle bench/jars bench/latency bench/local bench/operator bench/places bench/run bench/spark/run; else echo "no shellcheck: scripts not checked"; fi
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; else echo "no cargo-deny: licences and versions of dependencies not checked"; fi
	@if command -v ruff >/dev/null; then ruff format --check --line-length 120 tests/readers images/build images/oci.py tests/dashboards helm/dashboards bench/report bench/plots.py bench/result.py bench/soak; else echo "no ruff: Python not checked"; fi

generate: build ## events into the broker of KAFKA_BOOTSTRAP_SERVER (default localhost:29092; ARGS="--rate 1000")
	$(BINARY) generate $(ARGS)

kafka: ## a real broker on localhost:29092 to play with; its data stay in target/kafka
	@tests/env/tools.sh test
	tests/env/kafka/kafka.sh up 29092 $(TARGET)/kafka

kafka-stop: ## stop it
	tests/env/kafka/kafka.sh down $(TARGET)/kafka

release: build ## what a release consists of, in target/release-files: images, chart, bill of materials, checksums
	images/release $(ARGS)

images: build ## the images of runner and operator as tar files, without Docker
	images/build $(ARGS)

kube: ## a real Kubernetes of one node to play with, with both images (Linux, root); its data stay in target/kube
	@tests/env/tools.sh --install cluster
	@[ -e $(BINARY) ] || { echo "make build first: the images are made from what it builds"; exit 1; }
	images/build --tag test
	tests/env/kube/kube.sh up $(TARGET)/kube
	tests/env/kube/kube.sh load $(TARGET)/kube $(TARGET)/images/*.tar
	@echo "The chart with these images: helm install data-platform helm/data-platform --values $(TARGET)/images/values.yaml"

kube-stop: ## take it away
	tests/env/kube/kube.sh down $(TARGET)/kube

kind-up: build ## everything on a kind cluster: images, chart, Kafka, events and the sample jobs
	deploy/kind-up

bench: ## speed and memory on a real broker, beside DuckDB on the same records
	bench/run $(ARGS)

bench-report: ## docs/benchmarks.md: runs the benchmarks, about an hour (ARGS=--from-results: writes the page of what is there)
	bench/report $(ARGS)

bench-batch: ## the batch jobs and ten queries beside DuckDB (SCALE=1: 50 million rows; ARGS="q03 q05": only these)
	bench/batch $(ARGS)

bench-local: ## memory of the built-in seven in one process: idle, and at 20,000 events a second (ARGS="RATE SECONDS")
	bench/local $(ARGS)

bench-places: ## the same rows to Parquet, Delta, CSV, NDJSON and into an S3 server, beside each other
	bench/places $(ARGS)

bench-latency: ## how long an event takes to be a readable row, and how small a trigger may be (ARGS="RATE SECONDS")
	bench/latency $(ARGS)

bench-idle: ## what jobs cost to which nothing comes, in a cgroup (ARGS="JOBS SECONDS"; Linux, root)
	bench/idle $(ARGS)

bench-operator: build ## the operator against the cluster of KUBECONFIG: 1,000 jobs at once, memory, drift (JOBS=50 for fewer)
	$(BUILD) --example bench_operator
	bench/operator

bench-spark: ## event-aggregation beside Spark Structured Streaming too
	BENCH_SPARK=1 bench/run $(or $(ARGS),3000000 event-aggregation)

bench-flink: ## event-aggregation beside Flink SQL too
	BENCH_FLINK=1 bench/run $(or $(ARGS),3000000 event-aggregation)

findings: ## behaviour of other people's software that surprised us: says what has changed (needs the package registries)
	@status=0; for finding in findings/*.sh; do echo "== $$finding"; $$finding || { echo "CHANGED: $$finding"; status=1; }; done; exit $$status

clean: ## remove what was built (25 minutes to build again)
	cargo clean
