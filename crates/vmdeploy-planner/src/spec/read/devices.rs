//! Disks, NICs and cloud-init.

use super::IN_VM;
use super::cluster::{read_secret, values_of};
use crate::spec::faults::{Faults, Path};
use crate::spec::lower::{Options, implied, lower_device, lower_options};
use crate::spec::model::{
    CloudInit, Delivery, Desired, DesiredField, DesiredFields, Disk, DiskContent, EmptyDrive, Keep, MadeWith,
    Nic, Password, SnippetSource, Spanned, SshKey,
};
use crate::spec::schema::{CLOUD_INIT, DISK, EFI, NIC, Object, POOL_ADDRESS, TPM, VM};
use crate::spec::tree::Node;
use crate::spec::view::View;
use ipnet::IpNet;
use pve_config::{Bus, DeviceSlot};
use std::collections::BTreeMap;

/// Reads the disks, EFI disk and TPM state included.
pub(super) fn read_disks(
    view: &View<'_>,
    path: Path<'_>,
    faults: &mut Faults,
) -> BTreeMap<DeviceSlot, Desired<Disk>> {
    let mut disks = BTreeMap::new();
    let (disks_path, inner) = (path.key("disks"), IN_VM.key("disks"));
    for (key, span, value) in view.some(&VM, "disks").map_or_else(Vec::new, |disks| disks.entries()) {
        let Ok(slot) = key.parse::<DeviceSlot>() else { continue };
        if !slot.bus().is_drive() {
            continue;
        }
        let desired = if value.is_null() {
            Desired::Remove(span)
        } else if value.is_map() {
            Desired::of(Spanned::new(
                read_disk(slot, &value, span, (disks_path.key(key), inner.key(key)), faults),
                span,
            ))
        } else {
            continue;
        };
        disks.insert(slot, desired);
    }
    let bios = view.some(&VM, "bios");
    let efi = bios.and_then(|bios| bios.get(values_of(&VM, "bios"), "efi"));
    let bios_path = IN_VM.key("bios");
    disks.extend(read_firmware(Bus::Efidisk, efi.as_ref(), &EFI, bios_path.key("efi"), &[("efitype", "4m")]));
    let tpm = view.get(&VM, "tpm");
    disks.extend(read_firmware(Bus::Tpmstate, tpm.as_ref(), &TPM, IN_VM.key("tpm"), &[("version", "v2.0")]));
    disks
}

/// Reads a disk; the first path is for faults, the second for the plan.
fn read_disk(
    slot: DeviceSlot,
    view: &View<'_>,
    span: crate::spec::Span,
    (whole_path, path): (Path<'_>, Path<'_>),
    faults: &mut Faults,
) -> Disk {
    let get = |key| view.some(&DISK, key);
    let mut options = DesiredFields::new();
    lower_device(view, &DISK, path, &mut options);
    let content = read_content(view, whole_path, faults);
    if matches!(content, DiskContent::Iso(_) | DiskContent::EmptyDrive(_)) {
        options.insert("media".to_owned(), implied(path.key("iso"), span, "cdrom"));
    }
    Disk {
        slot,
        span,
        storage: get("storage").and_then(|view| view.parse()),
        size: get("size").and_then(|view| view.parse()),
        content,
        format: get("format").and_then(|view| view.parse()),
        keep: get("keep").and_then(|keep| read_keep(&keep)),
        role: get("role").and_then(|view| view.parse()),
        options,
        made_with: &[],
    }
}

fn read_content(view: &View<'_>, path: Path<'_>, faults: &mut Faults) -> DiskContent {
    let get = |key| view.some(&DISK, key);
    let (image, volume, iso) = (get("image"), get("volume"), get("iso"));
    let said = [&image, &volume, &iso];
    if let Some(second) = said.into_iter().flatten().nth(1) {
        let message = "only one of `image`, `volume` and `iso` is allowed";
        faults.error_hint(second.span(), path, message, "keep one of them and remove the others");
    }
    let content = image
        .and_then(|view| view.parse().map(DiskContent::Image))
        .or_else(|| volume.and_then(|view| view.parse().map(DiskContent::Volume)))
        .or_else(|| match iso.as_ref().and_then(|view| view.top().text())? {
            "none" => Some(DiskContent::EmptyDrive(Spanned::new(EmptyDrive::None, iso.as_ref()?.span()))),
            "cdrom" => {
                Some(DiskContent::EmptyDrive(Spanned::new(EmptyDrive::Physical, iso.as_ref()?.span())))
            }
            _ => iso.as_ref()?.parse().map(DiskContent::Iso),
        });
    content.unwrap_or(DiskContent::Blank)
}

fn read_keep(view: &View<'_>) -> Option<Keep> {
    if let Some(said) = view.bool() {
        return said.value.then(|| Keep { holder: None, span: view.span() });
    }
    let holder = view.top().get("holder").and_then(|node| View::of(vec![node])).and_then(|view| view.parse());
    Some(Keep { holder, span: view.span() })
}

/// Reads an EFI disk or TPM state.
fn read_firmware(
    bus: Bus,
    view: Option<&View<'_>>,
    object: &'static Object,
    path: Path<'_>,
    made_with: MadeWith,
) -> Option<(DeviceSlot, Desired<Disk>)> {
    let view = view?;
    let slot = DeviceSlot::new(bus, 0).ok()?;
    if view.is_null() {
        return Some((slot, Desired::Remove(view.span())));
    }
    let mut options = DesiredFields::new();
    lower_device(view, object, path, &mut options);
    let span = view.span();
    let disk = Disk {
        slot,
        span,
        storage: view.some(object, "storage").and_then(|view| view.parse()),
        size: None,
        content: DiskContent::Blank,
        format: view.some(object, "format").and_then(|view| view.parse()),
        keep: None,
        role: None,
        options,
        made_with,
    };
    Some((slot, Desired::of(Spanned::new(disk, span))))
}

