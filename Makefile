# Every target is one line: what it does is in the binary. `make` alone prints the list.
#   SPEC=FILE-OR-FOLDER  what to deploy (else VMDEPLOY_SPEC)     VM="web01 web02"  only these
#   VERBOSE=1..3         -v, -vv, -vvv                            CHECK=1           deploy and destroy only plan
#   ARGS="…"             further options of the command       IMAGE=NAME        which image is built

CARGO    ?= cargo
PREFIX   ?= $(HOME)/.local
VERBOSE  ?= 0
SPEC     ?=
VM       ?=
ARGS     ?=
VERBOSITY = $(filter-out -,-$(patsubst 0,,$(subst 3,vvv,$(subst 2,vv,$(subst 1,v,$(VERBOSE))))))
RUN       = $(CARGO) run --quiet --package vmdeploy -- $(VERBOSITY)
TARGETS   = $(addprefix --target ,$(VM))
APPLY     = $(if $(CHECK),plan,deploy)
BUILDER   = $(or $(SPEC),deployments/builder.yaml)
IMAGE    ?= custom
POWERED   = $(addprefix --spec ,$(SPEC)) $(or $(VM),--all)

# Property tests draw the same cases each time; `make fuzz` draws new ones.
export PROPTEST_RNG_SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help init demo lab validate check-syntax plan dry-run deploy status list-vms vm-status inventory generate-inventory destroy remove cleanup-vms resume check-image build-image-remote deploy-build-vm remove-build-vm start-vms shutdown-vms stop-vms check-token fix-token test-connection check-env info test fuzz test-real test-ansible test-third-party test-images test-containers bench check conformance lint fmt fmt-check docs install clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Try it
demo: ## Build, and show a whole deployment on the embedded PVE; needs no Proxmox host
	@$(RUN) demo $(ARGS)

lab: ## Run the embedded PVE until Ctrl-C; `. ./demo.lab.env` in another shell to use it
	@$(RUN) lab --env-file demo.lab.env $(ARGS)

##@ Deploy
init: ## Write .env and a first spec to fill in
	@$(RUN) init $(ARGS)

validate: ## Check SPEC without asking anybody
	@$(RUN) validate $(SPEC) $(ARGS)

check-syntax: validate ## The same as validate

plan: ## Show what deploy would do for SPEC
	@$(RUN) plan $(SPEC) $(TARGETS) $(ARGS)

dry-run: plan ## The same as plan

deploy: ## Make the VMs as SPEC says (CHECK=1: plan only)
	@$(RUN) $(APPLY) $(SPEC) $(TARGETS) $(ARGS)

resume: ## Go on with a run that was interrupted or failed
	@$(RUN) resume $(ARGS)

status: ## Show the VMs of SPEC as they are
	@$(RUN) status $(SPEC) $(TARGETS) $(ARGS)

list-vms vm-status: status ## The same as status

inventory: ## Print the Ansible inventory of SPEC
	@$(RUN) inventory $(SPEC) $(TARGETS) $(ARGS)

generate-inventory: inventory ## The same as inventory

start-vms: ## Start the VMs of SPEC, or VM="…"
	@$(RUN) start $(POWERED) $(ARGS)

shutdown-vms: ## Ask the VMs of SPEC, or VM="…", to shut down
	@$(RUN) shutdown $(POWERED) $(ARGS)

stop-vms: ## Stop the VMs of SPEC, or VM="…", at once
	@$(RUN) stop $(POWERED) $(ARGS)

check-image: ## Say whether the images of SPEC are on the nodes
	@$(RUN) image check $(SPEC) $(ARGS)

build-image-remote: ## Build IMAGE of SPEC on its builder, and bring it to the nodes
	@$(RUN) image build $(IMAGE) --spec $(BUILDER) --push $(ARGS)

deploy-build-vm: ## Deploy the builder of SPEC (else of deployments/builder.yaml)
	@$(RUN) deploy $(BUILDER) --target $(or $(VM),builder) $(ARGS)

remove-build-vm: ## Destroy the builder of SPEC (CONFIRM_DELETE=true: do not ask)
	@$(RUN) destroy $(BUILDER) --target $(or $(VM),builder) $(ARGS)

destroy: ## Destroy the VMs of SPEC (CHECK=1: only show which; CONFIRM_DELETE=true: do not ask)
	@$(RUN) destroy $(SPEC) $(TARGETS) $(if $(CHECK),--plan-only) $(ARGS)

remove cleanup-vms: destroy ## The same as destroy

##@ Reach
check-token: ## Say whether the credentials are enough for SPEC, and what is missing
	@$(RUN) check-token $(SPEC) $(ARGS)

fix-token: ## Grant exactly what the credentials lack for SPEC
	@$(RUN) fix-token $(SPEC) $(ARGS)

test-connection: ## Check everything between this machine and the nodes
	@$(RUN) doctor $(SPEC) $(ARGS)

check-env info: test-connection ## The same as test-connection

##@ Develop
test: ## Run all tests that this machine can run; the others are reported as ignored
	$(CARGO) test --workspace --quiet

fuzz: ## Run all tests, with new cases of the property tests and kills after every record
	env -u PROPTEST_RNG_SEED VMDEPLOY_TEST_ALL=1 $(CARGO) test --workspace --quiet

test-real: ## Run the battery on the spare node that VMDEPLOY_REAL_ENV=FILE names (docs/real-node.md), and on the lab
	$(CARGO) test --workspace --quiet --test real

test-images: ## Build the image of the container tests, where a container engine is up
	@crates/pve-ssh-containers/image/build.sh

test-containers: test-images ## Test pve-ssh against OpenSSH in containers; ignored aloud without an engine
	@$(CARGO) build --quiet --package vmdeploy
	$(CARGO) test --quiet --package pve-ssh-containers --features containers

bench: ## Measure whole commands, plans, uploads, a run's overhead and the lab; writes docs/benchmarks.md
	$(CARGO) bench --quiet --package vmdeploy --bench commands
	$(CARGO) bench --quiet --package vmdeploy-planner --bench plan
	$(CARGO) bench --quiet --package vmdeploy-executor --bench overhead
	$(CARGO) bench --quiet --package pve-lab --bench lab

check: fmt-check lint docs test ## Everything that CI runs

conformance: ## Compare the lab with recorded answers of a real PVE: GOLDEN_DIR=DIR (else PVE_FACTS_DIR/golden)
	@$(CARGO) run --quiet --package pve-lab --example conformance -- "$(GOLDEN_DIR)"

test-ansible: ## Install ansible-core into target/ansible, for the tests that need it
	python3 -m venv target/ansible && target/ansible/bin/pip install --quiet ansible-core

test-third-party: ## Install proxmoxer and Ansible's collections into target/third-party, for the lab's tests
	python3 -m venv target/third-party && target/third-party/bin/pip install --quiet proxmoxer requests ansible

lint: ## Run clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

fmt: ## Format the source
	$(CARGO) fmt --all

fmt-check: ## Check that the source is formatted
	$(CARGO) fmt --all --check

docs: ## Build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

install: ## Build with optimisation and install into PREFIX (default ~/.local)
	$(CARGO) install --locked --path crates/vmdeploy --root $(PREFIX)

clean: ## Remove what was built; runs and specs stay
	$(CARGO) clean
