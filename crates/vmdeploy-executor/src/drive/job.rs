//! A running step: its state, its events, and its queries about the guest.

use super::places::Places;
use crate::describe;
use crate::journal::{Record, RunHistory, StepHistory};
use crate::{Connections, Failure, FailureKind, Found, Outcome, RunOptions};
use pve_api::{Finished, Qemu, QemuConfig, Task, Wait};
use pve_config::Bus;
use pve_ssh::Host;
use pve_ssh::command::Command;
use pve_types::{GuestName, NodeName, StorageId, Upid, Vmid, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmdeploy_planner::identity::{Marker, MarkerSearch, smbios_uuid};
use vmdeploy_planner::plan::{Action, GuestRef, Plan, Ref, Step, StepId, Transport};

/// The volumes of a storage and when a node listed them; locked while it does.
pub(crate) type SharedList = Arc<tokio::sync::Mutex<Option<(Instant, Arc<[VolumeId]>)>>>;

/// What all steps of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Connections,
    pub(crate) plan: Plan,
    places: Places,
    pub(crate) options: OptionsOfSteps,
    pub(crate) cancel: CancellationToken,
    /// Cancelled with `cancel`, and as soon as a person stops the run: what is on the wire may go on, but nothing is
    /// waited for.
    pub(crate) no_more_waits: CancellationToken,
    /// What waits know of each other.
    pub(crate) pace: super::pace::Pace,
    /// What guests had for disks a moment ago.
    pub(crate) scan: super::scan::LastScan,
    /// What storages held a moment ago, and when that was.
    lists: Mutex<BTreeMap<(NodeName, StorageId), SharedList>>,
    /// What the journal says, live: each record is applied when it is written.
    history: Mutex<RunHistory>,
    nodes: Mutex<BTreeMap<Vmid, NodeName>>,
    /// The guests that this process has looked at, and compared with what the run left of them.
    known: Mutex<BTreeSet<Vmid>>,
    /// Whether another process of this run was interrupted: anything may have happened to the guests since.
    was_interrupted: bool,
}

/// What steps need of the run's options.
pub(crate) struct OptionsOfSteps(pub(crate) RunOptions);

impl std::fmt::Debug for OptionsOfSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunOptions")
    }
}

/// What a step tells the loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// PVE made a task of it.
    Submitted(StepId, Upid),
    /// How far it is.
    Progress(StepId, Option<f64>, String),
    /// It is about to be sent out, and this must be on the disk before.
    Saw(StepId, Vec<VolumeId>, oneshot::Sender<()>),
    /// What the guest is before the step changes it; this must be on the disk before.
    Config(StepId, Vmid, BTreeMap<String, String>, oneshot::Sender<()>),
    /// What a probe found.
    Probed(StepId, Found),
    /// A note for the observer of the run.
    Note(Option<GuestName>, String),
}

/// What a step gives when it succeeds.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) warnings: Vec<String>,
}

impl Done {
    /// It has its effect and nothing more.
    pub(crate) fn plain() -> Self {
        Self { outcome: Outcome::Done, warnings: Vec::new() }
    }
    /// It was so already.
    pub(crate) fn already() -> Self {
        Self { outcome: Outcome::AlreadyDone, warnings: Vec::new() }
    }
    /// It gave a volume.
    pub(crate) fn volume(volume: VolumeId) -> Self {
        Self { outcome: Outcome::Volume { volume }, warnings: Vec::new() }
    }
    /// Adds a warning.
    pub(crate) fn warned(mut self, warning: impl AsRef<str>) -> Self {
        self.warnings.push(crate::printable(warning.as_ref()));
        self
    }
    /// Adds what a task warned of.
    pub(crate) fn with(mut self, finished: Option<Finished>) -> Self {
        let lines = finished.into_iter().flat_map(|finished| finished.warnings);
        self.warnings.extend(lines.map(|line| crate::printable(&line)));
        self
    }
}

