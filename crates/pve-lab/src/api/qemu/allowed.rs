//! Who may set which option of a VM.

use pve_types::{Privilege, Vmid};

use super::drive::{Drive, is_slot, owner};
use super::nets;
use crate::api::Refusal;
use crate::api::rights::{has, require, require_any};
use crate::world::{Config, World, parse_name, split_id};

/// Who asks, for which VM.
#[derive(Debug, Clone)]
pub struct Asker {
    /// A user or a full token id.
    pub auth_id: String,
    /// The node.
    pub node: String,
    /// The VM.
    pub vmid: Vmid,
    /// The pool that a new VM is put into.
    pub pool: Option<String>,
}

const CPU: &[&str] = &["cores", "cpu", "cpulimit", "cpuunits", "numa", "smp", "sockets", "vcpus"];
const MEMORY: &[&str] = &["allow-ksm", "balloon", "memory", "shares"];
const HARDWARE: &[&str] = &[
    "acpi", "audio0", "hotplug", "kvm", "machine", "rng0", "scsihw", "smbios1", "tablet", "vga", "watchdog",
];
const OPTIONS: &[&str] = &[
    "agent",
    "autostart",
    "bios",
    "description",
    "keyboard",
    "localtime",
    "migrate_downtime",
    "migrate_speed",
    "name",
    "onboot",
    "ostype",
    "protection",
    "reboot",
    "startdate",
    "startup",
    "tdf",
    "template",
];
const DISK: &[&str] = &["boot", "bootdisk", "vmstatestorage"];
const CLOUDINIT: &[&str] =
    &["cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"];

