# Everything that is done with this project from a shell. `make` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

STATE ?= /var/lib/container-backup
SHARE ?= backup=$(STATE)/share
LISTEN ?= 127.0.0.1:8080

.PHONY: help install build test test-fast campaigns campaigns-help demo run bench lint clean \
  firmware firmware-help firmware-check flash test-firmware bench-firmware

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: ## Debian packages that are missing, then the locked npm packages
	@scripts/install-packages
	@scripts/install-modules

build: ## compile to dist/
	@scripts/build

test: install build ## every suite, or ONLY="<folder or name> …"; the last line counts assertions
	@ONLY='$(ONLY)' scripts/test

test-fast: build ## the suites that need no engine and no server, in less than a minute
	@ONLY=fast scripts/test

campaigns: install build ## every campaign, one after the other; figures for docs/reliability.md
	@scripts/campaign all

campaign-%: install build ## (campaign-crash, …) the whole of what `make test` tries a part of; TEST_SEED= brings a run back
	@scripts/campaign '$*'

campaigns-help: build ## the campaigns
	@scripts/campaign

demo: install build ## back up, change and restore an LXC and a Docker container
	@node dist/demo/demo.js

run: build ## serve (STATE=, SHARE=name=/folder, LISTEN=host:port)
	@folder='$(SHARE)'; mkdir -p '$(STATE)' "$${folder#*=}"
	@exec dist/core/cli/main.js serve --state '$(STATE)' --listen '$(LISTEN)' --share '$(SHARE)'

bench: build ## time and memory of backup and restore
	@scripts/install-bench-packages
	@node dist/test/bench/bench.js

lint: ## biome
	@npx --no-install biome check

firmware: ## an image, an update and their papers for BOARD= in out/firmware/<board>
	@scripts/need-board firmware '$(BOARD)'
	@firmware/image/install-packages
	@BOARD='$(BOARD)' firmware/image/build

test-firmware: ## boot what `make firmware BOARD=` has built in QEMU and go through all that it promises
	@scripts/need-board test-firmware '$(BOARD)'
	@$(MAKE) --no-print-directory install build
	@firmware/image/install-packages qemu
	@BOARD='$(BOARD)' LIMIT=3600 scripts/test dist/test/firmware/firmware.test.js
	@BOARD='$(BOARD)' firmware/image/tested record

bench-firmware: ## seconds from power to an answer of the API, against the image of BOARD= without the service
	@scripts/need-board bench-firmware '$(BOARD)'
	@$(MAKE) --no-print-directory install build
	@firmware/image/install-packages qemu
	@BOARD='$(BOARD)' node dist/test/firmware/boot-bench.js

firmware-check: ## read the image of BOARD= back: signature, table, loader, file systems
	@scripts/need-board firmware-check '$(BOARD)'
	@BOARD='$(BOARD)' firmware/image/check-disk

flash: ## write the image of BOARD= to DEVICE=, which loses everything
	@scripts/need-board flash '$(BOARD)'
	@BOARD='$(BOARD)' DEVICE='$(DEVICE)' firmware/image/flash

firmware-help: ## the boards, and what `make firmware` can be told
	@firmware/image/help

clean: ## remove what build made
	@rm -rf dist .tap
