//! Guests: `qm list`, `config`, `pending`, `status`, and the configuration files of all nodes.

use super::OutputError;
use pve_types::{GuestKind, NodeName, Vmid};
use std::collections::BTreeMap;

/// A line of `qm list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRow {
    /// The guest.
    pub vmid: Vmid,
    /// Its name.
    pub name: String,
    /// `running` or `stopped`.
    pub status: String,
    /// The process, when it runs.
    pub pid: Option<u32>,
}

/// Reads the table of `qm list`, which covers the node it runs on. A node without guests prints nothing.
///
/// # Errors
/// The header or a line is not that of the table.
pub fn qm_list(stdout: &str) -> Result<Vec<GuestRow>, OutputError> {
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    let Some(header) = lines.next() else { return Ok(Vec::new()) };
    if header.split_whitespace().collect::<Vec<_>>()
        != ["VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID"]
    {
        return Err(OutputError::new(
            "qm list",
            "the header `VMID NAME STATUS MEM(MB) BOOTDISK(GB) PID`",
            header,
        ));
    }
    lines
        .map(|line| guest_row(line).ok_or_else(|| OutputError::new("qm list", "a guest's line", line)))
        .collect()
}

fn guest_row(line: &str) -> Option<GuestRow> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, status, pid) = match words.as_slice() {
        [_, name, status, _memory, _disk, pid] => (*name, *status, *pid),
        // A guest without a name leaves that column blank.
        [_, status, _memory, _disk, pid] => ("", *status, *pid),
        _ => return None,
    };
    let pid: u32 = pid.parse().ok()?;
    Some(GuestRow {
        vmid: words.first()?.parse().ok()?,
        name: name.to_owned(),
        status: status.to_owned(),
        pid: (pid != 0).then_some(pid),
    })
}

/// Reads `qm config`: `key: value` lines. A key without a value has an empty one.
///
/// # Errors
/// A line has no colon, or a key comes twice.
pub fn config(stdout: &str) -> Result<BTreeMap<String, String>, OutputError> {
    let mut read = BTreeMap::new();
    for line in stdout.lines().filter(|line| !line.is_empty()) {
        let (key, value) =
            key_value(line).ok_or_else(|| OutputError::new("qm config", "`key: value`", line))?;
        if read.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(OutputError::new("qm config", "every key once", line));
        }
    }
    Ok(read)
}

fn key_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let fit = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    fit.then(|| (key, value.strip_prefix(' ').unwrap_or(value)))
}

/// A line of `qm pending`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingLine {
    /// `cur key: value`: what is in effect.
    Current(String, String),
    /// `new key: value`: what waits for a restart.
    New(String, String),
    /// `del key: value`: what a restart removes.
    Delete(String),
}

/// Reads `qm pending`.
///
/// # Errors
/// A line begins with something else than `cur`, `new` or `del`.
pub fn pending(stdout: &str) -> Result<Vec<PendingLine>, OutputError> {
    let read = |line: &str| {
        let (word, rest) = line.split_once(' ')?;
        let (key, value) = key_value(rest).unwrap_or((rest, ""));
        match word {
            "cur" => Some(PendingLine::Current(key.to_owned(), value.to_owned())),
            "new" => Some(PendingLine::New(key.to_owned(), value.to_owned())),
            "del" => Some(PendingLine::Delete(key.to_owned())),
            _ => None,
        }
    };
    let lines = stdout.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| read(line).ok_or_else(|| OutputError::new("qm pending", "`cur`, `new` or `del`", line)))
        .collect()
}

/// Reads `qm status`: `running`, `stopped`, `paused` and so on.
///
/// # Errors
/// The output is not one line `status: …`.
pub fn status(stdout: &str) -> Result<String, OutputError> {
    match stdout.trim_end().strip_prefix("status: ") {
        Some(word) if !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic()) => Ok(word.to_owned()),
        _ => Err(OutputError::new("qm status", "`status: WORD`", stdout)),
    }
}

/// One guest's configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConfig {
    /// The node that it is on.
    pub node: NodeName,
    /// What it is.
    pub kind: GuestKind,
    /// Its number, which is unique in the cluster.
    pub vmid: Vmid,
    /// The file's text: description lines, `key: value` lines, then sections in brackets.
    pub text: String,
}