fn numbered(option: &str, base: &str) -> bool {
    option
        .strip_prefix(base)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Asker {
    /// Tells whether it is root@pam, and no token of it.
    pub fn is_root(&self) -> bool {
        self.auth_id == "root@pam"
    }

    /// Requires privileges on the VM, or on the pool that it is put into.
    ///
    /// # Errors
    /// 403.
    pub fn require(&self, world: &World, wanted: &[Privilege]) -> Result<(), Refusal> {
        if let Some(pool) = &self.pool
            && require(world, &self.auth_id, &format!("/pool/{pool}"), wanted).is_ok()
        {
            return Ok(());
        }
        require(world, &self.auth_id, &format!("/vms/{}", self.vmid), wanted)
    }

    fn require_any(&self, world: &World, wanted: &[Privilege]) -> Result<(), Refusal> {
        if let Some(pool) = &self.pool
            && require_any(world, &self.auth_id, &format!("/pool/{pool}"), wanted).is_ok()
        {
            return Ok(());
        }
        require_any(world, &self.auth_id, &format!("/vms/{}", self.vmid), wanted)
    }

    /// Requires what changing these options needs; drives and devices are looked at where their values are known.
    ///
    /// # Errors
    /// 403, or 500 for what only root may set.
    // PVE: qemu-server src/PVE/API2/Qemu.pm check_vm_modify_config_perm
    pub fn may_change<'a>(
        &self,
        world: &World,
        options: impl Iterator<Item = &'a str>,
    ) -> Result<(), Refusal> {
        if self.is_root() {
            return Ok(());
        }
        for option in options {
            let by_value = is_slot(option)
                || matches!(option, "cdrom" | "tags")
                || ["unused", "serial", "usb", "hostpci", "virtiofs"]
                    .iter()
                    .any(|base| numbered(option, base));
            if by_value {
                continue;
            }
            self.may_change_one(world, option)?;
        }
        Ok(())
    }

    fn may_change_one(&self, world: &World, option: &str) -> Result<(), Refusal> {
        if CPU.contains(&option) || numbered(option, "numa") {
            self.require(world, &[Privilege::VmConfigCpu])
        } else if MEMORY.contains(&option) {
            self.require(world, &[Privilege::VmConfigMemory])
        } else if HARDWARE.contains(&option) {
            self.require(world, &[Privilege::VmConfigHwType])
        } else if OPTIONS.contains(&option) {
            self.require(world, &[Privilege::VmConfigOptions])?;
            match option {
                "startup" => require(world, &self.auth_id, "/", &[Privilege::SysModify]),
                _ => Ok(()),
            }
        } else if option == "freeze" {
            self.require(world, &[Privilege::VmPowerMgmt])
        } else if DISK.contains(&option) {
            self.require(world, &[Privilege::VmConfigDisk])
        } else if numbered(option, "net") {
            self.require(world, &[Privilege::VmConfigNetwork])
        } else if CLOUDINIT.contains(&option) || numbered(option, "ipconfig") {
            self.require_any(world, &[Privilege::VmConfigCloudinit, Privilege::VmConfigNetwork])
        } else {
            Err(Refusal::died(format!("only root can set '{option}' config")))
        }
    }

    /// Requires what the values of devices need: serial, usb, hostpci, virtiofs, tags.
    ///
    /// # Errors
    /// 403, or 500 for what only root may set.
    pub fn may_have_devices(&self, world: &World, settings: &Config, verb: &str) -> Result<(), Refusal> {
        if self.is_root() {
            return Ok(());
        }
        for (option, value) in settings {
            let first = value.split(',').next().unwrap_or_default();
            let value_of =
                |key: &str| value.split(',').find_map(|part| part.strip_prefix(&format!("{key}=")));
            let mapping = value_of("mapping");
            let only_root =
                || Refusal::died(format!("only root can {verb} '{option}' config for real devices"));
            if option == "tags" {
                self.require(world, &[Privilege::VmConfigOptions])?;
            } else if numbered(option, "serial") {
                if value != "socket" {
                    return Err(only_root());
                }
                self.require(world, &[Privilege::VmConfigHwType])?;
            } else if numbered(option, "usb") {
                let host = value_of("host").unwrap_or(first);
                self.require(world, &[Privilege::VmConfigHwType])?;
                match mapping {
                    Some(name) => self.may_map(world, "usb", name)?,
                    None if host.eq_ignore_ascii_case("spice") => {
                        self.require(world, &[Privilege::VmConfigHwType])?
                    }
                    None => return Err(only_root()),
                }
            } else if numbered(option, "hostpci") {
                let Some(name) = mapping else {
                    return Err(Refusal::died(format!(
                        "only root can {verb} '{option}' config for non-mapped devices"
                    )));
                };
                self.may_map(world, "pci", name)?;
            } else if numbered(option, "virtiofs") {
                self.require(world, &[Privilege::VmConfigDisk])?;
                let name = value_of("dirid").unwrap_or(first);
                require(world, &self.auth_id, &format!("/mapping/dir/{name}"), &[Privilege::MappingUse])?;
            } else if option == "rng0" && world.version.at_least(9, 0) {
                self.require(world, &[Privilege::VmConfigHwType])?;
                // PVE: qemu-server src/PVE/API2/Qemu.pm check_rng_perm
                if value_of("source").unwrap_or(first) == "/dev/hwrng" {
                    require(world, &self.auth_id, "/mapping/hwrng", &[Privilege::MappingUse])?;
                }
            } else if option == "cpu" {
                self.may_use_cpu(world, first.strip_prefix("cputype=").unwrap_or(first))?;
            }
        }
        Ok(())
    }

    fn may_map(&self, world: &World, kind: &str, name: &str) -> Result<(), Refusal> {
        self.require(world, &[Privilege::VmConfigHwType])?;
        require(world, &self.auth_id, &format!("/mapping/{kind}/{name}"), &[Privilege::MappingUse])
    }

    fn may_use_cpu(&self, world: &World, model: &str) -> Result<(), Refusal> {
        let Some(name) = model.strip_prefix("custom-") else { return Ok(()) };
        if world.version.at_least(9, 0) {
            require(world, &self.auth_id, &format!("/mapping/cpu/{name}"), &[Privilege::MappingUse])
        } else {
            require(world, &self.auth_id, "/nodes", &[Privilege::SysAudit])
        }
    }

    /// Requires what these drives need of their storages.
    ///
    /// # Errors
    /// 400, 403, or 500 with PVE's text.
    // PVE: qemu-server src/PVE/API2/Qemu.pm check_storage_access
    pub fn may_use_storages(
        &self,
        world: &World,
        settings: &Config,
        default_storage: Option<&str>,
    ) -> Result<(), Refusal> {
        for drive in super::drive::drives(world.version, settings) {
            self.may_use_storage(world, &drive, default_storage)?;
        }
        if let Some(storage) = settings.get("vmstatestorage") {
            require(
                world,
                &self.auth_id,
                &format!("/storage/{storage}"),
                &[Privilege::DatastoreAllocateSpace],
            )?;
        }
        Ok(())
    }

    fn may_use_storage(
        &self,
        world: &World,
        drive: &Drive,
        default_storage: Option<&str>,
    ) -> Result<(), Refusal> {
        let asked_for_import = drive.option("import-from");
        if asked_for_import.is_some() && !(drive.is_new() && drive.new_disk().1.trim_matches('0').is_empty())
        {
            let text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>";
            return Err(Refusal::parameter(&drive.slot, text));
        }
        match drive.file() {
            "none" => {}
            "cdrom" => require(world, &self.auth_id, "/", &[Privilege::SysConsole])?,
            _ if drive.file().ends_with(":cloudinit") => {}
            _ if drive.is_new() && !drive.is_cdrom() => {
                let none = "no storage ID specified (and no default storage)";
                let storage = drive.new_disk().0.or(default_storage).ok_or_else(|| Refusal::died(none))?;
                require(
                    world,
                    &self.auth_id,
                    &format!("/storage/{storage}"),
                    &[Privilege::DatastoreAllocateSpace],
                )?;
                if !world.storage(storage)?.content.contains("images") {
                    let text = format!("storage '{storage}' does not support vm images");
                    return Err(Refusal::parameter("storage", text));
                }
            }
            file => {
                self.may_use_volume(world, file)?;
                if let Ok((storage, name)) = split_id(file) {
                    let kind = parse_name(world.storage(storage)?, name)?.content;
                    if kind == "iso" && !drive.is_cdrom() {
                        let text = "explicit 'media=cdrom' is required for iso images";
                        return Err(Refusal::parameter(&drive.slot, text));
                    }
                    if kind != "images" && kind != "iso" {
                        let text = "content type needs to be 'images' or 'iso'";
                        return Err(Refusal::parameter(&drive.slot, text));
                    }
                }
            }
        }
        match asked_for_import {
            Some(source) => self.may_import(world, &drive.slot, source),
            None => Ok(()),
        }
    }

    fn may_import(&self, world: &World, slot: &str, source: &str) -> Result<(), Refusal> {
        if let Ok((storage, name)) =
            split_id(source).and_then(|(storage, name)| Ok((world.storage(storage)?, name)))
        {
            let parsed = parse_name(storage, name)?;
            if parsed.content != "images" && parsed.content != "import" {
                let text = format!(
                    "{source} has wrong type '{}' - needs to be 'images' or 'import'",
                    parsed.content
                );
                return Err(Refusal::parameter(slot, text));
            }
            if let Some(owner) = parsed.owner {
                return require(world, &self.auth_id, &format!("/vms/{owner}"), &[Privilege::VmClone]);
            }
        }
        self.may_use_volume(world, source)
    }

    /// Requires access to an existing volume, or to a path.
    ///
    /// # Errors
    /// 403 or 500 with PVE's text.
    // PVE: pve-storage src/PVE/Storage.pm check_volume_access
    pub fn may_use_volume(&self, world: &World, volume: &str) -> Result<(), Refusal> {
        let Ok((storage, name)) = split_id(volume) else {
            if self.is_root() {
                return Ok(());
            }
            let text =
                "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 574.";
            return Err(Refusal::died(text));
        };
        let path = format!("/storage/{storage}");
        let may = |privilege| has(world, &self.auth_id, &path, privilege);
        let parsed = parse_name(world.storage(storage)?, name)?;
        if self.is_root() || may(Privilege::DatastoreAllocate) {
            return Ok(());
        }
        let allowed = match parsed.content {
            "iso" | "vztmpl" | "import" => {
                let wanted = [Privilege::DatastoreAllocateSpace, Privilege::DatastoreAudit];
                return require_any(world, &self.auth_id, &path, &wanted);
            }
            "backup" => match parsed.owner {
                Some(owner) => {
                    require(world, &self.auth_id, &path, &[Privilege::DatastoreAllocateSpace])?;
                    return require(world, &self.auth_id, &format!("/vms/{owner}"), &[Privilege::VmBackup]);
                }
                None => false,
            },
            "images" if owner(world, volume) == Some(self.vmid) => true,
            "images" => match parsed.owner {
                Some(owner) => {
                    require(world, &self.auth_id, &path, &[Privilege::DatastoreAudit])?;
                    let path = format!("/vms/{owner}");
                    return require(world, &self.auth_id, &path, &[Privilege::VmConfigDisk]);
                }
                None => false,
            },
            _ => false,
        };
        match allowed {
            true => Ok(()),
            false => Err(Refusal::new(403, format!("missing privileges to access {volume}"))),
        }
    }

    /// Requires the right to plug cards into their bridges.
    ///
    /// # Errors
    /// 403.
    // PVE: qemu-server src/PVE/QemuServer.pm check_bridge_access
    pub fn may_use_bridges(&self, world: &World, settings: &Config) -> Result<(), Refusal> {
        if self.is_root() || !world.version.at_least(8, 0) {
            return Ok(());
        }
        for (_, value) in settings.iter().filter(|(option, _)| numbered(option, "net")) {
            let Some(net) = nets::parse(world.version, value) else { continue };
            let Some(bridge) = net.get("bridge") else { continue };
            let zone = world.zone_of(bridge);
            for path in bridge_paths(zone, bridge, net.get("tag"), net.get("trunks")) {
                require(world, &self.auth_id, &path, &[Privilege::SdnUse])?;
            }
        }
        Ok(())
    }
}

