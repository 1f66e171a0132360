//! Guests: their configurations, kept for those that may be ours and dropped for all others as they are parsed.

use crate::{Connections, Failure};
use futures::StreamExt as _;
use pve_api::{ApiError, Resource};
use pve_config::{Bus, GuestConfig, Section};
use pve_ssh::command::files;
use pve_ssh::parse;
use pve_types::{GuestKind, NodeName, PoolId, PowerState, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vmdeploy_planner::identity::{facts_of, may_be_ours};
use vmdeploy_planner::observed::{GuestFacts, GuestVolumes, Observed, ObservedConfig, ObservedGuest, Query};
use vmdeploy_planner::volumes::DiskName;

/// How many configurations are asked for at once through the API.
const AT_ONCE: usize = 8;

/// The guests, and how sure their pools are.
#[derive(Debug)]
pub(super) struct Guests {
    /// The guests, with the configurations that may be kept.
    pub(super) guests: BTreeMap<Vmid, ObservedGuest>,
    /// Whether their pools were read from the cluster's own file.
    pub(super) pools_are_certain: bool,
}

/// Returns the guests.
pub(super) async fn observe(
    connections: &Connections,
    queries: &[Query],
    observed: &Observed,
) -> Result<Guests, Failure> {
    let guests = observed.guests.clone();
    let Some(query) = queries.iter().find(|query| matches!(query, Query::Configs { .. })) else {
        return Ok(Guests { guests, pools_are_certain: false });
    };
    let Guests { mut guests, pools_are_certain } = match connections.has_ssh() {
        true => by_ssh(connections, query, guests).await?,
        false => Guests { guests: by_api(connections, query, guests).await?, pools_are_certain: false },
    };
    let nodes = guests.values().filter(|guest| guest.config.is_some()).map(|guest| guest.node.clone());
    let lists = vm_lists(connections, nodes.collect()).await?;
    for guest in guests.values_mut().filter(|guest| guest.kind == GuestKind::Vm) {
        if let Some(list) = lists.get(&guest.node) {
            guest.status = list.get(&guest.vmid).map_or(PowerState::Unknown, pve_api::QemuItem::power);
        }
    }
    Ok(Guests { guests, pools_are_certain })
}

/// Asks nodes how their VMs are at the moment, with one request each. The list of a node that cannot be reached, or may
/// not be asked, is empty.
// PVE: qemu-server src/PVE/API2/Qemu.pm vmlist: the node's own processes and configurations, not what pvestatd told.
pub async fn vm_lists(
    connections: &Connections,
    nodes: BTreeSet<NodeName>,
) -> Result<BTreeMap<NodeName, BTreeMap<Vmid, pve_api::QemuItem>>, Failure> {
    let asked = nodes.into_iter().map(|node| async move {
        let items = match connections.api().node(&node).qemu_list().await {
            Ok(items) => items,
            Err(error) if error.is_denied() || error.is_unreachable() => Vec::new(),
            Err(error) => return Err(Failure::from(error).at(&node)),
        };
        Ok((node, items.into_iter().map(|item| (item.vmid, item)).collect()))
    });
    futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

/// A VM that bears a name at the moment.
#[derive(Debug, Clone)]
pub struct NamedVm {
    /// Its number.
    pub vmid: Vmid,
    /// Its node.
    pub node: NodeName,
    /// Whether it runs.
    pub power: PowerState,
}

/// Finds the VMs that bear a name now, as their nodes say: lists of the cluster show new names seconds later.
///
/// # Errors
/// The cluster cannot be reached or refuses.
pub async fn vms_named(connections: &Connections, name: &str) -> Result<Vec<NamedVm>, Failure> {
    let resources = connections.api().cluster().resources(Some(pve_api::ResourceKind::Guests)).await?;
    let nodes =
        resources.iter().filter(|resource| resource.is_vm()).filter_map(|resource| resource.node.clone());
    let lists = vm_lists(connections, nodes.collect()).await?;
    let all = lists.iter().flat_map(|(node, items)| items.iter().map(move |(vmid, item)| (node, vmid, item)));
    let named = all.filter(|(_, _, item)| item.name.as_deref() == Some(name));
    let found =
        named.map(|(node, vmid, item)| NamedVm { vmid: *vmid, node: node.clone(), power: item.power() });
    Ok(found.collect())
}

/// Returns what `/cluster/resources` says of a guest.
pub(super) fn from_resource(resource: &Resource) -> Option<ObservedGuest> {
    Some(ObservedGuest {
        vmid: resource.vmid?,
        node: resource.node.clone()?,
        name: resource.name.clone(),
        kind: resource.kind.parse().ok()?,
        status: PowerState::read(resource.status.as_deref(), None),
        template: resource.template.unwrap_or(false),
        pool: resource.pool.clone(),
        volumes: None,
        facts: GuestFacts::default(),
        config: None,
    })
}

/// The most that is read of all configurations, in bytes: 10,000 guests have 20 MiB, and each snapshot doubles its guest's.
// PVE: pve-cluster src/pmxcfs/memdb.h MEMDB_MAX_FSSIZE: /etc/pve as a whole holds 128 MiB; each line has its path before it.
const ALL_CONFIGS: usize = 512 << 20;

/// Reads all configurations of the cluster with one command.
async fn by_ssh(
    connections: &Connections,
    query: &Query,
    mut guests: BTreeMap<Vmid, ObservedGuest>,
) -> Result<Guests, Failure> {
    let host = connections.first_host()?;
    let command = files::guest_configs();
    let usual = pve_ssh::RunOptions::within(Duration::from_secs(60));
    let options = pve_ssh::RunOptions { output_limit: ALL_CONFIGS, ..usual };
    let output = host.run(&command, options, &mut |_, _| {}).await?;
    // grep ends with 1 when there is no guest at all.
    let output = if output.status == 1 && output.stderr.is_empty() {
        output
    } else {
        host.require_success(&command, output)?
    };
    let read = files::read("/etc/pve/user.cfg");
    let pools = host.run(&read, pve_ssh::RunOptions::within(USER_CFG), &mut |_, _| {}).await;
    let pools = pools.ok().filter(pve_ssh::Output::success).map(|output| pools_in(&output.stdout));
    for file in parse::guest_configs(&output.stdout).map_err(pve_ssh::Error::from)? {
        // A guest that is not in the list yet was just created; its file is authoritative.
        let guest = guests.entry(file.vmid).or_insert_with(|| ObservedGuest {
            vmid: file.vmid,
            node: file.node.clone(),
            name: None,
            kind: file.kind,
            status: PowerState::Unknown,
            template: false,
            pool: None,
            volumes: None,
            facts: GuestFacts::default(),
            config: None,
        });
        guest.node = file.node;
        guest.volumes = Some(volumes_of(&file.text));
        let config = GuestConfig::parse_file(&file.text);
        note_facts(guest, &config.current, &config.pending);
        if file.kind == GuestKind::Vm {
            guest.template = config.get("template") == Some("1");
            guest.config = kept_of_file(query, file.vmid, &file.text, config);
        }
        if let Some(pools) = &pools {
            guest.pool = pools.get(&file.vmid).cloned();
        }
    }
    Ok(Guests { guests, pools_are_certain: pools.is_some() })
}

/// The longest that reading the users' file may take.
const USER_CFG: Duration = Duration::from_secs(30);

/// Returns the pool of each guest that is in one, as the cluster's own file says.
// PVE: pve-access-control src/PVE/AccessControl.pm parse_user_config: `pool:ID:COMMENT:VMIDS:STORAGES:`.
fn pools_in(user_cfg: &str) -> BTreeMap<Vmid, PoolId> {
    let pools = user_cfg.lines().filter_map(|line| {
        let mut fields = line.strip_prefix("pool:")?.split(':');
        let pool: PoolId = fields.next()?.trim().parse().ok()?;
        let members = fields.nth(1)?.split([',', ';', ' ']).filter_map(|vmid| vmid.trim().parse().ok());
        Some(members.map(move |vmid| (vmid, pool.clone())).collect::<Vec<_>>())
    });
    pools.flatten().collect()
}

/// Notes what is kept of every guest, and its name: the configuration knows it before the list of guests does.
fn note_facts(guest: &mut ObservedGuest, values: &Section, pending: &BTreeMap<String, Option<String>>) {
    let name = if guest.kind == GuestKind::Vm { "name" } else { "hostname" };
    if let Some(name) = values.get(name) {
        guest.name = Some(name.clone());
    }
    guest.facts = facts_of(guest.kind, &pve_config::after_restart(values.clone(), pending));
}

/// Returns what a configuration file names as disks, snapshots and pending changes included.
fn volumes_of(text: &str) -> GuestVolumes {
    let mut found = GuestVolumes::default();
    let mut in_snapshot = false;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            in_snapshot = !matches!(section, "PENDING" | "pve:pending") && !section.starts_with("special:");
            continue;
        }
        match disk_of(line) {
            Some(DiskName::Volume(volume)) => {
                if in_snapshot {
                    found.in_snapshots.insert(volume.clone());
                }
                found.ids.insert(volume);
            }
            Some(DiskName::Path(path)) => drop(found.paths.insert(path)),
            None => {}
        }
    }
    found
}

