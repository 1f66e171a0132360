//! Which rights a step needs, on which paths, on which version; and whether they are held.
//!
//! Only steps by API need rights: a command on the node runs as root.

use crate::observed::{Observed, Rights};
use crate::plan::{
    Action, CloneAction, Condition, ConfigPatch, DiskSource, GuestRef, ImageOrigin, ImportAction, MoveAction,
    PatchValue, Ref, Step, StepId, Transport,
};
use pve_config::{Bus, Drive, DriveSource, NewSize, NewVolume, PropertyString, find_key};
use pve_types::{PoolId, Privilege, PveVersion, StorageId, Vmid, VolumeId};
use std::collections::BTreeMap;

/// A privilege on a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The privilege.
    pub privilege: Privilege,
    /// The ACL path.
    pub path: String,
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.privilege, self.path)
    }
}

/// What a call needs: all the grants of any one of these alternatives. The first is the one to give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The alternatives.
    pub any: Vec<Vec<Grant>>,
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, all) in self.any.iter().enumerate() {
            if index > 0 {
                f.write_str(", or ")?;
            }
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            f.write_str(&all.join(" and "))?;
        }
        Ok(())
    }
}

impl Need {
    fn one(privilege: Privilege, path: impl Into<String>) -> Self {
        Self { any: vec![vec![Grant { privilege, path: path.into() }]] }
    }
    fn or(mut self, privilege: Privilege, path: impl Into<String>) -> Self {
        self.any.push(vec![Grant { privilege, path: path.into() }]);
        self
    }
    fn or_all(mut self, grants: Vec<Grant>) -> Self {
        self.any.push(grants);
        self
    }
    /// Tells whether these rights are enough.
    pub fn is_met(&self, rights: &Rights) -> bool {
        self.any.iter().any(|all| all.iter().all(|grant| rights.holds(grant.privilege, &grant.path)))
    }
    /// Returns the grants that are missing of the alternative that comes first.
    pub fn missing<'n>(&'n self, rights: &Rights) -> Vec<&'n Grant> {
        let first = self.any.first().map_or(&[][..], Vec::as_slice);
        first.iter().filter(|grant| !rights.holds(grant.privilege, &grant.path)).collect()
    }
}

impl Rights {
    /// Tells whether every guest is seen: the cluster's list leaves out those without VM.Audit.
    // PVE: pve-manager PVE/API2/Cluster.pm resources.
    pub fn sees_every_guest(&self) -> bool {
        let propagates = |path: &&str| {
            let held = self.paths.get(*path).and_then(|held| held.get(&Privilege::VmAudit));
            held.is_some_and(|propagates| *propagates)
        };
        self.is_root || ["/vms", "/"].iter().any(propagates)
    }
    /// Tells whether the privilege is held on the path: by an entry for the path itself, or by one above it that
    /// propagates.
    // PVE: pve-access-control src/PVE/RPCEnvironment.pm permissions: the nearest path decides.
    pub fn holds(&self, privilege: Privilege, path: &str) -> bool {
        if self.is_root {
            return true;
        }
        let mut at = path;
        loop {
            if let Some(held) = self.paths.get(at) {
                return held.get(&privilege).is_some_and(|propagates| at == path || *propagates);
            }
            match at.rfind('/') {
                _ if at == "/" => return false,
                Some(0) => at = "/",
                Some(end) => at = &at[..end],
                None => return false,
            }
        }
    }
}

/// Tells whether only root@pam with a password may set the option by API, a token never.
// PVE: qemu-server src/PVE/API2/Qemu.pm check_vm_modify_config_perm, and the checks of serial, usb, hostpci.
pub fn is_root_only(key: &str, value: &str, version: PveVersion) -> bool {
    if let Some(found) = find_key(key)
        && found.only_root
    {
        return true;
    }
    let field = |name: &str| {
        PropertyString::parse(key, value).ok().and_then(|text| text.get(name).map(str::to_owned))
    };
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "serial" => value.starts_with("/dev/"),
        "parallel" => true,
        "usb" => field("host").is_some_and(|host| host != "spice"),
        "hostpci" => field("host").is_some() || field("romfile").is_some(),
        "rng" => !version.at_least(8, 0),
        // PVE: pve-storage src/PVE/Storage.pm check_volume_access: "Only root can pass arbitrary filesystem paths".
        "ide" | "sata" | "scsi" | "virtio" => {
            Drive::parse(key, value).is_ok_and(|drive| matches!(drive.source, DriveSource::Path(_)))
        }
        _ => false,
    }
}

