//! What PVE answers when it does not do what was asked.

use std::collections::BTreeMap;

impl From<String> for Refusal {
    /// What a `die` in a method is.
    fn from(message: String) -> Self {
        Self::died(message)
    }
}

/// A refusal: on HTTP its status, reason phrase and body; on a command line its text on stderr.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The whole message; the reason phrase is its first line.
    pub message: String,
    /// What is wrong with which parameter.
    pub errors: BTreeMap<String, String>,
    /// Whether a JSON body is sent (a refused login by ticket or token has none).
    pub has_body: bool,
    /// Whether the answer is held back as PVE holds back the answer to wrong credentials.
    pub is_delayed: bool,
    /// Whether a guest's lock is held by another: nothing was done, and it may be asked again.
    pub lock_is_busy: bool,
    /// What was printed before it was refused (a command's stdout; nothing on HTTP).
    pub output: Vec<String>,
}

impl Refusal {
    /// A refusal with this status and message.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            errors: BTreeMap::new(),
            has_body: true,
            is_delayed: false,
            lock_is_busy: false,
            output: Vec::new(),
        }
    }
    /// What a `die` in a method is: 500 with its text.
    pub fn died(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }
    /// The message as a body shows it: a `die` ends its line.
    pub fn body_message(&self) -> String {
        if self.status == 501 { self.message.clone() } else { format!("{}\n", self.message.trim_end()) }
    }
    /// 400 with a text per parameter.
    pub fn parameters(errors: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { errors: errors.into_iter().collect(), ..Self::new(400, "Parameter verification failed.") }
    }
    /// The texts of a refusal as a task's log or a command shows them.
    // PVE: pve-common src/PVE/Exception.pm stringify: what was raised with a status is said with it.
    pub fn full_text(&self) -> String {
        let lines: String = self.errors.iter().map(|(name, text)| format!("\n{name}: {text}")).collect();
        match self.status {
            403 => format!("{} {}", self.status, self.message),
            _ if self.errors.is_empty() => self.message.clone(),
            status => format!("{status} {}{lines}", self.message),
        }
    }
    /// 400 for one parameter.
    pub fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self::parameters([(name.to_owned(), message.into())])
    }
    /// 403 with the path and the privilege that is missing.
    pub fn permission(path: &str, privileges: &str) -> Self {
        Self::new(403, format!("Permission check failed ({path}, {privileges})"))
    }
    /// 501 for a method that is not there.
    pub fn not_implemented(method: &str, path: &str) -> Self {
        Self::new(501, format!("Method '{method} {path}' not implemented"))
    }
    /// 401: no JSON body, and not at once.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self { has_body: false, is_delayed: true, ..Self::new(401, message) }
    }
    /// A guest's lock is held by a task.
    // PVE: pve-common src/PVE/Tools.pm lock_file_full
    pub fn guest_lock_is_busy(vmid: pve_types::Vmid) -> Self {
        let text = format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout");
        Self { lock_is_busy: true, ..Self::new(500, text) }
    }
}