/// Returns the disk that a line of a configuration names.
fn disk_of(line: &str) -> Option<DiskName> {
    let (key, value) = line.split_once(": ")?;
    let bus = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let holds = ["ide", "sata", "scsi", "virtio", "efidisk", "tpmstate", "unused", "mp", "rootfs", "vmstate"];
    let first = value
        .split(',')
        .find(|part| !part.contains('=') || part.starts_with("file=") || part.starts_with("volume="))?;
    let first = first.trim_start_matches("file=").trim_start_matches("volume=");
    holds.contains(&bus).then(|| first.trim().parse().ok()).flatten()
}

/// Returns a configuration from its file, if it may be kept.
fn kept_of_file(query: &Query, vmid: Vmid, text: &str, config: GuestConfig) -> Option<ObservedConfig> {
    may_be_ours(query, vmid, config.get("description"), config.get("smbios1")).then(|| ObservedConfig {
        lock: config.get("lock").map(str::to_owned),
        snapshots: !config.snapshots.is_empty(),
        cloud_init_stale: stale(&config),
        digest: Some(pve_config::file_digest(text)),
        values: config.current,
        pending: config.pending,
    })
}

/// Returns the keys in which the cloud-init drive differs from the configuration.
///
/// The file's section `[special:cloudinit]` holds all that the drive was made from; without it no drive was made yet.
// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm get_pending_config.
fn stale(config: &GuestConfig) -> BTreeSet<String> {
    if config.cloud_init.is_empty() {
        return BTreeSet::new();
    }
    let is_own = |key: &str| {
        key.starts_with("ci")
            || Bus::of_key(key) == Some(Bus::Ipconfig)
            || matches!(key, "nameserver" | "searchdomain" | "sshkeys")
    };
    let differs = |key: &String| match (config.cloud_init.get(key), config.current.get(key)) {
        // Of a NIC only its MAC matters to the drive.
        (Some(old), Some(new)) if Bus::of_key(key) == Some(Bus::Net) => {
            !pve_config::same_value(key, old, new) && !new.contains(old.as_str())
        }
        (Some(old), Some(new)) => !pve_config::same_value(key, old, new),
        (None, Some(_)) => is_own(key),
        (_, None) => true,
    };
    config.cloud_init.keys().chain(config.current.keys()).filter(|key| differs(key)).cloned().collect()
}

