//! PVE's error answers, and what their texts mean.

use crate::TookEffect;
use crate::request::{Method, Request};
use crate::response::Response;
use pve_config::Bus;
use pve_types::{
    PveError, PveError as E, Reading, read_error, read_status, says_absent, says_already_there,
    says_applied_late,
};
use std::collections::BTreeMap;

/// Which call an error is about. It shows as `` PUT `/nodes/pve1/qemu/100/config` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was done.
    pub method: Method,
    /// The path, not encoded and safe to print.
    pub path: String,
    kind: Kind,
}

/// How far a call can have come when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It changes nothing.
    Read,
    /// It forks a worker after its checks: an error answer means that the worker was not started.
    StartsTask,
    /// It writes the new guest's configuration after its checks, and then forks a worker.
    CreatesGuest,
    /// It does several things one after the other, and may stop between them.
    Config {
        /// It touches drives, whose rights are checked one by one, in the middle.
        drives: bool,
    },
    /// Any other write.
    Write,
}

impl Call {
    /// Returns the name of `request`.
    pub fn of(request: &Request) -> Self {
        let is_config = request.path.segments().last().is_some_and(|segment| segment == "config");
        let kind = if request.method == Method::Get {
            Kind::Read
        } else if is_config {
            Kind::Config { drives: request.params.iter().any(|param| is_drive(param.key(), param.value())) }
        } else if request.creates_guest() {
            Kind::CreatesGuest
        } else if request.starts_task() {
            Kind::StartsTask
        } else {
            Kind::Write
        };
        Self { method: request.method, path: request.path.to_string(), kind }
    }
    /// Tells whether it changed something when nothing is known of its answer.
    pub(crate) fn unknown_effect(&self) -> TookEffect {
        match self.kind {
            Kind::Read => TookEffect::No,
            _ => TookEffect::Maybe,
        }
    }
}

