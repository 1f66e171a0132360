//! The options that other crates look into: agent, boot order, CPU, machine, memory, SMBIOS, startup order, tags.

use crate::property::PropertyString;
use pve_types::ParseError;
use std::collections::BTreeSet;

/// `agent`: whether the guest agent is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agent {
    /// Whether PVE talks to it.
    pub enabled: bool,
}

impl Agent {
    /// Reads a value of `agent`; an absent one is [`Agent::default`].
    ///
    /// # Errors
    /// It is no property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { enabled: PropertyString::parse("agent", text)?.flag("enabled").unwrap_or(false) })
    }
}

/// `boot`: the devices tried, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// The devices by slot; empty for the legacy form.
    pub order: Vec<String>,
}

impl Boot {
    /// Reads a value of `boot`.
    ///
    /// # Errors
    /// It is no property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value = PropertyString::parse("boot", text)?;
        let order = value.get("order").unwrap_or_default();
        Ok(Self {
            order: order.split([';', ' ']).filter(|slot| !slot.is_empty()).map(str::to_owned).collect(),
        })
    }
    /// Prints it as PVE stores it.
    pub fn print(&self) -> String {
        format!("order={}", self.order.join(";"))
    }
}

/// `cpu`: type and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// `kvm64` where nothing is said.
    pub cputype: String,
    /// The flags with their signs, sorted.
    pub flags: BTreeSet<String>,
}

impl Cpu {
    /// Reads a value of `cpu`.
    ///
    /// # Errors
    /// It is no property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value = PropertyString::parse("cpu", text)?;
        let flags = value.get("flags").unwrap_or_default();
        Ok(Self {
            cputype: value.get("cputype").unwrap_or("kvm64").to_owned(),
            flags: flags.split([';', ' ']).filter(|flag| !flag.is_empty()).map(str::to_owned).collect(),
        })
    }
    /// Returns the name of a custom model (`custom-NAME`), which needs a mapping of its own.
    pub fn custom_model(&self) -> Option<&str> {
        self.cputype.strip_prefix("custom-")
    }
}

/// `machine`: its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `pc` where nothing is said.
    pub kind: String,
}

impl Machine {
    /// Reads a value of `machine`.
    ///
    /// # Errors
    /// It is no property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { kind: PropertyString::parse("machine", text)?.get("type").unwrap_or("pc").to_owned() })
    }
    /// Tells whether it is a q35 machine, as PCI express passthrough needs.
    pub fn is_q35(&self) -> bool {
        self.kind == "q35" || self.kind.starts_with("pc-q35-")
    }
}

/// `memory`, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// 512 where nothing is said.
    pub mib: u64,
}

impl Memory {
    /// Reads a value of `memory`, a plain number or `current=N`.
    ///
    /// # Errors
    /// It is no number.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value = PropertyString::parse("memory", text)?;
        let mib = value.get("current").unwrap_or("512");
        let mib = mib.parse().map_err(|_| ParseError::new("memory size", text, "it is a number of MiB"))?;
        Ok(Self { mib })
    }
}

/// `smbios1`: what the guest's firmware tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smbios1 {
    /// All fields.
    pub fields: PropertyString,
}

impl Smbios1 {
    /// Reads a value of `smbios1`.
    ///
    /// # Errors
    /// It is no property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { fields: PropertyString::parse("smbios1", text)? })
    }
    /// Returns the UUID in lower case.
    pub fn uuid(&self) -> Option<String> {
        self.fields.get("uuid").map(str::to_ascii_lowercase)
    }
}

/// `startup`: when the guest is started and stopped with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Startup {
    /// Its place in the order.
    pub order: Option<u32>,
    /// Seconds until the next guest is started.
    pub up_s: Option<u32>,
    /// Seconds it is given to shut down.
    pub down_s: Option<u32>,
}

impl Startup {
    /// Reads a value of `startup`.
    ///
    /// # Errors
    /// It is no property string, or a number is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value = PropertyString::parse("startup", text)?;
        let number = |name: &str| {
            let read = |text: &str| {
                text.parse().map_err(|_| ParseError::new("startup order", text, "it is a number"))
            };
            value.get(name).map(read).transpose()
        };
        Ok(Self { order: number("order")?, up_s: number("up")?, down_s: number("down")? })
    }
}

/// `tags`: lower-case, sorted, unique.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(pub BTreeSet<String>);

impl Tags {
    /// Reads a value of `tags`; any of PVE's separators will do.
    pub fn parse(text: &str) -> Self {
        let words = text.split(|c: char| c == ';' || c == ',' || c.is_whitespace());
        Self(words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect())
    }
    /// Prints them as PVE stores them.
    // PVE: qemu-server src/PVE/QemuServer.pm: sorted, unique, joined by `;`.
    pub fn print(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(";")
    }
    /// Tells whether PVE takes this as a tag.
    // PVE: pve-common src/PVE/JSONSchema.pm format pve-tag.
    pub fn is_tag(text: &str) -> bool {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        first && chars.all(|c| c.is_ascii_alphanumeric() || "_-+.".contains(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_with_their_defaults() {
        assert!(Agent::parse("1,type=isa").unwrap().enabled && !Agent::parse("type=isa").unwrap().enabled);
        assert_eq!(Boot::parse("order=scsi0;net0").unwrap().print(), "order=scsi0;net0");
        assert_eq!(Cpu::parse("custom-epyc,flags=+aes;-pcid").unwrap().custom_model(), Some("epyc"));
        assert_eq!(Cpu::parse("flags=+aes").unwrap().cputype, "kvm64");
        assert!(Machine::parse("pc-q35-9.0,viommu=intel").unwrap().is_q35());
        assert_eq!(Memory::parse("current=2048").unwrap().mib, 2048);
        assert_eq!(Smbios1::parse("uuid=AB-CD").unwrap().uuid().as_deref(), Some("ab-cd"));
        assert_eq!(
            Startup::parse("order=2,down=60").unwrap(),
            Startup { order: Some(2), up_s: None, down_s: Some(60) }
        );
        assert!(Startup::parse("order=x").is_err());
    }

    #[test]
    fn tags_are_a_set() {
        assert_eq!(Tags::parse("Web, ceph;web lab").print(), "ceph;lab;web");
        assert!(
            Tags::is_tag("a_b-c+d.e") && !Tags::is_tag("") && !Tags::is_tag("-a") && !Tags::is_tag("a b")
        );
    }
}