/// One step on its way.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) shared: Arc<Shared>,
    pub(crate) step: Step,
    /// Whether it had begun before, so that its effect may be there.
    pub(crate) probe: bool,
    pub(crate) history: StepHistory,
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    pub(crate) until: Instant,
}

impl Shared {
    pub(crate) fn new(connections: Connections, plan: Plan, options: RunOptions) -> Self {
        let cancel = CancellationToken::new();
        Self {
            connections,
            places: Places::of(&plan),
            plan,
            options: OptionsOfSteps(options),
            no_more_waits: cancel.child_token(),
            cancel,
            pace: super::pace::Pace::default(),
            scan: super::scan::LastScan::default(),
            lists: Mutex::default(),
            history: Mutex::default(),
            nodes: Mutex::default(),
            known: Mutex::default(),
            was_interrupted: false,
        }
    }
    /// Returns a step of the plan.
    pub(crate) fn step(&self, id: &StepId) -> Option<&Step> {
        self.places.of_step(id).map(|place| &self.plan.steps[place])
    }
    /// Returns the steps that work for a VM, in the plan's order.
    pub(crate) fn steps_of(&self, vm: &GuestName) -> impl DoubleEndedIterator<Item = &Step> {
        self.places.of_vm(vm).iter().map(|place| &self.plan.steps[*place])
    }
    /// Tells whether another step waits for this one.
    pub(crate) fn is_awaited(&self, id: &StepId) -> bool {
        self.places.is_awaited(id)
    }
    /// Says that the run was interrupted: what it knew of guests may be long ago.
    pub(crate) fn after_an_interruption(self) -> Self {
        Self { was_interrupted: true, ..self }
    }
    /// Tells whether the run goes on after an interruption.
    pub(crate) fn is_resumed(&self) -> bool {
        self.was_interrupted
    }
    /// Begins with what the journal says already.
    pub(crate) fn with_history(self, history: RunHistory) -> Self {
        Self { history: Mutex::new(history), ..self }
    }
    /// Takes a record that was just written.
    pub(crate) fn apply(&self, record: &Record) {
        lock(&self.history).apply(record);
    }
    /// Asks what the journal says.
    pub(crate) fn history<T>(&self, ask: impl FnOnce(&RunHistory) -> T) -> T {
        ask(&lock(&self.history))
    }
    /// Tells whether a volume of the VM was made since this run began: a step that looked at its storage, right before it
    /// made a volume there, did not see it.
    pub(crate) fn is_new(&self, vm: &GuestName, volume: &VolumeId) -> bool {
        let history = lock(&self.history);
        self.steps_of(vm)
            .filter(|step| crate::describe::fills(&step.action).contains(volume.storage()))
            .filter_map(|step| history.step(&step.id)?.volumes_before.as_ref())
            .any(|before| !before.contains(volume))
    }
    /// Returns what came of a step.
    pub(crate) fn outcome(&self, step: &StepId) -> Option<Outcome> {
        self.history(|history| history.outcome(step).cloned())
    }
    /// Tells whether a step of this run gave the volume. Of all that are there, revert may free only those.
    pub(crate) fn is_of_this_run(&self, volume: &VolumeId) -> bool {
        self.history(|history| history.gave(volume))
    }
    /// Returns where the list of a storage's volumes is shared.
    pub(crate) fn list_of(&self, node: &NodeName, storage: &StorageId) -> SharedList {
        lock(&self.lists).entry((node.clone(), storage.clone())).or_default().clone()
    }
    /// Returns the addresses that were found for a VM.
    pub(crate) fn addresses_of(&self, vm: &GuestName) -> Vec<std::net::IpAddr> {
        let history = lock(&self.history);
        let own = self.steps_of(vm);
        own.filter_map(|step| match history.outcome(&step.id) {
            Some(Outcome::Addresses { addresses, .. }) => Some(addresses.clone()),
            _ => None,
        })
        .next_back()
        .unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A guest's configuration and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: NodeName,
    pub(crate) config: QemuConfig,
}

impl Job {
    /// Returns what is left of the step's time.
    pub(crate) fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
    pub(crate) fn tell(&self, percent: Option<f64>, text: impl Into<String>) {
        let text = crate::printable(&text.into());
        let _ = self.messages.send(Message::Progress(self.step.id.clone(), percent, text));
    }
    /// Says something that is worth a line of its own.
    pub(crate) fn note(&self, text: impl Into<String>) {
        let text = crate::printable(&text.into());
        let _ = self.messages.send(Message::Note(self.step.vm.clone(), text));
    }
    pub(crate) fn found(&self, found: Found) {
        let _ = self.messages.send(Message::Probed(self.step.id.clone(), found));
    }
    /// Says that the effect is there already.
    pub(crate) fn found_done(&self, done: Done) -> Done {
        self.found(Found::Done { outcome: done.outcome.clone() });
        done
    }
    /// Writes down what the guest has before something is made for it.
    pub(crate) async fn saw(&self, volumes: impl IntoIterator<Item = VolumeId>) -> Result<(), Failure> {
        let (done, written) = oneshot::channel();
        let volumes = volumes.into_iter().collect();
        let _ = self.messages.send(Message::Saw(self.step.id.clone(), volumes, done));
        written
            .await
            .map_err(|_| Failure::new(FailureKind::Interrupted, "the run ended before the step was sent out"))
    }