/// Tells whether only root@pam with a password may change or remove the option by API while it has this value.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api checks what is there of serial ports, USB and PCI devices; of a
// drive it checks only what is set.
pub fn is_root_only_while_set(key: &str, there: &str, version: PveVersion) -> bool {
    let of_drive = Bus::of_key(key).is_some_and(Bus::is_drive);
    !of_drive && is_root_only(key, there, version)
}

/// The pools that a plan makes its new VMs in. Such a VM has no rights of its own before it is there, and those of its
/// pool from then on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMembers(BTreeMap<Vmid, PoolId>);

impl NewMembers {
    /// Finds them in the steps that make VMs.
    pub fn of(steps: &[Step]) -> Self {
        let made = steps.iter().filter_map(|step| match &step.action {
            Action::CreateVm { guest, pool: Some(pool), .. }
            | Action::CloneVm(CloneAction { guest, pool: Some(pool), .. }) => {
                Some((guest.vmid, pool.clone()))
            }
            _ => None,
        });
        Self(made.collect())
    }
    /// Lets a privilege on such a VM be one on its pool as well.
    // PVE: pve-access-control src/PVE/RPCEnvironment.pm compile_acl_path: a pool's roles hold on its members.
    fn extend(&self, need: &mut Need) {
        let mut more = Vec::new();
        for all in &need.any {
            let through_pool = |grant: &Grant| {
                let vmid = grant.path.strip_prefix("/vms/").and_then(|vmid| vmid.parse().ok());
                let pool = vmid.and_then(|vmid: Vmid| self.0.get(&vmid))?;
                Some(Grant { privilege: grant.privilege, path: format!("/pool/{pool}") })
            };
            if all.iter().any(|grant| through_pool(grant).is_some()) {
                more.push(
                    all.iter().map(|grant| through_pool(grant).unwrap_or_else(|| grant.clone())).collect(),
                );
            }
        }
        for all in more {
            if !need.any.contains(&all) {
                need.any.push(all);
            }
        }
    }
}

/// Returns what a step needs; nothing where it goes by SSH or stays on this machine.
pub fn needs_of_step(step: &Step, observed: &Observed, members: &NewMembers) -> Vec<Need> {
    if step.transport != Transport::Api {
        return Vec::new();
    }
    let mut needs = needs_of_action(&step.action, observed);
    needs.iter_mut().for_each(|need| members.extend(need));
    needs.sort();
    needs.dedup();
    needs
}

/// Returns what steps need together, each with those that need it.
///
/// Where some go by API, so do growing new disks and revert: they need the storages that the others write to by SSH.
pub fn needs_of_steps(steps: &[Step], observed: &Observed) -> BTreeMap<Need, Vec<StepId>> {
    let by_api = steps.iter().any(|step| step.transport == Transport::Api);
    let members = NewMembers::of(steps);
    let mut needs: BTreeMap<Need, Vec<StepId>> = BTreeMap::new();
    for step in steps {
        let mut own = needs_of_step(step, observed, &members);
        if let (true, Action::ProbeStorage { needed, .. }) = (by_api, &step.action) {
            own.extend(needed.keys().map(space));
        }
        for need in own {
            needs.entry(need).or_default().push(step.id.clone());
        }
    }
    needs
}

fn vm_path(guest: &GuestRef) -> String {
    format!("/vms/{}", guest.vmid)
}

fn storage_path(storage: &StorageId) -> String {
    format!("/storage/{storage}")
}

