# Each target runs one command; the logic is in the program. `make` without a target prints the list.
#   SPEC=FILE-OR-FOLDER  spec [default: VMDEPLOY_SPEC]     VM="web01 web02"  only these VMs
#   VERBOSE=1..3         -v, -vv, -vvv                     CHECK=1           deploy and destroy only plan
#   ARGS="…"             further options of the command    IMAGE=NAME        image to build

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

# Property tests use the same cases each time; `make fuzz` uses random ones.
export PROPTEST_RNG_SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help init demo lab validate check-syntax plan dry-run deploy runs report ip ssh status list-vms vm-status inventory generate-inventory destroy remove cleanup-vms resume check-image build-image-remote deploy-build-vm remove-build-vm start-vms shutdown-vms stop-vms check-token fix-token test-connection check-env info test fuzz test-real test-ansible test-third-party test-images test-containers bench check conformance lint fmt fmt-check docs install clean

help: ## Print this list
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z][a-z -]*:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Try it
demo: ## Build vmdeploy and show a complete deployment on an embedded PVE (no Proxmox host needed)
	@$(RUN) demo $(ARGS)

lab: ## Run the embedded PVE until Ctrl-C; run `. ./demo.lab.env` in another shell to use it
	@$(RUN) lab --env-file demo.lab.env $(ARGS)

##@ Deploy (SPEC=FILE-OR-FOLDER, VM="NAME…", ARGS="…")
init: ## Write .env and a first spec to fill in
	@$(RUN) init $(ARGS)

validate: ## Check SPEC offline
	@$(RUN) validate $(SPEC) $(ARGS)

check-syntax: validate ## Same as validate

plan: ## Show what deploy would do
	@$(RUN) plan $(SPEC) $(TARGETS) $(ARGS)

dry-run: plan ## Same as plan

deploy: ## Create and update the VMs of SPEC (CHECK=1: plan only)
	@$(RUN) $(APPLY) $(SPEC) $(TARGETS) $(ARGS)

resume: ## Continue an interrupted or failed run (ARGS=--rollback: roll it back)
	@$(RUN) resume $(ARGS)

runs: ## List recorded runs
	@$(RUN) runs $(ARGS)

report: ## Show what the newest run did (ARGS=RUN: another run)
	@$(RUN) report $(ARGS)

status: ## Show state, address and drift of the VMs of SPEC
	@$(RUN) status $(SPEC) $(TARGETS) $(ARGS)

list-vms vm-status: status ## Same as status

inventory: ## Print the Ansible inventory of SPEC
	@$(RUN) inventory $(SPEC) $(TARGETS) $(ARGS)

generate-inventory: inventory ## Same as inventory

ip: ## Print the address of VM
	@$(RUN) ip $(addprefix --spec ,$(SPEC)) $(VM) $(ARGS)

ssh: ## Log in to VM with ssh
	@$(RUN) ssh $(addprefix --spec ,$(SPEC)) $(VM) $(ARGS)

start-vms: ## Start the VMs of SPEC, or only VM
	@$(RUN) start $(POWERED) $(ARGS)

shutdown-vms: ## Shut down the VMs of SPEC, or only VM
	@$(RUN) shutdown $(POWERED) $(ARGS)

stop-vms: ## Stop the VMs of SPEC, or only VM, immediately
	@$(RUN) stop $(POWERED) $(ARGS)

check-image: ## Check whether the images of SPEC exist on the nodes
	@$(RUN) image check $(SPEC) $(ARGS)

build-image-remote: ## Build IMAGE of SPEC on its builder and upload it to the nodes
	@$(RUN) image build $(IMAGE) --spec $(BUILDER) --push $(ARGS)

deploy-build-vm: ## Deploy the builder of SPEC [default: deployments/builder.yaml]
	@$(RUN) deploy $(BUILDER) --target $(or $(VM),builder) $(ARGS)

remove-build-vm: ## Destroy the builder of SPEC (CONFIRM_DELETE=true: do not ask)
	@$(RUN) destroy $(BUILDER) --target $(or $(VM),builder) $(ARGS)

destroy: ## Destroy the VMs of SPEC (CHECK=1: plan only; CONFIRM_DELETE=true: do not ask)
	@$(RUN) destroy $(SPEC) $(TARGETS) $(if $(CHECK),--plan-only) $(ARGS)

remove cleanup-vms: destroy ## Same as destroy

##@ Connect
check-token: ## Check whether the credentials have the privileges that SPEC needs
	@$(RUN) check-token $(SPEC) $(ARGS)

fix-token: ## Grant the privileges that the credentials lack (ARGS=--create: create user and token)
	@$(RUN) fix-token $(SPEC) $(ARGS)

test-connection: ## Check the connection to the cluster, and suggest fixes
	@$(RUN) doctor $(SPEC) $(ARGS)

check-env info: test-connection ## Same as test-connection

##@ Develop
test: ## Run all tests; those that need missing software are reported as ignored
	$(CARGO) test --workspace --quiet

test-real: ## Run the tests on a spare node (VMDEPLOY_REAL_ENV=FILE, see docs/real-node.md), and on the lab
	$(CARGO) test --workspace --quiet --test real

fuzz: ## Run all tests with random property-test cases, and kill runs after every record
	env -u PROPTEST_RNG_SEED VMDEPLOY_TEST_ALL=1 $(CARGO) test --workspace --quiet

test-images: ## Build the image for the container tests, if a container engine is running
	@crates/pve-ssh-containers/image/build.sh

test-containers: test-images ## Test pve-ssh against OpenSSH in containers; reported as ignored without an engine
	@$(CARGO) build --quiet --package vmdeploy
	$(CARGO) test --quiet --package pve-ssh-containers --features containers

bench: ## Run the benchmarks and update docs/benchmarks.md
	$(CARGO) bench --quiet --package vmdeploy --bench commands
	$(CARGO) bench --quiet --package vmdeploy-planner --bench plan
	$(CARGO) bench --quiet --package vmdeploy-executor --bench overhead
	$(CARGO) bench --quiet --package pve-lab --bench lab

check: fmt-check lint docs test ## Run everything that CI runs

conformance: ## Compare the lab with recorded answers of a real PVE (GOLDEN_DIR=DIR)
	@$(CARGO) run --quiet --package pve-lab --example conformance -- "$(GOLDEN_DIR)"

test-ansible: ## Install ansible-core into target/ansible for the tests
	python3 -m venv target/ansible && target/ansible/bin/pip install --quiet ansible-core

test-third-party: ## Install proxmoxer and Ansible collections into target/third-party for the tests
	python3 -m venv target/third-party && target/third-party/bin/pip install --quiet proxmoxer requests ansible

lint: ## Run clippy; warnings are errors
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

fmt: ## Format the source
	$(CARGO) fmt --all

fmt-check: ## Check that the source is formatted
	$(CARGO) fmt --all --check

docs: ## Build the API documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

install: ## Build a release and install it to PREFIX/bin [default: ~/.local]
	$(CARGO) install --locked --path crates/vmdeploy --root $(PREFIX)

clean: ## Remove build output; runs and specs are kept
	$(CARGO) clean
