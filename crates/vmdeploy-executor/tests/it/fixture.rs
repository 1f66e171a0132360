//! A lab, connections to it, and a folder for runs: the fixture of every test.

use pve_config::NewVolume;
use pve_lab::{Lab, LabOptions, WorldSpec, fault::Fault};
use pve_types::{Bytes, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vmdeploy_executor::{
    ApiAccess, Cancellation, Canceller, Connections, ConnectionsConfig, Event, NoSecrets, ResumeMode,
    RunError, RunOptions, RunReport, RunsFolder, SshAccess, cancellation, execute, resume,
};
use vmdeploy_planner::identity::{Marker, guest_uuid, marked_description};
use vmdeploy_planner::plan::{
    Action, Change, CheckedPlan, Condition, ConfigPatch, DiskSource, GuestRef, ImportAction, IpFamily,
    Limits, OnFailure, PLAN_FORMAT_VERSION, PatchValue, Plan, Ref, Revert, Step, StepId, Transport,
    TransportChoice, Verb,
};

/// The longest that a test waits for something that happens at once on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The image of the demo world.
pub const IMAGE: &str = "/var/lib/vz/import/tiny.qcow2";

/// A lab with everything that reaches it.
pub struct Fixture {
    pub lab: Lab,
    pub folder: tempfile::TempDir,
    pub connections: Connections,
}

impl Fixture {
    /// Starts the demo world.
    pub async fn start() -> Self {
        Self::with_faults("[]").await
    }
    /// Starts the demo world with faults, written as YAML.
    pub async fn with_faults(faults: &str) -> Self {
        Self::of(quick_world(), faults, Transports::Both).await
    }
    /// Starts a world.
    pub async fn of(world: WorldSpec, faults: &str, transports: Transports) -> Self {
        let faults: Vec<Fault> = pve_lab::fault::from_yaml(faults).unwrap();
        let lab = Lab::start(LabOptions { world, faults, seed: 1 }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let connections = Connections::open(config(&lab, &folder, transports)).await.unwrap();
        Self { lab, folder, connections }
    }
    /// Adds faults, written as YAML, to those that there are.
    pub fn add_faults(&self, faults: &str) {
        let faults: Vec<Fault> = pve_lab::fault::from_yaml(faults).unwrap();
        self.lab.world().with(|world| faults.into_iter().for_each(|fault| world.faults.add(fault)));
    }
    /// Lets the next request that matches take a while until the server does anything about it.
    pub fn slow_once(&self, when: &str) {
        self.add_faults(&format!("[{{when: {{{when}, times: 1}}, do: {{slow: {{ms: 1500}}}}}}]"));
    }
    pub fn runs(&self) -> RunsFolder {
        RunsFolder::new(self.folder.path().join("runs"))
    }
    pub fn options(&self) -> RunOptions {
        options_in(self.folder.path())
    }
    /// Carries a plan out and returns the report with all events.
    pub async fn run(&self, plan: Plan) -> (RunReport, Vec<Event>) {
        let (report, events) = self.try_run(plan, &self.options()).await;
        (report.unwrap(), events)
    }
    pub async fn try_run(
        &self,
        plan: Plan,
        options: &RunOptions,
    ) -> (Result<RunReport, RunError>, Vec<Event>) {
        let (_switch, stop) = cancellation();
        let (sender, receiver) = unbounded_channel();
        let plan = CheckedPlan::new(plan).unwrap();
        let report = execute(plan, &self.connections, options, sender, stop).await;
        (report, drained(receiver))
    }
    /// Carries a plan out while `conduct` hears every event and may stop the run.
    pub async fn conducted(
        &self,
        plan: Plan,
        mut conduct: impl FnMut(&Event, &Canceller),
    ) -> (RunReport, Vec<Event>) {
        let (switch, stop): (Canceller, Cancellation) = cancellation();
        let (sender, mut receiver) = unbounded_channel();
        let options = self.options();
        let run = execute(CheckedPlan::new(plan).unwrap(), &self.connections, &options, sender, stop);
        let listen = async {
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                conduct(&event, &switch);
                events.push(event);
            }
            events
        };
        let (report, events) = futures::join!(run, listen);
        (report.unwrap(), events)
    }
    /// Goes on with a run.
    pub async fn resume(&self, run: &str, mode: ResumeMode) -> Result<RunReport, RunError> {
        self.resumed(run, mode, &self.options()).await.0
    }
    /// Goes on with a run, and returns its events, too.
    pub async fn resumed(
        &self,
        run: &str,
        mode: ResumeMode,
        options: &RunOptions,
    ) -> (Result<RunReport, RunError>, Vec<Event>) {
        let (_switch, stop) = cancellation();
        let (sender, receiver) = unbounded_channel();
        let stored = self.runs().open(run).unwrap();
        let report = resume(stored, mode, &self.connections, options, sender, stop).await;
        (report, drained(receiver))
    }
    /// Begins a run, and ends it without another word, as a `kill -9` does, once the world is as awaited.
    pub async fn killed_when(&self, plan: Plan, mut awaited: impl FnMut(&mut pve_lab::World) -> bool) {
        // Connections of its own: a process that is dead has none.
        let config = config(&self.lab, &self.folder, Transports::Both);
        let connections = Connections::open(config).await.unwrap();
        let plan = CheckedPlan::new(plan).unwrap();
        let options = RunOptions { allow_commands: true, ..self.options() };
        let run = tokio::spawn(async move {
            let (_switch, stop) = cancellation();
            let (sender, _receiver) = unbounded_channel();
            execute(plan, &connections, &options, sender, stop).await
        });
        self.until(|world| awaited(world)).await;
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled(), "the run ended before it was killed");
    }
    /// Waits until the world is as awaited.
    pub async fn until(&self, mut awaited: impl FnMut(&mut pve_lab::World) -> bool) {
        let wait = async {
            while !self.lab.world().with(&mut awaited) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the world comes that far");
    }
    /// Returns how many tasks of a type there have been.
    pub fn tasks(&self, kind: &str) -> usize {
        self.lab.world().with(|world| world.tasks.newest_first().filter(|task| task.kind == kind).count())
    }
    /// Runs a command on the node, for its effect and its output.
    pub async fn on_node(&self, command: &pve_ssh::command::Command) -> String {
        let host = self.connections.first_host().unwrap();
        host.run_to_success(command, PATIENCE).await.unwrap().stdout
    }
    /// Returns each guest's configuration as the world has it, without what differs from run to run.
    pub fn guests(&self) -> BTreeMap<Vmid, BTreeMap<String, String>> {
        self.lab.world().with(|world| {
            let config = |guest: &pve_lab::world::Guest| {
                let varies = |key: &str| {
                    matches!(key, "meta" | "vmgenid" | "digest" | "description") || key.starts_with("net")
                };
                let values = guest.config.iter().filter(|(key, _)| !varies(key));
                let mut values: BTreeMap<String, String> =
                    values.map(|(key, value)| (key.clone(), without_number(value))).collect();
                values.insert("running".to_owned(), guest.is_running().to_string());
                values
            };
            world.guests.iter().map(|(vmid, guest)| (*vmid, config(guest))).collect()
        })
    }
    /// Returns how many volumes of guests there are.
    pub fn volumes(&self) -> usize {
        self.lab.world().with(|world| world.block_stores.values().map(|store| store.volumes.len()).sum())
    }
}

/// Returns options that suit the lab.
pub fn options_in(folder: &Path) -> RunOptions {
    RunOptions {
        poll: Duration::from_millis(20),
        first_wait: Duration::from_millis(10),
        settle: Duration::from_secs(3),
        ..RunOptions::new(RunsFolder::new(folder.join("runs")), folder, Arc::new(NoSecrets))
    }
}

/// Writes down how a lab is reached, for a child process.
pub fn config_as_json(config: &ConnectionsConfig) -> Vec<u8> {
    let (api, ssh) = (config.api.as_ref().unwrap(), config.ssh.as_ref().unwrap());
    let value = serde_json::json!({
        "host": api.hosts[0], "port": api.port, "user": api.user, "secret": api.secret.expose(),
        "fingerprint": api.fingerprint, "ssh_port": ssh.port, "key": ssh.keys[0], "known_hosts": ssh.known_hosts[0],
        "node": ssh.node,
    });
    serde_json::to_vec(&value).unwrap()
}

/// Reads what [`config_as_json`] wrote.
pub fn config_from(bytes: &[u8]) -> ConnectionsConfig {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let port = |key: &str| u16::try_from(value[key].as_u64().unwrap()).unwrap();
    let api = ApiAccess {
        hosts: vec![text("host")],
        port: port("port"),
        user: text("user"),
        secret: pve_types::Secret::new(text("secret")),
        totp: None,
        ask_second_factor: pve_api::SecondFactorSource::None,
        ca_pem: None,
        fingerprint: Some(text("fingerprint")),
    };
    let ssh = ssh_access(text("host"), port("ssh_port"), &text("key"), &text("known_hosts"), &text("node"));
    ConnectionsConfig { api: Some(api), ssh: Some(ssh) }
}

fn ssh_access(host: String, port: u16, key: &str, known_hosts: &str, node: &str) -> SshAccess {
    SshAccess {
        host,
        port,
        user: "root".to_owned(),
        keys: vec![key.into()],
        agent: None,
        keyring: Arc::default(),
        password: None,
        openssh: None,
        known_hosts: vec![known_hosts.into()],
        trust_on_first_use: false,
        jump: Vec::new(),
        node: Some(node.parse().unwrap()),
        nodes: BTreeMap::new(),
    }
}

/// Two disks that are made at the same time get their numbers in any order.
fn without_number(value: &str) -> String {
    match value.split_once("-disk-") {
        Some((before, after)) => {
            format!("{before}-disk-N{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => value.to_owned(),
    }
}

/// Returns the demo world, whose guests boot in a moment.
pub fn quick_world() -> WorldSpec {
    let mut world = WorldSpec::demo();
    world.guest.agent_ms = Some(20);
    world
}

/// Which transports a test has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    Both,
    Api,
    Ssh,
}

/// Returns the configuration that reaches the lab.
pub fn config(lab: &Lab, folder: &tempfile::TempDir, transports: Transports) -> ConnectionsConfig {
    let pairs: BTreeMap<String, String> =
        lab.write_environment(&folder.path().join("access")).unwrap().into_iter().collect();
    let get = |name: &str| pairs[name].clone();
    let api = ApiAccess {
        hosts: vec![get("PROXMOX_API_HOST")],
        port: get("PROXMOX_API_PORT").parse().unwrap(),
        user: get("PROXMOX_API_USER"),
        secret: pve_types::Secret::new(get("PROXMOX_API_PASSWORD")),
        totp: None,
        ask_second_factor: pve_api::SecondFactorSource::None,
        ca_pem: None,
        fingerprint: Some(get("PROXMOX_API_FINGERPRINT")),
    };
    let ssh = ssh_access(
        get("PROXMOX_SSH_HOST"),
        get("PROXMOX_SSH_PORT").parse().unwrap(),
        &get("PROXMOX_SSH_KEY"),
        &get("PROXMOX_SSH_KNOWN_HOSTS"),
        &get("PROXMOX_NODE"),
    );
    ConnectionsConfig {
        api: (transports != Transports::Ssh).then_some(api),
        ssh: (transports != Transports::Api).then_some(ssh),
    }
}

pub fn drained(mut receiver: UnboundedReceiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        events.push(event);
    }
    events
}

/// Returns the guest of the test project with this number.
pub fn guest(number: u32) -> GuestRef {
    let name: pve_types::GuestName = format!("vm{number}").parse().unwrap();
    let uuid = guest_uuid("default", "test", &name);
    GuestRef { name, vmid: Vmid::new(200 + number).unwrap(), node: "pve1".parse().unwrap(), uuid }
}

/// Returns the plan that makes so many VMs by the hybrid transport: create, import, attach with a data disk and a
/// cloud-init drive, resize, start, wait for an address.
pub fn plan(run: &str, vms: u32) -> Plan {
    let guests: Vec<GuestRef> = (1..=vms).map(guest).collect();
    let mut steps = vec![storage_probe(vms)];
    steps.extend(guests.iter().flat_map(|guest| chain(run, guest)));
    plan_of(run, &guests, steps)
}

pub fn plan_of(run: &str, guests: &[GuestRef], steps: Vec<Step>) -> Plan {
    let change = |guest: &GuestRef| Change {
        group: None,
        outdated: Vec::new(),
        pool_addresses: BTreeMap::new(),
        vm: guest.name.clone(),
        guest: guest.clone(),
        verb: Verb::Create,
        reasons: Vec::new(),
        on_failure: OnFailure::Rollback,
        formerly: None,
    };
    Plan {
        format_version: PLAN_FORMAT_VERSION,
        run_id: run.to_owned(),
        project: "test".to_owned(),
        cluster: "default".to_owned(),
        pve_version: "9.2.11".parse().unwrap(),
        transport: TransportChoice::Hybrid,
        spec_digest: "00".to_owned(),
        observed_digest: "00".to_owned(),
        answered_by: None,
        changes: guests.iter().map(change).collect(),
        steps,
        notes: Vec::new(),
        checks: Vec::new(),
        limits: Limits::default(),
        rollouts: Vec::new(),
    }
}

fn storage_probe(vms: u32) -> Step {
    let needed = BTreeMap::from([("local-lvm".parse().unwrap(), Bytes::new(u64::from(vms) << 30))]);
    let action = Action::ProbeStorage { node: "pve1".parse().unwrap(), needed };
    Step { vm: None, ..step("-", "probe", action, Transport::Ssh, &[]) }
}

/// Returns one step; those before it are named without their VM, but for the shared ones.
pub fn step(vm: &str, what: &str, action: Action, transport: Transport, after: &[&str]) -> Step {
    let id = |what: &str| match what.contains('/') {
        true => StepId(what.to_owned()),
        false => StepId(format!("{vm}/{what}")),
    };
    Step {
        id: id(what),
        vm: Some(vm).filter(|vm| *vm != "-").map(|vm| vm.parse().unwrap()),
        action,
        transport,
        why: "a test".to_owned(),
        after: after.iter().map(|what| id(what)).collect::<BTreeSet<_>>(),
        follows: BTreeSet::new(),
        revert: Revert::Nothing,
        deadline_s: 30,
        estimate_ms: 0,
    }
}

pub fn text(text: &str) -> PatchValue {
    PatchValue::Text(text.to_owned())
}

/// A new volume of local-lvm, of so many GiB.
pub fn new_disk(gib: &str) -> PatchValue {
    PatchValue::NewVolume(NewVolume::of_gib("local-lvm".parse().unwrap(), gib))
}

fn new_cloud_drive() -> PatchValue {
    PatchValue::NewVolume(NewVolume::cloud_init("local-lvm".parse().unwrap()))
}

pub fn patch<const N: usize>(values: [(&str, PatchValue); N]) -> ConfigPatch {
    let set = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ConfigPatch { set, delete: BTreeSet::new() }
}

/// Returns the description that makes a guest ours.
pub fn marker(run: &str, guest: &GuestRef) -> String {
    let marker = Marker {
        cluster: "default".to_owned(),
        project: "test".to_owned(),
        name: guest.name.clone(),
        vmid: guest.vmid,
        run: run.to_owned(),
        uuid: None,
        sources: BTreeMap::new(),
        keep: Default::default(),
        disks: BTreeMap::new(),
    };
    marked_description("made by a test", &marker)
}

pub fn create_action(run: &str, guest: &GuestRef) -> Action {
    let config = patch([
        ("name", text(guest.name.as_ref())),
        ("cores", text("1")),
        ("memory", text("512")),
        ("scsihw", text("virtio-scsi-single")),
        ("agent", text("1")),
        ("ostype", text("l26")),
        ("net0", text("virtio,bridge=vmbr0")),
        ("smbios1", PatchValue::Text(format!("uuid={}", guest.uuid))),
        ("description", PatchValue::Text(marker(run, guest))),
    ]);
    Action::CreateVm { guest: guest.clone(), config, pool: None }
}

/// Returns all steps of one VM.
pub fn chain(run: &str, guest: &GuestRef) -> Vec<Step> {
    let vm = guest.name.as_ref();
    let mut create = step(vm, "create", create_action(run, guest), Transport::Api, &["-/probe"]);
    create.revert = Revert::Run { action: Box::new(Action::DeleteVm { guest: guest.clone(), stop: true }) };
    let import = Action::ImportDisk(ImportAction {
        guest: guest.clone(),
        slot: "scsi0".parse().unwrap(),
        source: DiskSource::Path(IMAGE.to_owned()),
        storage: "local-lvm".parse().unwrap(),
        format: None,
        attach: false,
        digest: None,
    });
    let imported = Ref::OutputOf(StepId(format!("{vm}/import-scsi0")));
    let attach = Action::SetConfig {
        guest: guest.clone(),
        patch: patch([
            ("scsi0", PatchValue::Drive { volume: imported, options: "discard=on,ssd=1".to_owned() }),
            ("scsi1", new_disk("2")),
            ("ide2", new_cloud_drive()),
            ("boot", text("order=scsi0")),
            ("ciuser", text("admin")),
            ("ipconfig0", text("ip=dhcp")),
        ]),
        digest: None,
    };
    let resize = Action::ResizeDisk {
        guest: guest.clone(),
        slot: "scsi0".parse().unwrap(),
        size: Bytes::new(1 << 30),
        volume: None,
    };
    let start = Action::StartVm { guest: guest.clone() };
    let condition =
        Condition::Address { nic: "net0".parse().ok(), mac: None, family: IpFamily::V4, within: None };
    let wait = Action::Await { guest: guest.clone(), condition };
    vec![
        create,
        step(vm, "import-scsi0", import, Transport::Ssh, &["create"]),
        step(vm, "attach", attach, Transport::Ssh, &["import-scsi0"]),
        step(vm, "resize-scsi0", resize, Transport::Api, &["attach"]),
        step(vm, "start", start, Transport::Api, &["resize-scsi0"]),
        step(vm, "await-address", wait, Transport::Api, &["start"]),
    ]
}

/// Returns the plan that makes so many VMs by the API alone: one create call that imports the disk, adds a data disk and
/// the cloud-init drive; then resize, start, wait for an address.
pub fn plan_by_api(run: &str, vms: u32) -> Plan {
    let guests: Vec<GuestRef> = (1..=vms).map(guest).collect();
    let mut plan = plan_of(run, &guests, guests.iter().flat_map(|guest| chain_by_api(run, guest)).collect());
    plan.transport = TransportChoice::Api;
    plan
}

fn chain_by_api(run: &str, guest: &GuestRef) -> Vec<Step> {
    let mut steps = chain(run, guest);
    steps.retain(|step| !step.id.0.ends_with("/import-scsi0") && !step.id.0.ends_with("/attach"));
    for step in &mut steps {
        step.after.retain(|id| !id.0.ends_with("/attach") && !id.0.ends_with("/probe"));
        if step.id.0.ends_with("/resize-scsi0") {
            step.after.insert(StepId(format!("{}/create", guest.name)));
        }
        if let Action::CreateVm { config, .. } = &mut step.action {
            let source = DiskSource::Volume(Ref::Known("local:import/tiny.qcow2".parse().unwrap()));
            let storage = "local-lvm".parse().unwrap();
            let options = "discard=on,ssd=1".to_owned();
            config.set.insert("scsi0".to_owned(), PatchValue::ImportFrom { storage, source, options });
            for (key, value) in [
                ("scsi1", new_disk("2")),
                ("ide2", new_cloud_drive()),
                ("boot", text("order=scsi0")),
                ("ciuser", text("admin")),
                ("ipconfig0", text("ip=dhcp")),
            ] {
                config.set.insert(key.to_owned(), value);
            }
        }
    }
    steps
}
