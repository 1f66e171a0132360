//! The VMs of a spec as they are: which guest each one is, whether it runs, and where it is reached.

mod addresses;

pub use addresses::{Addresses, Source, choose, configured_address, desired};

use crate::escape;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reach::executor_failure;
use futures::StreamExt as _;
use pve_api::{AgentTrouble, ApiError};
use pve_types::{GuestName, NodeName, PowerState, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use vmdeploy_executor::{Connections, observe, vm_lists};
use vmdeploy_planner::identities;
use vmdeploy_planner::identity::{Found, Owners};
use vmdeploy_planner::observed::{Observed, ObservedGuest, Query};
use vmdeploy_planner::spec::{Deployment, Vm};

/// How many guests are asked at the same time.
const AT_ONCE: usize = 16;

/// One VM of the spec and the guest that it is, if there is one.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The VM.
    pub vm: &'a Vm,
    /// Its guest.
    pub guest: Option<ObservedGuest>,
    /// Why it cannot be said which guest it is, and what to do about that.
    pub fault: Option<(String, String)>,
    /// What was asked of the running guest.
    pub live: Option<Live>,
}

/// What only the running guest tells.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// How long it runs, in seconds.
    pub uptime_s: Option<u64>,
    /// Where it is reached.
    pub found: Addresses,
}

impl Member<'_> {
    /// Returns the VM's name.
    pub fn name(&self) -> &GuestName {
        &self.vm.name.value
    }
    /// Returns the state in one word: PVE's own, or `absent`.
    pub fn state(&self) -> &str {
        self.guest.as_ref().map_or("absent", |guest| guest.status.as_str())
    }
    /// Returns whether its guest runs.
    pub fn power(&self) -> PowerState {
        self.guest.as_ref().map_or(PowerState::Unknown, |guest| guest.status)
    }
    /// Tells whether its node says that it runs.
    pub fn is_running(&self) -> bool {
        self.power().is_on()
    }
    /// Returns node and number of its guest.
    pub fn place(&self) -> Option<(&NodeName, Vmid)> {
        self.guest.as_ref().map(|guest| (&guest.node, guest.vmid))
    }
    /// Returns a value of its guest's configuration.
    pub fn config(&self, key: &str) -> Option<&str> {
        self.guest.as_ref()?.config.as_ref()?.values.get(key).map(String::as_str)
    }
    /// Returns its tags: the guest's, where there is one, else those of the spec.
    pub fn tags(&self) -> BTreeSet<String> {
        match &self.guest {
            Some(_) => {
                let tags = self.config("tags").unwrap_or_default().split([';', ',', ' ']);
                tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
            }
            None => self.vm.tags.set().cloned().unwrap_or_default(),
        }
    }
}

impl Member<'_> {
    /// Tells whether this is its name, or that of its group.
    pub fn is_named(&self, name: &GuestName) -> bool {
        self.name() == name || self.vm.group.as_deref() == Some(name.as_str())
    }
    /// Tells whether it is in the pool: its guest, where there is one, else what the spec says.
    pub fn is_in(&self, pool: &str) -> bool {
        let found = match &self.guest {
            Some(guest) => guest.pool.as_ref(),
            None => self.vm.pool.set(),
        };
        found.is_some_and(|found| found.as_str() == pool)
    }
}

/// Returns what must be known of the cluster to find the deployment's guests.
pub fn queries(deployment: &Deployment) -> Vec<Query> {
    let vms: Vec<&Vm> = deployment.vms.iter().collect();
    let names = vms.iter().map(|vm| vm.name.value.clone()).collect();
    vec![Query::Version, Query::Resources, identities(deployment, &vms), Query::Pending { vms: names }]
}

/// Observes the cluster and finds each VM's guest, in the spec's order.
///
/// # Errors
/// The cluster cannot be reached or refuses.
pub async fn members<'a>(
    deployment: &'a Deployment,
    connections: &Connections,
) -> Result<Vec<Member<'a>>, Failure> {
    let observed =
        observe(connections, &queries(deployment)).await.map_err(|failure| executor_failure(&failure))?;
    Ok(find(deployment, &observed))
}

/// Finds each VM's guest among those observed, by the rule that plans use too.
pub fn find<'a>(deployment: &'a Deployment, observed: &Observed) -> Vec<Member<'a>> {
    let owners = Owners::of(observed);
    deployment.vms.iter().map(|vm| member(deployment, vm, &owners)).collect()
}

fn member<'a>(deployment: &'a Deployment, vm: &'a Vm, owners: &Owners<'_>) -> Member<'a> {
    let (guest, fault) = match owners.find(deployment, vm) {
        Ok(Found::Ours(guest, _)) => (Some(guest.clone()), None),
        // Until a deployment has written the marker, it is not ours.
        Ok(Found::Adopted(_) | Found::Absent) => (None, None),
        Err(fault) => (None, Some((fault.message(vm), fault.hint(deployment, vm)))),
    };
    Member { vm, guest, fault, live: None }
}

