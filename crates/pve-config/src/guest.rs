//! A guest's configuration as a whole, from its file or from the API.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;

/// What stands for a password that is set. The password itself is never kept.
// PVE: qemu-server src/PVE/API2/Qemu.pm: GET config answers this in place of `cipassword`.
pub const PASSWORD_MASK: &str = "**********";

/// One section's keys and values; the description decoded, `cipassword` masked.
pub type Section = BTreeMap<String, String>;

/// Returns the digest of a configuration's file, as PVE tells it and takes it along with a change.
// PVE: pve-guest-common src/PVE/AbstractConfig.pm: the SHA-1 of the file's text.
pub fn file_digest(text: &str) -> String {
    pve_types::hex(Sha1::digest(text.as_bytes()))
}

/// Returns the values as they will be after the next restart: what waits for it laid over what holds.
pub fn after_restart(mut values: Section, pending: &BTreeMap<String, Option<String>>) -> Section {
    for (key, value) in pending {
        match value {
            Some(value) => drop(values.insert(key.clone(), value.clone())),
            None => drop(values.remove(key)),
        }
    }
    values
}

/// A guest's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestConfig {
    /// What it is now, without `digest`.
    pub current: Section,
    /// What waits for a restart: the new value, or `None` for a key that will be removed.
    pub pending: BTreeMap<String, Option<String>>,
    /// What the cloud-init drive was made from, where that differs from `current`.
    pub cloud_init: Section,
    /// Its snapshots by name.
    pub snapshots: BTreeMap<String, Section>,
    /// The file's digest, where it came from the API.
    pub digest: Option<String>,
}

impl GuestConfig {
    /// Reads the text of `/etc/pve/nodes/NODE/qemu-server/VMID.conf`.
    ///
    /// As PVE does, it passes over lines that it cannot read; it never fails.
    // PVE: qemu-server src/PVE/QemuServer.pm parse_vm_config.
    pub fn parse_file(text: &str) -> Self {
        let mut reader = FileReader::default();
        for line in text.lines() {
            reader.line(line.trim_end_matches('\r'));
        }
        reader.end_section();
        reader.config
    }

    /// Takes keys and values as the API answers them (`GET /nodes/{node}/qemu/{vmid}/config`), numbers as texts.
    pub fn from_api<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut config = Self::default();
        for (key, value) in values {
            let (key, value) = (key.into(), value.into());
            if key == "digest" {
                config.digest = Some(value);
            } else {
                let value = masked(&key, value);
                config.current.insert(key, value);
            }
        }
        config
    }

    /// Returns a value of the current section.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.current.get(key).map(String::as_str)
    }

    /// Prints the current section as the file holds it: description first, then the keys by name.
    ///
    /// A masked password is left out: it is not known.
    pub fn print_file(&self) -> String {
        let mut text = String::new();
        if let Some(description) = self.get("description") {
            text.push_str(&encode_description(description));
        }
        for (key, value) in &self.current {
            if key != "description" && key != "cipassword" {
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        text
    }
}

/// Where the reader of a file is.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Current,
    Pending,
    CloudInit,
    Snapshot(String),
    /// A section that is not known; its lines are passed over.
    Other,
}

#[derive(Debug, Default)]
struct FileReader {
    config: GuestConfig,
    place: Place,
    section: Section,
    description: Option<String>,
    deleted: Vec<String>,
}

impl FileReader {
    fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.trim_end().strip_suffix(']')) {
            self.end_section();
            self.place = section_place(name);
        } else if let Some(text) = line.strip_prefix('#') {
            let description = self.description.get_or_insert_default();
            description.push_str(&decode_description(text));
            description.push('\n');
        } else if let Some((key, value)) = line.split_once(':') {
            self.entry(key.trim(), value.trim());
        }
    }

    fn entry(&mut self, key: &str, value: &str) {
        let word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !word {
            return;
        }
        match key {
            "delete" => self
                .deleted
                .extend(value.split([',', ';', ' ']).filter(|key| !key.is_empty()).map(str::to_owned)),
            "description" => {
                let description = self.description.get_or_insert_default();
                description.push_str(&decode_description(value));
                description.push('\n');
            }
            _ => drop(self.section.insert(key.to_owned(), masked(key, value.to_owned()))),
        }
    }

    fn end_section(&mut self) {
        let mut section = std::mem::take(&mut self.section);
        if let Some(mut description) = self.description.take() {
            // The last line's end is the file's, not the description's.
            description.pop();
            section.insert("description".to_owned(), description);
        }
        let deleted = std::mem::take(&mut self.deleted);
        match std::mem::take(&mut self.place) {
            Place::Current => self.config.current = section,
            Place::CloudInit => self.config.cloud_init = section,
            Place::Snapshot(name) => drop(self.config.snapshots.insert(name, section)),
            Place::Other => {}
            Place::Pending => {
                self.config.pending = section.into_iter().map(|(key, value)| (key, Some(value))).collect();
                // `!key` means that a disk's volume is freed, not only detached.
                for key in deleted {
                    self.config.pending.entry(key.trim_start_matches('!').to_owned()).or_insert(None);
                }
            }
        }
    }
}

