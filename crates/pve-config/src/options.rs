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
    /// It is not a property string.
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
    /// It is not a property string.
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
    /// It is not a property string.
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

/// The chipset of a machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chipset {
    /// `pc`, `pc-i440fx-10.0`, `pc-10.0`.
    I440fx,
    /// `q35`, `pc-q35-10.0`.
    Q35,
    /// `virt`, `virt-10.0`.
    Virt,
}

/// Reads a machine type: its chipset, and the version that it is pinned to, such as `10.0+pve1`.
///
/// A type that is none is an i440fx machine pinned to whatever it says, which equals only itself.
// PVE: qemu-server src/PVE/QemuServer/Machine.pm $machine_fmt.
pub fn machine_type(text: &str) -> (Chipset, Option<&str>) {
    match text {
        "pc" => return (Chipset::I440fx, None),
        "q35" => return (Chipset::Q35, None),
        "virt" => return (Chipset::Virt, None),
        _ => {}
    }
    let prefixes = [
        ("pc-i440fx-", Chipset::I440fx),
        ("pc-q35-", Chipset::Q35),
        ("virt-", Chipset::Virt),
        ("pc-", Chipset::I440fx),
    ];
    let found =
        prefixes.into_iter().find_map(|(prefix, chipset)| Some((chipset, text.strip_prefix(prefix)?)));
    found.map_or((Chipset::I440fx, Some(text)), |(chipset, version)| (chipset, Some(version)))
}

impl Machine {
    /// Reads a value of `machine`.
    ///
    /// # Errors
    /// It is not a property string.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { kind: PropertyString::parse("machine", text)?.get("type").unwrap_or("pc").to_owned() })
    }
    /// Tells whether it is a q35 machine, as PCI express passthrough needs.
    pub fn is_q35(&self) -> bool {
        machine_type(&self.kind).0 == Chipset::Q35
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
    /// It is not a number.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value = PropertyString::parse("memory", text)?;
        let mib = value.get("current").unwrap_or("512");
        let mib =
            mib.parse().map_err(|_| ParseError::new("memory size", text, "it must be a number of MiB"))?;
        Ok(Self { mib })
    }
}

/// `smbios1`: what the guest's firmware tells of itself, every field but `base64` as the guest reads it.
///
/// PVE stores the texts as they were given, or all of them (the UUID apart) in base64 with `base64=1`; both mean the same.
// PVE: qemu-server src/PVE/QemuServer.pm $smbios1_fmt, config_to_command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smbios1 {
    /// The fields as the guest reads them; `base64` is not among them.
    pub fields: PropertyString,
    /// Whether the value was, or is to be, written in base64.
    pub base64: bool,
}

impl Smbios1 {
    /// Reads a value of `smbios1`.
    ///
    /// # Errors
    /// It is not a property string, or it says `base64=1` and a text is not in base64, or not UTF-8.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        use base64::Engine as _;
        let mut fields = PropertyString::parse("smbios1", text)?;
        let base64 = fields.flag("base64").unwrap_or(false);
        fields.remove("base64");
        if base64 {
            let refuse = || ParseError::new("SMBIOS value", text, "it has `base64=1`, but is not base64");
            let engine = base64::engine::general_purpose::STANDARD;
            let mut plain = PropertyString::default();
            for (name, value) in fields.iter() {
                let bytes = || engine.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let value = if name == "uuid" { value.to_owned() } else { bytes().ok_or_else(refuse)? };
                plain.set(name, value);
            }
            fields = plain;
        }
        Ok(Self { fields, base64 })
    }
    /// Prints it as PVE takes it: in base64 where it was so, or where a text has characters that PVE takes only so.
    pub fn print(&self) -> String {
        use base64::Engine as _;
        let texts = || self.fields.iter().filter(|(name, _)| *name != "uuid");
        if !self.base64 && texts().all(|(_, value)| is_plain_smbios(value)) {
            return self.fields.print("smbios1");
        }
        let mut coded = self.fields.clone();
        let engine = base64::engine::general_purpose::STANDARD;
        texts().for_each(|(name, value)| coded.set(name, engine.encode(value)));
        if texts().next().is_some() {
            coded.set("base64", "1");
        }
        coded.print("smbios1")
    }
    /// Returns the UUID in lower case.
    pub fn uuid(&self) -> Option<String> {
        self.fields.get("uuid").map(str::to_ascii_lowercase)
    }
}

/// Tells whether PVE takes the text without base64.
// PVE: qemu-server src/PVE/QemuServer.pm $smbios1_fmt: `[A-Za-z0-9+\/]+={0,2}`.
fn is_plain_smbios(text: &str) -> bool {
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
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
    /// It is not a property string, or a number is none.
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
    fn smbios_texts_are_read_as_the_guest_reads_them() {
        let coded = Smbios1::parse("base64=1,product=Q2xpZW50IFBD,uuid=AB").unwrap();
        assert_eq!(coded.fields.get("product"), Some("Client PC"));
        assert_eq!(coded.print(), "base64=1,product=Q2xpZW50IFBD,uuid=AB");
        let mut plain = Smbios1::parse("manufacturer=Lab,uuid=AB").unwrap();
        assert_eq!(plain.print(), "manufacturer=Lab,uuid=AB");
        // One text that needs base64 turns all of them into it.
        plain.fields.set("product", "Client PC");
        assert_eq!(plain.print(), "base64=1,manufacturer=TGFi,product=Q2xpZW50IFBD,uuid=AB");
        assert!(Smbios1::parse("base64=1,product=%%").is_err());
        assert_eq!(Smbios1::parse("base64=1,uuid=AB").unwrap().print(), "uuid=AB");
    }

    #[test]
    fn a_machine_type_is_a_chipset_and_perhaps_a_version() {
        let check = |text, chipset, version| assert_eq!(machine_type(text), (chipset, version), "{text}");
        check("pc", Chipset::I440fx, None);
        check("pc-10.0", Chipset::I440fx, Some("10.0"));
        check("pc-i440fx-10.0+pve1", Chipset::I440fx, Some("10.0+pve1"));
        check("pc-q35-9.2", Chipset::Q35, Some("9.2"));
        check("virt", Chipset::Virt, None);
    }

    #[test]
    fn tags_are_a_set() {
        assert_eq!(Tags::parse("Web, ceph;web lab").print(), "ceph;lab;web");
        assert!(
            Tags::is_tag("a_b-c+d.e") && !Tags::is_tag("") && !Tags::is_tag("-a") && !Tags::is_tag("a b")
        );
    }
}
