//! What texts are taken where.

use super::TextRule;
use crate::spec::group::NamePattern;
use pve_config::{Bus, DeviceSlot, Tags};
use pve_types::{BridgeName, GuestName, MacAddr, NodeName, ParseError, PoolId, StorageId, VolumeId};
use std::net::IpAddr;
use std::str::FromStr;

macro_rules! rule {
    ($const:ident, $name:literal, $pattern:literal, $example:literal, $check:expr) => {
        pub(crate) const $const: TextRule =
            TextRule { name: $name, pattern: $pattern, example: $example, check: $check };
    };
}

rule!(LINE, "text of one line", r"^[^\x00-\x1f\x7f]*$", "web server", one_line);
rule!(DESCRIPTION, "text", r"", "the web server", description);
rule!(PROJECT, "project name", r"^[a-z0-9-]{1,32}$", "web", project);
rule!(WORD, "name", r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$", "debian-13", word);
rule!(NODE, "node name", r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$", "pve1", parses::<NodeName>);
rule!(GUEST, "VM name", r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", "web01", parses::<GuestName>);
rule!(STORAGE, "storage ID", r"^[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]$", "local-lvm", parses::<StorageId>);
rule!(
    VOLUME,
    "volume ID",
    r"^[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]:[^\s,]+$",
    "local:import/debian-13.qcow2",
    parses::<VolumeId>
);
rule!(POOL, "pool", r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}$", "lab", parses::<PoolId>);
rule!(BRIDGE, "bridge", r"^[A-Za-z0-9_.-]{1,15}$", "vmbr0", parses::<BridgeName>);
rule!(MAC, "MAC address", r"^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", "BC:24:11:00:02:00", mac);
rule!(TAG, "tag", r"^[A-Za-z0-9_][A-Za-z0-9_+.-]*$", "lab", tag);
rule!(
    UUID,
    "UUID",
    r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
    "9f1c2a34-0000-4000-8000-0123456789ab",
    uuid
);
rule!(IP4, "IPv4 setting", r"^(dhcp|manual|\d{1,3}(\.\d{1,3}){3}/\d{1,2})$", "10.40.0.5/24", ip4);
rule!(IP6, "IPv6 setting", r"^(dhcp|auto|manual|[0-9A-Fa-f:.]+/\d{1,3})$", "fd00::5/64", ip6);
rule!(GATEWAY4, "IPv4 address", r"^\d{1,3}(\.\d{1,3}){3}$", "10.40.0.1", gateway4);
rule!(GATEWAY6, "IPv6 address", r"^[0-9A-Fa-f:.]+$", "fd00::1", gateway6);
rule!(ADDRESS, "IP address", r"^[0-9A-Fa-f:.]+$", "10.40.0.1", address);
rule!(NETWORK, "network", r"^[0-9A-Fa-f:.]+/\d{1,3}$", "10.0.0.0/8", network);
rule!(HOST, "host name or address", r"^[A-Za-z0-9:._%-]+$", "pve1.example.org", host);
rule!(JUMP, "jump host", r"^([^@\s]+@)?[A-Za-z0-9:._\[\]-]+$", "admin@bastion.example.org", jump);
rule!(ENDPOINT, "API address", r"^https://[^/\s]+/?$", "https://pve1.example.org:8006", endpoint);
rule!(URL, "address", r"^https?://\S+$", "https://images.example.org/debian-13.qcow2", url);
rule!(
    CHECKSUM,
    "checksum",
    r"^(md5|sha1|sha224|sha256|sha384|sha512):[0-9A-Fa-f]+$",
    "sha512:<128 hexadecimal digits>",
    checksum
);
rule!(
    FINGERPRINT,
    "SHA-256 fingerprint",
    r"^(sha256:)?([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$",
    "AA:BB:<30 more pairs>",
    fingerprint
);
rule!(
    USER,
    "user ID",
    r"^[^\s:/!]+@[A-Za-z][A-Za-z0-9._-]+(![A-Za-z][A-Za-z0-9._-]+)?$",
    "deploy@pve!ci",
    user
);
rule!(NODE_PATH, "path on the node", r"^/[^\x00-\x1f,]+$", "/var/lib/vz/import/debian-13.qcow2", node_path);
rule!(PATH, "path", r"^[^\x00-\x1f\x7f]+$", "images/debian-13.qcow2", path);
rule!(ENV, "environment variable", r"^[A-Za-z_][A-Za-z0-9_]*$", "WEB_PASSWORD", env);
rule!(
    DRIVE_SLOT,
    "disk slot",
    r"^(ide[0-3]|sata[0-5]|scsi([0-9]|[12][0-9]|30)|virtio([0-9]|1[0-5]))$",
    "scsi0",
    drive_slot
);
rule!(NET_SLOT, "NIC slot", r"^net([0-9]|[12][0-9]|3[01])$", "net0", slot::<NET_BUS>);
rule!(SERIAL_SLOT, "serial port slot", r"^serial[0-3]$", "serial0", slot::<SERIAL_BUS>);
rule!(PARALLEL_SLOT, "parallel port slot", r"^parallel[0-2]$", "parallel0", slot::<PARALLEL_BUS>);
rule!(USB_SLOT, "USB slot", r"^usb([0-9]|1[0-3])$", "usb0", slot::<USB_BUS>);
rule!(PCI_SLOT, "PCI slot", r"^hostpci([0-9]|1[0-5])$", "hostpci0", slot::<PCI_BUS>);
rule!(NUMA_SLOT, "NUMA node", r"^numa[0-7]$", "numa0", slot::<NUMA_BUS>);
rule!(VIRTIOFS_SLOT, "virtiofs slot", r"^virtiofs[0-9]$", "virtiofs0", slot::<VIRTIOFS_BUS>);
rule!(BOOT_SLOT, "disk or NIC slot", r"^(ide|sata|scsi|virtio|net|usb|hostpci)[0-9]+$", "scsi0", boot_slot);
rule!(CPU_TYPE, "CPU type", r"^[A-Za-z0-9._-]+$", "x86-64-v2-AES", word);
rule!(CPU_FLAG, "CPU flag with its sign", r"^[+-][A-Za-z0-9_.-]+$", "+aes", cpu_flag);
rule!(
    MACHINE,
    "machine type",
    r"^(pc|q35|virt)?(-(i440fx|q35))?(-[0-9]+(\.[0-9]+)+)?(\+pve[0-9]+)?(\.pxe)?$",
    "q35",
    machine
);
rule!(ID_LIST, "list of numbers and ranges", r"^[0-9]+(-[0-9]+)?([;,][0-9]+(-[0-9]+)?)*$", "0-3;8", id_list);
rule!(VLANS, "VLAN or range of VLANs", r"^[0-9]{1,4}(-[0-9]{1,4})?$", "20-30", vlans);
rule!(MAPPING, "mapping name", r"^[A-Za-z][A-Za-z0-9_-]*$", "gpu", word);
rule!(
    USB_HOST,
    "USB device",
    r"^((0x)?[0-9A-Fa-f]{4}:(0x)?[0-9A-Fa-f]{4}|[0-9]+-[0-9]+(\.[0-9]+)*|spice)$",
    "0951:1666",
    usb_host
);
rule!(PCI_HOST, "PCI address", r"^[0-9A-Fa-f:.;]+$", "0000:01:00.0", pci_host);
rule!(PCI_ID, "PCI ID", r"^0x[0-9A-Fa-f]{4}$", "0x10de", pci_id);
rule!(FIELD, "value without commas", r"^[^\x00-\x1f,]+$", "text", field_text);
rule!(SERIAL_PORT, "serial port", r"^(socket|/dev/.+)$", "socket", serial_port);
rule!(PARALLEL_PORT, "parallel port", r"^/dev/(parport|usb/lp)[0-9]+$", "/dev/parport0", parallel_port);
rule!(
    DISK_SERIAL,
    "serial number of at most 20 characters",
    r"^[^\x00-\x1f]{1,20}$",
    "ceph1-osd0",
    disk_serial
);
rule!(WWN, "world wide name", r"^0x[0-9A-Fa-f]{16}$", "0x5000c500a0b1c2d3", wwn);
rule!(
    START_DATE,
    "date",
    r"^(now|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(T[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2})?)$",
    "2026-01-31T12:00:00",
    start_date
);
rule!(
    KEY_SOURCE,
    "public key or account",
    r"^(ssh-|ecdsa-|sk-|github:|gitlab:)[^\x00-\x1f]+$",
    "github:octocat",
    key_source
);
rule!(GROUP, "group", r"^[A-Za-z_][A-Za-z0-9_-]*$", "web", group);
rule!(GROUP_NAME, "group name", r"^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$", "worker", group_name);
rule!(
    ADDRESS_RANGE,
    "range of IPv4 addresses",
    r"^\d{1,3}(\.\d{1,3}){3}-\d{1,3}(\.\d{1,3}){3}$",
    "10.40.0.20-10.40.0.99",
    address_range
);
rule!(PERCENT, "percentage", r"^([1-9][0-9]?|100)%$", "25%", percent);
rule!(
    NAME_PATTERN,
    "pattern of VM names",
    r"^[A-Za-z0-9.-]*\{(:0[1-9])?\}[A-Za-z0-9.-]*$",
    "worker{:02}",
    name_pattern
);
rule!(OPTION, "PVE option", r"^[a-z][a-z0-9_-]*$", "args", field_text);
rule!(SPEC_PATH, "path of a key", r"^[a-z0-9_]+(\.[a-zA-Z0-9_-]+)*$", "vga", spec_path);
rule!(
    CLONE_FROM,
    "VM name or VMID",
    r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
    "tmpl-debian",
    parses::<GuestName>
);
rule!(DOMAIN, "domain", r"^[A-Za-z0-9_.-]+$", "lab.example.org", domain);
rule!(CI_USER, "user name", r"^[^\s:\x00-\x1f]+$", "admin", ci_user);
rule!(HEX_NAME, "name of letters, digits and dashes", r"^[A-Za-z0-9-]+$", "shared", dashed);

const NET_BUS: usize = 7;
const PCI_BUS: usize = 9;
const USB_BUS: usize = 10;
const SERIAL_BUS: usize = 11;
const PARALLEL_BUS: usize = 12;
const NUMA_BUS: usize = 13;
const VIRTIOFS_BUS: usize = 14;

fn parses<T: FromStr<Err = ParseError>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop).map_err(|error| error.reason)
}

fn require(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

fn one_line(text: &str) -> Result<(), String> {
    require(!text.chars().any(char::is_control), "control characters and line ends are not allowed")?;
    require(text.len() <= 4096, "it is longer than 4096 bytes")
}
fn description(text: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
    require(!text.chars().any(bad), "control characters are not allowed")?;
    // PVE: qemu-server src/PVE/QemuServer.pm: maxLength 8192; whether the ownership marker fits is known when planning.
    require(text.chars().count() <= 8192, "it is longer than 8192 characters")?;
    require(!text.contains("<!-- vmdeploy"), "it holds a line that looks like an ownership marker")
}
fn all(text: &str, allowed: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c))
}
fn project(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    require(text.chars().all(fits), "only lower-case letters, digits and `-` are allowed")?;
    require((1..=32).contains(&text.len()), "it must be 1 to 32 characters long")
}
fn word(text: &str) -> Result<(), String> {
    require(all(text, "-_."), "only letters, digits, `-`, `_` and `.` are allowed")?;
    require(!text.starts_with(['-', '.']), "it must start with a letter, a digit or `_`")?;
    require(text.len() <= 63, "it is longer than 63 characters")
}
fn dashed(text: &str) -> Result<(), String> {
    require(all(text, "-"), "only letters, digits and `-` are allowed")
}
fn group(text: &str) -> Result<(), String> {
    require(all(text, "_-"), "only letters, digits, `_` and `-` are allowed")?;
    require(!text.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "it must start with a letter or `_`")
}
fn domain(text: &str) -> Result<(), String> {
    require(all(text, "-_.") && text.len() <= 253, "only letters, digits, `-`, `_` and `.` are allowed")
}
fn ci_user(text: &str) -> Result<(), String> {
    one_line(text)?;
    let bad = |c: char| c.is_whitespace() || c == ':';
    require(!text.is_empty() && !text.contains(bad), "spaces and `:` are not allowed")?;
    require(
        !text.starts_with('-') && text.len() <= 64,
        "it must not start with `-` or be longer than 64 bytes",
    )
}
fn mac(text: &str) -> Result<(), String> {
    let mac: MacAddr = text.parse().map_err(|error: ParseError| error.reason)?;
    require(mac.is_unicast(), "its first byte is odd, so it is a multicast address")
}
fn tag(text: &str) -> Result<(), String> {
    require(
        Tags::is_tag(text),
        "only letters, digits, `_`, `-`, `+` and `.` are allowed, the first a letter, digit or `_`",
    )
}
fn uuid(text: &str) -> Result<(), String> {
    let dashes = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-');
    require(dashes && uuid::Uuid::try_parse(text).is_ok(), "write it as 8-4-4-4-12 hexadecimal digits")
}
fn ip4(text: &str) -> Result<(), String> {
    if matches!(text, "dhcp" | "manual") {
        return Ok(());
    }
    require(text.contains('/'), "the prefix length is missing, as in `10.40.0.5/24`")?;
    let net: ipnet::Ipv4Net = text
        .parse()
        .map_err(|_| "it must be `dhcp`, `manual`, or an IPv4 address with its prefix length".to_owned())?;
    // Some programs read such a number as an octal one.
    let is_padded = |number: &str| number.len() > 1 && number.starts_with('0');
    require(!text.split(['.', '/']).any(is_padded), "its numbers must not have leading zeros")?;
    usable(net.into())
}
fn ip6(text: &str) -> Result<(), String> {
    if matches!(text, "dhcp" | "auto" | "manual") {
        return Ok(());
    }
    require(text.contains('/'), "the prefix length is missing, as in `fd00::5/64`")?;
    let net: ipnet::Ipv6Net = text.parse().map_err(|_| {
        "it must be `dhcp`, `auto`, `manual`, or an IPv6 address with its prefix length".to_owned()
    })?;
    usable(net.into())
}
/// Checks that a guest can have the address.
fn usable(net: ipnet::IpNet) -> Result<(), String> {
    let address = net.addr();
    require(net.prefix_len() > 0, "the prefix length must not be 0")?;
    require(
        !address.is_unspecified() && !address.is_multicast() && !address.is_loopback(),
        "a guest cannot have this address",
    )?;
    let small = net.prefix_len() >= net.max_prefix_len() - 1;
    require(small || address != net.network(), "it is the address of the network itself")?;
    require(
        small || address.is_ipv6() || address != net.broadcast(),
        "it is the broadcast address of its network",
    )
}
fn gateway4(text: &str) -> Result<(), String> {
    require(text.parse::<std::net::Ipv4Addr>().is_ok(), "it must be an IPv4 address without a prefix length")
}
fn gateway6(text: &str) -> Result<(), String> {
    require(text.parse::<std::net::Ipv6Addr>().is_ok(), "it must be an IPv6 address without a prefix length")
}
fn address(text: &str) -> Result<(), String> {
    require(text.parse::<IpAddr>().is_ok(), "it must be an IPv4 or IPv6 address")
}
fn network(text: &str) -> Result<(), String> {
    require(text.parse::<ipnet::IpNet>().is_ok(), "it must be an address with a prefix length")
}
fn host(text: &str) -> Result<(), String> {
    require(
        all(text, ":._%-") && !text.starts_with('-') && text.len() <= 253,
        "only letters, digits, `-`, `.`, `:` and `_` are allowed",
    )
}
fn jump(text: &str) -> Result<(), String> {
    let (user, rest) = text.split_once('@').unwrap_or(("x", text));
    require(all(user, "-_.") && !user.starts_with('-'), "the user is not valid")?;
    require(
        all(rest, "-_.:[]") && !rest.starts_with('-'),
        "write it as `user@host:port`; user and port are optional",
    )
}
fn endpoint(text: &str) -> Result<(), String> {
    super::super::scalar::parse_endpoint(text).map(drop)
}
fn url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else { return Err("it must start with `https://`".to_owned()) };
    require(
        !rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control()),
        "spaces are not allowed",
    )?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    require(!authority.contains('@'), "it must not contain a user or password")
}
fn checksum(text: &str) -> Result<(), String> {
    let digits = match text.split_once(':').map(|(name, _)| name) {
        Some("md5") => 32,
        Some("sha1") => 40,
        Some("sha224") => 56,
        Some("sha256") => 64,
        Some("sha384") => 96,
        Some("sha512") => 128,
        _ => return Err("it must start with the algorithm: `sha256:` or `sha512:`".to_owned()),
    };
    let hex = text.split_once(':').map_or("", |(_, hex)| hex);
    let fits = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
    require(fits, &format!("{digits} hexadecimal digits must follow the algorithm"))
}
fn fingerprint(text: &str) -> Result<(), String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let pair = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    require(
        hex.split(':').count() == 32 && hex.split(':').all(pair),
        "it must be 32 pairs of hexadecimal digits, separated by `:`",
    )
}
fn user(text: &str) -> Result<(), String> {
    let (user, token) = text.split_once('!').map_or((text, None), |(user, token)| (user, Some(token)));
    parses::<pve_types::UserId>(user)?;
    token.map_or(Ok(()), parses::<pve_types::TokenName>)
}
fn node_path(text: &str) -> Result<(), String> {
    require(text.starts_with('/'), "a path on the node must be absolute")?;
    require(
        !text.contains(',') && !text.chars().any(char::is_control),
        "commas and control characters are not allowed",
    )?;
    require(!text.split('/').any(|part| part == ".."), "`..` is not allowed")
}
fn path(text: &str) -> Result<(), String> {
    require(
        !text.is_empty() && !text.chars().any(char::is_control),
        "it is empty or contains control characters",
    )
}
fn env(text: &str) -> Result<(), String> {
    require(
        all(text, "_") && !text.starts_with(|c: char| c.is_ascii_digit()),
        "only letters, digits and `_` are allowed",
    )?;
    require(
        !text.to_ascii_uppercase().starts_with("PROXMOX_"),
        "variables named `PROXMOX_*` hold vmdeploy's credentials and cannot be used in a guest",
    )
}
fn drive_slot(text: &str) -> Result<(), String> {
    let slot: DeviceSlot = text.parse().map_err(|_| {
        "it must be `ide0` to `ide3`, `sata0` to `sata5`, `scsi0` to `scsi30` or `virtio0` to `virtio15`"
            .to_owned()
    })?;
    match slot.bus() {
        bus if bus.is_drive() => Ok(()),
        Bus::Efidisk => Err("write the EFI disk as `bios: {type: ovmf, efi: {…}}`".to_owned()),
        Bus::Tpmstate => Err("write the TPM as `tpm: {storage: …}`".to_owned()),
        _ => Err("it is not a disk slot".to_owned()),
    }
}
fn slot<const BUS: usize>(text: &str) -> Result<(), String> {
    let (bus, name, count) = Bus::ALL[BUS];
    let fits = text.parse::<DeviceSlot>().is_ok_and(|slot| slot.bus() == bus);
    require(fits, &format!("it must be `{name}0` to `{name}{}`", count - 1))
}
fn group_name(text: &str) -> Result<(), String> {
    require(all(text, "-"), "only letters, digits and `-` are allowed")?;
    require(text.starts_with(|c: char| c.is_ascii_alphabetic()), "it must start with a letter")?;
    parses::<GuestName>(text)
}
fn address_range(text: &str) -> Result<(), String> {
    match crate::spec::pools::parse_range(text) {
        Some((first, last)) => require(first <= last, "the lower address comes first"),
        None => Err("it is two IPv4 addresses with `-` between them".to_owned()),
    }
}
fn percent(text: &str) -> Result<(), String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
    require(number.is_some_and(|number| (1..=100).contains(&number)), "it is `1%` to `100%`")
}
fn name_pattern(text: &str) -> Result<(), String> {
    let pattern = NamePattern::parse(text).ok_or("it needs one `{}`, or `{:02}` for two digits")?;
    parses::<GuestName>(&pattern.name(1)).map_err(|reason| format!("`{}`: {reason}", pattern.name(1)))
}
fn boot_slot(text: &str) -> Result<(), String> {
    let fits =
        |slot: DeviceSlot| slot.bus().is_drive() || matches!(slot.bus(), Bus::Net | Bus::Usb | Bus::Hostpci);
    require(text.parse().is_ok_and(fits), "it must be the slot of a disk, NIC, USB or PCI device")
}
fn cpu_flag(text: &str) -> Result<(), String> {
    require(text.starts_with(['+', '-']) && all(&text[1..], "_.-"), "it must start with `+` or `-`")
}
fn machine(text: &str) -> Result<(), String> {
    let fits =
        ["pc", "q35", "virt"].iter().any(|kind| text == *kind || text.starts_with(&format!("{kind}-")));
    require(
        fits && all(text, "-.+") && text.len() <= 40,
        "it must be `pc`, `q35`, `virt`, or a version of one such as `pc-q35-9.0`",
    )
}
fn id_list(text: &str) -> Result<(), String> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let bounds = |part: &str| match part.split_once('-') {
        Some((low, high)) => {
            (number(low) && number(high)).then(|| (low.parse::<u64>().ok(), high.parse().ok()))
        }
        None => number(part).then_some((None, None)),
    };
    let ranges: Option<Vec<_>> = text.split([';', ',']).map(bounds).collect();
    let Some(ranges) = ranges else { return Err("write it as `0-3;8`".to_owned()) };
    require(ranges.iter().all(|(low, high)| low <= high), "the first number of a range must be the lower one")
}
fn vlans(text: &str) -> Result<(), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let vlan = |text: &str| text.parse::<u16>().ok().filter(|vlan| (1..=4094).contains(vlan));
    let (Some(low), Some(high)) = (vlan(low), vlan(high)) else {
        return Err("a VLAN must be 1 to 4094, a range is written as `20-30`".to_owned());
    };
    require(low <= high, "the first VLAN of a range must be the lower one")
}
fn usb_host(text: &str) -> Result<(), String> {
    let hex = |part: &str| part.len() == 4 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let id = |part: &str| hex(part.strip_prefix("0x").unwrap_or(part));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let vendor = text.split_once(':').is_some_and(|(a, b)| id(a) && id(b));
    let port = text.split_once('-').is_some_and(|(bus, port)| digits(bus) && port.split('.').all(digits));
    require(vendor || port || text == "spice", "it must be `VENDOR:PRODUCT`, `BUS-PORT` or `spice`")
}
fn pci_host(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_hexdigit() || ":.;".contains(c);
    require(
        !text.is_empty() && text.chars().all(fits),
        "it must be an address such as `0000:01:00.0`; separate several by `;`",
    )
}
fn pci_id(text: &str) -> Result<(), String> {
    let hex = text.strip_prefix("0x").unwrap_or_default();
    require(
        hex.len() == 4 && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        "it must be `0x` and four hexadecimal digits",
    )
}
fn field_text(text: &str) -> Result<(), String> {
    one_line(text)?;
    require(!text.is_empty() && !text.contains(','), "it must not be empty or contain a comma")
}
fn serial_port(text: &str) -> Result<(), String> {
    one_line(text)?;
    require(text == "socket" || text.starts_with("/dev/"), "it must be `socket` or a device of the node")
}
fn parallel_port(text: &str) -> Result<(), String> {
    let number =
        text.strip_prefix("/dev/parport").or_else(|| text.strip_prefix("/dev/usb/lp")).unwrap_or_default();
    require(
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        "it must be `/dev/parportN` or `/dev/usb/lpN`",
    )
}
fn disk_serial(text: &str) -> Result<(), String> {
    one_line(text)?;
    require((1..=20).contains(&text.chars().count()), "QEMU keeps only 20 characters")
}
fn wwn(text: &str) -> Result<(), String> {
    let hex = text.strip_prefix("0x").unwrap_or_default();
    require(
        hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        "it must be `0x` and 16 hexadecimal digits",
    )
}
fn start_date(text: &str) -> Result<(), String> {
    let digits = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    let three = |text: &str, by: char| text.split(by).count() == 3 && text.split(by).all(digits);
    require(
        text == "now" || (three(date, '-') && three(time, ':')),
        "it must be `now` or a date such as `2026-01-31`",
    )
}
fn key_source(text: &str) -> Result<(), String> {
    one_line(text)?;
    require(!text.contains("PRIVATE KEY"), "it is a private key")?;
    if let Some(account) = text.strip_prefix("github:").or_else(|| text.strip_prefix("gitlab:")) {
        return require(all(account, "-_."), "an account name must follow the `:`");
    }
    let kinds = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let is_path = text.ends_with(".pub") || text.starts_with(['~', '/', '.']);
    require(!is_path, "this is a path: write `{file: PATH}`")?;
    let is_key = kinds.iter().any(|kind| text.starts_with(kind)) && text.split_whitespace().count() >= 2;
    require(is_key, "it must be a public key (`ssh-ed25519 AAAA…`), `{file: PATH}`, or `github:NAME`")
}
fn spec_path(text: &str) -> Result<(), String> {
    require(all(text, "_.-"), "write it as `disks.scsi1.cache`")
}