/// Reads what [`crate::command::files::guest_configs`] prints. Files that are no guest's are passed over.
///
/// # Errors
/// A line does not begin with a path and a colon.
pub fn guest_configs(stdout: &str) -> Result<Vec<GuestConfig>, OutputError> {
    let mut texts: BTreeMap<(Vmid, NodeName, GuestKind), String> = BTreeMap::new();
    for line in stdout.split_terminator('\n') {
        let (path, content) = line
            .strip_prefix("/etc/pve/nodes/")
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| OutputError::new("grep", "`/etc/pve/nodes/…: line`", line))?;
        if let Some(key) = guest_of(path) {
            let text = texts.entry(key).or_default();
            text.push_str(content);
            text.push('\n');
        }
    }
    let guests = texts.into_iter().map(|((vmid, node, kind), text)| GuestConfig { node, kind, vmid, text });
    Ok(guests.collect())
}

/// Reads `NODE/qemu-server/VMID.conf`.
fn guest_of(path: &str) -> Option<(Vmid, NodeName, GuestKind)> {
    let mut parts = path.split('/');
    let node = parts.next()?.parse().ok()?;
    let kind = match parts.next()? {
        "qemu-server" => GuestKind::Vm,
        "lxc" => GuestKind::Container,
        _ => return None,
    };
    let vmid = parts.next()?.strip_suffix(".conf")?.parse().ok()?;
    parts.next().is_none().then_some((vmid, node, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_empty_and_names_may_be_missing() {
        assert_eq!(qm_list("").unwrap(), []);
        let text = "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID       \n       \
                    200 ceph1                stopped    1024               0.16 0         \n       201                      \
                    running    512                0.00 4711      \n";
        let rows = qm_list(text).unwrap();
        assert_eq!((rows[0].name.as_str(), rows[0].status.as_str(), rows[0].pid), ("ceph1", "stopped", None));
        assert_eq!((rows[1].name.as_str(), rows[1].pid), ("", Some(4711)));
        assert!(qm_list("please run as root\n").is_err());
    }

    #[test]
    fn a_configuration_is_keys_and_values() {
        let read = config("agent: enabled=1\nboot: \nmeta: creation-qemu=10.0.2,ctime=1\n").unwrap();
        assert_eq!(read["agent"], "enabled=1");
        assert_eq!(read["boot"], "");
        assert_eq!(read["meta"], "creation-qemu=10.0.2,ctime=1");
        assert!(config("no colon\n").is_err());
        assert!(config("a: 1\na: 2\n").is_err());
    }

    #[test]
    fn pending_lines_say_what_waits() {
        let read = pending("cur cores: 2\nnew cores: 4\ndel numa: 1\n").unwrap();
        let expect = [
            PendingLine::Current("cores".into(), "2".into()),
            PendingLine::New("cores".into(), "4".into()),
            PendingLine::Delete("numa".into()),
        ];
        assert_eq!(read, expect);
        assert!(pending("odd cores: 2\n").is_err());
    }

    #[test]
    fn a_status_is_one_word() {
        assert_eq!(status("status: running\n").unwrap(), "running");
        assert!(status("running\n").is_err());
        assert!(status("status: a\nstatus: b\n").is_err());
    }

    #[test]
    fn no_content_can_pass_for_another_file() {
        let text = "/etc/pve/nodes/pve1/qemu-server/100.conf:#/etc/pve/nodes/pve2/qemu-server/101.conf:name: x\n\
                    /etc/pve/nodes/pve1/qemu-server/100.conf:name: web01\n\
                    /etc/pve/nodes/pve1/qemu-server/100.conf:\n\
                    /etc/pve/nodes/pve1/qemu-server/100.conf:[PENDING]\n\
                    /etc/pve/nodes/pve2/lxc/102.conf:arch: amd64\n\
                    /etc/pve/nodes/pve2/other.conf:x\n";
        let read = guest_configs(text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].vmid.get(), 100);
        assert_eq!(
            read[0].text,
            "#/etc/pve/nodes/pve2/qemu-server/101.conf:name: x\nname: web01\n\n[PENDING]\n"
        );
        assert_eq!((read[1].kind, read[1].node.as_str()), (GuestKind::Container, "pve2"));
        assert_eq!(guest_configs("").unwrap(), []);
        assert!(guest_configs("grep: odd\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = (qm_list(&text).is_ok(), config(&text).is_ok(), pending(&text).is_ok(), status(&text).is_ok());
            let _ = guest_configs(&format!("/etc/pve/nodes/{text}")).is_ok();
            let _ = qm_list(&format!("VMID NAME STATUS MEM(MB) BOOTDISK(GB) PID\n{text}")).is_ok();
        }
    }
}