/// A privilege on the guest, or on the pool that it is being made in.
fn on_guest(privilege: Privilege, guest: &GuestRef, pool: Option<&PoolId>) -> Need {
    let need = Need::one(privilege, vm_path(guest));
    match pool {
        Some(pool) => need.or(privilege, format!("/pool/{pool}")),
        None => need,
    }
}

fn space(storage: &StorageId) -> Need {
    Need::one(Privilege::DatastoreAllocateSpace, storage_path(storage))
}

fn needs_of_action(action: &Action, observed: &Observed) -> Vec<Need> {
    use Privilege as P;
    let version = observed.version;
    let on = |privilege: P, guest: &GuestRef| Need::one(privilege, vm_path(guest));
    match action {
        Action::ProbeStorage { needed, .. } => {
            let one = |storage| {
                Need::one(P::DatastoreAudit, storage_path(storage))
                    .or(P::DatastoreAllocateSpace, storage_path(storage))
            };
            needed.keys().map(one).collect()
        }
        Action::PlaceImage { node, volume, origin, .. } => placing(node, volume, origin, version),
        Action::VerifyImage { .. } | Action::PlaceSnippet { .. } => Vec::new(),
        Action::CreateVm { guest, config, pool } => {
            // What is made is read back, by every step that follows and by revert.
            let mut needs = vec![
                on_guest(P::VmAllocate, guest, pool.as_ref()),
                on_guest(P::VmAudit, guest, pool.as_ref()),
            ];
            needs.extend(needs_of_patch(guest, config, pool.as_ref(), observed, Moment::Create));
            needs
        }
        Action::CloneVm(CloneAction { source, guest, storage, pool, .. }) => {
            cloning(source, guest, storage.as_ref(), pool.as_ref(), observed)
        }
        Action::ImportDisk(ImportAction { guest, storage, .. }) => {
            vec![on(P::VmConfigDisk, guest), space(storage)]
        }
        Action::SetConfig { guest, patch, .. } => {
            needs_of_patch(guest, patch, None, observed, Moment::Change)
        }
        Action::ResizeDisk { guest, .. } => vec![on(P::VmConfigDisk, guest)],
        Action::MoveDisk(MoveAction { guest, storage, .. }) => {
            vec![on(P::VmConfigDisk, guest), space(storage)]
        }
        Action::ReassignDisk { guest, holder, .. } => {
            vec![on(P::VmConfigDisk, guest), Need::one(P::VmConfigDisk, format!("/vms/{holder}"))]
        }
        Action::ConvertToTemplate { guest } | Action::DeleteVm { guest, .. } => {
            let mut needs = vec![on(P::VmAllocate, guest)];
            if matches!(action, Action::DeleteVm { stop: true, .. }) {
                needs.push(on(P::VmPowerMgmt, guest));
            }
            needs
        }
        Action::RegenerateCloudInit { guest } => vec![on(P::VmConfigCloudinit, guest)],
        // PVE: ha-manager src/PVE/API2/HA/Resources.pm: writing needs Sys.Console on `/`.
        Action::SetHa { .. } => vec![Need::one(P::SysConsole, "/")],
        Action::SetPool { guest, pool } => {
            let old = observed.guests.get(&guest.vmid).and_then(|seen| seen.pool.as_ref());
            let pools =
                pool.iter().chain(old).map(|pool| Need::one(P::PoolAllocate, format!("/pool/{pool}")));
            let member = on(P::VmAllocate, guest).or(P::PermissionsModify, vm_path(guest));
            pools.chain([member]).collect()
        }
        Action::StartVm { guest }
        | Action::ShutdownVm { guest, .. }
        | Action::StopVm { guest }
        | Action::RebootVm { guest } => vec![on(P::VmPowerMgmt, guest)],
        Action::FreeVolume { volume: Ref::Known(volume), .. } => {
            vec![Need::one(P::DatastoreAllocate, storage_path(volume.storage()))]
        }
        Action::FreeVolume { .. } => Vec::new(),
        Action::Await { guest, condition } => awaiting(guest, condition, version),
    }
}