/// Refuses to go on where it cannot be said which guest one of these VMs is.
///
/// # Errors
/// What stands in the way, for all of them at once.
pub fn refuse_faults(members: &[Member<'_>]) -> Result<(), Failure> {
    let faults: Vec<&(String, String)> = members.iter().filter_map(|member| member.fault.as_ref()).collect();
    let lines: Vec<&str> = faults.iter().map(|(message, _)| message.as_str()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let failure =
        Failure::list(Exit::OBSERVED, "the spec conflicts with existing guests; nothing was changed", &lines);
    Err(faults.iter().fold(failure, |failure, (_, hint)| failure.hint(hint.clone())))
}

/// Asks every running guest how long it runs and where it is reached, several at a time.
pub async fn look<'a>(members: Vec<Member<'a>>, connections: &Connections) -> Vec<Member<'a>> {
    // One list of each node tells how long its guests run; where it may not be asked, that is left open.
    let nodes = members.iter().filter(|member| member.is_running()).filter_map(|member| member.place());
    let lists = vm_lists(connections, nodes.map(|(node, _)| node.clone()).collect()).await;
    let items = lists.unwrap_or_default().into_values().flatten();
    let uptimes: BTreeMap<Vmid, u64> = items.filter_map(|(vmid, item)| Some((vmid, item.uptime?))).collect();
    let asked = members.into_iter().map(|mut member| async {
        if member.is_running() {
            member.live = Some(live(&member, &uptimes, connections).await);
        }
        member
    });
    futures::stream::iter(asked).buffered(AT_ONCE).collect().await
}

async fn live(member: &Member<'_>, uptimes: &BTreeMap<Vmid, u64>, connections: &Connections) -> Live {
    let Some((node, vmid)) = member.place() else { return Live::default() };
    let interfaces = connections.api().node(node).qemu(vmid).agent().network_interfaces().await;
    let config = member.guest.as_ref().and_then(|guest| guest.config.as_ref());
    let found = match interfaces {
        Ok(interfaces) => choose(&interfaces, &desired(member.vm, config)),
        Err(error) => Addresses { trouble: Some(agent_trouble(&error)), ..configured_address(config) },
    };
    Live { uptime_s: uptimes.get(&vmid).copied(), found }
}

/// Returns why the agent gave no address, as a fragment.
fn agent_trouble(error: &ApiError) -> String {
    match AgentTrouble::of(error) {
        Some(AgentTrouble::NotConfigured) => "no guest agent is configured".to_owned(),
        Some(AgentTrouble::NotRunning) => "the guest agent is not running".to_owned(),
        Some(AgentTrouble::VmNotRunning) => "it is not running".to_owned(),
        Some(AgentTrouble::TimedOut) => "the guest agent did not answer in time".to_owned(),
        None => format!("the guest agent could not be queried: {error}"),
    }
}

/// Which of a spec's VMs are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selection {
    /// Only this VM, or the members of this group; may be repeated
    #[arg(long, value_name = "VM|GROUP")]
    pub target: Vec<GuestName>,
    /// Only VMs with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Only VMs in this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Vec<String>,
}

impl Selection {
    /// Tells whether nothing is selected in particular.
    pub fn is_empty(&self) -> bool {
        self.target.is_empty() && self.tag.is_empty() && self.pool.is_empty()
    }
    /// Returns the members that are meant.
    ///
    /// # Errors
    /// A VM is named that the spec has not, or no VM has the tag or is in the pool.
    pub fn of<'a>(&self, members: Vec<Member<'a>>) -> Result<Vec<Member<'a>>, Failure> {
        if let Some(unknown) =
            self.target.iter().find(|name| !members.iter().any(|member| member.is_named(name)))
        {
            let known: Vec<&str> = members.iter().map(|member| member.name().as_str()).take(20).collect();
            return Err(Failure::new(Exit::USAGE, format!("the spec has no VM or group `{unknown}`"))
                .hint(format!("it has {}", known.join(", "))));
        }
        // A mistyped tag or pool must not look like success.
        let is_unused_tag = |tag: &&String| !members.iter().any(|member| member.tags().contains(*tag));
        let is_empty_pool = |pool: &&String| !members.iter().any(|member| member.is_in(pool));
        let tag =
            self.tag.iter().find(is_unused_tag).map(|tag| format!("has tag `{}`", escape::one_line(tag)));
        let pool = self.pool.iter().find(is_empty_pool);
        let pool = pool.map(|pool| format!("is in pool `{}`", escape::one_line(pool)));
        if let Some(wanted) = tag.or(pool) {
            return Err(Failure::new(Exit::USAGE, format!("no VM of the spec {wanted}")).hint(
                "tags and pools are read from the guests, or from the spec for VMs that do not exist",
            ));
        }
        let chosen: Vec<Member<'a>> = members.into_iter().filter(|member| self.has(member)).collect();
        if chosen.is_empty() && !self.is_empty() {
            return Err(Failure::new(Exit::USAGE, "no VM of the spec matches all of these options")
                .hint("a VM must match `--target`, have one of the tags, and be in one of the pools"));
        }
        Ok(chosen)
    }

    fn has(&self, member: &Member<'_>) -> bool {
        let tags = member.tags();
        (self.target.is_empty() || self.target.iter().any(|name| member.is_named(name)))
            && (self.tag.is_empty() || self.tag.iter().any(|tag| tags.contains(tag)))
            && (self.pool.is_empty() || self.pool.iter().any(|pool| member.is_in(pool)))
    }
}