    /// Returns the guest as the API names it, on the node where it is believed to be.
    pub(crate) fn qemu(&self, guest: &GuestRef) -> Qemu {
        self.qemu_at(&self.node_of(guest), guest.vmid)
    }
    pub(crate) fn qemu_at(&self, node: &NodeName, vmid: Vmid) -> Qemu {
        self.shared.connections.api().node(node).qemu(vmid)
    }
    /// Returns the node where the guest is believed to be.
    pub(crate) fn node_of(&self, guest: &GuestRef) -> NodeName {
        lock(&self.shared.nodes).get(&guest.vmid).unwrap_or(&guest.node).clone()
    }
    fn note_node(&self, vmid: Vmid, node: &NodeName) {
        lock(&self.shared.nodes).insert(vmid, node.clone());
    }
    /// Asks the cluster where the guest is now. `None` when it lists no such guest.
    pub(crate) async fn find_node(&self, vmid: Vmid) -> Result<Option<NodeName>, Failure> {
        let kind = Some(pve_api::ResourceKind::Guests);
        let resources = self.shared.connections.api().cluster().resources(kind).await?;
        let found = resources.into_iter().find(|resource| resource.vmid == Some(vmid));
        let node = found.and_then(|resource| resource.node);
        if let Some(node) = &node {
            self.note_node(vmid, node);
        }
        Ok(node)
    }
    /// Returns the guest's configuration, looking for it once on another node. `None` when it is nowhere.
    ///
    /// A list that lags is not proof of absence: the guest's last node is asked first.
    pub(crate) async fn look(&self, guest: &GuestRef) -> Result<Option<Seen>, Failure> {
        let node = self.node_of(guest);
        match self.qemu_at(&node, guest.vmid).config().await {
            Ok(config) => return Ok(Some(Seen { node, config })),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
        match self.find_node(guest.vmid).await? {
            Some(other) if other != node => match self.qemu_at(&other, guest.vmid).config().await {
                Ok(config) => {
                    self.tell(None, format!("the guest is on {other} now"));
                    Ok(Some(Seen { node: other, config }))
                }
                Err(error) if error.is_absent() => Ok(None),
                Err(error) => Err(error.into()),
            },
            _ => Ok(None),
        }
    }
    /// Returns the guest's configuration.
    ///
    /// # Errors
    /// [`FailureKind::GuestGone`] when it is nowhere.
    pub(crate) async fn config(&self, guest: &GuestRef) -> Result<Seen, Failure> {
        self.look(guest).await?.ok_or_else(|| gone(guest))
    }
    /// Refuses a guest that does not have the ownership marker: UUID, marker, and the marker's own VMID.
    pub(crate) fn check_ours(&self, guest: &GuestRef, config: &QemuConfig) -> Result<Marker, Failure> {
        let description = config.get("description").unwrap_or_default();
        let uuid = config.get("smbios1").and_then(smbios_uuid);
        let what = format!(
            "VM {} on {} does not have the ownership marker of `{}`",
            guest.vmid,
            self.node_of(guest),
            guest.name
        );
        match Marker::find(description) {
            MarkerSearch::Found(marker) if self.is_marker_of(&marker, guest) => match uuid {
                Some(uuid) if uuid == guest.uuid => Ok(marker),
                // A clone whose UUID was not written yet; its marker is of this very run.
                _ if marker.run == self.shared.plan.run_id => Ok(marker),
                _ => Err(Failure::new(FailureKind::NotOurs, format!("{what}: its UUID is different"))),
            },
            MarkerSearch::Found(_) => {
                Err(Failure::new(FailureKind::NotOurs, format!("{what}, but that of another VM")))
            }
            _ => Err(Failure::new(FailureKind::NotOurs, what)),
        }
    }
    /// Refuses a guest that is no longer ours, such as one whose marker a person took away since the plan was made. One that
    /// this plan adopts has it only once that is done.
    pub(crate) fn check_still_ours(&self, guest: &GuestRef, config: &QemuConfig) -> Result<(), Failure> {
        let Err(failure) = self.check_ours(guest, config) else { return Ok(()) };
        let marks = |step: &Step| match &step.action {
            Action::SetConfig { patch, .. } => {
                let is_done =
                    || self.history_of(&step.id, |history| history.state == crate::StepState::Succeeded);
                patch.set.contains_key("description") && !is_done()
            }
            _ => false,
        };
        let is_bare = match Marker::find(config.get("description").unwrap_or_default()) {
            MarkerSearch::Absent => true,
            // That of the guest which this one is a copy of.
            MarkerSearch::Found(marker) => marker.vmid != guest.vmid,
            _ => false,
        };
        let is_it = config.get("smbios1").and_then(smbios_uuid).is_none_or(|uuid| uuid == guest.uuid);
        match is_bare && is_it && self.shared.steps_of(&guest.name).any(marks) {
            true => Ok(()),
            false => Err(failure),
        }
    }
    fn history_of(&self, step: &StepId, is_such: impl Fn(&StepHistory) -> bool) -> bool {
        self.shared.history(|history| history.step(step).is_some_and(is_such))
    }
    /// Looks at the guest before this process changes it first: refuses one that is no longer the plan's, or that others
    /// changed since the run was interrupted, and writes down what it is.
    pub(crate) async fn check_still_the_same(&self) -> Result<(), Failure> {
        let action = &self.step.action;
        let Some(guest) = action.guest().filter(|_| !action.only_reads()) else { return Ok(()) };
        // Those that make and remove guests look for themselves.
        let looks_itself = action.made_guest().is_some() || matches!(action, Action::DeleteVm { .. });
        if looks_itself || lock(&self.shared.known).contains(&guest.vmid) {
            return Ok(());
        }
        if !self.shared.was_interrupted && !self.needs_config_before(guest) {
            return Ok(());
        }
        if let Some(seen) = self.look(guest).await? {
            self.check_unchanged(guest, &seen)?;
            self.check_still_ours(guest, &seen.config)?;
            self.note_config(guest, &seen.config).await?;
        }
        lock(&self.shared.known).insert(guest.vmid);
        Ok(())
    }
    /// Refuses a guest that is not the plan's, or that others changed since this run was interrupted.
    pub(crate) fn check_unchanged(&self, guest: &GuestRef, seen: &Seen) -> Result<(), Failure> {
        if !self.shared.was_interrupted || lock(&self.shared.known).contains(&guest.vmid) {
            return Ok(());
        }
        if !self.is_the_plans(guest, &seen.config) {
            let text = format!(
                "VM {} on {} is not the guest `{}` that the run started with",
                guest.vmid, seen.node, guest.name
            );
            return Err(Failure::new(FailureKind::NotOurs, text).at(&seen.node));
        }
        let (plan, values) = (&self.shared.plan, &seen.config.values);
        let changes =
            self.shared.history(|history| super::since::changes_of_others(plan, history, guest.vmid, values));
        if changes.is_empty() {
            return Ok(());
        }
        let text = format!(
            "VM {} was changed by another run or a user since this run was interrupted: {}",
            guest.vmid,
            changes.join("; ")
        );
        let hint = "this run does not touch the VM; `vmdeploy plan` shows what a new deployment would do";
        Err(Failure::new(FailureKind::DigestChanged, text).at(&seen.node).hint(hint))
    }
    /// Tells whether the journal must hold what the guest is before it is changed: not where this run made it, for then
    /// all that it is was written by this run.
    fn needs_config_before(&self, guest: &GuestRef) -> bool {
        let changes = matches!(
            self.step.action,
            Action::SetConfig { .. }
                | Action::ImportDisk(_)
                | Action::ResizeDisk { .. }
                | Action::MoveDisk(_)
                | Action::ReassignDisk { .. }
                | Action::ConvertToTemplate { .. }
                | Action::RegenerateCloudInit { .. }
                | Action::StartVm { .. }
                | Action::ShutdownVm { .. }
                | Action::StopVm { .. }
                | Action::RebootVm { .. }
        );
        changes && !self.is_created_here(guest)
    }
    /// Tells whether a step of this run has changed the guest's configuration: the digest that the plan names is then
    /// that of before.
    pub(crate) fn was_changed_by_this_run(&self, guest: &GuestRef) -> bool {
        let is_other = |step: &&Step| step.id != self.step.id && !step.action.only_reads();
        let own = self.shared.steps_of(&guest.name).filter(is_other);
        let mut own = own.filter(|step| step.action.guest().is_some_and(|other| other.vmid == guest.vmid));
        self.shared.history(|history| {
            own.any(|step| history.step(&step.id).is_some_and(crate::journal::StepHistory::has_changed))
        })
    }
    /// Tells whether the plan makes the guest from nothing.
    pub(crate) fn is_created_here(&self, guest: &GuestRef) -> bool {
        self.shared.steps_of(&guest.name).any(
            |step| matches!(&step.action, Action::CreateVm { guest: made, .. } if made.vmid == guest.vmid),
        )
    }
    /// Writes down what the guest is before this process changes it.
    async fn note_config(&self, guest: &GuestRef, config: &QemuConfig) -> Result<(), Failure> {
        let (done, written) = oneshot::channel();
        let mut values = config.values.clone();
        values.remove("cipassword");
        let _ = self.messages.send(Message::Config(self.step.id.clone(), guest.vmid, values, done));
        written
            .await
            .map_err(|_| Failure::new(FailureKind::Interrupted, "the run ended before the step was sent out"))
    }
    fn is_the_plans(&self, guest: &GuestRef, config: &QemuConfig) -> bool {
        let makes = |action: &Action| action.made_guest().is_some_and(|made| made.vmid == guest.vmid);
        match config.get("smbios1").and_then(smbios_uuid) {
            Some(uuid) if uuid == guest.uuid => true,
            // One that is adopted may have none.
            None if !self.shared.plan.steps.iter().any(|step| makes(&step.action)) => true,
            // A clone's UUID may not be written yet.
            _ => match Marker::find(config.get("description").unwrap_or_default()) {
                MarkerSearch::Found(marker) => {
                    self.is_marker_of(&marker, guest) && marker.run == self.shared.plan.run_id
                }
                _ => false,
            },
        }
    }
    /// Tells whether a marker is that of the plan's VM: by the name and project that it has, or had before this run.
    pub(crate) fn is_marker_of(&self, marker: &Marker, guest: &GuestRef) -> bool {
        let is_now = || marker.name == guest.name && marker.project == self.shared.plan.project;
        let was = || {
            let change = self.shared.plan.changes.iter().find(|change| change.guest.vmid == guest.vmid);
            let former = change.and_then(|change| change.formerly.as_ref());
            former.is_some_and(|former| marker.name == former.name && marker.project == former.project)
        };
        marker.vmid == guest.vmid && (is_now() || was())
    }

    /// Waits for a task to its end, telling how far it is.
    pub(crate) async fn follow(&self, task: Task) -> Result<Finished, Failure> {
        let _ = self.messages.send(Message::Submitted(self.step.id.clone(), task.upid().clone()));
        self.follow_again(task).await
    }
    /// Waits for a task that the journal knows already.
    pub(crate) async fn follow_again(&self, task: Task) -> Result<Finished, Failure> {
        let slowest = self.shared.options.0.poll;
        let wait =
            Wait { timeout: self.time_left(), fastest: slowest / 10, slowest, follow_after: slowest * 2 };
        let tell = |progress: pve_api::TaskProgress<'_>| {
            if let Some(line) = progress.lines.last() {
                self.tell(progress.percent, &line.t);
            }
        };
        Ok(task.wait_with(wait, tell).await?)
    }
    /// Takes up the task of an earlier attempt: the one that still runs, for the journal may not know it, else the one
    /// that the journal knows, if PVE still does.
    pub(crate) async fn reattach(&self) -> Result<Option<Finished>, Failure> {
        let running = match describe::tasks(&self.step.action) {
            Some((types, guest)) => self.running_task(&self.node_of(guest), guest.vmid, types).await?,
            None => None,
        };
        // The journal may know a task that came before the one that counts, or one of the revert.
        let types = describe::tasks(&self.step.action).map(|(types, _)| types);
        let is_own = |upid: &&Upid| types.is_none_or(|types| types.contains(&upid.task_type()));
        let known = self.history.upid.as_ref().filter(is_own);
        let Some(upid) = running.as_ref().or(known) else { return Ok(None) };
        let task = self.shared.connections.api().task(upid);
        if self.history.upid.as_ref() != Some(upid) {
            let _ = self.messages.send(Message::Submitted(self.step.id.clone(), upid.clone()));
        }
        match task.status().await {
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => {
                self.tell(None, format!("continues to follow the {} task", upid.task_type()));
                match self.follow_again(task).await {
                    Ok(finished) => Ok(Some(finished)),
                    // It failed; whether it left something is seen by looking.
                    Err(failure) if failure.upid.is_some() && failure.kind != FailureKind::Deadline => {
                        Ok(None)
                    }
                    Err(failure) => Err(failure),
                }
            }
        }
    }

