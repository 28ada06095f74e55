# What can be done here: `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(wildcard nbs/*.ipynb nbs/tutorials/*.ipynb)

.PHONY: help setup train test matrix bench gpu study studies networks faults fuzz installations soak lab docs readme notebooks clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[dev,large-scale]"
	touch $@

setup: $(VENV)/.installed ## make .venv and install everything

train: setup ## the main job: BYOL with the softmax bottleneck on dSprites, probed, in minutes
	$(BIN)/soft-ssl train byol --exp_name main --reload $(MAIN_JOB)

MAIN_JOB := --bottleneck softmax --dataset dsprites --dataset_K 1 --h_dim 32 --train_batch_size 128 \
	--max_steps 500 --precision auto --compile auto --threads auto --ridge 0

test: setup ## all tests and all notebooks, two at a time (those in a browser need /usr/bin/chromium)
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 PYTHONPATH="$(CURDIR)" $(BIN)/python -m pytest -q -rs --durations=40 -n 2 tests

matrix: setup ## every method, bottleneck, data set and encoder: ten steps and an evaluation each; and each method on two processes
	OMP_NUM_THREADS=1 $(BIN)/python tests/matrix.py

bench: setup ## speed and memory against the plain formulation (half an hour; `soft-ssl benchmark --quick`: two minutes)
	$(BIN)/soft-ssl benchmark

gpu: setup ## what one GPU gives, in ten minutes and without a network: equal values, a stopped run, races, cells of the full study
	$(BIN)/python tests/gpu.py

study: setup ## does soft discretization generalise? many runs into one table (seven hours of two cores; goes on where it stopped)
	$(BIN)/soft-ssl study
	$(BIN)/soft-ssl study --repeats 3

studies: setup ## what is left of all studies in nbs/studies; cells that their tables have are not computed again
	$(BIN)/soft-ssl download fashion_mnist data
	$(BIN)/soft-ssl study --out_path nbs/studies/composition
	for grid in nbs/studies/*/grid.json; do $(BIN)/soft-ssl study --size $$grid --out_path $$(dirname $$grid) || exit; done

networks: setup ## the networks that come with the kit, to look at (two hours; goes on where it stopped)
	$(BIN)/python tests/networks.py

faults: setup ## kill, fill the disk, run two at once, ...: the first table of the page Trust (a quarter of an hour; as root all of it)
	$(BIN)/python tests/faults.py

fuzz: setup ## thousands of mutated files and bad options: its second table (half an hour)
	$(BIN)/python tests/fuzz.py

installations: setup ## a wheel in an empty environment for each Python and torch (7 GB and some minutes each)
	$(BIN)/python tests/installations.py

soak: setup ## train, evaluate and move widgets for two hours, and watch what the process holds
	$(BIN)/python tests/soak.py

lab: setup ## JupyterLab at the tutorial
	$(BIN)/jupyter lab nbs/02_byol.ipynb

# without Quarto, nbdev_proc_nbs would fetch and install it, and this package once more: then only its two steps are taken
PROCESS := $(BIN)/python -c "from nbdev.quarto import get_config, proc_nbs, refresh_quarto_yml; refresh_quarto_yml(); proc_nbs(get_config().nbs_path)"

# what the page computes with, as its lock file says
RUNTIME := build/site/node_modules/.package-lock.json
$(RUNTIME): nbs/site/package.json nbs/site/package-lock.json
	mkdir -p build/site && cp $^ build/site
	PATH="$(abspath $(BIN)):$$PATH" npm ci --prefix build/site --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

docs: setup $(RUNTIME) ## the site, in _docs, with Quarto where it is installed and smalldocs where it is not
	export PATH="$(abspath $(BIN)):$$PATH"; if command -v quarto >/dev/null; then nbdev_proc_nbs && quarto render _proc; \
		else $(PROCESS) && smalldocs render _proc; fi
	rm -rf _docs && mv _proc/_docs _docs

readme: setup ## README.md from nbs/index.ipynb
	$(BIN)/python tests/make_readme.py

notebooks: setup ## run every notebook in place, then clean it
	$(BIN)/jupyter execute --inplace $(NOTEBOOKS)
	$(BIN)/python tests/tidy_outputs.py
	$(BIN)/nbdev_clean

clean: ## remove what was built here, but neither data nor runs
	rm -rf $(VENV) _proc _docs build *.egg-info
