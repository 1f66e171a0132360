//! The cloud-init drive: what is on it, and when it is made.

use pve_types::{Privilege, Vmid};
use serde_json::{Value, json};

use super::config::{HIDDEN, guest, json_value};
use super::drive::cloudinit_slot;
use super::settings;
use crate::api::{Call, Methods, Refusal};
use crate::world::{Config, Guest, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/cloudinit", pending),
    ("PUT", "/nodes/{node}/qemu/{vmid}/cloudinit", update),
    ("GET", "/nodes/{node}/qemu/{vmid}/cloudinit/dump", dump),
];

/// The options whose values are listed with what is pending of them. Addresses, cards and the name are only listed when
/// they are new or gone.
const LISTED: &[&str] =
    &["cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"];

/// Notes that an option which the drive is made from changed under a running guest.
// PVE: qemu-server src/PVE/QemuServer.pm vmconfig_hotplug_pending, cloudinit_record_changed
pub fn record_change(guest: &mut Guest, option: &str, old: Option<&str>, new: Option<&str>) {
    if !settings::is_cloudinit(option) && !settings::is_net(option) && option != "name" {
        return;
    }
    let recorded = guest.cloudinit.get(option).cloned();
    match (recorded, new) {
        (Some(Some(on_drive)), Some(new)) if on_drive == new => drop(guest.cloudinit.remove(option)),
        (Some(None), None) => drop(guest.cloudinit.remove(option)),
        (Some(_), _) => {}
        (None, None) if old.is_none() => {}
        (None, _) => drop(guest.cloudinit.insert(option.to_owned(), old.map(str::to_owned))),
    }
}

/// Makes the drive from the configuration in force.
pub fn generate(world: &mut World, node: &str, vmid: Vmid, output: &mut Vec<String>) {
    let version = world.version;
    let Some(guest) = world.guests.get_mut(&vmid).filter(|guest| guest.node == node) else { return };
    if cloudinit_slot(version, &guest.config).is_some() {
        guest.cloudinit.clear();
        output.push("generating cloud-init ISO".to_owned());
    }
}

/// Makes the drive again when something it is made from has changed under the running guest.
pub fn generate_if_changed(world: &mut World, node: &str, vmid: Vmid, output: &mut Vec<String>) {
    if world.guests.get(&vmid).is_some_and(|guest| !guest.cloudinit.is_empty()) {
        generate(world, node, vmid, output);
    }
}

/// The snippets that `cicustom` names must be there when the drive is made.
///
/// # Errors
/// PVE's text.
// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm read_cloudinit_snippets_file
pub fn check_snippets(world: &World, node: &str, vmid: Vmid) -> Result<(), String> {
    let Some(guest) = world.guests.get(&vmid).filter(|guest| guest.node == node) else { return Ok(()) };
    if cloudinit_slot(world.version, &guest.config).is_none() {
        return Ok(());
    }
    let custom = guest.config.get("cicustom").map_or("", String::as_str);
    for volume in custom.split(',').filter_map(|part| part.split_once('=').map(|(_, volume)| volume)) {
        let (storage, name) = crate::world::split_id(volume)?;
        if crate::world::parse_name(world.storage(storage)?, name)?.content != "snippets" {
            return Err(format!("{volume} is not in the snippets directory"));
        }
        let path = world.volume_path(volume)?;
        if world.files(node, &path).is_none_or(|files| files.stat(&path).is_err()) {
            return Err(format!("can't open '{path}' - No such file or directory"));
        }
    }
    Ok(())
}

// PVE: qemu-server src/PVE/API2/Qemu.pm cloudinit_pending
fn pending(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let guest = guest(call.world, &call.node(), call.vmid()?)?;
    let shown = |key: &str, value: &str| {
        if key == "cipassword" { HIDDEN.into() } else { json_value(call.world, key, value) }
    };
    let mut entries = Vec::new();
    for (key, value) in guest.config.iter().filter(|(key, value)| {
        let is_listed = LISTED.contains(&key.as_str()) && !matches!(value.as_str(), "" | "0");
        is_listed || matches!(guest.cloudinit.get(*key), Some(None))
    }) {
        entries.push(match guest.cloudinit.get(key) {
            None => json!({ "key": key, "value": shown(key, value) }),
            Some(None) => json!({ "key": key, "pending": shown(key, value) }),
            Some(Some(old)) => {
                json!({ "key": key, "value": shown(key, old), "pending": shown(key, value) })
            }
        });
    }
    let gone = guest.cloudinit.keys().filter(|key| !guest.config.contains_key(*key));
    entries.extend(gone.map(|key| json!({ "key": key, "delete": 1 })));
    Ok(entries.into())
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (node, vmid) = (call.node(), call.vmid()?);
    super::config::check_lock(guest(call.world, &node, vmid)?)?;
    let mut output = Vec::new();
    generate(call.world, &node, vmid, &mut output);
    call.output.append(&mut output);
    Ok(Value::Null)
}