    /// Returns a task that works on the guest now, of one of these types; of any, where none is named.
    pub(crate) async fn running_task(
        &self,
        node: &NodeName,
        vmid: Vmid,
        types: &[&str],
    ) -> Result<Option<Upid>, Failure> {
        let filter = pve_api::TaskFilter {
            source: Some(pve_api::TaskSource::Active),
            limit: Some(500),
            ..pve_api::TaskFilter::default()
        };
        let tasks = self.shared.connections.api().node(node).tasks(&filter).await?;
        let running = tasks.into_iter().filter(|task| task.endtime.is_none());
        let mut upids = running.filter_map(|task| task.upid.parse::<Upid>().ok());
        let is_meant = |upid: &Upid| {
            is_about(upid.id(), vmid) && !matches!(upid.task_type(), "vncproxy" | "spiceproxy" | "qmterminal")
        };
        Ok(upids.find(|upid| is_meant(upid) && (types.is_empty() || types.contains(&upid.task_type()))))
    }

    /// Returns the host of a node.
    pub(crate) async fn host(&self, node: &NodeName) -> Result<Host, Failure> {
        self.shared.connections.host(node).await
    }
    /// Runs a command on a node; each line that it prints is a sign of life, and a percentage where it names one.
    pub(crate) async fn run(&self, node: &NodeName, command: &Command) -> Result<pve_ssh::Output, Failure> {
        let host = self.host(node).await?;
        let mut options = pve_ssh::RunOptions::within(self.time_left());
        options.cancel = self.shared.cancel.clone();
        let mut on_line = |_stream, line: &str| {
            let percent = pve_ssh::parse::progress(line).map(|progress| progress.percent);
            if percent.is_some() {
                self.tell(percent, line);
            }
        };
        let output = host.run(command, options, &mut on_line).await.map_err(|e| Failure::from(e).at(node))?;
        host.require_success(command, output).map_err(|error| Failure::from(error).at(node))
    }

