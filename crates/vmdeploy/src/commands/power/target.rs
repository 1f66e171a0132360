//! The guests that a power command is about: by a spec, or by their ownership markers alone.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet::{self, Member, Selection};
use crate::planning::{self, PlanArgs};
use crate::reach::{self, executor_failure};
use crate::spec_files::{SpecArgs, is_named, load};
use pve_types::{GuestName, NodeName, PowerState, Vmid};
use std::path::PathBuf;
use vmdeploy_executor::{Connections, NamedVm, vms_named};
use vmdeploy_planner::identity::{Marker, MarkerSearch, smbios_uuid};

/// One guest.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: GuestName,
    /// Where it is; `None` when it is absent.
    pub(crate) place: Option<(NodeName, Vmid)>,
    /// Whether it runs, as its node said a moment ago.
    pub(crate) state: PowerState,
    /// Its `startup`.
    pub(crate) startup: Option<String>,
}

/// Finds the guests that are meant, and connects to their cluster.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or a name is unknown.
pub(crate) async fn find(
    specs: &[PathBuf],
    selection: &Selection,
    plan_args: &PlanArgs,
    context: &Context,
) -> Result<(Connections, Vec<Target>), Failure> {
    let is_by_name = selection.tag.is_empty() && selection.pool.is_empty() && !selection.target.is_empty();
    let args = SpecArgs::new(specs.to_vec());
    if is_by_name && !is_named(&args, context) {
        let connections = reach::open(reach::connections_config(&context.environment)?).await?;
        let targets = by_markers(&selection.target, &connections).await?;
        return Ok((connections, targets));
    }
    let spec = load(&args, context)?;
    let connections = planning::open(plan_args, &spec, context).await?;
    let members = selection.of(fleet::members(&spec.deployment, &connections).await?)?;
    fleet::refuse_faults(&members)?;
    let targets = members.iter().map(of_member).collect();
    Ok((connections, targets))
}

fn of_member(member: &Member<'_>) -> Target {
    Target {
        name: member.name().clone(),
        place: member.place().map(|(node, vmid)| (node.clone(), vmid)),
        state: member.power(),
        startup: member.config("startup").map(str::to_owned),
    }
}

/// Finds guests by name that bear vmdeploy's ownership marker for it, whatever the project.
async fn by_markers(names: &[GuestName], connections: &Connections) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for name in names {
        let found =
            vms_named(connections, name.as_str()).await.map_err(|failure| executor_failure(&failure))?;
        let mut ours = Vec::new();
        for vm in found {
            if let Some(target) = if_ours(name, vm, connections).await? {
                ours.push(target);
            }
        }
        match ours.len() {
            0 => {
                let text = format!("no VM named `{name}` has vmdeploy's ownership marker");
                return Err(Failure::new(Exit::OBSERVED, text)
                    .hint("add its spec to the command, or set VMDEPLOY_SPEC; `vmdeploy api get /cluster/resources type=vm` lists all VMs"));
            }
            1 => targets.append(&mut ours),
            _ => {
                let text = format!("{} VMs of different projects are named `{name}`", ours.len());
                return Err(Failure::usage(text).hint("add the spec to the command"));
            }
        }
    }
    Ok(targets)
}

async fn if_ours(
    name: &GuestName,
    vm: NamedVm,
    connections: &Connections,
) -> Result<Option<Target>, Failure> {
    let (node, vmid) = (vm.node, vm.vmid);
    let config = connections.api().node(&node).qemu(vmid).config().await;
    let config = config.map_err(crate::api_client::failure)?;
    let MarkerSearch::Found(marker) = Marker::find(config.get("description").unwrap_or_default()) else {
        return Ok(None);
    };
    let uuid = config.get("smbios1").and_then(smbios_uuid);
    let is_ours = marker.vmid == vmid
        && marker.name == *name
        && uuid.as_deref() == Some(marker.expected_uuid().as_str());
    let startup = config.get("startup").map(str::to_owned);
    Ok(is_ours.then(|| Target { name: name.clone(), place: Some((node, vmid)), state: vm.power, startup }))
}