fn dump(call: &mut Call<'_>) -> Result<Value, Refusal> {
    call.require(&format!("/vms/{}", call.vmid()?), &[Privilege::VmAudit])?;
    let is_masked = !call.has(&format!("/vms/{}", call.vmid()?), Privilege::VmConfigCloudinit);
    let kind = call.string("type");
    let mut guest = guest(call.world, &call.node(), call.vmid()?)?.clone();
    // The metadata's digest is that of what the guest gets.
    if let Some(password) = guest.config.get_mut("cipassword").filter(|_| is_masked && kind == "user") {
        *password = "**********".to_owned();
    }
    Ok(document(call.world, &guest, &kind).into())
}

/// One document of the drive: `user`, `network` or `meta`.
// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm
pub fn document(world: &World, guest: &Guest, kind: &str) -> String {
    let is_windows = guest.config.get("ostype").is_some_and(|kind| kind.starts_with('w'));
    let is_configdrive = match guest.config.get("citype") {
        Some(kind) => kind == "configdrive2",
        None => is_windows,
    };
    match kind {
        "user" => user_data(guest),
        "network" if is_configdrive => interfaces(world, guest),
        "network" => network_data(world, guest),
        _ => {
            let digest =
                super::super::hex_sha1(&format!("{}{}", user_data(guest), network_data(world, guest)));
            if is_configdrive {
                format!(
                    "{{\n     \"uuid\": \"{digest}\",\n     \"network_config\": {{ \"content_path\": \"/content/0000\" }}\n}}\n"
                )
            } else {
                format!("instance-id: {digest}\n")
            }
        }
    }
}

fn decoded(config: &Config, option: &str) -> Option<String> {
    let text = config.get(option)?;
    Some(percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned())
}

// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm get_hostname_fqdn
fn hostname(guest: &Guest) -> (String, String) {
    let name = guest.config.get("name").cloned().unwrap_or_else(|| format!("VM{}", guest.vmid));
    match (name.split_once('.'), guest.config.get("searchdomain")) {
        (Some((host, _)), _) => (host.to_owned(), name.clone()),
        (None, Some(domain)) => (name.clone(), format!("{name}.{domain}")),
        (None, None) => (name.clone(), name),
    }
}

fn user_data(guest: &Guest) -> String {
    let config = &guest.config;
    let (host, full) = hostname(guest);
    let mut text = format!("#cloud-config\nhostname: {host}\nmanage_etc_hosts: true\nfqdn: {full}\n");
    let user = config.get("ciuser");
    if let Some(user) = user {
        text.push_str(&format!("user: {user}\n"));
    }
    if user.is_some_and(|user| user == "root") {
        text.push_str("disable_root: False\n");
    }
    if let Some(password) = config.get("cipassword") {
        text.push_str(&format!("password: {password}\n"));
    }
    if let Some(keys) = decoded(config, "sshkeys") {
        text.push_str("ssh_authorized_keys:\n");
        for key in keys.lines().map(str::trim).filter(|key| !key.is_empty()) {
            text.push_str(&format!("  - {key}\n"));
        }
    }
    text.push_str("chpasswd:\n  expire: False\n");
    if user.is_none_or(|user| user != "root") {
        text.push_str("users:\n  - default\n");
    }
    if config.get("ciupgrade").is_none_or(|value| value == "1") {
        text.push_str("package_upgrade: true\n");
    }
    text
}

/// The number and address settings of each card that has any.
fn cards(guest: &Guest) -> Vec<(usize, String, Config)> {
    let card = |number: usize| {
        let net = guest.config.get(&format!("net{number}"))?;
        let ip = guest.config.get(&format!("ipconfig{number}"))?;
        let mac = net.split(',').find_map(|part| {
            part.split_once('=')
                .map(|(_, mac)| mac)
                .filter(|mac| mac.len() == 17 && mac.matches(':').count() == 5)
        })?;
        let settings = ip
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut settings: Config = settings.collect();
        if !settings.contains_key("ip") && !settings.contains_key("ip6") {
            settings.insert("ip".into(), "dhcp".into());
            settings.insert("ip6".into(), "dhcp".into());
        }
        Some((number, mac.to_lowercase(), settings))
    };
    (0..32).filter_map(card).collect()
}

