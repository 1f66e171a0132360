//! Answers as data: status, reason, and what the body says.

use crate::lenient;
use crate::text::{one_line, redact};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// What came back for a request, from either transport.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The HTTP status; PVE's own 595 to 599 included.
    pub status: u16,
    /// The reason phrase, empty when there was none worth reading.
    pub reason: String,
    /// The body's `data`.
    pub data: Value,
    /// The body's `errors`: one text per parameter.
    pub errors: BTreeMap<String, String>,
    /// The body's `message`, which newer versions send along with an error.
    pub message: Option<String>,
    /// The body's `total`, sent with paged lists.
    pub total: Option<u64>,
}

/// Why a successful answer was not understood.
#[derive(Debug, thiserror::Error)]
#[error("unexpected answer: {0}")]
pub struct DecodeError(pub(crate) String);

impl Response {
    /// Returns the answer of `status` whose body is `data`.
    pub fn success(data: Value) -> Self {
        Self { data, ..Self::empty(200, "OK") }
    }
    /// Returns an answer without a body.
    pub fn empty(status: u16, reason: &str) -> Self {
        let (errors, message, total) = (BTreeMap::new(), None, None);
        Self { status, reason: reason.to_owned(), data: Value::Null, errors, message, total }
    }
    /// Returns what an HTTP answer says. A body that is not a JSON object counts as none.
    pub fn from_http(status: u16, reason: &str, body: &[u8]) -> Self {
        let mut response = Self::empty(status, reason);
        let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
            return response;
        };
        response.data = body.remove("data").unwrap_or_default();
        response.message = body.get("message").and_then(Value::as_str).map(str::to_owned);
        response.total = body.get("total").and_then(lenient::to_u64);
        if let Some(Value::Object(errors)) = body.remove("errors") {
            response.errors = errors.into_iter().map(|(key, value)| (key, plain(value))).collect();
        }
        response
    }
    /// Tells whether PVE did what was asked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    /// Returns what PVE said went wrong, on one line and safe to print.
    ///
    /// It is the reason phrase, or `message` where that says more: a reason phrase is cut at the first line, is
    /// empty when it held other than ASCII, and is missing where it was the status's usual one.
    // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm: `message` since 5.2.0 (8.4).
    pub fn said(&self) -> String {
        let message = self.message.as_deref().unwrap_or_default().trim();
        let said = if message.is_empty() { self.reason.trim() } else { message };
        match said.is_empty() {
            true => standard_reason(self.status).to_owned(),
            false => one_line(said),
        }
    }
    /// Returns `data` as `T`: numbers written as strings are taken, unknown fields are ignored.
    ///
    /// # Errors
    /// The data has another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        lenient::from_value(self.data.clone()).map_err(DecodeError)
    }
    /// Returns the answer with every one of `secrets` blotted out of what PVE said.
    pub(crate) fn without<'a>(mut self, secrets: impl Iterator<Item = &'a str> + Clone) -> Self {
        self.reason = redact(&self.reason, secrets.clone());
        self.message = self.message.map(|message| redact(&message, secrets.clone()));
        for text in self.errors.values_mut() {
            *text = redact(text, secrets.clone());
        }
        self
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => one_line(&text),
        other => one_line(&other.to_string()),
    }
}

/// Returns what a status means when the server did not say more.
fn standard_reason(status: u16) -> &'static str {
    match status {
        400 => "bad request",
        401 => "not authenticated",
        403 => "permission denied",
        404 => "not found",
        500 => "internal error",
        501 => "not implemented",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        595 => "the node could not be reached",
        596 => "the node did not answer",
        597 => "the node's answer was cut",
        598 => "the request was aborted between the nodes",
        599 => "the request failed between the nodes",
        _ => "no reason was given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_message_and_errors_are_read() {
        let check = |status, reason: &str, body: &str, said: &str| {
            assert_eq!(Response::from_http(status, reason, body.as_bytes()).said(), said);
        };
        check(500, "VM 100 is locked (backup)", r#"{"data":null}"#, "VM 100 is locked (backup)");
        check(500, "first", r#"{"data":null,"message":"first\nsecond\n"}"#, "first; second");
        check(500, "", r#"{"data":null,"message":"für\n"}"#, "für");
        check(401, "", "", "not authenticated");
        check(595, "", "", "the node could not be reached");
        check(500, "", "<html>", "internal error");
        let answer = Response::from_http(
            400,
            "Parameter verification failed.",
            br#"{"errors":{"vmid":"property is missing\n","x":3},"data":null,"total":"7"}"#,
        );
        assert_eq!(answer.errors["vmid"], "property is missing");
        assert_eq!((answer.errors["x"].as_str(), answer.total), ("3", Some(7)));
    }

    #[test]
    fn a_secret_that_pve_echoes_is_blotted_out() {
        let answer = Response::from_http(
            400,
            "got 'hunter2'",
            br#"{"errors":{"a":"x hunter2"},"message":"m hunter2"}"#,
        );
        let clean = answer.without(["hunter2"].into_iter());
        assert!(!format!("{clean:?}").contains("hunter2"), "{clean:?}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_sends_is_safe_to_show(status in 0u16..1000, reason in ".{0,40}", body in proptest::collection::vec(0u8..=255, 0..80)) {
            let said = Response::from_http(status, &reason, &body).said();
            proptest::prop_assert!(!said.chars().any(char::is_control) && !said.is_empty());
        }
    }
}