/// Reads the configurations one by one, with one call for each VM.
async fn by_api(
    connections: &Connections,
    query: &Query,
    guests: BTreeMap<Vmid, ObservedGuest>,
) -> Result<BTreeMap<Vmid, ObservedGuest>, Failure> {
    let looks = guests.into_values().map(|guest| async move {
        let mut guest = guest;
        match guest.kind.as_str() {
            "qemu" => look(connections, query, &mut guest).await?,
            _ => look_at_container(connections, &mut guest).await?,
        }
        Ok::<_, Failure>((guest.vmid, guest))
    });
    let seen: Vec<Result<(Vmid, ObservedGuest), Failure>> =
        futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    seen.into_iter().collect()
}

/// Asks for what holds and what waits for a restart, which PVE tells in one answer.
///
/// Whether the cloud-init drive is older than the configuration is reported by another, and PVE regenerates it at each
/// start; that one is asked only where something waits.
async fn look(connections: &Connections, query: &Query, guest: &mut ObservedGuest) -> Result<(), Failure> {
    let qemu = connections.api().node(&guest.node).qemu(guest.vmid);
    let told = match qemu.pending().await {
        Ok(told) => told,
        // It is listed and may not be read, or has just gone: foreign, as far as we can see.
        Err(error) if error.is_denied() || error.is_absent() || error.is_unreachable() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let waits = told.iter().filter(|value| value.is_pending());
    let pending: BTreeMap<_, _> = waits.map(|value| (value.key.clone(), value.pending.clone())).collect();
    let mut values: BTreeMap<String, String> =
        told.into_iter().filter_map(|value| Some((value.key, value.value?))).collect();
    let digest = values.remove("digest");
    // What waits for a restart is a disk of the guest, too.
    let waiting = pending.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let lines = values.iter().chain(waiting).map(|(key, value)| format!("{key}: {value}\n"));
    guest.volumes = Some(volumes_of(&lines.collect::<String>()));
    let values = GuestConfig::from_api(values).current;
    note_facts(guest, &values, &pending);
    let value = |key: &str| values.get(key).map(String::as_str);
    guest.name = value("name").map(str::to_owned).or_else(|| guest.name.take());
    guest.template = value("template") == Some("1");
    if !may_be_ours(query, guest.vmid, value("description"), value("smbios1")) {
        return Ok(());
    }
    if value("parent").is_some() {
        note_snapshots(connections, &qemu, guest).await?;
    }
    let stale = if pending.is_empty() { BTreeSet::new() } else { stale_by_api(&qemu).await? };
    guest.config = Some(ObservedConfig {
        lock: value("lock").map(str::to_owned),
        snapshots: value("parent").is_some(),
        cloud_init_stale: stale,
        digest,
        pending,
        values,
    });
    Ok(())
}

/// Notes what the guest's snapshots name as disks.
async fn note_snapshots(
    connections: &Connections,
    qemu: &pve_api::Qemu,
    guest: &mut ObservedGuest,
) -> Result<(), Failure> {
    let Some(volumes) = &mut guest.volumes else { return Ok(()) };
    let path = format!("/nodes/{}/qemu/{}/config", guest.node, guest.vmid);
    let snapshots = match qemu.snapshots().list().await {
        Ok(snapshots) => snapshots,
        Err(error) if super::is_optional(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for snapshot in snapshots.into_iter().filter(|snapshot| snapshot.name != "current") {
        let params = pve_api::Params::new().with("snapshot", snapshot.name);
        let named = match section_at(connections, &path, params).await {
            Ok(values) => volumes_of(&lines_of(&values)),
            // It has just gone.
            Err(error) if super::is_optional(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        volumes.in_snapshots.extend(named.ids.iter().cloned());
        volumes.ids.extend(named.ids);
        volumes.paths.extend(named.paths);
    }
    Ok(())
}

/// Reads a container's addresses and disks.
async fn look_at_container(connections: &Connections, guest: &mut ObservedGuest) -> Result<(), Failure> {
    let path = format!("/nodes/{}/lxc/{}/config", guest.node, guest.vmid);
    match section_at(connections, &path, pve_api::Params::new()).await {
        Ok(values) => {
            guest.volumes = Some(volumes_of(&lines_of(&values)));
            note_facts(guest, &values, &BTreeMap::new());
        }
        Err(error) if error.is_denied() || error.is_absent() || error.is_unreachable() => {
            guest.volumes = None
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Reads the configuration at a path of the API.
async fn section_at(
    connections: &Connections,
    path: &str,
    params: pve_api::Params,
) -> Result<Section, ApiError> {
    let told: BTreeMap<String, serde_json::Value> = connections.api().get(path, params).await?;
    Ok(told.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect())
}

fn lines_of(values: &Section) -> String {
    values.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// Returns the keys in which the cloud-init drive differs from the configuration, as PVE tells them.
async fn stale_by_api(qemu: &pve_api::Qemu) -> Result<BTreeSet<String>, Failure> {
    let told = match qemu.cloud_init().await {
        Ok(told) => told,
        Err(error) if super::is_optional(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let differs =
        told.into_iter().filter(|v| v.pending.is_some() || v.delete.is_some_and(|delete| delete > 0));
    Ok(differs.map(|value| value.key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "#<!-- vmdeploy cluster=default project=web name=web01 vmid=201 run=r1 -->\n\
        cipassword: $6$secret$hash\n\
        ide2: local-lvm:vm-201-cloudinit,media=cdrom\n\
        net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n\
        scsi0: local-lvm:vm-201-disk-0,size=10G\n\
        scsi1: file=local:201/vm-201-disk-1.qcow2,size=1G\n\
        unused0: local-lvm:vm-201-disk-7\n\
        \n[snap]\nscsi0: local-lvm:vm-201-disk-3,size=10G\n";

    fn query(also: &[u32]) -> Query {
        Query::Configs {
            projects: BTreeSet::from(["web".to_owned()]),
            uuids: BTreeSet::new(),
            also: also.iter().map(|vmid| Vmid::new(*vmid).unwrap()).collect(),
        }
    }

    fn kept_of_file(query: &Query, vmid: Vmid, text: &str) -> Option<ObservedConfig> {
        super::kept_of_file(query, vmid, text, GuestConfig::parse_file(text))
    }

    #[test]
    fn a_marked_configuration_is_kept_without_its_password() {
        let config = kept_of_file(&query(&[]), Vmid::new(201).unwrap(), FILE).unwrap();
        assert_eq!(config.values["cipassword"], "**********");
        assert!(config.snapshots);
        let text = serde_json::to_string(&config).unwrap();
        assert!(!text.contains("hash"), "{text}");
    }

    #[test]
    fn a_drive_is_stale_where_it_differs() {
        let file = |section: &str| {
            GuestConfig::parse_file(&format!(
                "ciuser: admin\nipconfig0: ip=dhcp\nmemory: 512\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n{section}"
            ))
        };
        let check = |section: &str, expect: &[&str]| {
            assert_eq!(
                stale(&file(section)).iter().map(String::as_str).collect::<Vec<_>>(),
                expect,
                "{section}"
            );
        };
        check("", &[]);
        check("\n[special:cloudinit]\nciuser: admin\nipconfig0: ip=dhcp\nnet0: BC:24:11:00:00:01\n", &[]);
        check("\n[special:cloudinit]\nciuser: root\nipconfig0: ip=dhcp\n", &["ciuser"]);
        check("\n[special:cloudinit]\nciuser: admin\nnameserver: 1.1.1.1\n", &["ipconfig0", "nameserver"]);
    }

    #[test]
    fn pools_are_read_from_the_users_file() {
        let pools = pools_in(
            "user:root@pam:1:0:::::\npool:web:the web:201,202:local-lvm:\npool:empty::::\nacl:1:/:@a:b:\n",
        );
        let shown: Vec<String> = pools.iter().map(|(vmid, pool)| format!("{vmid} {pool}")).collect();
        assert_eq!(shown, ["201 web", "202 web"]);
    }

    #[test]
    fn a_foreign_configuration_is_dropped() {
        let foreign = FILE.replace("project=web", "project=other");
        assert_eq!(kept_of_file(&query(&[]), Vmid::new(201).unwrap(), &foreign), None);
        assert!(kept_of_file(&query(&[201]), Vmid::new(201).unwrap(), &foreign).is_some());
    }

    #[test]
    fn all_volumes_of_a_file_are_seen() {
        let seen = volumes_of(FILE);
        let volumes: Vec<String> = seen.ids.iter().map(ToString::to_string).collect();
        let expect = [
            "local-lvm:vm-201-cloudinit",
            "local-lvm:vm-201-disk-0",
            "local-lvm:vm-201-disk-3",
            "local-lvm:vm-201-disk-7",
            "local:201/vm-201-disk-1.qcow2",
        ];
        assert_eq!(volumes, expect);
        let container =
            "rootfs: local-lvm:vm-300-disk-0,size=8G\nmp0: volume=local-lvm:vm-300-disk-1,mp=/srv\n";
        assert_eq!(volumes_of(container).ids.len(), 2);
        let snapshots: Vec<_> = seen.in_snapshots.iter().map(ToString::to_string).collect();
        assert_eq!(snapshots, ["local-lvm:vm-201-disk-3"]);
        let passed = volumes_of("scsi1: /dev/pve/vm-201-disk-0,size=4G\nscsi2: none,media=cdrom\n");
        assert_eq!(passed.paths.iter().map(String::as_str).collect::<Vec<_>>(), ["/dev/pve/vm-201-disk-0"]);
    }
}
