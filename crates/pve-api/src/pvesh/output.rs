//! What `pvesh` prints, read as an answer.

use crate::cause::Cause;
use crate::request::Method;
use crate::response::Response;
use serde_json::Value;

/// What a run of `pvesh` left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PveshOutput {
    /// The exit status; `None` when it was ended by a signal or the status was lost.
    pub exit: Option<u32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why `pvesh` could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum PveshFailure {
    /// It was certainly not started: no connection, no session, not found.
    #[error("`pvesh` could not be started")]
    NotStarted(#[source] Cause),
    /// It was started, and then the connection broke.
    #[error("the connection to the node broke while `pvesh` ran")]
    Interrupted(#[source] Cause),
}

/// Returns the answer that `output` is.
// PVE: pve-manager PVE/CLI/pvesh.pm; pve-common src/PVE/CLIHandler.pm and src/PVE/Exception.pm.
pub(super) fn read(method: Method, output: &PveshOutput) -> Response {
    if output.exit == Some(0) {
        return Response::success(read_data(method, &output.stdout));
    }
    let mut lines = output.stderr.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or("`pvesh` failed without a message");
    let (status, reason) = match first.split_once(' ') {
        Some((code, rest)) if code.len() == 3 => match code.parse() {
            Ok(status @ 400..=599) => (status, rest),
            _ => (500, first),
        },
        _ => (plain_status(first), first),
    };
    let mut response = Response::empty(status, reason);
    if status == 400 {
        let pairs =
            lines.take_while(|line| !line.starts_with("pvesh ")).filter_map(|line| line.split_once(": "));
        response.errors = pairs.map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
    }
    response
}

fn plain_status(line: &str) -> u16 {
    let lower = line.to_ascii_lowercase();
    if lower.starts_with("permission check failed") {
        403
    } else if lower.starts_with("no '") && lower.contains("' handler for ") {
        501
    } else if lower.starts_with("ssh: connect to host") {
        595
    } else {
        500
    }
}

/// Returns the data at the end of `stdout`; a call that starts a task prints the task's own lines before it.
fn read_data(method: Method, stdout: &str) -> Value {
    let text = stdout.trim();
    if text.is_empty() {
        return Value::Null;
    }
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let last = text.lines().next_back().unwrap_or_default().trim();
    match serde_json::from_str(last) {
        Ok(value) => value,
        Err(_) if method == Method::Get || last.starts_with("UPID:") => Value::String(last.to_owned()),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn output(exit: u32, stdout: &str, stderr: &str) -> PveshOutput {
        PveshOutput { exit: Some(exit), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn data_is_found_after_a_task_s_own_lines() {
        let check = |method, stdout: &str, expect: Value| {
            assert_eq!(read(method, &output(0, stdout, "")).data, expect, "{stdout}");
        };
        check(Method::Get, "[{\"vmid\":100}]\n", json!([{"vmid": 100}]));
        check(Method::Put, "", Value::Null);
        check(Method::Put, "update VM 100: -cores 2\n", Value::Null);
        let upid = "UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmcreate:100:root@pam:";
        check(Method::Post, &format!("Formatting 'x'\ntransferred\n{upid}\n"), json!(upid));
        check(Method::Post, &format!("Formatting 'x'\n\"{upid}\"\n"), json!(upid));
        check(Method::Post, "\"local:100/vm-100-disk-1.raw\"\n", json!("local:100/vm-100-disk-1.raw"));
    }

    #[test]
    fn errors_have_the_status_that_https_would_show() {
        let check = |stderr: &str, status: u16, said: &str| {
            let answer = read(Method::Get, &output(2, "", stderr));
            assert_eq!((answer.status, answer.said().as_str()), (status, said));
        };
        let gone = "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist";
        check(&format!("{gone}\n"), 500, gone);
        check("403 Permission check failed (x)\n", 403, "Permission check failed (x)");
        check("no 'get' handler for '/x'\n", 501, "no 'get' handler for '/x'");
        check("", 500, "`pvesh` failed without a message");
        let answer = read(
            Method::Post,
            &output(
                255,
                "",
                "400 Parameter verification failed.\nvmid: type check\npvesh create <api_path>\n",
            ),
        );
        assert_eq!((answer.status, answer.errors["vmid"].as_str()), (400, "type check"));
        assert_eq!(answer.errors.len(), 1);
    }
}
