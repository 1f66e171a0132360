//! The forms of text that PVE has names for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pve_types::{Privilege, PveVersion, Vmid};

/// The forms of one version.
#[derive(Debug, Clone, Copy)]
pub struct Formats {
    version: PveVersion,
}

impl Formats {
    /// The forms that `version` knows.
    pub fn of(version: PveVersion) -> Self {
        Self { version }
    }
    /// Tells whether `text` has the form `name`; of a list, every item.
    ///
    /// # Errors
    /// PVE's text, with a newline at its end.
    // PVE: pve-common src/PVE/JSONSchema.pm check_format
    pub fn check(&self, name: &str, text: &str) -> Result<(), String> {
        match name.strip_suffix("-list") {
            Some(one) => split_list(text).try_for_each(|item| self.check_one(one, item)),
            None => self.check_one(name, text),
        }
    }

    fn check_one(&self, name: &str, text: &str) -> Result<(), String> {
        let refuse = |fits: bool, message: String| if fits { Ok(()) } else { Err(format!("{message}\n")) };
        let looks_like =
            |fits: bool, what: &str| refuse(fits, format!("value does not look like a valid {what}"));
        match name {
            "pve-vmid" => looks_like(text.parse::<Vmid>().is_ok(), "VM ID"),
            "pve-node" => looks_like(is_node(text), "node name"),
            "dns-name" => looks_like(is_dns_name(text), "DNS name"),
            "address" => looks_like(is_dns_name(text) || is_ip(text), "IP address or DNS name"),
            "ip" => looks_like(is_ip(text), "IP address"),
            "ipv4" => looks_like(text.parse::<Ipv4Addr>().is_ok(), "IPv4 address"),
            "ipv6" => looks_like(text.parse::<Ipv6Addr>().is_ok(), "IPv6 address"),
            "CIDR" => looks_like(is_cidr(text, None), "CIDR network"),
            "CIDRv4" => looks_like(is_cidr(text, Some(true)), "IPv4 network"),
            "CIDRv6" => looks_like(is_cidr(text, Some(false)), "IPv6 network"),
            "pve-ipv4-config" => looks_like(
                matches!(text, "dhcp" | "manual") || is_cidr(text, Some(true)),
                "ipv4 network configuration",
            ),
            "pve-ipv6-config" => looks_like(
                matches!(text, "auto" | "dhcp" | "manual") || is_cidr(text, Some(false)),
                "ipv6 network configuration",
            ),
            "mac-addr" => looks_like(is_unicast_mac(text), "unicast MAC address"),
            "email" | "email-opt" => looks_like(text.is_empty() || is_email(text), "email address"),
            "email-or-username" => {
                looks_like(is_email(text) || is_word(text, "._-@"), "email address or username")
            }
            "pve-configid" => refuse(is_config_id(text), format!("invalid configuration ID '{text}'")),
            "pve-storage-id" if text.chars().count() < 2 => {
                refuse(false, format!("storage ID '{text}' cannot be shorter than 2 characters"))
            }
            "pve-storage-id" => {
                refuse(is_storage_id(text), format!("storage ID '{text}' contains illegal characters"))
            }
            "pve-bridge-id" => refuse(is_word(text, "-_."), format!("invalid bridge ID '{text}'")),
            "pve-userid" if text.chars().count() < 3 => {
                refuse(false, format!("user name '{text}' is too short"))
            }
            "pve-userid" if text.chars().count() > 64 => {
                refuse(false, format!("user name '{text}' is too long ({} > 64)", text.chars().count()))
            }
            "pve-userid" => {
                refuse(is_user_id(text), format!("value '{text}' does not look like a valid user name"))
            }
            "pve-tokenid" => {
                refuse(is_token_id(text), format!("value '{text}' does not look like a valid token ID"))
            }
            "pve-groupid" => {
                refuse(is_word(text, "._-"), format!("group name '{text}' contains invalid characters"))
            }
            "pve-roleid" => {
                refuse(is_word(text, "._-"), format!("role name '{text}' contains invalid characters"))
            }
            "pve-poolid" => {
                refuse(self.is_pool_id(text), format!("pool name '{text}' contains invalid characters"))
            }
            "pve-realm" => refuse(is_realm(text), "value does not look like a valid realm".to_owned()),
            "pve-priv" => refuse(self.is_privilege(text), format!("invalid privilege '{text}'")),
            "urlencoded" => refuse(is_url_encoded(text), format!("invalid urlencoded string: {text}")),
            "disk-size" => {
                refuse(is_disk_size(text), format!("value does not look like a valid disk size: {text}"))
            }
            "pve-tag" => refuse(is_tag(text), "invalid characters in tag".to_owned()),
            "pve-volume-id" => refuse(is_volume_id(text), format!("unable to parse volume ID '{text}'")),
            "pve-volume-id-or-qm-path" => refuse(
                matches!(text, "none" | "cdrom")
                    || text.starts_with('/')
                    || (is_new_disk(text) && text.contains(':'))
                    || is_volume_id(text),
                format!("unable to parse volume ID '{text}'"),
            ),
            "pve-volume-id-or-absolute-path" => refuse(
                text.starts_with('/') || is_volume_id(text),
                format!("unable to parse volume ID '{text}'"),
            ),
            "pve-qm-bootdev" => refuse(is_boot_device(text), format!("invalid boot device '{text}'")),
            "pve-hotplug-features" => match unknown_hotplug(text) {
                Some(feature) => refuse(false, format!("invalid hotplug feature '{feature}'")),
                None => Ok(()),
            },
            "pve-qm-bootdisk" => refuse(is_boot_disk(text), format!("invalid boot disk '{text}'")),
            "pve-cpuset" => refuse(is_cpu_set(text), "unable to parse cpuset option".to_owned()),
            "pve-task-status-type" => refuse(
                ["ok", "error", "warning", "unknown"].iter().any(|known| text.eq_ignore_ascii_case(known)),
                format!("invalid status '{text}'"),
            ),
            "pve-startup-order" => refuse(is_startup(text), "unable to parse startup options".to_owned()),
            "pve-storage-content" => refuse(is_content(text), format!("invalid content type '{text}'")),
            "pve-ha-resource-or-vm-id" => {
                let id = text.split_once(':').map_or(text, |(_, id)| id);
                refuse(id.parse::<Vmid>().is_ok(), format!("invalid resource or vm id '{text}'"))
            }
            "pve-storage-path" => looks_like(is_storage_path(text), "absolute path"),
            "pve-fw-addr-spec" => super::firewall::check_addresses(text),
            "pve-fw-dport-spec" => super::firewall::check_ports(text, true),
            "pve-fw-sport-spec" => super::firewall::check_ports(text, false),
            "pve-fw-protocol-spec" => super::firewall::check_protocol(text),
            "pve-fw-conntrack-helper" => super::firewall::check_helpers(text),
            "pve-fw-icmp-type-spec" => super::firewall::check_icmp_type(text),
            "mac-prefix" => {
                refuse(is_mac_prefix(text), "value is not a valid unicast MAC address prefix".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn is_privilege(&self, text: &str) -> bool {
        text.parse::<Privilege>().is_ok_and(|privilege| privilege.exists_in(self.version))
    }
    fn is_pool_id(&self, text: &str) -> bool {
        let parts: Vec<&str> = text.split('/').collect();
        parts.len() <= 3 && parts.iter().all(|part| is_word(part, "._-"))
    }
}

/// Takes a list apart the way PVE does: commas, semicolons, blanks and NULs part it.
// PVE: pve-common src/PVE/Tools.pm split_list
pub fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|part: char| part == ',' || part == ';' || part == '\0' || part.is_whitespace())
        .filter(|part| !part.is_empty())
}

fn is_word(text: &str, also: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn is_label(text: &str) -> bool {
    is_word(text, "-") && !text.starts_with('-') && !text.ends_with('-')
}

fn is_node(text: &str) -> bool {
    is_label(text)
}

fn is_dns_name(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_cidr(text: &str, only_v4: Option<bool>) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else { return false };
    only_v4.is_none_or(|v4| v4 == address.is_ipv4())
        && length > 7
        && length <= if address.is_ipv4() { 32 } else { 128 }
}

fn is_unicast_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.len() == 6
        && parts.iter().all(hex)
        && u8::from_str_radix(parts[0], 16).is_ok_and(|first| first & 1 == 0)
}

fn is_mac_prefix(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').filter(|part| !part.is_empty()).collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (1..=5).contains(&parts.len())
        && parts.iter().all(hex)
        && u8::from_str_radix(parts[0], 16).is_ok_and(|first| first & 1 == 0)
}

fn is_email(text: &str) -> bool {
    let Some((user, domain)) = text.rsplit_once('@') else { return false };
    is_word(user, "._+-~/=") && is_word(domain, ".-")
}

fn is_config_id(text: &str) -> bool {
    text.len() > 1 && text.starts_with(|first: char| first.is_ascii_alphabetic()) && is_word(text, "-_")
}

/// Tells whether the text is a storage's id.
pub fn is_storage_id(text: &str) -> bool {
    let ends = text.ends_with(|last: char| last.is_ascii_alphanumeric());
    text.len() > 1
        && ends
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && is_word(text, "-_.")
}

fn is_realm(text: &str) -> bool {
    text.len() > 1 && text.starts_with(|first: char| first.is_ascii_alphabetic()) && is_word(text, ".-_")
}

/// Tells whether the text is `user@realm`.
pub fn is_user_id(text: &str) -> bool {
    let Some((user, realm)) = text.rsplit_once('@') else { return false };
    let plain = |c: char| !c.is_whitespace() && c != ':' && c != '/';
    (3..=64).contains(&text.chars().count()) && !user.is_empty() && user.chars().all(plain) && is_realm(realm)
}

fn is_token_id(text: &str) -> bool {
    text.rsplit_once('!').is_some_and(|(user, name)| is_user_id(user) && is_realm(name))
}

fn is_url_encoded(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-%_.!~*'()".contains(c))
}

fn is_disk_size(text: &str) -> bool {
    pve_types::Bytes::from_pve_size(text).is_ok()
}

fn is_tag(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(first) && is_word(text, "_-+.")
}

fn is_volume_id(text: &str) -> bool {
    text.split_once(':').is_some_and(|(storage, name)| is_storage_id(storage) && !name.is_empty())
}

/// Tells whether the text asks for a new volume: `STORAGE:SIZE` or a size alone.
// PVE: qemu-server src/PVE/QemuServer/Drive.pm NEW_DISK_RE
pub fn is_new_disk(text: &str) -> bool {
    let size = match text.split_once(':') {
        Some((storage, size)) if !storage.contains(['/', ' ']) && !storage.is_empty() => size,
        Some(_) => return false,
        None => text,
    };
    let (whole, fraction) = size.split_once('.').unwrap_or((size, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}

fn is_boot_device(text: &str) -> bool {
    let base = text.trim_end_matches(|c: char| c.is_ascii_digit());
    text.len() > base.len()
        && matches!(
            base,
            "ide" | "sata" | "scsi" | "virtio" | "net" | "usb" | "hostpci" | "efidisk" | "unused"
        )
}

fn unknown_hotplug(text: &str) -> Option<&str> {
    const KNOWN: [&str; 6] = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
    split_list(text).find(|item| !KNOWN.contains(item)).filter(|_| !matches!(text, "0" | "1"))
}

// PVE: qemu-server src/PVE/QemuServer/Drive.pm verify_bootdisk
fn is_boot_disk(text: &str) -> bool {
    crate::schema::is_drive_slot(text)
}

// PVE: pve-common src/PVE/CpuSet.pm parse_cpuset
fn is_cpu_set(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split(',').all(|part| match part.split_once('-') {
        Some((low, high)) => digits(low) && digits(high),
        None => digits(part),
    })
}

// PVE: pve-storage src/PVE/Storage/Plugin.pm verify_path
fn is_storage_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.starts_with(|next: char| !";()".contains(next)))
}

fn is_startup(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split(',').all(|part| match part.split_once('=') {
        Some(("order" | "up" | "down", value)) => digits(value),
        Some(_) => false,
        None => digits(part),
    })
}

fn is_content(text: &str) -> bool {
    matches!(text, "images" | "rootdir" | "vztmpl" | "iso" | "backup" | "snippets" | "import" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expect: Result<(), &str>) {
        let formats = Formats::of(PveVersion::new(9, 2, 11));
        assert_eq!(formats.check(name, text), expect.map_err(|text| format!("{text}\n")), "{name} `{text}`");
    }

    #[test]
    fn texts_are_refused_with_pves_words() {
        check("pve-vmid", "99", Err("value does not look like a valid VM ID"));
        check("dns-name", "a_b", Err("value does not look like a valid DNS name"));
        check("pve-userid", "ann", Err("value 'ann' does not look like a valid user name"));
        check("pve-priv-list", "VM.Audit,VM.Monitor", Err("invalid privilege 'VM.Monitor'"));
        check("mac-addr", "01:00:00:00:00:01", Err("value does not look like a valid unicast MAC address"));
        check(
            "pve-ipv4-config",
            "10.0.0.5",
            Err("value does not look like a valid ipv4 network configuration"),
        );
        check("pve-hotplug-features", "network,x", Err("invalid hotplug feature 'x'"));
        check("pve-hotplug-features", "1", Ok(()));
        check("pve-cpuset", "0-3,5", Ok(()));
        check("pve-cpuset", "x", Err("unable to parse cpuset option"));
        check("pve-qm-bootdisk", "scsi31", Err("invalid boot disk 'scsi31'"));
        check("pve-userid", "a@", Err("user name 'a@' is too short"));
        check("pve-volume-id-or-qm-path", "local:0.5", Ok(()));
        check("pve-tag-list", "Web;prod a", Ok(()));
        check("pve-storage-id", "a", Err("storage ID 'a' cannot be shorter than 2 characters"));
        check("pve-storage-id", "a b", Err("storage ID 'a b' contains illegal characters"));
    }
}
