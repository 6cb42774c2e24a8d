# make run     set up, then certify a real chest film: out/seg.dcm, out/preview.png, out/report.json
# make test    set up, then run the linters, the type checker and the tests (what CI runs)
.PHONY: run test check lint test-slow docs bench clean

PYTHON := .venv/bin/python

run:
	@scripts/setup run
	@mkdir -p out
	@film=$$($(PYTHON) scripts/sample_film) && \
	echo "Certifying $$film (a chest CR of the NEMA WG-04 samples) …" && \
	.venv/bin/certdicom "$$film" -o out/seg.dcm --preview out/preview.png --report out/report.json --force

test:
	@scripts/setup dev
	@$(MAKE) --no-print-directory check

check: lint
	$(PYTHON) -m pytest --cov=certdicom --cov-report=term:skip-covered --cov-fail-under=85 -m "not slow"

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

test-slow:
	@scripts/setup slow
	$(PYTHON) -m pytest -m slow

docs:
	@scripts/setup dev
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

bench:
	@scripts/setup dev
	$(PYTHON) benchmarks/benchmark.py

clean:
	rm -rf .venv out
