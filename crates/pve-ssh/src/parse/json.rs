//! JSON of `pvesh` and `pveum`.

use super::OutputError;
use pve_types::Secret;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Reads JSON that stands alone, or after the output of a task and before its UPID (`pvesh create`).
///
/// # Errors
/// There is no JSON, or not of this shape.
pub fn json<T: DeserializeOwned>(what: &'static str, stdout: &str) -> Result<T, OutputError> {
    let text = stdout.trim();
    // A call that answers nothing prints nothing.
    let text = if text.is_empty() { "null" } else { text };
    let last = || text.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
    serde_json::from_str(text)
        .ok()
        .or_else(last)
        .ok_or_else(|| OutputError::new(what, "JSON of the expected shape", stdout))
}

/// Privileges by path; the flag says whether they reach below the path.
pub type Permissions = BTreeMap<String, BTreeMap<String, u8>>;

/// Reads `pveum user permissions` or `pveum user token permissions`, with `--output-format json`.
///
/// # Errors
/// It is no such JSON.
pub fn permissions(stdout: &str) -> Result<Permissions, OutputError> {
    json("pveum user permissions", stdout)
}

/// A token that was just made. Its secret is said only this once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// `user@realm!token`.
    pub full_token_id: String,
    /// The secret.
    pub value: Secret,
}

/// Reads `pveum user token add … --output-format json`.
///
/// # Errors
/// It is no such JSON. The text is not shown, because it can hold the secret.
pub fn new_token(stdout: &str) -> Result<NewToken, OutputError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(rename = "full-tokenid")]
        full_token_id: String,
        value: String,
    }
    let answer: Answer = serde_json::from_str(stdout.trim()).map_err(|_| {
        OutputError::new("pveum user token add", "JSON with `full-tokenid` and `value`", "<secret>")
    })?;
    Ok(NewToken { full_token_id: answer.full_token_id, value: Secret::new(answer.value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_may_follow_the_output_of_a_task() {
        let value: serde_json::Value = json("pvesh", "{\"version\":\"9.2.11\"}\n").unwrap();
        assert_eq!(value["version"], "9.2.11");
        let upid: String = json("pvesh", "generating cloud-init ISO\n\"UPID:pve1:…\"\n").unwrap();
        assert_eq!(upid, "UPID:pve1:…");
        assert_eq!(json::<Option<u8>>("pvesh", "\n").unwrap(), None);
        assert!(json::<u8>("pvesh", "no 'get' handler for '/x'").is_err());
    }

    #[test]
    fn a_new_token_is_read_and_its_secret_never_shown() {
        let text = r#"{"full-tokenid":"u@pve!ci","info":{"privsep":1},"value":"12345678-aaaa"}"#;
        let token = new_token(text).unwrap();
        assert_eq!(token.full_token_id, "u@pve!ci");
        assert_eq!(token.value.expose(), "12345678-aaaa");
        assert!(!format!("{token:?}").contains("12345678"));
        let error = new_token(r#"{"value":"12345678-aaaa"}"#).unwrap_err();
        assert!(!error.to_string().contains("12345678"), "{error}");
    }

    #[test]
    fn permissions_are_by_path() {
        let read = permissions(r#"{"/":{"VM.Audit":1},"/vms/100":{"VM.PowerMgmt":0}}"#).unwrap();
        assert_eq!(read["/vms/100"]["VM.PowerMgmt"], 0);
    }
}