fn name_servers(world: &World, guest: &Guest) -> Vec<String> {
    let own = guest.config.get("nameserver").map_or("127.0.0.1", String::as_str);
    let _ = world;
    own.split_whitespace().filter(|server| !server.is_empty()).map(str::to_owned).collect()
}

fn network_data(world: &World, guest: &Guest) -> String {
    let mut text = "version: 1\nconfig:\n".to_owned();
    for (number, mac, settings) in cards(guest) {
        text.push_str(&format!(
            "    - type: physical\n      name: eth{number}\n      mac_address: '{mac}'\n      subnets:\n"
        ));
        if let Some(ip) = settings.get("ip") {
            text.push_str(&subnet(ip, settings.get("gw"), "dhcp4", "static"));
        }
        if let Some(ip) = settings.get("ip6") {
            text.push_str(&subnet(ip, settings.get("gw6"), "dhcp6", "static6"));
        }
    }
    let servers = name_servers(world, guest);
    text.push_str("    - type: nameserver\n      address:\n");
    servers.iter().for_each(|server| text.push_str(&format!("      - '{server}'\n")));
    let domains = guest.config.get("searchdomain").map_or("", String::as_str);
    if !domains.trim().is_empty() {
        text.push_str("      search:\n");
    }
    domains.split_whitespace().for_each(|domain| text.push_str(&format!("      - '{domain}'\n")));
    text
}

fn subnet(ip: &str, gateway: Option<&String>, dhcp: &str, fixed: &str) -> String {
    match ip {
        "dhcp" => format!("      - type: {dhcp}\n"),
        "auto" => "      - type: ipv6_slaac\n".to_owned(),
        "manual" => "      - type: manual\n".to_owned(),
        _ => {
            let (address, length) = ip.split_once('/').unwrap_or((ip, "32"));
            let mut text = match fixed {
                "static" => {
                    let mask = netmask(length);
                    format!("      - type: static\n        address: '{address}'\n        netmask: '{mask}'\n")
                }
                _ => format!("      - type: static6\n        address: '{address}/{length}'\n"),
            };
            if let Some(gateway) = gateway {
                text.push_str(&format!("        gateway: '{gateway}'\n"));
            }
            text
        }
    }
}

/// The file `interfaces` of a config drive.
// PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm configdrive2_network, which a dump shows for Windows, too
fn interfaces(world: &World, guest: &Guest) -> String {
    let servers = name_servers(world, guest).join(" ");
    let mut text = "auto lo\niface lo inet loopback\n\n".to_owned();
    if !servers.is_empty() {
        text.push_str(&format!("        dns_nameservers {servers}\n"));
    }
    if let Some(domains) = guest.config.get("searchdomain").filter(|domains| !domains.trim().is_empty()) {
        text.push_str(&format!("        dns_search {domains}\n"));
    }
    for (number, _, settings) in cards(guest) {
        text.push_str(&format!("auto eth{number}\n"));
        for (ip, gateway, family) in [("ip", "gw", "inet"), ("ip6", "gw6", "inet6")] {
            let Some(ip) = settings.get(ip) else { continue };
            let Some((address, length)) = ip.split_once('/') else {
                text.push_str(&format!("iface eth{number} {family} {ip}\n"));
                continue;
            };
            let mask = if family == "inet" { netmask(length) } else { length.to_owned() };
            text.push_str(&format!(
                "iface eth{number} {family} static\n        address {address}\n        netmask {mask}\n"
            ));
            if let Some(gateway) = settings.get(gateway) {
                text.push_str(&format!("        gateway {gateway}\n"));
            }
        }
    }
    text
}

fn netmask(length: &str) -> String {
    let length: u32 = length.parse().unwrap_or(32);
    let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
    std::net::Ipv4Addr::from(mask).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{GuestKind, WorldSpec};

    #[test]
    fn the_documents_say_what_the_options_say() {
        let world = World::new(&WorldSpec::demo(), 1);
        let options = [
            ("name", "web01"),
            ("ciuser", "admin"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ("ipconfig0", "ip=10.0.0.5/24,gw=10.0.0.1"),
            ("searchdomain", "example.net"),
        ];
        let config = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let guest = Guest::new(Vmid::new(100).unwrap(), GuestKind::Qemu, "pve1", config, 0);
        let user = document(&world, &guest, "user");
        assert!(user.starts_with(
            "#cloud-config\nhostname: web01\nmanage_etc_hosts: true\nfqdn: web01.example.net\nuser: admin\n"
        ));
        let network = document(&world, &guest, "network");
        assert!(
            network.contains(
                "address: '10.0.0.5'\n        netmask: '255.255.255.0'\n        gateway: '10.0.0.1'"
            )
        );
        assert!(document(&world, &guest, "meta").starts_with("instance-id: "));
    }
}