fn section_place(name: &str) -> Place {
    if name.eq_ignore_ascii_case("pending") {
        Place::Pending
    } else if name == "special:cloudinit" {
        Place::CloudInit
    } else if name.starts_with("special:") {
        Place::Other
    } else {
        Place::Snapshot(name.to_owned())
    }
}

fn masked(key: &str, value: String) -> String {
    if key == "cipassword" { PASSWORD_MASK.to_owned() } else { value }
}

/// Decodes a line of a description as the file holds it.
// PVE: pve-common src/PVE/Tools.pm decode_text: uri_unescape.
pub fn decode_description(text: &str) -> String {
    crate::value::percent_decode(text).unwrap_or_else(|| text.to_owned())
}

/// What is escaped in a description.
// PVE: pve-common src/PVE/Tools.pm encode_text: all but tab, blank to `$`, `&` to `9`, `;` to `~`.
const ESCAPED: &AsciiSet = &CONTROLS.remove(b'\t').add(b'%').add(b':');

/// Encodes a description as the file holds it: each line after a `#`.
pub fn encode_description(text: &str) -> String {
    let mut encoded = String::new();
    for line in text.lines() {
        encoded.push('#');
        encoded.extend(utf8_percent_encode(line, ESCAPED));
        encoded.push('\n');
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "#first%3A line\n#\n#third\nboot: order=scsi0;net0\ncipassword: hunter2\ncores: 2\n\
                        memory: 4096\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\nsmbios1: uuid=x\n\n[PENDING]\n\
                        delete: vga,!scsi3\nmemory: 8192\ncipassword: hunter3\n\n[special:cloudinit]\nciuser: old\n\n\
                        [snap1]\n#before\ncores: 1\ncipassword: hunter4\nsnaptime: 17\n";

    #[test]
    fn a_file_is_read_with_all_its_sections() {
        let config = GuestConfig::parse_file(FILE);
        assert_eq!(config.get("description"), Some("first: line\n\nthird"));
        assert_eq!(config.get("boot"), Some("order=scsi0;net0"));
        assert_eq!(config.pending["memory"].as_deref(), Some("8192"));
        assert_eq!((&config.pending["vga"], &config.pending["scsi3"]), (&None, &None));
        assert_eq!(config.cloud_init["ciuser"], "old");
        assert_eq!(config.snapshots["snap1"]["cores"], "1");
        assert_eq!(config.snapshots["snap1"]["description"], "before");
    }

    #[test]
    fn a_password_is_known_to_be_set_and_nothing_more() {
        let config = GuestConfig::parse_file(FILE);
        assert_eq!(config.get("cipassword"), Some(PASSWORD_MASK));
        assert!(!format!("{config:?}").contains("hunter"));
        let api = GuestConfig::from_api([("cipassword", "hunter2"), ("digest", "abc")]);
        assert!(!format!("{api:?}").contains("hunter"));
        assert_eq!(api.digest.as_deref(), Some("abc"));
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let config = GuestConfig::parse_file("cores: 2\r\nno colon\n: x\na b: c\n[]\n[weird\nx: 1\n%%%");
        assert_eq!(config.get("cores"), Some("2"));
        assert_eq!(config.current.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = GuestConfig::parse_file(&text);
        }
        #[test]
        fn a_description_survives_the_file(lines in proptest::collection::vec("[^\r\n]{0,20}", 1..5)) {
            let text = lines.join("\n");
            proptest::prop_assume!(!text.is_empty() && !text.ends_with('\n'));
            let config = GuestConfig { current: [("description".to_owned(), text.clone())].into(), ..GuestConfig::default() };
            let read = GuestConfig::parse_file(&config.print_file());
            proptest::prop_assert_eq!(read.get("description"), Some(text.as_str()));
        }
    }
}