// PVE: pve-storage src/PVE/API2/Storage/Status.pm upload, download_url.
fn placing(
    node: &pve_types::NodeName,
    volume: &VolumeId,
    origin: &ImageOrigin,
    version: PveVersion,
) -> Vec<Need> {
    use Privilege as P;
    let mut needs = vec![Need::one(P::DatastoreAllocateTemplate, storage_path(volume.storage()))];
    if matches!(origin, ImageOrigin::Url { .. }) {
        let anywhere = vec![
            Grant { privilege: P::SysAudit, path: "/".to_owned() },
            Grant { privilege: P::SysModify, path: "/".to_owned() },
        ];
        needs.push(if P::SysAccessNetwork.exists_in(version) {
            Need::one(P::SysAccessNetwork, format!("/nodes/{node}")).or_all(anywhere)
        } else {
            Need { any: vec![anywhere] }
        });
    }
    needs
}

// PVE: qemu-server src/PVE/API2/Qemu.pm clone_vm, check_storage_access_clone.
fn cloning(
    source: &GuestRef,
    guest: &GuestRef,
    storage: Option<&StorageId>,
    pool: Option<&PoolId>,
    observed: &Observed,
) -> Vec<Need> {
    let mut needs =
        vec![Need::one(Privilege::VmClone, vm_path(source)), on_guest(Privilege::VmAllocate, guest, pool)];
    let seen = observed.guests.get(&source.vmid).and_then(|seen| seen.config.as_ref());
    for (key, text) in seen.into_iter().flat_map(|config| &config.values) {
        let Some(bus) = Bus::of_key(key) else { continue };
        if bus == Bus::Net {
            needs.extend(bridge_needs(key, text, observed));
        }
        if bus.is_drive()
            && let Ok(drive) = Drive::parse(key, text)
            && let (None, false, Some(volume)) = (storage, drive.is_cdrom(), drive.volume())
        {
            needs.push(space(volume.storage()));
        }
    }
    needs.extend(storage.map(space));
    needs
}

