//! Import, allocation and images: `qm importdisk`, `qm set`, `qm create`, `qemu-img info`.

use super::OutputError;
use pve_types::{Bytes, VolumeId};

/// How far a copy is: a line `transferred 45.1 MiB of 2.2 GiB (2.00%)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes copied, to one decimal of the unit that was printed.
    pub done: Bytes,
    /// Bytes in all, to one decimal of the unit that was printed.
    pub total: Bytes,
    /// Percent, 0 to 100, as qemu-img counts them.
    pub percent: f64,
}

/// Reads one line of a copy's progress; `None` when the line is something else.
// PVE: pve-guest-common and qemu-server src/PVE/QemuServer/QemuImage.pm, render_bytes of pve-common Format.pm.
pub fn progress(line: &str) -> Option<Progress> {
    let rest = line.trim_end().strip_prefix("transferred ")?;
    let (sizes, percent) = rest.strip_suffix("%)")?.rsplit_once(" (")?;
    let (done, total) = sizes.split_once(" of ")?;
    let percent: f64 = percent.parse().ok().filter(|p: &f64| (0.0..=100.0).contains(p))?;
    Some(Progress { done: rendered_bytes(done)?, total: rendered_bytes(total)?, percent })
}

/// Reads `45.1 MiB`.
fn rendered_bytes(text: &str) -> Option<Bytes> {
    let (number, unit) = text.split_once(' ')?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "PiB" => 50,
        _ => return None,
    };
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && (0.0..1e6).contains(n))?;
    Some(Bytes::new((number * f64::from(2.0f32).powi(shift)).round() as u64))
}

/// What an import made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDisk {
    /// The configuration's key that names it: `unused0`, or the slot that was asked for.
    pub slot: String,
    /// The new volume.
    pub volume: VolumeId,
}

/// Reads the line that ends `qm importdisk`, in the form of before and after qemu-server 8.2.7.
///
/// # Errors
/// No line says what was imported.
// PVE: qemu-server src/PVE/CLI/qm.pm importdisk:
// `Successfully imported disk as 'unused0:local-lvm:vm-100-disk-0'`, since 8.2.7
// `unused0: successfully imported disk 'local-lvm:vm-100-disk-0'`.
pub fn imported_disk(stdout: &str) -> Result<ImportedDisk, OutputError> {
    stdout
        .lines()
        .rev()
        .find_map(|line| imported_now(line.trim_end()).or_else(|| imported_before(line.trim_end())))
        .ok_or_else(|| {
            OutputError::new("qm importdisk", "a line that says what was imported", last_line(stdout))
        })
}

fn imported_now(line: &str) -> Option<ImportedDisk> {
    let (slot, rest) = line.split_once(": successfully imported disk '")?;
    imported(slot, rest.strip_suffix('\'')?)
}

fn imported_before(line: &str) -> Option<ImportedDisk> {
    let rest = line.strip_prefix("Successfully imported disk as '")?.strip_suffix('\'')?;
    let (slot, drive) = rest.split_once(':')?;
    imported(slot, drive)
}

/// The drive is a bare volume, or has options after a comma where `--target-disk` stored some.
fn imported(slot: &str, drive: &str) -> Option<ImportedDisk> {
    let volume = drive.split(',').next()?.parse().ok()?;
    is_slot(slot).then(|| ImportedDisk { slot: slot.to_owned(), volume })
}

/// Tells whether `text` is letters and then digits, as every drive's key is.
fn is_slot(text: &str) -> bool {
    let letters = text.trim_end_matches(|c: char| c.is_ascii_digit());
    letters.len() < text.len()
        && !letters.is_empty()
        && letters.bytes().all(|b| b.is_ascii_lowercase())
        && text.len() <= 12
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("")
}

/// A volume that `qm set` or `qm create` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedDisk {
    /// The slot it is in.
    pub slot: String,
    /// The new volume.
    pub volume: VolumeId,
    /// The drive as it was stored, volume included.
    pub drive: String,
}

/// Reads the lines `scsi1: successfully created disk 'local-lvm:vm-202-disk-1,size=2G'`; others are passed over.
///
/// Several disks of one command are made in no fixed order, so their volumes must be read, never guessed.
// PVE: qemu-server src/PVE/API2/Qemu.pm create_disks.
pub fn created_disks(stdout: &str) -> Vec<CreatedDisk> {
    stdout.lines().filter_map(|line| created_disk(line.trim_end())).collect()
}

fn created_disk(line: &str) -> Option<CreatedDisk> {
    let (slot, rest) = line.split_once(": successfully created disk '")?;
    let drive = rest.strip_suffix('\'')?;
    let made = imported(slot, drive)?;
    Some(CreatedDisk { slot: made.slot, volume: made.volume, drive: drive.to_owned() })
}