fn bridge_paths(zone: &str, bridge: &str, tag: Option<&String>, trunks: Option<&String>) -> Vec<String> {
    let base = format!("/sdn/zones/{zone}/{bridge}");
    let mut tags: Vec<String> = tag.cloned().into_iter().collect();
    for range in trunks.into_iter().flat_map(|trunks| trunks.split(';')) {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) {
            tags.extend((low..=high).map(|tag| tag.to_string()));
        }
    }
    match tags.is_empty() {
        true => vec![base],
        false => tags.iter().map(|tag| format!("{base}/{tag}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldSpec;

    fn check(roles: &[(&str, &str)], options: &[(&str, &str)], expect: Result<(), &str>) {
        let acl: String = roles
            .iter()
            .map(|(path, role)| format!("  - {{path: {path}, who: a@pve, role: {role}}}\n"))
            .collect();
        let world =
            World::new(&WorldSpec::from_yaml(&format!("users: {{a@pve: {{}}}}\nacl:\n{acl}")).unwrap(), 1);
        let asker =
            Asker { auth_id: "a@pve".into(), node: "pve1".into(), vmid: Vmid::new(100).unwrap(), pool: None };
        let settings: Config =
            options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let got = asker
            .may_change(&world, settings.keys().map(String::as_str))
            .and_then(|()| asker.may_use_bridges(&world, &settings))
            .and_then(|()| asker.may_use_storages(&world, &settings, None));
        assert_eq!(got.map_err(|refusal| refusal.message), expect.map_err(str::to_owned), "{options:?}");
    }

    #[test]
    fn each_option_has_its_privilege() {
        let admin = [("/vms", "PVEVMAdmin")];
        check(&admin, &[("cores", "2"), ("ciuser", "a")], Ok(()));
        check(
            &[("/vms", "PVEVMUser")],
            &[("cores", "2")],
            Err("Permission check failed (/vms/100, VM.Config.CPU)"),
        );
        check(&admin, &[("startup", "order=1")], Err("Permission check failed (/, Sys.Modify)"));
        check(&admin, &[("args", "-x")], Err("only root can set 'args' config"));
        let bridge = "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)";
        check(&admin, &[("net0", "virtio,bridge=vmbr0")], Err(bridge));
        let tag = "Permission check failed (/sdn/zones/localnetwork/vmbr0/40, SDN.Use)";
        check(&admin, &[("net0", "virtio,bridge=vmbr0,tag=40")], Err(tag));
        let with_tag = [("/vms", "PVEVMAdmin"), ("/sdn/zones/localnetwork/vmbr0/40", "PVESDNUser")];
        check(&with_tag, &[("net0", "virtio,bridge=vmbr0,tag=40")], Ok(()));
        let space = "Permission check failed (/storage/local, Datastore.AllocateSpace)";
        check(&admin, &[("scsi0", "local:1")], Err(space));
    }
}