    /// Waits until no command of an earlier attempt works on the guest any more.
    pub(crate) async fn wait_for_earlier_command(&self) -> Result<(), Failure> {
        match self.step.action.guest().filter(|_| self.step.transport == Transport::Ssh) {
            Some(guest) => self.wait_for_commands_on(guest).await,
            None => Ok(()),
        }
    }
    /// Waits until no command on the node works on the guest any more.
    ///
    /// The node ends a command whose connection is lost, but not at once; what it does until then must not be missed.
    pub(crate) async fn wait_for_commands_on(&self, guest: &GuestRef) -> Result<(), Failure> {
        if !self.shared.connections.has_ssh() {
            return Ok(());
        }
        let node = self.node_of(guest);
        let host = self.host(&node).await?;
        self.wait_for_commands_of(&host, guest).await.map_err(|failure| failure.at(&node))?;
        // Calls of the API are commands on the host that was named, whichever node they are about.
        match self.shared.connections.first_host() {
            Ok(first) if self.shared.connections.is_pvesh() && first.address() != host.address() => {
                self.wait_for_commands_of(&first, guest).await
            }
            _ => Ok(()),
        }
    }
    async fn wait_for_commands_of(&self, host: &Host, guest: &GuestRef) -> Result<(), Failure> {
        let command = pve_ssh::command::files::processes();
        loop {
            let output = host.run_to_success(&command, self.time_left()).await.map_err(Failure::from)?;
            let Some(line) = output.stdout.lines().find(|line| works_on(line, guest.vmid)) else {
                return Ok(());
            };
            if Instant::now() >= self.until {
                let text = format!("a command of an earlier attempt is still running on VM {}", guest.vmid);
                return Err(Failure::new(FailureKind::Deadline, text).log([line.to_owned()]));
            }
            self.tell(None, "waits for a command of an earlier attempt to end");
            tokio::time::sleep(self.shared.options.0.poll).await;
        }
    }

