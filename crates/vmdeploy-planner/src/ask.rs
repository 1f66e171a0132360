//! What must be observed before a deployment can be planned: only what it needs, in bulk.

use crate::identity::guest_uuid;
use crate::observed::{Observed, Query};
use crate::plan::PlanContext;
use crate::planning::{kinds_of, store_queries};
use crate::spec::{
    CloneSource, Deployment, Desired, DiskContent, Image, ImageSource, SnippetSource, Vm, VmidWish,
};
use pve_types::{NodeName, StorageId, Vmid, VolumeId};
use std::collections::BTreeSet;

/// What determines the queries, in addition to the spec.
#[derive(Debug, Clone, Default)]
pub struct AskContext {
    /// The cluster whose VMs are planned.
    pub cluster: String,
    /// The node to use where the spec names none (`PROXMOX_NODE`).
    pub default_node: Option<NodeName>,
}

impl AskContext {
    /// Returns what a plan in this context will ask.
    pub fn of(deployment: &Deployment, context: &PlanContext<'_>) -> Self {
        let cluster =
            crate::planning::cluster_of(deployment, context).unwrap_or_else(|_| "default".to_owned());
        Self { cluster, default_node: context.default_node.clone() }
    }
}

/// Returns what must be known to plan the deployment's VMs of one cluster.
pub fn ask(deployment: &Deployment, context: &AskContext) -> Vec<Query> {
    let cluster =
        if context.cluster.is_empty() { first_cluster(deployment) } else { context.cluster.clone() };
    let vms: Vec<&Vm> = deployment.vms.iter().filter(|vm| vm.cluster == cluster).collect();
    // High availability is asked even where the spec says nothing of it: a managed guest moves on its own, and is not
    // destroyed before it is taken out.
    let mut queries = BTreeSet::from([Query::Version, Query::Resources, Query::Rights, Query::Ha]);
    queries.insert(identities(deployment, &vms));
    queries.insert(Query::Pending { vms: vms.iter().map(|vm| vm.name.value.clone()).collect() });
    let of_cluster =
        deployment.clusters.get(&cluster).and_then(|cluster| cluster.node.as_ref()).map(|node| &node.value);
    // A guest may be on another node than its spec says, and a clone's source on any.
    queries.insert(Query::GuestNodes {
        vmids: also(&vms),
        vms: vms.iter().map(|vm| (vm.name.value.clone(), named_content(vm))).collect(),
    });
    for vm in vms {
        queries.extend(kinds_of(vm).into_iter().map(|kind| Query::Mappings { kind }));
        let node = vm.node.as_ref().map(|node| &node.value).or(of_cluster).or(context.default_node.as_ref());
        // Without a node the only one of the cluster is meant; the observer looks at all online nodes then.
        let Some(node) = node else { continue };
        queries.insert(Query::Node { node: node.clone() });
        let of_ha = vm.ha.set().into_iter().flat_map(|ha| ha.on_nodes.keys());
        queries.extend(of_ha.map(|node| Query::Node { node: node.clone() }));
        for image in images_of(deployment, vm) {
            queries.extend(image_query(image, node));
        }
        let cpu = vm.options.get("cpu").and_then(|desired| desired.value.text("cpu"));
        if cpu.is_some_and(|text| pve_config::Cpu::parse(&text).is_ok_and(|cpu| cpu.custom_model().is_some()))
        {
            queries.insert(Query::CpuModels { node: node.clone() });
        }
        for (storage, content) in named_content(vm) {
            queries.insert(Query::Content { node: node.clone(), storage, content });
        }
    }
    queries.into_iter().collect()
}

/// Returns the listings that show whether what the VM names is there.
fn named_content(vm: &Vm) -> BTreeSet<(StorageId, String)> {
    let of = |volume: &VolumeId, content: &str| (volume.storage().clone(), content.to_owned());
    let custom = vm.cloud_init.iter().flat_map(|cloud| cloud.custom.values().filter_map(Desired::set));
    let snippets = custom.filter_map(|source| match source {
        SnippetSource::Volume(volume) => Some(of(volume, "snippets")),
        SnippetSource::File(_) => None,
    });
    let hook = vm.options.get("hookscript").and_then(|desired| desired.value.text("hookscript"));
    let hook = hook.and_then(|text| Some(of(&text.parse().ok()?, "snippets")));
    let drives = named_volumes(vm).map(|volume| of(volume, Observed::content_of(volume)));
    drives.chain(snippets).chain(hook).collect()
}

/// Returns what must be known to say which guest each VM is.
pub fn identities(deployment: &Deployment, vms: &[&Vm]) -> Query {
    let project = &deployment.project.value;
    let former = vms.iter().filter_map(|vm| Some(vm.moved_from.as_ref()?.project.as_ref()?.value.clone()));
    let uuid = |vm: &&Vm| {
        let derived = || guest_uuid(&vm.cluster, project, &vm.name);
        vm.uuid.as_ref().map_or_else(derived, |uuid| uuid.value.clone())
    };
    Query::Configs {
        projects: former.chain([project.clone()]).collect(),
        uuids: vms.iter().map(uuid).collect(),
        also: also(vms),
    }
}

fn first_cluster(deployment: &Deployment) -> String {
    deployment.vms.first().map_or_else(|| "default".to_owned(), |vm| vm.cluster.clone())
}

/// Guests whose configuration is needed whatever their marker: what is cloned by number, holders, and VMIDs to adopt.
fn also(vms: &[&Vm]) -> BTreeSet<Vmid> {
    let clones = vms.iter().filter_map(|vm| match &vm.clone.as_ref()?.from.value {
        CloneSource::Vmid(vmid) => Some(*vmid),
        CloneSource::Vm(_) => None,
    });
    let adopted = vms.iter().filter_map(|vm| match (&vm.uuid, &vm.vmid) {
        (Some(_), VmidWish::Fixed(vmid)) => Some(vmid.value),
        _ => None,
    });
    clones.chain(adopted).collect()
}

fn images_of<'d>(deployment: &'d Deployment, vm: &'d Vm) -> impl Iterator<Item = &'d Image> {
    vm.disks.values().filter_map(|desired| match &desired.set()?.content {
        DiskContent::Image(name) => deployment.images.get(&name.value),
        _ => None,
    })
}

/// Returns the volumes that the spec names as ISO images and as disks.
fn named_volumes(vm: &Vm) -> impl Iterator<Item = &VolumeId> {
    vm.disks.values().filter_map(|desired| match &desired.set()?.content {
        DiskContent::Iso(volume) | DiskContent::Volume(volume) => Some(&volume.value),
        _ => None,
    })
}

/// Returns what is asked to know whether an image is on a node; `None` where only a plan knows where it would lie.
pub fn image_query(image: &Image, node: &NodeName) -> Option<Query> {
    let content = |volume: &pve_types::VolumeId| {
        let folder = volume.name().split_once('/').map(|(folder, _)| folder);
        match folder {
            Some(folder @ ("import" | "iso")) => folder.to_owned(),
            _ => "images".to_owned(),
        }
    };
    match &image.source {
        ImageSource::Path { path } => Some(Query::File { node: node.clone(), path: path.value.clone() }),
        ImageSource::Volume { volume } => Some(Query::Content {
            node: node.clone(),
            storage: volume.storage().clone(),
            content: content(&volume.value),
        }),
        ImageSource::Url { .. } | ImageSource::File { .. } | ImageSource::Build(_) => {
            let (storage, content) = store_queries(image)?;
            Some(Query::Content { node: node.clone(), storage, content })
        }
    }
}