// PVE: qemu-server src/PVE/API2/Qemu/Agent.pm; VM.Monitor is gone in 9.
fn awaiting(guest: &GuestRef, condition: &Condition, version: PveVersion) -> Vec<Need> {
    use Privilege as P;
    let on = |privilege| Need::one(privilege, vm_path(guest));
    let has_agent_rights = P::VmGuestAgentAudit.exists_in(version);
    match condition {
        Condition::Running | Condition::Stopped => vec![on(P::VmAudit)],
        Condition::Agent | Condition::Address { .. } if has_agent_rights => {
            vec![on(P::VmGuestAgentAudit).or(P::VmGuestAgentUnrestricted, vm_path(guest))]
        }
        Condition::CloudInit if has_agent_rights => vec![on(P::VmGuestAgentUnrestricted)],
        Condition::Agent | Condition::Address { .. } | Condition::CloudInit => vec![on(P::VmMonitor)],
        Condition::Tcp { .. } | Condition::Command { .. } => Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Create,
    Change,
}

fn needs_of_patch(
    guest: &GuestRef,
    patch: &ConfigPatch,
    pool: Option<&PoolId>,
    observed: &Observed,
    moment: Moment,
) -> Vec<Need> {
    let mut needs = Vec::new();
    for (key, value) in &patch.set {
        needs.extend(needs_of_key(key, Some(value), guest, pool, observed, moment));
    }
    for key in &patch.delete {
        needs.extend(needs_of_key(key, None, guest, pool, observed, moment));
    }
    needs
}

fn needs_of_key(
    key: &str,
    value: Option<&PatchValue>,
    guest: &GuestRef,
    pool: Option<&PoolId>,
    observed: &Observed,
    moment: Moment,
) -> Vec<Need> {
    let on = |privilege| on_guest(privilege, guest, pool);
    let text = match value {
        Some(PatchValue::Text(text)) => text.as_str(),
        _ => "",
    };
    match Bus::of_key(key) {
        Some(bus) if bus.holds_volume() => needs_of_drive(key, value, &on, moment),
        Some(Bus::Net) => {
            let mut needs = vec![on(Privilege::VmConfigNetwork)];
            needs.extend(bridge_needs(key, text, observed));
            needs
        }
        Some(Bus::Hostpci | Bus::Usb) => mapped(key, text, on(Privilege::VmConfigHwType)),
        Some(Bus::Serial) => vec![on(Privilege::VmConfigHwType)],
        Some(Bus::Virtiofs) => mapped(key, text, on(Privilege::VmConfigDisk)),
        Some(Bus::Ipconfig) => vec![cloud_init(guest, pool, observed.version)],
        _ => plain_key(key, text, guest, pool, observed.version),
    }
}

fn mapped(key: &str, text: &str, own: Need) -> Vec<Need> {
    let mapping = pve_config::mapping_of(key, text);
    let mapping =
        mapping.map(|(kind, name)| Need::one(Privilege::MappingUse, format!("/mapping/{kind}/{name}")));
    [own].into_iter().chain(mapping).collect()
}

/// PVE 7 asks for VM.Config.Network alone; 8 and newer take either.
fn cloud_init(guest: &GuestRef, pool: Option<&PoolId>, version: PveVersion) -> Need {
    let network = on_guest(Privilege::VmConfigNetwork, guest, pool);
    if !version.at_least(8, 0) {
        return network;
    }
    let mut need = on_guest(Privilege::VmConfigCloudinit, guest, pool);
    need.any.extend(network.any);
    need
}

// PVE: qemu-server src/PVE/API2/Qemu.pm: the lists of check_vm_modify_config_perm.
fn plain_key(
    key: &str,
    text: &str,
    guest: &GuestRef,
    pool: Option<&PoolId>,
    version: PveVersion,
) -> Vec<Need> {
    use Privilege as P;
    let on = |privilege| on_guest(privilege, guest, pool);
    let stem = if key == "smbios1" { key } else { key.trim_end_matches(|c: char| c.is_ascii_digit()) };
    match stem {
        "cpu" => {
            let model = PropertyString::parse("cpu", text)
                .ok()
                .and_then(|text| text.get("cputype").map(str::to_owned));
            let custom = model.and_then(|model| model.strip_prefix("custom-").map(str::to_owned));
            let extra = custom.map(|name| {
                if version.at_least(9, 0) {
                    Need::one(P::MappingUse, format!("/mapping/cpu/{name}"))
                } else {
                    Need::one(P::SysAudit, format!("/nodes/{}", guest.node))
                }
            });
            [on(P::VmConfigCpu)].into_iter().chain(extra).collect()
        }
        "cores" | "cpulimit" | "cpuunits" | "numa" | "sockets" | "vcpus" => vec![on(P::VmConfigCpu)],
        "memory" | "balloon" | "shares" | "allow-ksm" => vec![on(P::VmConfigMemory)],
        "acpi" | "audio" | "hotplug" | "kvm" | "machine" | "rng" | "scsihw" | "smbios1" | "tablet"
        | "vga" | "watchdog" => vec![on(P::VmConfigHwType)],
        "startup" => vec![on(P::VmConfigOptions), Need::one(P::SysModify, "/")],
        "boot" | "bootdisk" | "vmstatestorage" => vec![on(P::VmConfigDisk)],
        "freeze" => vec![on(P::VmPowerMgmt)],
        "ciuser" | "cipassword" | "citype" | "cicustom" | "ciupgrade" | "sshkeys" | "nameserver"
        | "searchdomain" => vec![cloud_init(guest, pool, version)],
        _ => vec![on(P::VmConfigOptions)],
    }
}

fn needs_of_drive(
    key: &str,
    value: Option<&PatchValue>,
    on: &dyn Fn(Privilege) -> Need,
    moment: Moment,
) -> Vec<Need> {
    use Privilege as P;
    // At creation a drive's slot is checked through its storage alone.
    // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm, check_storage_access
    let of_slot = |privilege| (moment == Moment::Change).then(|| on(privilege));
    // A cloud-init drive needs no right on its storage; changing one needs both of these.
    let of_cloud_drive =
        || [P::VmConfigCloudinit, P::VmConfigCdrom].into_iter().filter_map(of_slot).collect();
    match value {
        None => vec![on(P::VmConfigDisk)],
        Some(PatchValue::ImportFrom { storage, source, .. }) => {
            let mut needs: Vec<Need> = of_slot(P::VmConfigDisk).into_iter().collect();
            needs.push(space(storage));
            if let DiskSource::Volume(Ref::Known(volume)) = source {
                needs.push(reading(volume));
            }
            needs
        }
        Some(PatchValue::NewVolume(NewVolume { size: NewSize::CloudInit, .. })) => of_cloud_drive(),
        Some(PatchValue::NewVolume(NewVolume { size: NewSize::Gib(_), storage, .. })) => {
            of_slot(P::VmConfigDisk).into_iter().chain([space(storage)]).collect()
        }
        Some(PatchValue::Text(text)) => match Drive::parse(key, text) {
            Ok(drive) if drive.is_cloud_init() => of_cloud_drive(),
            Ok(drive) if drive.is_cdrom() => {
                let mut needs: Vec<Need> = of_slot(P::VmConfigCdrom).into_iter().collect();
                needs.extend(drive.volume().map(reading));
                if drive.source == DriveSource::Physical {
                    needs.push(Need::one(P::SysConsole, "/"));
                }
                needs
            }
            Ok(_) => of_slot(P::VmConfigDisk).into_iter().collect(),
            Err(_) => vec![on(P::VmConfigDisk)],
        },
        Some(_) => vec![on(P::VmConfigDisk)],
    }
}

/// Reading an image: an `import` or ISO volume by its storage, a guest's disk by its guest.
// PVE: pve-storage src/PVE/Storage.pm check_volume_access.
fn reading(volume: &VolumeId) -> Need {
    let path = storage_path(volume.storage());
    match volume.owner() {
        Some(owner) => {
            Need::one(Privilege::VmClone, format!("/vms/{owner}")).or(Privilege::DatastoreAllocate, path)
        }
        None => Need::one(Privilege::DatastoreAudit, path.clone())
            .or(Privilege::DatastoreAllocateSpace, path.clone())
            .or(Privilege::DatastoreAllocate, path),
    }
}

/// The right to plug a NIC into its bridge; with a VLAN only the VLAN's own path is looked at.
// PVE: qemu-server src/PVE/QemuServer.pm check_bridge_access; enforced since 8.0.
fn bridge_needs(key: &str, text: &str, observed: &Observed) -> Vec<Need> {
    if !observed.version.at_least(8, 0) {
        return Vec::new();
    }
    let Ok(nic) = PropertyString::parse(key, text) else { return Vec::new() };
    let Some(bridge) = nic.get("bridge") else { return Vec::new() };
    let path = bridge_path(bridge, observed);
    let mut vlans: Vec<u16> = nic.get("tag").and_then(|tag| tag.parse().ok()).into_iter().collect();
    for range in nic.get("trunks").into_iter().flat_map(|trunks| trunks.split(';')) {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
            vlans.extend(low..=high);
        }
    }
    if vlans.is_empty() {
        return vec![Need::one(Privilege::SdnUse, path)];
    }
    // Who may use the bridge as a whole may use its VLANs, and needs no list of hundreds of them.
    let holds_all =
        |rights: &Rights| vlans.iter().all(|vlan| rights.holds(Privilege::SdnUse, &format!("{path}/{vlan}")));
    if vlans.len() > 16 && observed.rights.as_ref().is_some_and(holds_all) {
        vlans.truncate(1);
    }
    vlans.into_iter().map(|vlan| Need::one(Privilege::SdnUse, format!("{path}/{vlan}"))).collect()
}

