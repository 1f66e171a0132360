//! Which task a call starts.

use super::{Method, Request};

/// What is known beforehand of the task that a call starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedTask {
    /// The node it runs on.
    pub node: String,
    /// Its type is one of these.
    pub types: &'static [&'static str],
    /// What it works on.
    pub id: ExpectedId,
}

/// What a task works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpectedId {
    /// This guest.
    Guest(String),
    /// Not known beforehand.
    Any,
}

impl ExpectedId {
    /// Tells whether a task's ID is this.
    pub fn fits(&self, id: &str) -> bool {
        match self {
            // A move to another guest has the ID `100-scsi0>101-scsi0`.
            Self::Guest(vmid) => id
                .strip_prefix(vmid.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || rest.starts_with('@')),
            Self::Any => true,
        }
    }
}

/// Returns the task that `request` starts, or `None` for a call that answers when it is done.
// PVE: the `fork_worker` calls in qemu-server src/PVE/API2/Qemu.pm, pve-storage src/PVE/API2/Storage/*.pm,
// pve-manager PVE/API2/{VZDump,Services,Network}.pm and pve-access-control src/PVE/API2/Domains.pm.
pub(crate) fn expected_task(request: &Request) -> Option<ExpectedTask> {
    use Method::{Delete, Post, Put};
    let segments: Vec<&str> = request.path.segments().iter().map(String::as_str).collect();
    let (node, types, guest): (&str, &'static [&'static str], Option<&str>) =
        match (request.method, segments.as_slice()) {
            (Post, ["nodes", node, "qemu"]) => {
                (node, &["qmcreate", "qmrestore"], Some(request.params.get("vmid")?))
            }
            (Delete, ["nodes", node, "qemu", vmid]) => (node, &["qmdestroy"], Some(vmid)),
            (Post, ["nodes", node, "qemu", vmid, "config"]) => (node, &["qmconfig"], Some(vmid)),
            (Post, ["nodes", node, "qemu", vmid, "status", verb]) => (node, status_types(verb)?, Some(vmid)),
            (Post, ["nodes", node, "qemu", vmid, "snapshot", _, "rollback"]) => {
                (node, &["qmrollback"], Some(vmid))
            }
            (Delete, ["nodes", node, "qemu", vmid, "snapshot", _]) => (node, &["qmdelsnapshot"], Some(vmid)),
            (Put, ["nodes", node, "qemu", vmid, "resize"]) => (node, &["resize"], Some(vmid)),
            (Post, ["nodes", node, "qemu", vmid, verb]) => (node, guest_types(verb)?, Some(vmid)),
            (Post, ["nodes", node, "vzdump"]) => (node, &["vzdump"], None),
            (Post, ["nodes", node, "storage", _, "upload"]) => (node, &["imgcopy"], None),
            (Post, ["nodes", node, "storage", _, "download-url"]) => (node, &["download"], None),
            (Delete, ["nodes", node, "storage", _, "content", _]) => (node, &["imgdel"], None),
            (Post, ["nodes", node, "services", _, verb]) => (node, service_types(verb)?, None),
            (Put, ["nodes", node, "network"]) => (node, &["srvreload"], None),
            (Post, ["access", "domains", _, "sync"]) => {
                ("localhost", &["auth-realm-sync", "auth-realm-sync-test"], None)
            }
            _ => return None,
        };
    let id = guest.map_or(ExpectedId::Any, |vmid| ExpectedId::Guest(vmid.to_owned()));
    Some(ExpectedTask { node: node.to_owned(), types, id })
}

fn status_types(verb: &str) -> Option<&'static [&'static str]> {
    Some(match verb {
        "start" => &["qmstart", "hastart"],
        "stop" => &["qmstop", "hastop"],
        "shutdown" => &["qmshutdown", "hastop"],
        "reboot" => &["qmreboot"],
        "reset" => &["qmreset"],
        "suspend" => &["qmpause", "qmsuspend"],
        "resume" => &["qmresume"],
        _ => return None,
    })
}

fn guest_types(verb: &str) -> Option<&'static [&'static str]> {
    Some(match verb {
        "clone" => &["qmclone"],
        "move_disk" => &["qmmove"],
        "template" => &["qmtemplate"],
        "snapshot" => &["qmsnapshot"],
        "migrate" => &["qmigrate", "hamigrate"],
        _ => return None,
    })
}

fn service_types(verb: &str) -> Option<&'static [&'static str]> {
    Some(match verb {
        "start" => &["srvstart"],
        "stop" => &["srvstop"],
        "restart" => &["srvrestart"],
        "reload" => &["srvreload"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Params;

    #[test]
    fn calls_that_start_tasks_are_known_with_type_and_guest() {
        let check = |method, path: &str, types: &[&str], id: &str| {
            let params = Params::new().with("vmid", "100");
            let request = Request::new(method, path.parse().unwrap()).with(params);
            let task = expected_task(&request).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(task.types, types, "{path}");
            assert!(task.id.fits(id), "{path}");
            assert!(matches!(task.id, ExpectedId::Any) || !task.id.fits("1000"), "{path}");
        };
        check(Method::Post, "/nodes/a/qemu", &["qmcreate", "qmrestore"], "100");
        check(Method::Post, "/nodes/a/qemu/100/status/start", &["qmstart", "hastart"], "100");
        check(Method::Post, "/nodes/a/qemu/100/move_disk", &["qmmove"], "100-scsi0>101-scsi0");
        check(Method::Put, "/nodes/a/qemu/100/resize", &["resize"], "100");
        check(Method::Delete, "/nodes/a/storage/s/content/v", &["imgdel"], "100@s");
        for (method, path) in [
            (Method::Get, "/nodes/a/qemu"),
            (Method::Put, "/nodes/a/qemu/100/config"),
            (Method::Post, "/nodes/a/qemu/100/agent/exec"),
            (Method::Post, "/access/users"),
        ] {
            assert_eq!(expected_task(&Request::new(method, path.parse().unwrap())), None, "{path}");
        }
    }
}
