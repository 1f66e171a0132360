//! The same calls as `qm`, which loads less of PVE than `pvesh` and so takes a fifth less of the node's processors.
//!
//! `qm` knows the guests of its own node only. Its parameters are those of the call, for it runs the same method; what it
//! prints is the task's log instead of its UPID, which is found in the node's task lists.

use super::output::{PveshOutput, read};
use crate::request::{Method, Request};
use crate::response::Response;
use serde_json::json;

/// Returns the call's command line on its own node, up to its parameters, and the name of those that stand in it.
// PVE: qemu-server src/PVE/CLI/qm.pm $cmddef.
pub(super) fn qm_words(request: &Request) -> Option<(Vec<&str>, &'static [&'static str])> {
    let segments: Vec<&str> = request.path.segments().iter().map(String::as_str).collect();
    match (request.method, segments.as_slice()) {
        // `qm` takes the keys from a file that it is told the path of.
        (Method::Post, ["nodes", _, "qemu"]) if request.params.get("sshkeys").is_none() => {
            Some((vec!["qm", "create", request.params.get("vmid")?], &["vmid"]))
        }
        (Method::Post, ["nodes", _, "qemu", vmid, "status", "start"]) => {
            Some((vec!["qm", "start", vmid], &[]))
        }
        (Method::Post, ["nodes", _, "qemu", vmid, "agent", "ping"])
        | (Method::Get, ["nodes", _, "qemu", vmid, "agent", "network-get-interfaces"]) => {
            let command = segments.last()?;
            Some((vec!["qm", "guest", "cmd", vmid, command], &[]))
        }
        _ => None,
    }
}

/// Returns the answer that `qm` printed.
pub(super) fn answer(request: &Request, output: &PveshOutput) -> Response {
    let mut response = read(request.method, output);
    let is_agent = request.path.segments().iter().any(|segment| segment == "agent");
    if response.is_success() && is_agent {
        // `qm` prints the result itself.
        response.data = json!({"result": response.data});
    }
    response
}