/// Returns the ACL path of a bridge or VNet.
pub(crate) fn bridge_path(bridge: &str, observed: &Observed) -> String {
    let zone = bridge.parse().ok().and_then(|bridge| observed.vnets.get(&bridge));
    format!("/sdn/zones/{}/{bridge}", zone.map_or("localnetwork", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn rights(entries: &[(&str, &[(&str, bool)])]) -> Rights {
        let privileges = |list: &[(&str, bool)]| {
            list.iter()
                .map(|(name, propagates)| (name.parse().unwrap(), *propagates))
                .collect::<BTreeMap<_, _>>()
        };
        let paths = entries.iter().map(|(path, list)| ((*path).to_owned(), privileges(list))).collect();
        Rights { user: "ci@pve!t".to_owned(), is_root: false, paths }
    }

    #[test]
    fn the_nearest_path_decides_and_only_propagating_rights_go_down() {
        let rights = rights(&[
            ("/", &[("VM.Audit", true), ("VM.Allocate", false)]),
            ("/vms/100", &[("VM.PowerMgmt", false)]),
            ("/storage", &[("Datastore.AllocateSpace", true)]),
        ]);
        let check = |privilege: &str, path, expect| {
            assert_eq!(rights.holds(privilege.parse().unwrap(), path), expect, "{privilege} on {path}");
        };
        check("VM.Audit", "/vms/200", true);
        check("VM.Allocate", "/vms/200", false);
        check("VM.Allocate", "/", true);
        check("VM.Audit", "/vms/100", false);
        check("VM.PowerMgmt", "/vms/100", true);
        check("Datastore.AllocateSpace", "/storage/local-lvm", true);
        check("Datastore.Audit", "/storage/local-lvm", false);
    }

    fn guest() -> GuestRef {
        GuestRef {
            name: "web01".parse().unwrap(),
            vmid: "201".parse().unwrap(),
            node: "pve1".parse().unwrap(),
            uuid: String::new(),
        }
    }

    fn check(version: PveVersion, action: Action, expect: &[&str]) {
        let mut observed = Observed::nothing(version);
        observed.vnets.insert("tenant1".parse().unwrap(), "zone1".to_owned());
        let mut needs: Vec<String> =
            needs_of_action(&action, &observed).iter().map(ToString::to_string).collect();
        needs.sort();
        needs.dedup();
        assert_eq!(needs, expect, "{action:?} on {version}");
    }

    fn set(key: &str, value: &str) -> Action {
        let new = pve_config::NewVolume::read(key, value).map(PatchValue::NewVolume);
        let value = new.unwrap_or_else(|| PatchValue::Text(value.to_owned()));
        let set = BTreeMap::from([(key.to_owned(), value)]);
        Action::SetConfig {
            guest: guest(),
            patch: ConfigPatch { set, delete: Default::default() },
            digest: None,
        }
    }

    const SEVEN: PveVersion = PveVersion::new(7, 4, 0);
    const EIGHT: PveVersion = PveVersion::new(8, 4, 1);
    const NINE: PveVersion = PveVersion::new(9, 2, 11);

    #[test]
    fn options_need_the_privilege_of_their_group() {
        check(NINE, set("cores", "2"), &["VM.Config.CPU on /vms/201"]);
        check(NINE, set("description", "x"), &["VM.Config.Options on /vms/201"]);
        check(NINE, set("smbios1", "uuid=x"), &["VM.Config.HWType on /vms/201"]);
        check(NINE, set("startup", "order=1"), &["Sys.Modify on /", "VM.Config.Options on /vms/201"]);
        check(
            NINE,
            set("hostpci0", "mapping=nvme"),
            &["Mapping.Use on /mapping/pci/nvme", "VM.Config.HWType on /vms/201"],
        );
        check(
            NINE,
            set("ciuser", "x"),
            &["VM.Config.Cloudinit on /vms/201, or VM.Config.Network on /vms/201"],
        );
        check(SEVEN, set("ipconfig0", "ip=dhcp"), &["VM.Config.Network on /vms/201"]);
    }

    #[test]
    fn a_nic_needs_its_bridge_or_its_vlan_from_version_8_on() {
        let network = "VM.Config.Network on /vms/201";
        check(
            NINE,
            set("net0", "virtio,bridge=vmbr0"),
            &["SDN.Use on /sdn/zones/localnetwork/vmbr0", network],
        );
        check(
            EIGHT,
            set("net0", "virtio,bridge=vmbr0,tag=40"),
            &["SDN.Use on /sdn/zones/localnetwork/vmbr0/40", network],
        );
        check(NINE, set("net0", "virtio,bridge=tenant1"), &["SDN.Use on /sdn/zones/zone1/tenant1", network]);
        check(SEVEN, set("net0", "virtio,bridge=vmbr0"), &[network]);
        let trunk = |vlan: u16| format!("SDN.Use on /sdn/zones/localnetwork/vmbr0/{vlan}");
        check(
            NINE,
            set("net0", "virtio,bridge=vmbr0,tag=9,trunks=10;20-22"),
            &[&trunk(10), &trunk(20), &trunk(21), &trunk(22), &trunk(9), network],
        );
    }

    #[test]
    fn the_agent_needs_monitor_up_to_8_and_its_own_rights_from_9_on() {
        let wait = |condition| Action::Await { guest: guest(), condition };
        check(EIGHT, wait(Condition::Agent), &["VM.Monitor on /vms/201"]);
        check(
            NINE,
            wait(Condition::Agent),
            &["VM.GuestAgent.Audit on /vms/201, or VM.GuestAgent.Unrestricted on /vms/201"],
        );
        check(NINE, wait(Condition::CloudInit), &["VM.GuestAgent.Unrestricted on /vms/201"]);
        check(NINE, wait(Condition::Tcp { port: 22 }), &[]);
    }

    #[test]
    fn a_new_disk_needs_its_storage_and_a_change_its_slot() {
        check(
            NINE,
            set("scsi1", "local-lvm:32"),
            &["Datastore.AllocateSpace on /storage/local-lvm", "VM.Config.Disk on /vms/201"],
        );
        let config = ConfigPatch {
            set: BTreeMap::from([(
                "scsi1".to_owned(),
                PatchValue::NewVolume(NewVolume::of_gib("local-lvm".parse().unwrap(), "32")),
            )]),
            delete: Default::default(),
        };
        let create = Action::CreateVm { guest: guest(), config, pool: Some("lab".parse().unwrap()) };
        check(
            NINE,
            create,
            &[
                "Datastore.AllocateSpace on /storage/local-lvm",
                "VM.Allocate on /vms/201, or VM.Allocate on /pool/lab",
                "VM.Audit on /vms/201, or VM.Audit on /pool/lab",
            ],
        );
        check(
            NINE,
            set("ide2", "local-lvm:cloudinit"),
            &["VM.Config.CDROM on /vms/201", "VM.Config.Cloudinit on /vms/201"],
        );
    }

    #[test]
    fn a_download_needs_the_network_of_the_node() {
        let place = Action::PlaceImage {
            image: "debian".to_owned(),
            node: "pve1".parse().unwrap(),
            volume: "local:import/debian.qcow2".parse().unwrap(),
            origin: ImageOrigin::Url { url: "https://images.example.org/debian.qcow2".to_owned() },
            checksum: None,
        };
        let template = "Datastore.AllocateTemplate on /storage/local";
        check(
            NINE,
            place.clone(),
            &[template, "Sys.AccessNetwork on /nodes/pve1, or Sys.Audit on / and Sys.Modify on /"],
        );
        check(SEVEN, place, &[template, "Sys.Audit on / and Sys.Modify on /"]);
    }

    #[test]
    fn options_that_no_token_may_set_are_known() {
        let check = |key, value, version, expect| {
            assert_eq!(is_root_only(key, value, version), expect, "{key}={value}")
        };
        for (key, value) in [
            ("args", "-x"),
            ("hookscript", "local:snippets/x"),
            ("affinity", "0-3"),
            ("hostpci0", "host=01:00.0"),
            ("usb0", "host=1234:5678"),
            ("serial0", "/dev/ttyS0"),
            ("hugepages", "2"),
        ] {
            check(key, value, NINE, true);
        }
        for (key, value) in [
            ("usb0", "spice"),
            ("usb0", "mapping=ups"),
            ("hostpci0", "mapping=nvme"),
            ("serial0", "socket"),
            ("rng0", "/dev/urandom"),
            ("cores", "2"),
        ] {
            check(key, value, NINE, false);
        }
        check("rng0", "/dev/urandom", SEVEN, true);
    }
}