/// Reads the NICs.
pub(super) fn read_nics(view: &View<'_>) -> BTreeMap<DeviceSlot, Desired<Nic>> {
    let mut nics = BTreeMap::new();
    let path = IN_VM.key("nics");
    for (key, span, value) in view.some(&VM, "nics").map_or_else(Vec::new, |nics| nics.entries()) {
        let Some(slot) = key.parse::<DeviceSlot>().ok().filter(|slot| slot.bus() == Bus::Net) else {
            continue;
        };
        let desired = if value.is_null() {
            Desired::Remove(span)
        } else if value.is_map() {
            Desired::of(Spanned::new(read_nic(slot, &value, span, path.key(key)), span))
        } else {
            continue;
        };
        nics.insert(slot, desired);
    }
    nics
}

fn read_nic(slot: DeviceSlot, view: &View<'_>, span: crate::spec::Span, path: Path<'_>) -> Nic {
    let get = |key| view.some(&NIC, key);
    let mut options = DesiredFields::new();
    lower_device(view, &NIC, path, &mut options);
    if let Some(DesiredField { value: Some(mac), .. }) = options.get_mut("macaddr") {
        mac.make_ascii_uppercase();
    }
    let mut ipconfig = DesiredFields::new();
    let pool = get("ip").filter(View::is_map).and_then(|ip| ip.some(&POOL_ADDRESS, "pool")?.text());
    for (key, part) in [("ip", "ip"), ("gateway", "gw"), ("ip6", "ip6"), ("gateway6", "gw6")] {
        if let Some(value) = view.get(&NIC, key).filter(|value| !value.is_map()) {
            let text = value.text().map(|text| text.value.to_owned());
            let desired = DesiredField { path: path.key(key).to_string(), span: value.span(), value: text };
            ipconfig.insert(part.to_owned(), desired);
        }
    }
    let address = |key| get(key).and_then(|view| view.parse::<IpNet>());
    Nic {
        slot,
        span,
        bridge: get("bridge").and_then(|view| view.parse()),
        mac: get("mac").and_then(|view| view.parse()),
        vlan: get("vlan").and_then(|view| view.parse()),
        options,
        ipconfig,
        pool: pool.map(|pool| pool.map(str::to_owned)),
        addresses: ["ip", "ip6"].into_iter().filter_map(address).collect(),
        primary: get("primary").and_then(|view| view.bool()).is_some_and(|primary| primary.value),
        made_with: &[("model", "virtio")],
    }
}

/// Reads cloud-init.
pub(super) fn read_cloud_init(view: &View<'_>) -> CloudInit {
    let get = |key| view.some(&CLOUD_INIT, key);
    let mut options = Options::new();
    lower_options(view, &CLOUD_INIT, IN_VM.key("cloud_init"), &mut options);
    CloudInit {
        span: view.span(),
        slot: get("slot").and_then(|view| view.parse::<DeviceSlot>()),
        storage: get("storage").and_then(|view| view.parse()),
        format: get("format").and_then(|view| view.parse()),
        options,
        password: get("password").and_then(|password| read_password(&password)),
        ssh_keys: read_keys(view.get(&CLOUD_INIT, "ssh_keys").as_ref()),
        custom: ["user", "network", "vendor", "meta"]
            .into_iter()
            .map(|part| {
                (part.to_owned(), read_snippet(view.get(&CLOUD_INIT, &format!("{part}_data")).as_ref()))
            })
            .filter(|(_, desired)| !desired.is_unmanaged())
            .collect(),
        delivery: match get("delivery").and_then(|view| view.top().text()) {
            Some("snippet") => Delivery::Snippet,
            _ => Delivery::Auto,
        },
        snippets: get("snippets").and_then(|view| view.parse()),
    }
}

fn read_password(view: &View<'_>) -> Option<Password> {
    let object = values_of(&CLOUD_INIT, "password");
    let clear = view.some(object, "clear").and_then(|view| view.bool()).is_some_and(|clear| clear.value);
    Some(Password { source: read_secret(view, object)?, clear })
}

fn read_keys(view: Option<&View<'_>>) -> Desired<Vec<Spanned<SshKey>>> {
    let Some(view) = view else { return Desired::Unmanaged };
    if view.is_null() {
        return Desired::Remove(view.span());
    }
    let keys = view.items().into_iter().filter_map(read_key).collect();
    Desired::of(Spanned::new(keys, view.span()))
}

fn read_key(node: Node<'_>) -> Option<Spanned<SshKey>> {
    let key = match node.text() {
        Some(text) if text.starts_with("github:") || text.starts_with("gitlab:") => {
            SshKey::Account(text.to_owned())
        }
        Some(text) => SshKey::Literal(text.trim().to_owned()),
        None => SshKey::File(node.get("file")?.text()?.to_owned()),
    };
    Some(Spanned::new(key, node.span()))
}

fn read_snippet(view: Option<&View<'_>>) -> Desired<SnippetSource> {
    let Some(view) = view else { return Desired::Unmanaged };
    if view.is_null() {
        return Desired::Remove(view.span());
    }
    let node = view.top();
    let file = node
        .text()
        .or_else(|| node.get("file").and_then(Node::text))
        .map(|path| SnippetSource::File(path.to_owned()));
    let volume = || Some(SnippetSource::Volume(node.get("volume")?.text()?.parse().ok()?));
    file.or_else(volume).map_or(Desired::Unmanaged, |source| Desired::of(Spanned::new(source, view.span())))
}
