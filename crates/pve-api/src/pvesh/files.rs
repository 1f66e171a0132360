//! Answers that lie in a file of the node.
//!
//! Each `pvesh` starts Perl and loads all of PVE, which takes the better part of a second of a processor. What a run asks
//! for again and again, a guest's configuration and how a task ended, PVE itself reads from files; `cat` gives them in
//! some milliseconds. A file that is not there, or does not say it plainly, is not an answer: then `pvesh` is asked.

use crate::request::{Method, Request};
use crate::response::Response;
use pve_config::GuestConfig;
use pve_types::{Upid, Vmid};
use serde_json::{Value, json};

/// A call whose answer lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileCall {
    /// A VM's configuration, with what waits for a restart.
    Config { node: String, vmid: Vmid },
    /// How a task ended.
    TaskStatus(Upid),
    /// Lines of a task's log.
    TaskLog { upid: Upid, start: u64, limit: u64 },
    /// The cluster and its nodes.
    Members,
    /// A list that is empty while its file does not exist.
    Listed(&'static str),
}

/// Returns what a call asks for, if a file tells it.
pub(super) fn file_call(request: &Request) -> Option<FileCall> {
    if request.method != Method::Get {
        return None;
    }
    let segments: Vec<&str> = request.path.segments().iter().map(String::as_str).collect();
    match segments.as_slice() {
        // What holds now without what waits, or a snapshot's, is another question.
        ["nodes", node, "qemu", vmid, "config"] if request.params.iter().next().is_none() => {
            let node: pve_types::NodeName = node.parse().ok()?;
            Some(FileCall::Config { node: node.to_string(), vmid: vmid.parse().ok()? })
        }
        ["cluster", "status"] => Some(FileCall::Members),
        ["cluster", "ha", "resources"] => Some(FileCall::Listed("/etc/pve/ha/resources.cfg")),
        ["cluster", "ha", "groups"] => Some(FileCall::Listed("/etc/pve/ha/groups.cfg")),
        ["cluster", "ha", "rules"] => Some(FileCall::Listed("/etc/pve/ha/rules.cfg")),
        ["cluster", "mapping", "pci"] => Some(FileCall::Listed("/etc/pve/mapping/pci.cfg")),
        ["cluster", "mapping", "usb"] => Some(FileCall::Listed("/etc/pve/mapping/usb.cfg")),
        ["cluster", "mapping", "dir"] => Some(FileCall::Listed("/etc/pve/mapping/directory.cfg")),
        ["cluster", "sdn", "vnets"] => Some(FileCall::Listed("/etc/pve/sdn/vnets.cfg")),
        ["nodes", _, "tasks", upid, "status"] => Some(FileCall::TaskStatus(upid.parse().ok()?)),
        ["nodes", _, "tasks", upid, "log"] => {
            let number = |key: &str, usual: u64| match request.params.get(key) {
                Some(text) => text.parse().ok(),
                None => Some(usual),
            };
            Some(FileCall::TaskLog {
                upid: upid.parse().ok()?,
                start: number("start", 0)?,
                limit: number("limit", 50)?,
            })
        }
        _ => None,
    }
}

impl FileCall {
    /// Returns the file.
    // PVE: qemu-server src/PVE/QemuConfig.pm cfs_config_path; pve-ha-manager src/PVE/HA/Config.pm; pve-network
    // src/PVE/Network/SDN/Vnets.pm; pve-guest-common src/PVE/Mapping/{PCI,USB,Dir}.pm; pve-common src/PVE/Tools.pm
    // upid_open: the folder is the last hexadecimal digit of the task's start time.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Config { node, vmid } => format!("/etc/pve/nodes/{node}/qemu-server/{vmid}.conf"),
            Self::Members => "/etc/pve/.members".to_owned(),
            Self::Listed(path) => (*path).to_owned(),
            Self::TaskStatus(upid) | Self::TaskLog { upid, .. } => {
                let started = upid.as_str().split(':').nth(4).unwrap_or_default();
                let folder = started.chars().last().unwrap_or('0');
                format!("/var/log/pve/tasks/{folder}/{upid}")
            }
        }
    }

    /// Returns the answer where the file is not there, if that is one.
    pub(super) fn answer_without(&self) -> Option<Response> {
        matches!(self, Self::Listed(_)).then(|| Response::success(json!([])))
    }

    /// Returns the answer that `pvesh` would give, or `None` where the file does not tell it.
    pub(super) fn answer(&self, text: &str) -> Option<Response> {
        let data = match self {
            // Defaults and checks are the program's: it is asked for what is in the list.
            Self::Listed(_) => return None,
            Self::Members => members(text)?,
            Self::Config { .. } => config(text)?,
            Self::TaskStatus(upid) => status(upid, text)?,
            Self::TaskLog { start, limit, .. } => {
                // A line without its end is still being written, and is there at the next look.
                let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
                let lines = whole.lines().zip(1u64..).map(|(line, number)| json!({"n": number, "t": line}));
                let skip = usize::try_from(*start).ok()?;
                let take = if *limit == 0 { usize::MAX } else { usize::try_from(*limit).ok()? };
                let mut response = Response::success(lines.skip(skip).take(take).collect());
                response.total = Some(whole.lines().count() as u64);
                return Some(response);
            }
        };
        Some(Response::success(data))
    }
}

