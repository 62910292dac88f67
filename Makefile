# Everything a fresh machine needs is made here: `make test` builds the virtual environment and runs the suite.
# PYTHON may name another interpreter; the host accepts 3.10 and 3.11.
PYTHON ?= $(shell for p in python3.10 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test test-timm test-versions test-webui lint types suite browser benchmark benchmark-webui clean

# The main job on the small model: a packaged photograph and a rendered scene, with and without depth, on one sheet.
demo: $(VENV)/.ready
	$(RUN) -m lib_depth2img demo --output out/demo.png

test: lint types suite test-timm

lint: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.ready
	$(RUN) -m mypy

suite: $(VENV)/.ready browser
	$(RUN) -m pytest

# The estimators once more with timm 0.9.5, which users have who have ControlNet. Made once, in seconds: .versions/.
test-timm: $(VENV)/.ready
	$(RUN) -m tests.versions controlnet

# And with all the versions of tests/versions/table.py: each Python and torch is made once, 25 GB in .versions/.
test-versions: $(VENV)/.ready
	$(RUN) -m tests.versions

# The panel is tested in a real browser; where this may install one, it does.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& apt-get install -y -qq chromium chromium-driver >/dev/null; } || { \
		echo "The panel's tests need Chromium with its driver (Debian: apt install chromium chromium-driver)." >&2; exit 1; }

# The third tier: WEBUI_ROOT=/path/to/stable-diffusion-webui (v1.10.1, Forge or reForge, with its venv). It is started, driven and stopped.
# make hands on what else is said so: WEBUI_PYTHON, NEIGHBOURS, UNKNOWN_ROOT, UNKNOWN_PYTHON (CONTRIBUTING.md).
test-webui: $(VENV)/.ready browser
	WEBUI_ROOT="$(WEBUI_ROOT)" $(RUN) -m pytest tests/host

# The README's pictures of the panel, from the same WebUI.
.PHONY: screenshots
screenshots: $(VENV)/.ready browser
	WEBUI_ROOT="$(WEBUI_ROOT)" $(RUN) -m tests.host.screenshots

# What the extensions index shows: an animation and a picture of 1280x640.
.PHONY: showcase
showcase: $(VENV)/.ready browser
	WEBUI_ROOT="$(WEBUI_ROOT)" $(RUN) -m tests.host.showcase

benchmark: $(VENV)/.ready
	$(RUN) benchmarks/conditioning.py

# The checks and the figures that need a GPU; DEVICE=cpu QUICK=1 tries the script out. WHEELS: see benchmarks/gpu.py.
.PHONY: gpu
gpu: $(VENV)/.ready
	$(RUN) benchmarks/gpu.py --device $(or $(DEVICE),cuda) $(if $(QUICK),--quick) $(if $(WHEELS),--wheels "$(WHEELS)") $(if $(OUTPUT),--output "$(OUTPUT)")

# The same within the WebUI at WEBUI_ROOT: which share of a generation it is. CHECKPOINT may name a depth model.
benchmark-webui: $(VENV)/.ready
	WEBUI_ROOT="$(WEBUI_ROOT)" $(RUN) benchmarks/webui_share.py $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")

$(VENV)/.ready: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or 3.11 found. Install one, or say: make PYTHON=/path/to/python3.10" >&2; exit 1; }
	@echo "Building $(VENV), once: up to 3 GB are downloaded and become 6 GB on disk (on Linux torch brings CUDA)."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -r requirements-dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps stable-diffusion-sdkit==2.1.5 jkp-depth-anything-v2==0.1.1
	touch $@

clean:
	rm -rf $(VENV) .versions .pytest_cache .mypy_cache .ruff_cache
