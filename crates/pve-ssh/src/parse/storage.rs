//! `pvesm status`, `list`, `alloc`, `path`.

use super::OutputError;
use pve_types::{Bytes, StorageId, Vmid, VolumeId};

/// Whether a storage can be used on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageState {
    /// It answers.
    Active,
    /// It is enabled and does not answer.
    Inactive,
    /// It is switched off in the configuration.
    Disabled,
}

/// A line of `pvesm status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRow {
    /// The storage.
    pub id: StorageId,
    /// Its type: `dir`, `lvmthin`, `zfspool` and so on.
    pub kind: String,
    /// Whether it can be used.
    pub state: StorageState,
    /// Its size; 0 when it is not active.
    pub total: Bytes,
    /// What is used.
    pub used: Bytes,
    /// What is free for use.
    pub available: Bytes,
}

/// Reads the table of `pvesm status`, with the header of before and after PVE 9.1.
///
/// # Errors
/// The header or a line is not that of the table.
// PVE: pve-storage src/PVE/CLI/pvesm.pm: numbers are KiB in every version, only the header names them since 9.0.14.
pub fn pvesm_status(stdout: &str) -> Result<Vec<StorageRow>, OutputError> {
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next().unwrap_or("");
    let words: Vec<&str> = header.split_whitespace().filter(|word| *word != "(KiB)").collect();
    if words != ["Name", "Type", "Status", "Total", "Used", "Available", "%"] {
        return Err(OutputError::new(
            "pvesm status",
            "the header `Name Type Status Total Used Available %`",
            header,
        ));
    }
    lines
        .map(|line| {
            storage_row(line).ok_or_else(|| OutputError::new("pvesm status", "a storage's line", line))
        })
        .collect()
}

fn storage_row(line: &str) -> Option<StorageRow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [id, kind, state, total, used, available, percent] = words.as_slice() else { return None };
    let state = match *state {
        "active" => StorageState::Active,
        "inactive" => StorageState::Inactive,
        "disabled" => StorageState::Disabled,
        _ => return None,
    };
    if *percent != "N/A" && !percent.ends_with('%') {
        return None;
    }
    let kib = |text: &str| text.parse::<u64>().ok()?.checked_mul(1024).map(Bytes::new);
    Some(StorageRow {
        id: id.parse().ok()?,
        kind: (*kind).to_owned(),
        state,
        total: kib(total)?,
        used: kib(used)?,
        available: kib(available)?,
    })
}

/// A line of `pvesm list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// The volume.
    pub volume: VolumeId,
    /// `raw`, `qcow2`, `iso`, `subvol` and so on.
    pub format: String,
    /// The content type: `images`, `iso`, `vztmpl`, `backup`, `snippets`, `import`, `rootdir`.
    pub content: String,
    /// Its size, where the storage knows it.
    pub size: Option<Bytes>,
    /// The guest that it belongs to.
    pub vmid: Option<Vmid>,
}

/// Reads the table of `pvesm list`. A storage without volumes prints nothing, or the header alone.
///
/// # Errors
/// The header or a line is not that of the table.
// PVE: pve-storage src/PVE/CLI/pvesm.pm; PVE 9 prints `-` or `~N` for sizes that it does not know exactly.
pub fn pvesm_list(stdout: &str) -> Result<Vec<VolumeRow>, OutputError> {
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    let Some(header) = lines.next() else { return Ok(Vec::new()) };
    if header.split_whitespace().collect::<Vec<_>>() != ["Volid", "Format", "Type", "Size", "VMID"] {
        return Err(OutputError::new("pvesm list", "the header `Volid Format Type Size VMID`", header));
    }
    lines
        .map(|line| volume_row(line).ok_or_else(|| OutputError::new("pvesm list", "a volume's line", line)))
        .collect()
}

fn volume_row(line: &str) -> Option<VolumeRow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (volume, format, content, size, vmid) = match words.as_slice() {
        [volume, format, content, size] => (volume, format, content, size, None),
        [volume, format, content, size, vmid] => (volume, format, content, size, Some(vmid)),
        _ => return None,
    };
    let size = match size.trim_start_matches('~') {
        "-" | "" => None,
        number => Some(Bytes::new(number.parse().ok()?)),
    };
    Some(VolumeRow {
        volume: volume.parse().ok()?,
        format: (*format).to_owned(),
        content: (*content).to_owned(),
        size,
        // A volume of an old backup can name a number that is no VMID any more.
        vmid: vmid.and_then(|text| text.parse().ok()),
    })
}