/// What an image file is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ImageInfo {
    /// `qcow2`, `raw`, `vmdk` and so on.
    pub format: String,
    /// The size that a guest sees, in bytes.
    #[serde(rename = "virtual-size")]
    pub virtual_size: u64,
    /// The space it takes on the node, in bytes, where it is said.
    #[serde(rename = "actual-size")]
    pub actual_size: Option<u64>,
    /// The file it is an overlay of: an image with one must not be imported from an unknown source.
    #[serde(rename = "backing-filename")]
    pub backing_file: Option<String>,
}

/// Reads the answer of `qemu-img info --output=json`.
///
/// # Errors
/// It is no JSON, or lacks format or size.
pub fn image_info(stdout: &str) -> Result<ImageInfo, OutputError> {
    serde_json::from_str(stdout)
        .map_err(|_| OutputError::new("qemu-img info", "JSON with `format` and `virtual-size`", stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_import_is_read_in_both_forms() {
        let check = |line: &str, slot: &str, volume: &str| {
            let output =
                format!("importing disk '/a' to VM 200 ...\ntransferred 1.0 B of 1.0 B (100.00%)\n{line}\n");
            let made = imported_disk(&output).unwrap();
            assert_eq!((made.slot.as_str(), made.volume.as_str()), (slot, volume));
        };
        check(
            "Successfully imported disk as 'unused0:local-lvm:vm-100-disk-0'",
            "unused0",
            "local-lvm:vm-100-disk-0",
        );
        check(
            "unused0: successfully imported disk 'local:200/vm-200-disk-0.qcow2'",
            "unused0",
            "local:200/vm-200-disk-0.qcow2",
        );
        check(
            "scsi4: successfully imported disk 'fast:200/vm-200-disk-1.raw,size=1G'",
            "scsi4",
            "fast:200/vm-200-disk-1.raw",
        );
    }

    #[test]
    fn an_import_without_its_last_line_is_an_error_that_shows_the_text() {
        for output in [
            "",
            "importing disk '/a' to VM 200 ...\ntransferred 1.0 MiB of 2.0 MiB (50.00%)\n",
            "Successfully imported disk as 'unused0'",
            "Successfully imported disk as 'unused0:../x'",
            "UNUSED0: successfully imported disk 'local:a'",
        ] {
            let error = imported_disk(output).unwrap_err();
            assert!(error.to_string().contains("qm importdisk"), "{error}");
        }
        let error = imported_disk("copy \u{1b}[31mfailed").unwrap_err();
        assert!(error.to_string().contains(r"copy \u{1b}[31mfailed"), "{error}");
    }

    #[test]
    fn progress_is_read_to_the_byte_that_was_printed() {
        let check = |line: &str, expect: Option<(u64, u64, f64)>| {
            let read = progress(line).map(|p| (p.done.get(), p.total.get(), p.percent));
            assert_eq!(read, expect, "{line}");
        };
        check("transferred 0.0 B of 2.2 GiB (0.00%)", Some((0, 2_362_232_013, 0.0)));
        check("transferred 45.1 MiB of 2.2 GiB (2.00%)", Some((47_290_778, 2_362_232_013, 2.0)));
        check("transferred 160.0 MiB of 160.0 MiB (100.00%)\r", Some((167_772_160, 167_772_160, 100.0)));
        for other in
            ["transferred", "transferred x of y (2%)", "transferred 1.0 B of 1.0 B (200.00%)", "imported", ""]
        {
            check(other, None);
        }
    }

    #[test]
    fn created_disks_are_named_by_slot() {
        let output = "update VM 200: -scsi1 fast:1\nFormatting '/x', fmt=raw\nscsi1: successfully created disk \
                      'fast:200/vm-200-disk-1.raw,discard=on,size=1G'\nide2: successfully created disk \
                      'local:200/vm-200-cloudinit.qcow2,media=cdrom'\ngenerating cloud-init ISO\n";
        let made = created_disks(output);
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].slot, "scsi1");
        assert_eq!(made[0].volume.as_str(), "fast:200/vm-200-disk-1.raw");
        assert_eq!(made[1].drive, "local:200/vm-200-cloudinit.qcow2,media=cdrom");
    }

    #[test]
    fn an_image_is_known_by_format_and_size() {
        let info = image_info(r#"{"virtual-size": 167772160, "format": "qcow2", "actual-size": 5, "x": 1}"#)
            .unwrap();
        assert_eq!(
            (info.format.as_str(), info.virtual_size, info.backing_file),
            ("qcow2", 167_772_160, None)
        );
        assert!(image_info("qemu-img: Could not open").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = (progress(&text), imported_disk(&text).is_ok(), created_disks(&text), image_info(&text).is_ok());
        }
    }
}