/// Returns a configuration as `GET …/config` answers it: what waits for a restart stands in place of what holds.
// PVE: qemu-server src/PVE/API2/Qemu.pm vm_config; pve-guest-common src/PVE/GuestHelpers.pm.
fn config(text: &str) -> Option<Value> {
    let config = GuestConfig::parse_file(text);
    if config.current.is_empty() {
        return None;
    }
    let mut values = pve_config::after_restart(config.current, &config.pending);
    values.insert("digest".to_owned(), pve_config::file_digest(text));
    Some(json!(values))
}

/// Returns the cluster and its nodes. A node that is in no cluster does not tell its address here.
// PVE: pve-cluster src/pmxcfs/status.c create_cluster_members; pve-manager PVE/API2/Cluster.pm get_status.
fn members(text: &str) -> Option<Value> {
    let told: Value = serde_json::from_str(text).ok()?;
    let (here, cluster) = (told["nodename"].as_str()?, told["cluster"].as_object()?);
    let mut shown = vec![json!({
        "type": "cluster", "id": "cluster", "name": cluster.get("name")?, "version": cluster.get("version")?,
        "nodes": cluster.get("nodes")?, "quorate": cluster.get("quorate")?,
    })];
    for (name, node) in told["nodelist"].as_object()? {
        shown.push(json!({
            "type": "node", "id": format!("node/{name}"), "name": name, "nodeid": node.get("id")?,
            "ip": node.get("ip"), "online": node.get("online")?, "local": u8::from(name == here),
        }));
    }
    Some(Value::Array(shown))
}

/// Returns how a task ended. One without its last line runs, or was killed.
fn status(upid: &Upid, text: &str) -> Option<Value> {
    Some(told(upid, "stopped", Some(ending(text)?)))
}

/// Returns the file that tells whether a task's process still is, and what it says when it is.
///
/// The task's number may have gone to another process since; it is the one that the UPID names when it started then.
// PVE: pve-common src/PVE/ProcFSTools.pm check_process_running: the 22nd field of /proc/PID/stat.
pub(super) fn process_file(upid: &Upid) -> Option<String> {
    let pid = u32::from_str_radix(upid.as_str().split(':').nth(2)?, 16).ok()?;
    Some(format!("/proc/{pid}/stat"))
}

/// Returns the state of a running task, if this is its process.
pub(super) fn running(upid: &Upid, stat: &str) -> Option<Response> {
    let began = u64::from_str_radix(upid.as_str().split(':').nth(3)?, 16).ok()?;
    // The program's name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // The fields after the name begin with the third.
    let is_it = fields.nth(18)?.parse() == Ok(began) && state != "Z";
    is_it.then(|| Response::success(told(upid, "running", None)))
}

fn told(upid: &Upid, status: &str, exitstatus: Option<&str>) -> Value {
    json!({
        "upid": upid.as_str(), "node": upid.node().as_str(), "type": upid.task_type(), "id": upid.id(),
        "user": upid.user(), "status": status, "exitstatus": exitstatus,
    })
}

