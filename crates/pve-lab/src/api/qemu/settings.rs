//! What is done to options on their way into a configuration.

use crate::api::{Call, Refusal};
use crate::schema::split_list;
use crate::world::Config;
use pve_types::PveVersion;

/// The options that a call gives, without those named.
pub fn given(call: &Call<'_>, without: &[&str]) -> Config {
    let options = call.params.iter().filter(|(name, _)| !without.contains(&name.as_str()));
    options.filter_map(|(name, value)| value.as_str().map(|text| (name.clone(), text.to_owned()))).collect()
}

/// `cdrom` is another name of `ide2`.
pub fn resolve_cdrom(config: &mut Config) {
    if let Some(value) = config.remove("cdrom") {
        let has_media = value.split(',').any(|part| part.starts_with("media="));
        config.insert("ide2".into(), if has_media { value } else { format!("{value},media=cdrom") });
    }
}

/// Tells whether the option is a network card.
pub fn is_net(option: &str) -> bool {
    option
        .strip_prefix("net")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Tells whether the option is one of cloud-init's.
pub fn is_cloudinit(option: &str) -> bool {
    const NAMES: &[&str] =
        &["cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"];
    NAMES.contains(&option)
        || option.strip_prefix("ipconfig").is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Brings options into the form in which PVE keeps them.
pub fn normalise(version: PveVersion, config: &mut Config) {
    if let Some(tags) = config.get("tags") {
        let mut list: Vec<String> = split_list(tags).map(str::to_lowercase).collect();
        list.sort_unstable();
        list.dedup();
        config.insert("tags".into(), list.join(";"));
    }
    if let Some(text) = config.get_mut("description") {
        *text = text.trim_end_matches('\n').to_owned();
    }
    let _ = version;
}

/// Windows guests get the machine version of the day, so that an upgrade does not change their hardware.
pub fn pinned_machine(config: &Config) -> Option<String> {
    let is_windows = config.get("ostype").is_some_and(|ostype| ostype.starts_with('w'));
    let machine = config.get("machine").map_or("pc", String::as_str);
    match machine {
        _ if !is_windows => None,
        "pc" | "i440fx" => Some("pc-i440fx-10.0+pve1".to_owned()),
        "q35" => Some("pc-q35-10.0+pve1".to_owned()),
        _ => None,
    }
}

/// Every key in `sshkeys` must be one.
///
/// # Errors
/// `SSH public key validation error`.
// PVE: qemu-server src/PVE/API2/Qemu.pm, ssh-keygen -l
pub fn check_ssh_keys(call: &Call<'_>) -> Result<(), Refusal> {
    let Some(text) = call.text("sshkeys") else { return Ok(()) };
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let lines = decoded.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        if !is_public_key(line) {
            return Err(Refusal::died("SSH public key validation error"));
        }
        count += 1;
    }
    match count {
        0 => Err(Refusal::died("SSH public key validation error")),
        _ => Ok(()),
    }
}

fn is_public_key(line: &str) -> bool {
    use base64::Engine as _;
    let kinds = ["ssh-", "ecdsa-", "sk-"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| kinds.iter().any(|kind| word.starts_with(kind))) else {
        return false;
    };
    let Some(body) = words.get(at + 1) else { return false };
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(body) else { return false };
    // The key begins with its own type's name and length.
    let name = words[at].as_bytes();
    let length = bytes.get(..4).map(|part| u32::from_be_bytes([part[0], part[1], part[2], part[3]]));
    length == u32::try_from(name.len()).ok() && bytes.get(4..4 + name.len()) == Some(name)
}

/// What is stored must be read again: numbers have no sign and no exponent there, though parameters may.
///
/// # Errors
/// PVE's text.
// PVE: qemu-server src/PVE/QemuServer.pm check_type
pub fn check_stored(version: PveVersion, option: &str, value: &str) -> Result<(), Refusal> {
    use crate::schema::{Kind, table};
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (kind, fits) = match table(version).vm_config().get(option).map(|param| param.kind) {
        Some(Kind::Integer) => ("integer", digits(value)),
        Some(Kind::Number) => {
            let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
            ("number", digits(whole) && digits(fraction))
        }
        _ => return Ok(()),
    };
    match fits {
        true => Ok(()),
        false => {
            let text = format!("type check ('{kind}') failed - got '{value}'");
            Err(Refusal::died(format!("unable to parse value of '{option}' - {text}")))
        }
    }
}

/// A hook script must be there.
///
/// # Errors
/// PVE's text.
// PVE: pve-guest-common src/PVE/GuestHelpers.pm check_hookscript
pub fn check_hook_script(world: &crate::world::World, node: &str, config: &Config) -> Result<(), Refusal> {
    let Some(script) = config.get("hookscript") else { return Ok(()) };
    let refuse = |text: String| Refusal::parameter("hookscript", format!("{text}\n"));
    let (storage, name) = crate::world::split_id(script).map_err(refuse)?;
    let def = world.storage(storage).map_err(refuse)?;
    let kind = crate::world::parse_name(def, name).map_err(refuse)?.content;
    if kind != "snippets" {
        return Err(refuse(format!("'{script}' is not in the snippets directory")));
    }
    let path = world.volume_path(script).map_err(refuse)?;
    match world.files(node, &path).is_some_and(|files| files.stat(&path).is_ok()) {
        true => Ok(()),
        false => Err(refuse(format!("script '{script}' does not exist"))),
    }
}

/// Intel's vIOMMU needs q35.
///
/// # Errors
/// PVE's text.
// PVE: qemu-server src/PVE/QemuServer/Machine.pm assert_valid_machine_property
pub fn check_machine(machine: &str) -> Result<(), Refusal> {
    let parts: Vec<&str> = machine.split(',').collect();
    let is_q35 = parts.iter().any(|part| part.trim_start_matches("type=").contains("q35"));
    let value_of = |key: &str| parts.iter().find_map(|part| part.strip_prefix(key));
    if value_of("viommu=") == Some("intel") && !is_q35 {
        return Err(Refusal::died("to use Intel vIOMMU please set the machine type to q35"));
    }
    if value_of("aw-bits=").is_some() && value_of("viommu=").is_none() {
        return Err(Refusal::died("cannot set aw-bits if no vIOMMU is configured"));
    }
    Ok(())
}

/// The memory that a configuration gives must fit its NUMA nodes and huge pages: looked at when the VM starts.
///
/// # Errors
/// PVE's text.
// PVE: qemu-server src/PVE/QemuServer/Memory.pm config
pub fn check_memory(config: &Config) -> Result<(), String> {
    const PLACE: &str = " at /usr/share/perl5/PVE/QemuServer/Memory.pm line 388.";
    let huge = config.contains_key("hugepages");
    if config.get("numa").is_none_or(|numa| numa != "1") {
        return match huge {
            true => Err(format!("numa needs to be enabled to use hugepages{PLACE}")),
            false => Ok(()),
        };
    }
    let mut total = 0;
    for number in 0..8 {
        let Some(node) = config.get(&format!("numa{number}")) else { continue };
        let value_of = |key: &str| node.split(',').find_map(|part| part.strip_prefix(key));
        let memory = value_of("memory=").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        if memory == 0.0 {
            return Err(format!("missing NUMA node{number} memory value"));
        }
        total += memory as u64;
        match (value_of("hostnodes="), value_of("policy=")) {
            (Some(nodes), None) => {
                return Err(format!("you need to define a policy for hostnode {nodes}"));
            }
            (None, _) if huge => {
                return Err(format!("numa hostnodes need to be defined to use hugepages{PLACE}"));
            }
            _ => {}
        }
    }
    let memory = config.get("memory").map(|text| text.trim_start_matches("current="));
    let memory = memory.and_then(|text| text.parse().ok()).unwrap_or(512);
    match total == 0 || total == memory {
        true => Ok(()),
        false => Err("total memory for NUMA nodes must be equal to vm static memory".to_owned()),
    }
}

/// The balloon must fit into the memory.
///
/// # Errors
/// PVE's text.
pub fn check_balloon(config: &Config) -> Result<(), Refusal> {
    let number = |name: &str| {
        config
            .get(name)
            .map(|text| text.trim_start_matches("current="))
            .and_then(|text| text.parse::<u64>().ok())
    };
    let memory = number("memory").unwrap_or(512);
    match number("balloon") {
        Some(balloon) if balloon > memory => {
            Err(Refusal::died("balloon value too large (must be smaller than assigned memory)"))
        }
        _ => Ok(()),
    }
}

/// Hashes a password as PVE does when it changes one, unless it is a hash already or the guest is Windows.
// PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: crypt SHA-256
pub fn hashed_password(password: &str, is_windows: bool, random: u64) -> String {
    let is_hash = ["$1$", "$5$", "$6$", "$2a$", "$2y$"].iter().any(|start| password.starts_with(start))
        && password.matches('$').count() >= 3;
    if is_hash || is_windows {
        return password.to_owned();
    }
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let salt = format!("{random:016x}");
    let digest = Sha256::digest(format!("{salt}{password}").as_bytes());
    let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest).replace('+', ".");
    format!("$5${}${text}", &salt[..8])
}

