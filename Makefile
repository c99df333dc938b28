# Everything a person needs to build, see and prove Sealpost. `make` lists it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# No C compiler is needed, but for the race detector in `check`.
export CGO_ENABLED := 0

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ARGS    ?=

# How long `fuzz` stays with each target.
FUZZTIME ?= 20s

browser := e2e/browser
locks   := $(wildcard e2e/*/package-lock.json)
modules := $(locks:package-lock.json=node_modules/.installed)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/sealpost (GOFIPS140=certified for the validated module)
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sealpost ./cmd/sealpost

.PHONY: demo
demo: build ## Watch the main job on an internet of its own (ARGS=--once ends by itself)
	@bin/sealpost demo $(ARGS)

.PHONY: test
test: test-deps $(modules) build vet ## Prove everything: needs PostgreSQL, Postfix and more, see scripts/test-deps.sh
	$(GO) test -count=1 -timeout=14m ./...
	$(MAKE) fips
	$(MAKE) thunderbird

.PHONY: fips
fips: ## Prove keys, seals, ledger and TLS where only what FIPS 140-3 approves works
	GODEBUG=fips140=only $(GO) test -count=1 ./internal/custody/... ./internal/openpgp ./internal/cms ./internal/certs ./internal/seal ./internal/ledger ./internal/dkim \
		./internal/deliver/smtpclient ./internal/blob ./internal/pickup

.PHONY: check
check: test-deps format vet staticcheck house race ## What to run before a commit

.PHONY: format
format: ## Fail if a file is not formatted
	@unformatted=$$(find . -name '*.go' -not -path '*/node_modules/*' -not -path '*/testdata/*' -exec gofmt -l {} +) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "Not formatted; run gofmt -w on:"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: staticcheck
staticcheck:
	@$(GO) -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

.PHONY: house
house: ## Hold the table of rooms and the other rules of the source tree
	$(GO) test ./internal/house

.PHONY: race
race: ## Run the tests of the rooms under the race detector
	@command -v "$$($(GO) env CC)" >/dev/null || { echo "The race detector needs a C compiler: apt-get install gcc libc6-dev"; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -timeout=10m ./internal/...

.PHONY: test-broken
test-broken: test-deps ## Break the product in known ways; each break must make its test fail
	@scripts/test-broken.sh $(ARGS)

.PHONY: fuzz
fuzz: ## Run every fuzz target for a short while (FUZZTIME=20s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: soak
soak: test-deps build ## Kill servers under load for a long time
	SOAK=1 $(GO) test -count=1 -v -timeout=3h -run 'Kill' ./e2e/...

.PHONY: bench
bench: test-deps build ## Measure Sealpost and Postfix side by side
	$(GO) run ./bench $(ARGS)

.PHONY: thunderbird
thunderbird: ## Have Thunderbird open what is sealed, without a window; installs it (60 MB)
	@command -v thunderbird >/dev/null || { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends thunderbird; } >/dev/null || \
		{ echo "Install it with: sudo apt-get install --no-install-recommends thunderbird"; exit 1; }
	$(GO) test -count=1 -v -tags thunderbird ./e2e/interop/thunderbird

.PHONY: pictures
pictures: build $(modules) ## Make the pictures of the README anew
	@cd $(browser) && node pictures.mjs

.PHONY: test-deps
test-deps:
	@scripts/test-deps.sh

# Playwright drives Debian's Chromium: no browser is downloaded.
e2e/%/node_modules/.installed: e2e/%/package-lock.json
	cd e2e/$* && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin e2e/*/node_modules
