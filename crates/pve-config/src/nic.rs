//! NICs and the addresses that cloud-init gives them.

use crate::property::PropertyString;
use crate::slot::{Bus, DeviceSlot};
use pve_types::{BridgeName, MacAddr, ParseError};
use std::collections::BTreeMap;

/// A NIC: what stands in `netN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its model, e.g. `virtio`.
    pub model: String,
    /// Its address; absent only in what is still to be created.
    pub mac: Option<MacAddr>,
    /// Its bridge; absent for a NIC that QEMU translates.
    pub bridge: Option<BridgeName>,
    /// Its VLAN.
    pub vlan: Option<u16>,
    /// All fields as they stand, those above included.
    pub fields: PropertyString,
}

impl Nic {
    /// Reads the value of `net0`, `net1` …
    ///
    /// # Errors
    /// It is not a property string, it names no model, or an address, bridge or VLAN is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason: &str| ParseError::new("NIC", text, reason);
        let fields = PropertyString::parse("net0", text)?;
        Ok(Self {
            model: fields.get("model").ok_or_else(|| refuse("it has no model"))?.to_owned(),
            mac: fields.get("macaddr").map(str::parse).transpose()?,
            bridge: fields.get("bridge").map(str::parse).transpose()?,
            vlan: fields
                .get("tag")
                .map(|tag| tag.parse().map_err(|_| refuse("its VLAN is not a number")))
                .transpose()?,
            fields,
        })
    }
    /// Prints it as PVE stores it.
    pub fn print(&self) -> String {
        self.fields.print("net0")
    }
}

/// Returns the MAC addresses of a VM's NICs by slot, `net0` first; a NIC that names none is left out.
// PVE: qemu-server src/PVE/QemuServer/Network.pm: `MODEL=MAC,…` or `macaddr=MAC`.
pub fn mac_addresses(values: &BTreeMap<String, String>) -> Vec<(DeviceSlot, MacAddr)> {
    let nics = values.iter().filter_map(|(key, text)| {
        let slot: DeviceSlot = key.parse().ok().filter(|slot: &DeviceSlot| slot.bus() == Bus::Net)?;
        Some((slot, mac_of(text)?))
    });
    let mut found: Vec<_> = nics.collect();
    found.sort_unstable();
    found
}

/// Returns the MAC address in a value of `netN`; `None` where it has none.
pub fn mac_of(text: &str) -> Option<MacAddr> {
    PropertyString::parse("net0", text).ok()?.get("macaddr")?.parse().ok()
}

/// Returns the address that a value of `ipconfigN` sets, IPv4 first; `None` where it leaves it to DHCP or the guest.
pub fn static_address(text: &str) -> Option<std::net::IpAddr> {
    let config = IpConfig::parse(text).ok()?;
    [config.ip, config.ip6].into_iter().flatten().find_map(|address| match address {
        IpAddress::Static(address, _) => Some(address),
        IpAddress::Dhcp | IpAddress::Auto | IpAddress::Manual => None,
    })
}

/// An address setting of `ipconfigN`, for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpAddress {
    /// Asked for by DHCP.
    Dhcp,
    /// IPv6 only: drawn from router advertisements.
    Auto,
    /// Left to the guest.
    Manual,
    /// This address with its prefix length.
    Static(std::net::IpAddr, u8),
}

/// What stands in `ipconfigN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpConfig {
    /// IPv4.
    pub ip: Option<IpAddress>,
    /// The IPv4 gateway.
    pub gateway: Option<std::net::Ipv4Addr>,
    /// IPv6.
    pub ip6: Option<IpAddress>,
    /// The IPv6 gateway.
    pub gateway6: Option<std::net::Ipv6Addr>,
}

impl IpConfig {
    /// Reads the value of `ipconfig0`, `ipconfig1` …
    ///
    /// # Errors
    /// An address is of the wrong family or none at all.
    // PVE: qemu-server src/PVE/QemuServer/Cloudinit.pm, format pve-qm-ipconfig.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("IP configuration", text, "write it as `ip=10.0.0.2/24,gw=10.0.0.1`");
        let fields = PropertyString::parse("ipconfig0", text)?;
        let address = |name: &str, v6: bool| {
            fields.get(name).map(|value| IpAddress::parse(value, v6).ok_or_else(refuse)).transpose()
        };
        Ok(Self {
            ip: address("ip", false)?,
            gateway: fields.get("gw").map(|gw| gw.parse().map_err(|_| refuse())).transpose()?,
            ip6: address("ip6", true)?,
            gateway6: fields.get("gw6").map(|gw| gw.parse().map_err(|_| refuse())).transpose()?,
        })
    }
}

impl IpAddress {
    fn parse(text: &str, v6: bool) -> Option<Self> {
        match text {
            "dhcp" => return Some(Self::Dhcp),
            "auto" if v6 => return Some(Self::Auto),
            "manual" => return Some(Self::Manual),
            _ => {}
        }
        let (address, length) = text.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        let fits = address.is_ipv6() == v6 && length <= if v6 { 128 } else { 32 };
        fits.then_some(Self::Static(address, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_is_read_in_both_spellings() {
        let text = "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0,firewall=1,tag=10";
        let nic = Nic::parse(text).unwrap();
        assert_eq!((nic.model.as_str(), nic.vlan), ("virtio", Some(10)));
        assert_eq!(nic.print(), text);
        assert_eq!(
            Nic::parse("tag=10,bridge=vmbr0,macaddr=BC:24:11:AA:BB:CC,firewall=1,model=virtio").unwrap(),
            nic
        );
        assert!(Nic::parse("bridge=vmbr0").is_err() && Nic::parse("virtio=zz").is_err());
    }

    #[test]
    fn macs_stand_in_the_order_of_the_slots() {
        let config = [
            ("net10", "e1000=BC:24:11:00:00:10,bridge=vmbr0"),
            ("net2", "model=virtio,macaddr=BC:24:11:00:00:02"),
            ("net0", "virtio,bridge=vmbr0"),
            ("memory", "2048"),
        ];
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let slots: Vec<String> =
            mac_addresses(&config).iter().map(|(slot, mac)| format!("{slot} {mac}")).collect();
        assert_eq!(slots, ["net2 BC:24:11:00:00:02", "net10 BC:24:11:00:00:10"]);
    }

    #[test]
    fn a_static_address_is_read_from_cloud_init() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(static_address(text).map(|address| address.to_string()).as_deref(), expect);
        };
        check("ip=10.0.0.5/24,gw=10.0.0.1", Some("10.0.0.5"));
        check("ip=dhcp", None);
        check("gw=10.0.0.1,ip6=fd00::5/64", Some("fd00::5"));
    }

    #[test]
    fn addresses_belong_to_their_family() {
        let read = IpConfig::parse("ip=10.0.0.2/24,gw=10.0.0.1,ip6=auto").unwrap();
        assert_eq!(read.ip, Some(IpAddress::Static("10.0.0.2".parse().unwrap(), 24)));
        assert_eq!(read.ip6, Some(IpAddress::Auto));
        for text in ["ip=auto", "ip=10.0.0.2", "ip=10.0.0.2/33", "ip=fd00::1/64", "gw=fd00::1", "dhcp"] {
            assert!(IpConfig::parse(text).is_err(), "{text}");
        }
    }
}