/// Tells whether a configuration parameter concerns a drive, by its name or as a name to be deleted.
fn is_drive(key: &str, value: &str) -> bool {
    let slot = |name: &str| Bus::of_key(name).is_some_and(Bus::holds_volume);
    match key {
        "delete" | "revert" => value.split([',', ';', ' ']).any(slot),
        _ => slot(key),
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`", self.method, self.path)
    }
}

/// An error that PVE answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was asked.
    pub call: Call,
    /// The HTTP status; PVE's own 595 to 599 included.
    pub status: u16,
    /// What PVE said, on one line: the reason phrase, or the longer `message` where there is one.
    pub said: String,
    /// One text per parameter that is wrong.
    pub errors: BTreeMap<String, String>,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was refused with {}: {}", self.call, self.status, self.said.trim_end_matches('.'))?;
        for (place, (key, text)) in self.errors.iter().enumerate() {
            let joint = if place == 0 { ": " } else { "; " };
            write!(f, "{joint}`{}`: {text}", crate::text::one_line(key))?;
        }
        Ok(())
    }
}

impl std::error::Error for Answer {}

impl Answer {
    /// Returns the error that `response` is.
    pub fn of(call: Call, response: &Response) -> Self {
        Self { call, status: response.status, said: response.said(), errors: response.errors.clone() }
    }
    /// Tells whether the call changed something although it failed.
    // PVE: qemu-server src/PVE/API2/Qemu.pm update_vm_api: options are written one by one, then applied.
    pub fn effect(&self) -> TookEffect {
        let told = read_error(&self.said);
        match (self.status, self.call.kind) {
            (_, Kind::Read) => TookEffect::No,
            // PVE: qemu-server src/PVE/API2/Qemu.pm create_vm: the configuration is written, and locked, before.
            (500, Kind::CreatesGuest) if told.is_some_and(|told| told.error == E::WorkerNotStarted) => {
                TookEffect::Yes
            }
            _ if self.was_checked_first(told) => TookEffect::No,
            (400, _) if self.errors.values().any(|text| says_applied_late(text)) => TookEffect::Maybe,
            (403, Kind::Config { drives: true }) => TookEffect::Maybe,
            (400..=499 | 501 | 505 | 506, _) | (500, Kind::StartsTask | Kind::CreatesGuest) => TookEffect::No,
            (status, _) => read_status(status).map_or(TookEffect::Maybe, |(_, effect, _)| effect),
        }
    }
    /// Tells whether what PVE said is a check that it makes before it does anything.
    fn was_checked_first(&self, told: Option<Reading>) -> bool {
        let said = &self.said;
        told.is_some_and(|told| told.effect() == TookEffect::No)
            // A configuration is written option by option; anything else that is there, or is not, was looked for
            // before it was made, changed or removed.
            || (self.call.kind == Kind::Write && (says_already_there(said) || says_absent(said)))
    }
    /// Returns what the answer means: its status where that is about the way to the node, else its text.
    pub fn meaning(&self) -> Option<PveError> {
        let by_status = || read_status(self.status).map(|(error, _, _)| error);
        let parameters = self.errors.values().map(String::as_str);
        let mut texts = std::iter::once(self.said.as_str()).chain(parameters);
        by_status().or_else(|| texts.find_map(|text| read_error(text).map(|told| told.error)))
    }
    /// Tells whether the thing that was asked for does not exist.
    pub fn is_absent(&self) -> bool {
        self.status == 404
            || (!matches!(self.status, 401 | 403) && says_absent(&self.said))
            || (self.status == 400 && self.errors.values().any(|text| says_absent(text)))
    }
    /// Tells whether the node could not be reached by the one that answered.
    // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm proxy_request; AnyEvent::HTTP's own codes.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.status, 502..=504 | 595..=599) || self.meaning() == Some(E::NodeUnreachable)
    }
}

/// Tells whether a task's failure is a check that it makes before it does anything.
// PVE: qemu-server src/PVE/QemuServer.pm vm_start, src/PVE/API2/Qemu.pm.
pub(crate) fn is_first_check(status: &str) -> bool {
    read_error(status).is_some_and(|told| told.effect() == TookEffect::No)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Params;

    fn answer(method: Method, path: &str, params: &[(&str, &str)], status: u16, body: &str) -> Answer {
        let params: Params = params.iter().copied().collect();
        let request = Request::new(method, path.parse().unwrap()).with(params);
        let (reason, body) = if body.starts_with('{') { ("", body) } else { (body, "") };
        Answer::of(Call::of(&request), &Response::from_http(status, reason, body.as_bytes()))
    }

    #[test]
    fn every_answer_says_whether_it_took_effect() {
        use Method::{Delete, Get, Post, Put};
        use TookEffect::{Maybe, No};
        let config = "/nodes/pve1/qemu/100/config";
        let check = |method, path: &str, params: &[(&str, &str)], status, body: &str, expect| {
            let answer = answer(method, path, params, status, body);
            assert_eq!(answer.effect(), expect, "{answer}");
        };
        check(Get, config, &[], 500, "anything", No);
        check(Get, config, &[], 596, "", No);
        check(Put, config, &[("cores", "x")], 400, r#"{"errors":{"cores":"type check"}}"#, No);
        let hotplug = r#"{"errors":{"memory":"hotplug problem - no"}}"#;
        check(Put, config, &[("memory", "1")], 400, hotplug, Maybe);
        check(
            Put,
            config,
            &[("memory", "1")],
            403,
            "Permission check failed (/vms/100, VM.Config.Memory)",
            No,
        );
        check(Put, config, &[("scsi1", "a:1")], 403, "Permission check failed (/storage/a, x)", Maybe);
        check(Put, config, &[("delete", "net1,scsi1")], 403, "Permission check failed", Maybe);
        check(Put, config, &[("scsi1", "a:1")], 500, "no space left", Maybe);
        check(Put, config, &[("a", "b")], 500, "VM is locked (backup)", No);
        let lock = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
        check(Put, config, &[("a", "b")], 500, lock, No);
        let more = format!(r#"{{"message":"a volume was made\n{lock}"}}"#);
        check(Put, config, &[("a", "b")], 500, &more, Maybe);
        check(Put, config, &[("a", "b")], 500, "checksum mismatch (file change by other user?)", No);
        check(
            Post,
            "/nodes/pve1/qemu",
            &[("vmid", "1")],
            500,
            "unable to create VM 100 - VM 100 already exists",
            No,
        );
        check(Post, "/nodes/pve1/qemu", &[("vmid", "1")], 596, "Connection timed out", Maybe);
        check(Post, "/nodes/pve1/qemu", &[("vmid", "1")], 595, "No route to host", No);
        let worker = "got no worker upid - start worker failed";
        check(Post, "/nodes/pve1/qemu/100/status/start", &[], 500, worker, No);
        check(Post, "/nodes/pve1/qemu/100/clone", &[("newid", "1")], 500, worker, No);
        check(Post, "/nodes/pve1/qemu", &[("vmid", "1")], 500, worker, TookEffect::Yes);
        check(Post, "/access/users", &[], 429, "", No);
        check(Put, config, &[("scsi1", "a:1")], 503, "", Maybe);
        check(Delete, "/nodes/pve1/qemu/100", &[], 500, "VM 100 is running - destroy failed", No);
        check(Post, "/access/users", &[], 500, "create user failed: x", Maybe);
        check(Post, "/access/users", &[], 500, "create user failed: user 'ann@pve' already exists", No);
        check(Put, config, &[("scsi1", "a:1")], 500, "disk image '/x' already exists", Maybe);
        check(Post, "/access/users", &[], 401, "", No);
        check(Put, "/access/acl", &[], 504, "", Maybe);
    }

    #[test]
    fn a_task_that_failed_at_its_first_check_did_nothing() {
        for status in [
            "VM 100 already running",
            "VM is locked (backup)",
            "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
            "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
        ] {
            assert!(is_first_check(status), "{status}");
        }
        for status in ["clone failed: VM is locked (backup)", "unexpected status", "no space left on device"]
        {
            assert!(!is_first_check(status), "{status}");
        }
    }

    #[test]
    fn absent_refused_and_unreachable_are_three_things() {
        let check = |status, body: &str, expect: (bool, bool)| {
            let answer = answer(Method::Get, "/nodes/pve1/qemu/100/config", &[], status, body);
            assert_eq!((answer.is_absent(), answer.is_unreachable()), expect, "{answer}");
        };
        check(500, "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", (true, false));
        check(500, "unable to find configuration file for VM 999 on node 'pve'", (true, false));
        check(403, "Permission check failed (/vms/100, VM.Audit)", (false, false));
        check(595, "No route to host", (false, true));
        check(500, "hostname lookup 'x' failed - failed to get address info for: x: Name", (false, true));
        check(400, r#"{"errors":{"storage":"No such storage."}}"#, (true, false));
        check(400, r#"{"errors":{"upid":"no such task"}}"#, (true, false));
        check(500, "storage 'x' does not exist", (true, false));
        check(500, "pool 'x' does not exist", (true, false));
        check(404, "No such tfa entry 'x'", (true, false));
        check(500, "unable to create image: file exists", (false, false));
    }

    #[test]
    fn an_answer_shows_pve_s_own_words_and_parameters() {
        let body = r#"{"errors":{"vmid":"VM 100 already exists","b":"x\ny"},"message":"Parameter verification failed.\n"}"#;
        let answer = answer(Method::Get, "/cluster/nextid", &[], 400, body);
        assert_eq!(
            answer.to_string(),
            "GET `/cluster/nextid` was refused with 400: Parameter verification failed: `b`: x; y; `vmid`: VM 100 already exists"
        );
    }
}