    /// Returns a value that an earlier step may have given.
    pub(crate) fn resolve(&self, volume: &Ref<VolumeId>) -> Result<VolumeId, Failure> {
        match volume {
            Ref::Known(volume) => Ok(volume.clone()),
            Ref::OutputOf(step) => match self.shared.outcome(step).as_ref().and_then(Outcome::volume) {
                Some(volume) => Ok(volume.clone()),
                None => {
                    Err(Failure::new(FailureKind::Internal, format!("step `{step}` did not report a volume")))
                }
            },
        }
    }
    /// Returns the same job for another action: what its revert runs.
    pub(crate) fn with_action(&self, action: Action) -> Self {
        let mut job = self.clone();
        job.step.action = action;
        job
    }
}

/// Tells whether a task's ID is this guest: `100`, or `100-scsi0>101-scsi0` for a disk that changes its guest.
pub(super) fn is_about(id: &str, vmid: Vmid) -> bool {
    let rest = id.strip_prefix(vmid.to_string().as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Tells whether a line of `ps` shows a command that changes the guest: `qm` with any verb, or `pvesh` with one that
/// writes.
fn works_on(line: &str, vmid: Vmid) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |program: &str| {
        let is_meant = |word: &&str| {
            word.strip_suffix(program).is_some_and(|path| path.is_empty() || path.ends_with('/'))
        };
        words.iter().position(is_meant).map(|place| &words[place + 1..])
    };
    let vmid = vmid.to_string();
    if let Some(words) = after("qm") {
        let is_verb = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        return words.iter().find(|word| !is_verb(word)).is_some_and(|first| *first == vmid);
    }
    let Some((verb, words)) = after("pvesh").and_then(<[&str]>::split_first) else { return false };
    let names_it = |path: &&str| path.split(['/', ':']).any(|part| part == vmid);
    let is_number_of_it = |pair: &[&str]| {
        matches!(pair[0].trim_start_matches('-'), "vmid" | "newid" | "target-vmid") && pair[1] == vmid
    };
    matches!(*verb, "create" | "set" | "delete")
        && (words.first().is_some_and(names_it) || words.windows(2).any(is_number_of_it))
}

/// Says that a guest is nowhere.
pub(crate) fn gone(guest: &GuestRef) -> Failure {
    let text = format!("VM {} `{}` is on no node of the cluster", guest.vmid, guest.name);
    Failure::new(FailureKind::GuestGone, text)
}

/// Returns the volumes that a configuration names, by slot; CD images and the cloud-init drive included.
pub(crate) fn volumes_of(config: &QemuConfig) -> BTreeMap<String, VolumeId> {
    let is_slot = |key: &str| Bus::of_key(key).is_some_and(Bus::holds_volume);
    let volume = |key: &String, value: &String| {
        let drive = pve_config::Drive::parse(key, value).ok()?;
        drive.volume().cloned().map(|volume| (key.clone(), volume))
    };
    config
        .values
        .iter()
        .filter(|(key, _)| is_slot(key))
        .filter_map(|(key, value)| volume(key, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_names_its_guest() {
        let vmid = Vmid::new(201).unwrap();
        for (id, expect) in
            [("201", true), ("201-scsi1>999-unused0", true), ("2011", false), ("", false), ("120", false)]
        {
            assert_eq!(is_about(id, vmid), expect, "{id}");
        }
    }

    #[test]
    fn a_command_that_works_on_the_guest_is_seen() {
        let check = |line: &str, expect: bool| {
            assert_eq!(works_on(line, Vmid::new(201).unwrap()), expect, "{line}");
        };
        check("timeout -k 10 630 qm importdisk 201 /x.qcow2 local-lvm", true);
        check("/usr/bin/perl -T /usr/sbin/qm disk import 201 /x.qcow2 local-lvm", true);
        check("  4711  4711 qm set 201 --cores 2", true);
        check("qm set 2011 --cores 2", false);
        check("qm set 300 --name 201", false);
        check("/usr/bin/kvm -id 201 -name web01", false);
        check("qm list", false);
        check("timeout -k 10 21600 pvesh create /nodes/pve1/qemu/201/status/stop --output-format json", true);
        check("/usr/bin/perl -T /usr/bin/pvesh delete /nodes/pve1/qemu/201 --purge 1", true);
        check("pvesh create /nodes/pve1/qemu --name web01 --vmid 201", true);
        check("pvesh create /nodes/pve1/qemu/900/clone --newid 201", true);
        check("pvesh set /cluster/ha/resources/vm:201 --state stopped", true);
        check("pvesh get /nodes/pve1/qemu/201/config --output-format json", false);
        check("pvesh create /nodes/pve1/qemu/2011/status/stop", false);
        check("pvesh create /nodes/pve1/qemu --vmid 202 --memory 201", false);
    }
}