/// Refuses a CPU model of the cluster's own that there is not.
///
/// # Errors
/// 400, as the verification of parameters has it.
// PVE: qemu-server src/PVE/QemuServer/CPUConfig.pm validate_vm_cpu_conf, get_custom_model
pub fn check_cpu_model(call: &Call<'_>) -> Result<(), Refusal> {
    let first = call.text("cpu").and_then(|cpu| cpu.split(',').next()).unwrap_or_default();
    let model = first.strip_prefix("cputype=").unwrap_or(first);
    match model.strip_prefix("custom-").filter(|name| !call.world.cpu_models.contains_key(*name)) {
        Some(name) => {
            let text = format!("invalid format - Custom cputype '{name}' not found\n");
            Err(Refusal::parameter("cpu", text))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_sorted_and_in_lower_case() {
        let mut config: Config = [("tags".to_owned(), "Web;prod,web b".to_owned())].into();
        normalise(PveVersion::new(9, 2, 11), &mut config);
        assert_eq!(config["tags"], "b;prod;web");
    }

    #[test]
    fn a_public_key_begins_with_its_own_name() {
        assert!(is_public_key(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP1C9eGbKfBIRhSVpStExjY3Gu6IIDQEUqhOUWBVWG6g a@b"
        ));
        assert!(!is_public_key("ssh-ed25519 AAAA a@b"));
        assert!(!is_public_key("hello"));
    }

    #[test]
    fn a_hash_stays_as_it_is() {
        assert_eq!(hashed_password("$6$salt$hash", false, 1), "$6$salt$hash");
        assert!(hashed_password("secret", false, 1).starts_with("$5$"));
        assert_eq!(hashed_password("secret", true, 1), "secret");
    }
}
