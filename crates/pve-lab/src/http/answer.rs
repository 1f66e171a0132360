//! From a reply or a refusal to HTTP.

use pve_types::PveVersion;
use serde_json::{Map, Value};

use super::format::Format;
use super::wire::Answer;
use crate::api::{Refusal, Reply};

const JSON: &str = "application/json;charset=UTF-8";

/// The answer to a request that was done.
pub(super) fn done(reply: Reply, format: Format) -> Answer {
    let mut body = Map::new();
    body.insert("data".into(), reply.data);
    if format == Format::ExtJs {
        body.insert("success".into(), 1.into());
    }
    if let Some(total) = reply.total {
        body.insert("total".into(), total.into());
    }
    json(200, "OK", &Value::Object(body))
}

/// The answer to a request that was refused.
pub(super) fn refused(refusal: &Refusal, version: PveVersion, format: Format) -> Answer {
    if format == Format::ExtJs && refusal.has_body {
        let mut body = refusal_body(refusal, version);
        body["success"] = 0.into();
        body["status"] = refusal.status.into();
        body["message"] = refusal.body_message().into();
        return json(200, "OK", &body);
    }
    let reason = refusal.message.lines().next().unwrap_or_default();
    let mut answer = match refusal.has_body {
        true => json(refusal.status, "", &refusal_body(refusal, version)),
        false => Answer { status: refusal.status, reason: String::new(), content_type: "", body: Vec::new() },
    };
    answer.reason = reason.chars().filter(|letter| !letter.is_control()).collect();
    answer
}

fn refusal_body(refusal: &Refusal, version: PveVersion) -> Value {
    let mut body = Map::new();
    body.insert("data".into(), Value::Null);
    if !refusal.errors.is_empty() {
        let errors = refusal.errors.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
        body.insert("errors".into(), Value::Object(errors.collect()));
    }
    // PVE: pve-http-server 5.2.0 added `message`.
    if version.at_least(8, 4) {
        body.insert("message".into(), refusal.body_message().into());
    }
    Value::Object(body)
}

fn json(status: u16, reason: &str, body: &Value) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Answer { status, reason: reason.to_owned(), content_type: JSON, body }
}
