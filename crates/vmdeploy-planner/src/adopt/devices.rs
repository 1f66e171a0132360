//! Firmware and devices of the node, in the words of the spec.

use super::writer::{Writer, without_what_pve_notes};
use crate::spec::raise::{EFI, NUMA_NODE, PCI, TPM, USB, VIRTIOFS, quoted, raised};
use pve_config::{Bus, DeviceSlot, Drive};

impl Writer {
    /// Writes the firmware, its disk and the TPM.
    pub(super) fn firmware(&mut self) {
        // To SeaBIOS an EFI disk means nothing, and a spec may not have both.
        let is_ovmf = self.values.get("bios").is_some_and(|bios| bios == "ovmf");
        match is_ovmf.then(|| self.firmware_disk("efidisk0")).flatten() {
            Some(efi) => {
                self.take("bios");
                self.line(format!("bios: {{type: ovmf, efi: {{{efi}}}}}"));
            }
            None => self.text("bios", "bios"),
        }
        if let Some(tpm) = self.firmware_disk("tpmstate0") {
            self.line(format!("tpm: {{{tpm}}}"));
        }
    }

    fn firmware_disk(&mut self, key: &str) -> Option<String> {
        let drive = Drive::parse(key, self.values.get(key)?).ok()?;
        let storage = drive.volume()?.storage();
        let object = if key == "efidisk0" { &EFI } else { &TPM };
        let raised = raised(object, &without_what_pve_notes(&drive.options))?;
        let mut fields = vec![format!("storage: {storage}")];
        fields.extend(raised.fields);
        self.take(key);
        self.leave(key, raised.rest);
        Some(fields.join(", "))
    }

    /// Writes the devices of the node and the NUMA nodes, each kind below its key.
    pub(super) fn devices(&mut self) {
        let kinds = [
            (Bus::Numa, "numa", &NUMA_NODE),
            (Bus::Hostpci, "pci", &PCI),
            (Bus::Usb, "usb", &USB),
            (Bus::Virtiofs, "virtiofs", &VIRTIOFS),
        ];
        for (bus, name, object) in kinds {
            let mut lines = Vec::new();
            for key in self.slots_of(bus) {
                let Some(value) = self.property(&key) else { continue };
                let Some(raised) = raised(object, &value) else { continue };
                lines.push(format!("  {key}: {{{}}}", raised.fields.join(", ")));
                self.take(&key);
                self.leave(&key, raised.rest);
            }
            self.block(name, lines);
        }
        for (bus, name) in [(Bus::Serial, "serial"), (Bus::Parallel, "parallel")] {
            let slots = self.slots_of(bus).into_iter();
            let lines = slots.filter_map(|key| Some(format!("  {key}: {}", quoted(&self.take(&key)?))));
            let lines = lines.collect();
            self.block(name, lines);
        }
    }

    fn slots_of(&self, bus: Bus) -> Vec<String> {
        let slots = self.values.keys().filter_map(|key| key.parse::<DeviceSlot>().ok());
        let mut slots: Vec<DeviceSlot> = slots.filter(|slot| slot.bus() == bus).collect();
        slots.sort();
        slots.iter().map(ToString::to_string).collect()
    }
}