/// Reads the volume that `pvesm alloc` made.
///
/// # Errors
/// No line says so.
pub fn pvesm_alloc(stdout: &str) -> Result<VolumeId, OutputError> {
    stdout
        .lines()
        .rev()
        .find_map(|line| {
            line.trim_end().strip_prefix("successfully created '")?.strip_suffix('\'')?.parse().ok()
        })
        .ok_or_else(|| OutputError::new("pvesm alloc", "`successfully created 'VOLUME'`", stdout))
}

/// Reads the path that `pvesm path` prints: absolute, or a URL of a storage that has no files (`rbd:…`).
///
/// # Errors
/// The output is not one line with something in it.
pub fn pvesm_path(stdout: &str) -> Result<String, OutputError> {
    let path = stdout.trim_end_matches('\n');
    let fit = !path.is_empty() && !path.chars().any(char::is_control);
    if fit { Ok(path.to_owned()) } else { Err(OutputError::new("pvesm path", "one path", stdout)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
local             dir     active        98497780        12345678        81105552   12.53%
local-lvm     lvmthin   inactive               0               0               0    0.00%
nas               nfs   disabled               0               0               0      N/A
";

    #[test]
    fn both_headers_are_read_and_numbers_are_kib() {
        for header in [
            "Name             Type     Status           Total            Used       Available        %\n",
            "Name             Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %\n",
        ] {
            let rows = pvesm_status(&format!("{header}{ROWS}")).unwrap();
            assert_eq!(rows.len(), 3);
            assert_eq!(rows[0].available, Bytes::new(81_105_552 * 1024));
            assert_eq!(rows[0].kind, "dir");
            let states: Vec<_> = rows.iter().map(|row| row.state).collect();
            assert_eq!(states, [StorageState::Active, StorageState::Inactive, StorageState::Disabled]);
        }
    }

    #[test]
    fn another_text_is_an_error_that_shows_it() {
        for text in [
            "",
            "400 Parameter verification failed.\n",
            "Name Type Status Total Used Available %\nlocal dir odd 1 2 3 4%\n",
        ] {
            let error = pvesm_status(text).unwrap_err().to_string();
            assert!(error.starts_with("cannot read what `pvesm status` printed"), "{error}");
        }
        assert!(pvesm_list("storage 'x' does not exist\n").is_err());
        assert!(pvesm_alloc("lvcreate error").is_err());
        assert!(pvesm_path("").is_err());
        assert!(pvesm_path("/a\n/b\n").is_err());
    }

    #[test]
    fn volumes_have_an_owner_or_none() {
        let text = "\
Volid                      Format  Type            Size VMID
local-lvm:vm-202-disk-0    raw     images     167772160 202
local:import/tiny.qcow2    qcow2   import      18093056
local:iso/a.iso            iso     iso               -
local:iso/b.iso            iso     iso               ~7
";
        let rows = pvesm_list(text).unwrap();
        assert_eq!(rows[0].vmid, Some(Vmid::new(202).unwrap()));
        assert_eq!((rows[1].vmid, rows[1].size), (None, Some(Bytes::new(18_093_056))));
        assert_eq!((rows[2].size, rows[3].size), (None, Some(Bytes::new(7))));
        assert_eq!(pvesm_list("").unwrap(), []);
    }

    #[test]
    fn a_new_volume_and_its_path_are_read() {
        let made = pvesm_alloc(
            "  Logical volume \"vm-100-disk-0\" created.\nsuccessfully created 'local-lvm:vm-100-disk-0'\n",
        );
        assert_eq!(made.unwrap().as_str(), "local-lvm:vm-100-disk-0");
        assert_eq!(pvesm_path("/dev/pve/vm-100-disk-0\n").unwrap(), "/dev/pve/vm-100-disk-0");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = (pvesm_status(&text).is_ok(), pvesm_list(&text).is_ok(), pvesm_alloc(&text).is_ok());
            let _ = pvesm_status(&format!("Name Type Status Total Used Available %\n{text}")).is_ok();
            let _ = pvesm_list(&format!("Volid Format Type Size VMID\n{text}")).is_ok();
        }
    }
}
