# SPDX-License-Identifier: BSD-3-Clause-Clear
# `make demo` and `make test` need only Python, a C++ compiler, make and git; see README.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv from the PATH where there is one, else one installed into the virtual environment.
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
# A version that is known by its hash, as what it installs.
INSTALL_UV = command -v $(UV) >/dev/null || $(BIN)/python -m pip install --quiet \
	--disable-pip-version-check --require-hashes --requirement requirements-uv.txt
CAI := $(wildcard compressai/cpp_exts/cai/*)
NATIVE := $(wildcard compressai/cpp_exts/*.[ch]pp compressai/cpp_exts/kernels/* compressai/cpp_exts/*.nb compressai/cpp_exts/CMakeLists.txt)
PYTEST_FLAGS ?=
# Some machines set this, and uv compiles nothing: each of some hundred processes would compile torch and
# the tests anew, which takes twice as long as to import them. What is written is in .venv and ignored.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo web test test-slow test-processors test-lowest test-newest journeys lint types format recipes docs bench lock sanitize fuzz soak install clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(VENV)/.installed ## create .venv, install the pinned dependencies, build the extension

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.locked: requirements.lock | $(BIN)/python
	@$(INSTALL_UV)
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml compressai/version.py $(NATIVE)
	# Of its former name, which owns the same files; where there is none, there is a warning only.
	VIRTUAL_ENV=$(VENV) $(UV) pip uninstall --quiet compressai
	$(BUILD_HERE)
	@touch $@

# What torch computes with: empty for what the index has (on Linux with CUDA), cpu, cu130 and so on.
TORCH ?=
BUILD_HERE = VIRTUAL_ENV=$(VENV) PATH="$(CURDIR)/$(BIN):$$PATH" $(UV) pip install --quiet --no-deps --no-build-isolation --editable .

# With all that tests need, where that is there already.
demo: $(if $(wildcard $(VENV)/.installed),install,$(VENV)/.demo) ## compress a photo, compare with JPEG and WebP of the same size; TORCH=cpu takes a quarter of the space
	$(BIN)/python examples/demo.py --quality 24

# No extra, and no triton, which only compiles for GPUs. uv shows how far it is.
$(VENV)/.demo: $(wildcard packages/demo*.lock) pyproject.toml compressai/version.py $(NATIVE) | $(BIN)/python
	@$(INSTALL_UV)
ifeq ($(TORCH),)
	@echo "Installing torch and what else the demo needs: 4.8 GB in .venv (make demo TORCH=cpu: about 1.2 GB)"
	VIRTUAL_ENV=$(VENV) $(UV) pip install --no-deps --require-hashes --requirement packages/demo.lock
else
	@echo "Installing torch for $(TORCH) and what else the demo needs: with cpu about 1.2 GB in .venv"
	VIRTUAL_ENV=$(VENV) $(UV) --no-config pip install --torch-backend $(TORCH) \
		$$(sed -nE 's/^(torch(vision)?==[^ ]*) .*/\1/p' packages/demo.lock)
	VIRTUAL_ENV=$(VENV) $(UV) pip install --no-deps --require-hashes --requirement packages/demo-cpu.lock
endif
	@echo "Compiling the native coder: a minute or two"
	$(BUILD_HERE)
	@touch $@

lint: install ## style and import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## the examples of README and manual under mypy (strict) and pyright
	$(BIN)/python tests/types_of_examples.py

# Tests share the cores, and threads that spin while they wait for others take the time that these need: on a
# busy machine four files of tests were not through after seven minutes of the processors, now they take one.
test test-slow test-processors test-newest test-lowest journeys: export OMP_WAIT_POLICY ?= passive
test test-slow test-processors test-newest test-lowest journeys: export OPENBLAS_NUM_THREADS ?= 1

test: lint types ## lint, types, then the whole test suite
	$(BIN)/python -m pytest -n auto --ignore=tests/test_cluster_ray.py $(PYTEST_FLAGS)

# Alone, since a Ray node gives up when it starts slowly.
test-slow: install ## the tests on a Ray cluster of two nodes on this machine
	$(BIN)/python -m pytest -n 0 tests/test_cluster_ray.py

# Neither wheels, which compiles for each Python, nor past_one_machine, whose nodes start slowly: both
# are in .github/workflows/versions.yml.
JOURNEYS ?= researcher many_files checkpoint_owner deployment

journeys: install ## what people want to do, from beginning to end, each as a script of commands
	@for journey in $(JOURNEYS); do echo "$$journey"; tests/journeys/$$journey.sh || exit 1; done; echo "all journeys passed"

# With all extras but those for documentation and fuzzing. VERSIONS_TESTS names some tests only.
TESTED_EXTRAS := attn,bench,dev,hub,jxl,lpips,onnx,plot,plotly,ray,tensorboard,video
VERSIONS_TESTS ?= --ignore=tests/test_cluster_ray.py tests

test-newest: build/newest/.installed ## the fast tests with the newest versions that there are
	build/newest/bin/pytest -n auto -m "not slow" $(PYTEST_FLAGS) $(VERSIONS_TESTS)

build/newest/.installed: $(VENV)/.installed
	$(PYTHON) -m venv --clear build/newest
	VIRTUAL_ENV=build/newest $(UV) --no-config pip install --quiet --upgrade \
		--config-settings=build-dir=build/newest-native --editable ".[$(TESTED_EXTRAS)]"
	@touch $@

test-processors: install ## the numeric tests as on other processors, as far as this one can pretend
	$(BIN)/python tests/processors.py -n auto $(PYTEST_FLAGS)

# The program itself, not the Python module, which would find the package in this folder.
test-lowest: build/lowest/.installed ## the fast tests with the oldest versions that pyproject.toml allows
	build/lowest/bin/pytest -n auto -m "not slow" $(PYTEST_FLAGS) $(VERSIONS_TESTS)

build/lowest/.installed: $(VENV)/.installed
	$(PYTHON) -m venv --clear build/lowest
	VIRTUAL_ENV=build/lowest $(UV) --no-config pip install --quiet --resolution lowest-direct \
		--config-settings=build-dir=build/lowest-native --editable ".[$(TESTED_EXTRAS)]"
	@touch $@

web: install ## the page that opens .cai files in a browser, in web/dist; needs npm and emscripten
	$(BIN)/python web/build.py $(WEB_FLAGS)

recipes: install ## what makes bundles of the weights that ship; to be run when these or their networks change
	$(BIN)/python examples/export_recipes.py

docs: install ## HTML documentation in docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: install ## one table of coder, concurrency, training and all models, as ratios measured in one run of 40 minutes
	$(BIN)/python benchmarks/overview.py $(BENCH_FLAGS)

# The fuzz driver needs no Python; then the tests of the coder run on a build of the extension, for
# which the runtime of the sanitiser has to be loaded before Python.
SANITIZE_CMAKE = $(BIN)/cmake -G Ninja -S compressai/cpp_exts -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOMPRESSAI_CAI=ON \
	-DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
NATIVE_TESTS := tests/test_ans.py tests/test_ans_errors.py tests/test_ans_threads.py tests/test_pmf.py \
	tests/test_entropy_models.py tests/test_entropy_bottleneck.py tests/test_kernels.py \
	tests/test_window_kernel.py tests/test_layers_ssm.py tests/test_synchrony.py
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 1

build/sanitize/built: $(VENV)/.installed $(NATIVE) $(CAI) $(wildcard tests/native/*.?pp)
	$(SANITIZE_CMAKE) -B build/sanitize -DCOMPRESSAI_SANITIZE=address,undefined,float-cast-overflow
	$(BIN)/cmake --build build/sanitize
	$(SANITIZE_CMAKE) -B build/sanitize-thread -DCOMPRESSAI_SANITIZE=thread
	$(BIN)/cmake --build build/sanitize-thread --target fuzz_coder
	@touch $@

sanitize: build/sanitize/built ## tests of native code under address, undefined-behaviour and thread sanitisers
	build/sanitize/fuzz_coder 5000
	build/sanitize-thread/fuzz_coder 1000
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/python tests/native/run_with_build.py build/sanitize -q -n 0 \
		--capture=sys -p no:cacheprovider $(NATIVE_TESTS)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	COMPRESSAI_CAI_LIBRARY=build/sanitize/cai/libcai.so \
		$(BIN)/python -m pytest -q -n 0 --capture=sys -p no:cacheprovider tests/test_c_library.py
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/python tests/native/hostile_calls.py build/sanitize

FUZZ = $(BIN)/python tests/fuzz/run.py
FUZZ_OPTIONS = -max_total_time=$$(($(FUZZ_SECONDS) / 5)) -max_len=4096 -rss_limit_mb=3000 -timeout=20 \
	-verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/

fuzz: build/sanitize/built ## files, their decoding, videos, checkpoints, the native coder and scan for FUZZ_SECONDS in all (600)
	mkdir -p build/fuzz/container build/fuzz/image build/fuzz/checkpoint build/fuzz/video
	OMP_NUM_THREADS=1 $(FUZZ) container $(FUZZ_OPTIONS) build/fuzz/container tests/fuzz/seeds/container
	OMP_NUM_THREADS=1 $(FUZZ) image $(FUZZ_OPTIONS) build/fuzz/image tests/fuzz/seeds/image
	OMP_NUM_THREADS=1 $(FUZZ) checkpoint $(FUZZ_OPTIONS) -max_len=16384 build/fuzz/checkpoint tests/fuzz/seeds/checkpoint
	OMP_NUM_THREADS=1 $(FUZZ) video $(FUZZ_OPTIONS) build/fuzz/video tests/fuzz/seeds/video
	build/sanitize/fuzz_coder --seconds $$(($(FUZZ_SECONDS) / 5)) $(FUZZ_SEED)

SOAK_IMAGES ?= 1000

soak: install ## random images to files and back with lite, TCM, CCA and ELIC: SOAK_IMAGES (1000)
	$(BIN)/python benchmarks/soak.py --images $(SOAK_IMAGES)

EXPORT = $(UV) export --quiet --frozen --no-default-groups --no-emit-project --no-header --no-annotate \
	--format requirements-txt

# The demo goes without triton, which only compiles for GPUs and takes 0.9 GB.
lock: | $(BIN)/python ## resolve the dependencies anew into uv.lock, requirements.lock, requirements-uv.txt and packages/*.lock
	@$(INSTALL_UV)
	$(UV) lock
	$(EXPORT) --all-extras --output-file requirements.lock
	$(EXPORT) --group build --prune triton --output-file packages/demo.lock
	$(EXPORT) --group build --prune torch --prune torchvision --output-file packages/demo-cpu.lock
	$(EXPORT) --only-group wheels --output-file packages/wheels.lock
	echo uv | $(UV) --no-config pip compile --quiet --universal --upgrade --generate-hashes --no-header \
		--no-annotate --output-file requirements-uv.txt -

clean: ## remove what the other targets made
	rm -rf $(VENV) build docs/_build web/dist