/// Returns what a log's last line says of the task's end.
// PVE: pve-common src/PVE/Tools.pm upid_read_status.
fn ending(text: &str) -> Option<&str> {
    let last = text.strip_suffix('\n')?.lines().next_back()?;
    match last.strip_prefix("TASK ")? {
        "OK" => Some("OK"),
        rest if rest.starts_with("WARNINGS: ") => Some(rest),
        rest => rest.strip_prefix("ERROR: "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Params;

    const UPID: &str = "UPID:pve1:000003E9:0083D601:6B02828C:qmcreate:1000:root@pam:";

    fn get(path: &str) -> Request {
        Request::new(Method::Get, path.parse().unwrap())
    }

    #[test]
    fn only_what_a_file_tells_is_asked_of_it() {
        let path = |request: &Request| file_call(request).map(|call| call.path());
        assert_eq!(
            path(&get("/nodes/pve1/qemu/100/config")).as_deref(),
            Some("/etc/pve/nodes/pve1/qemu-server/100.conf")
        );
        let status = format!("/nodes/pve1/tasks/{UPID}/status");
        assert_eq!(path(&get(&status)), Some(format!("/var/log/pve/tasks/C/{UPID}")));
        for other in
            ["/nodes/pve1/qemu/100/pending", "/nodes/pve1/qemu/x/config", "/nodes/../qemu/100/config"]
        {
            let Ok(parsed) = other.parse() else { continue };
            assert_eq!(file_call(&Request::new(Method::Get, parsed)), None, "{other}");
        }
        let current = get("/nodes/pve1/qemu/100/config").with(Params::new().with("current", 1u32));
        assert_eq!(file_call(&current), None);
        let change = Request::new(Method::Put, "/nodes/pve1/qemu/100/config".parse().unwrap());
        assert_eq!(file_call(&change), None);
    }

    #[test]
    fn a_configuration_is_answered_with_what_waits_and_without_its_password() {
        let text = "#a line\ncipassword: hunter2\ncores: 2\nmemory: 2048\nonboot: 1\n\n[PENDING]\ncores: 4\ndelete: onboot\n\n[snap]\ncores: 1\n";
        let call = file_call(&get("/nodes/pve1/qemu/100/config")).unwrap();
        let config: crate::QemuConfig = call.answer(text).unwrap().decode().unwrap();
        let values: Vec<_> = config.values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(values, ["cipassword=**********", "cores=4", "description=a line", "memory=2048"]);
        // The digest is that of the file, as `sha1sum` gives it.
        assert_eq!(config.digest.as_deref(), Some("8fca0f8393fef398e7489848b230baf86b30b156"));
        assert_eq!(call.answer(""), None);
    }

    #[test]
    fn a_cluster_tells_its_nodes_and_a_lone_node_is_asked() {
        let call = file_call(&get("/cluster/status")).unwrap();
        let text = r#"{"nodename": "pve1", "version": 5, "cluster": {"name": "lab", "version": 2, "nodes": 2, "quorate": 0},
            "nodelist": {"pve1": {"id": 1, "online": 1, "ip": "192.0.2.1"}, "pve2": {"id": 2, "online": 0}}}"#;
        let members: Vec<crate::ClusterMember> = call.answer(text).unwrap().decode().unwrap();
        assert_eq!((members[0].kind.as_str(), members[0].quorate), ("cluster", Some(false)));
        assert_eq!((members[1].ip.as_deref(), members[1].local), (Some("192.0.2.1"), Some(true)));
        assert_eq!((members[2].online, members[2].local), (Some(false), Some(false)));
        assert_eq!(call.answer(r#"{"nodename": "pve1", "version": 0}"#), None);
        assert_eq!(call.answer("nonsense"), None);
    }

    #[test]
    fn a_task_has_ended_when_its_log_says_so() {
        let call = FileCall::TaskStatus(UPID.parse().unwrap());
        let status = |text: &str| call.answer(text).map(|response| response.data["exitstatus"].clone());
        assert_eq!(status("a\nTASK OK\n"), Some(json!("OK")));
        assert_eq!(status("TASK WARNINGS: 2\n"), Some(json!("WARNINGS: 2")));
        assert_eq!(status("TASK ERROR: no space\n"), Some(json!("no space")));
        for unsaid in ["", "a\n", "TASK OK\nmore\n", "TASK OK", "TASK UNKNOWN\n"] {
            assert_eq!(status(unsaid), None, "{unsaid:?}");
        }
    }

    #[test]
    fn a_task_runs_while_its_own_process_does() {
        let upid: Upid = UPID.parse().unwrap();
        assert_eq!(process_file(&upid).as_deref(), Some("/proc/1001/stat"));
        let stat = |name: &str, state: &str, start: u64| {
            format!("1001 ({name}) {state} 1 1 1 0 -1 4 9 9 9 9 5 5 5 5 20 0 1 0 {start} 5000 60\n")
        };
        let status = |text: &str| running(&upid, text).map(|response| response.data["status"].clone());
        assert_eq!(status(&stat("task UPID:pve1:", "S", 0x0083_D601)), Some(json!("running")));
        let name = format!("task {UPID}");
        assert_eq!(status(&stat(&name, "S", 0x0083_D601)), Some(json!("running")));
        assert_eq!(status(&stat("a) b (c)", "R", 0x0083_D601)), Some(json!("running")));
        assert_eq!(status(&stat("perl", "S", 7)), None, "another process has the number now");
        assert_eq!(status(&stat("perl", "Z", 0x0083_D601)), None, "it has ended");
        assert_eq!(status("1001 (perl) S 1"), None);
    }

    #[test]
    fn a_log_is_paged_as_pve_pages_it() {
        let log = |start, limit| {
            let call = FileCall::TaskLog { upid: UPID.parse().unwrap(), start, limit };
            call.answer("one\ntwo\nTASK OK\n").unwrap()
        };
        let all = log(0, 500);
        assert_eq!(all.data, json!([{"n": 1, "t": "one"}, {"n": 2, "t": "two"}, {"n": 3, "t": "TASK OK"}]));
        assert_eq!(all.total, Some(3));
        let call = FileCall::TaskLog { upid: UPID.parse().unwrap(), start: 0, limit: 50 };
        assert_eq!(call.answer("one\nhal").unwrap().data, json!([{"n": 1, "t": "one"}]));
        assert_eq!(log(1, 1).data, json!([{"n": 2, "t": "two"}]));
    }
}
