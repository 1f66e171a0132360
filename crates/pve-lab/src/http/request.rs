//! From HTTP to a call.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use pve_types::PveVersion;
use serde_json::Value;

use super::format::Format;
use super::wire::{Answer, Request};
use super::{answer, upload};
use crate::api::access::ticket::{self, Rejected};
use crate::api::{Caller, Identity, Params, Refusal, Reply};
use crate::fault::{self, Moment};
use crate::world::{World, WorldHandle};

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(super) struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped")
    }
}

impl std::error::Error for Dropped {}

/// Answers one request.
pub(super) async fn answer(world: &WorldHandle, node: &str, request: Request) -> Result<Answer, Dropped> {
    world.load().count(|counts| counts.api_requests += 1);
    let (version, delays) = world.with(|world| (world.version, world.delays.clone()));
    let is_read = request.method == "GET";
    let path = format_and_path(&request.path);
    let target = path.as_ref().map_or(node, |(_, path)| node_of(path).unwrap_or(node));
    let worker = world.load().api_worker(target).await;
    let takes = match &path {
        Ok((_, path)) if is_read && lists_storages(path) => delays.api_storage_ms,
        _ if is_read => delays.api_read_ms,
        _ => delays.api_write_ms,
    };
    let (format, result) = match &path {
        Err(refusal) => (Format::Json, Err(refusal.clone())),
        Ok((format, path)) => (*format, handle(world, node, request, path).await?),
    };
    match &result {
        Err(refusal) if refusal.is_delayed => {
            // The answer is held back, which keeps no worker.
            drop(worker);
            world.pause(Duration::from_millis(delays.auth_failure_ms)).await;
        }
        _ => {
            world.pause(Duration::from_millis(takes)).await;
            drop(worker);
        }
    }
    Ok(match result {
        Ok(reply) => answer::done(reply, format),
        Err(refusal) => answer::refused(&refusal, version, format),
    })
}

/// The node that works on a request: the one that its path names.
fn node_of(path: &str) -> Option<&str> {
    path.strip_prefix("/nodes/")?.split('/').next().filter(|node| !node.is_empty() && *node != "localhost")
}

/// Tells whether all storages of a node are looked at, each by its plugin.
fn lists_storages(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    parts.next() == Some("nodes") && parts.nth(1) == Some("storage") && parts.next().is_none()
}

// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm handle_api2_request
fn format_and_path(uri: &str) -> Result<(Format, String), Refusal> {
    let Some(rest) = uri.strip_prefix("/api2/") else {
        return Err(Refusal::died(format!("no such file '{uri}'")));
    };
    let (format, path) = rest.split_once('/').unwrap_or((rest, ""));
    let format = match format {
        "json" => Format::Json,
        "extjs" => Format::ExtJs,
        "" => return Err(Refusal::new(501, "no such uri")),
        other => return Err(Refusal::new(501, format!("no formatter for uri /{path}, {other}"))),
    };
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    Ok((format, format!("/{path}")))
}

async fn handle(
    world: &WorldHandle,
    node: &str,
    request: Request,
    path: &str,
) -> Result<Result<Reply, Refusal>, Dropped> {
    let blow = world.with(|world| match world.faults.is_empty() {
        true => fault::Blow::default(),
        false => fault::of_request(world, &request.method, path, vmid_of(&request), node),
    });
    if !blow.delay.is_zero() {
        world.pause(blow.delay).await;
    }
    if blow.drop == Some(Moment::Before) {
        return Err(Dropped);
    }
    // A node that cannot be reached has no body to send.
    let refusal = |status: u16, reason| Refusal { has_body: status < 595, ..Refusal::new(status, reason) };
    if let Some((status, reason, _, Moment::Before)) = blow.refusal {
        return Ok(Err(refusal(status, reason)));
    }
    let mut done = carry_out(world, node, request, path).await;
    if let (Ok(_), Some((status, reason, _, Moment::After))) = (&done, blow.refusal) {
        done = Err(refusal(status, reason));
    }
    if blow.drop == Some(Moment::After) { Err(Dropped) } else { Ok(done) }
}

/// The guest that a call's parameters name.
fn vmid_of(request: &Request) -> Option<pve_types::Vmid> {
    let body = body_params(request.header("content-type"), request.body.small()).unwrap_or_default();
    let query = pairs(&request.query);
    let value = query.get("vmid").or_else(|| body.get("vmid"))?;
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().ok()
}

async fn carry_out(world: &WorldHandle, node: &str, request: Request, path: &str) -> Result<Reply, Refusal> {
    let method = request.method.as_str();
    if !["GET", "POST", "PUT", "DELETE"].contains(&method) {
        return Err(Refusal::new(501, format!("method '{method}' not available")));
    }
    let kind = check_body_headers(&request)?;
    let mut params = pairs(&request.query);
    let boundary = kind.strip_prefix("multipart/form-data").and_then(upload::boundary);
    let caller = world.with(|world| authenticate(world, node, path, &request, boundary.is_some()))?;
    if let Some(boundary) = boundary {
        return upload::receive(world, &caller, path, &boundary, params, &request.body).await;
    }
    for (name, value) in body_params(kind, request.body.small())? {
        params.entry(name).or_insert(value);
    }
    params.remove("_dc");
    world.call(&caller, method, path, &params).await
}

/// How long a body may be; an upload's may be any length.
pub(super) fn body_limit(request: &Request, version: PveVersion) -> Option<usize> {
    let limit = if version.at_least(8, 4) { 512 << 10 } else { 64 << 10 };
    (!is_upload(request)).then_some(limit)
}

fn is_upload(request: &Request) -> bool {
    let kind = request.header("content-type").split(';').next().unwrap_or_default().trim();
    request.method == "POST" && kind == "multipart/form-data" && request.path.ends_with("/upload")
}

/// Refuses bodies that PVE does not take; returns the content type.
fn check_body_headers(request: &Request) -> Result<&str, Refusal> {
    if request.body.len() == 0 {
        return Ok("");
    }
    let (method, kind) = (&request.method, request.header("content-type"));
    if method == "GET" || method == "DELETE" {
        return Err(Refusal::new(501, format!("Unexpected content for method '{method}'")));
    }
    let bare = kind.split(';').next().unwrap_or_default().trim();
    if is_upload(request) || matches!(bare, "" | "application/x-www-form-urlencoded" | "application/json") {
        return Ok(kind);
    }
    Err(Refusal::new(506, format!("upload 'Content-Type '{kind}' not implemented")))
}

fn body_params(kind: &str, body: &[u8]) -> Result<Params, Refusal> {
    if body.is_empty() {
        return Ok(Params::new());
    }
    if kind.starts_with("application/json") {
        return match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(members.into_iter().collect()),
            Ok(_) | Err(_) => Err(Refusal::died("error during JSON decoding: expected a JSON object")),
        };
    }
    Ok(pairs(&String::from_utf8_lossy(body)))
}

/// A query or a form: `&` or `;` part it, a value ends at a second `=`, a repeated key is an array.
// PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm decode_urlencoded
fn pairs(text: &str) -> Params {
    let mut params = Params::new();
    for pair in text.split(['&', ';']).filter(|pair| !pair.is_empty()) {
        let mut parts = pair.split('=');
        let decode =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
        let name = decode(parts.next().unwrap_or_default());
        let value = Value::from(decode(parts.next().unwrap_or_default()));
        match params.get_mut(&name) {
            None => drop(params.insert(name, value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    params
}

/// Finds out who is asking.
// PVE: pve-manager PVE/HTTPServer.pm auth_handler
fn authenticate(
    world: &mut World,
    node: &str,
    path: &str,
    request: &Request,
    is_upload: bool,
) -> Result<Caller, Refusal> {
    let refuse = |world: &World, rejected| ticket::refusal(world, rejected);
    let authorization = request.header("authorization");
    if let Some(token) =
        authorization.strip_prefix("PVEAPIToken").and_then(|rest| rest.strip_prefix(['=', ' ']))
    {
        let token = token.split(';').next().unwrap_or_default();
        let token = percent_decode_str(token).decode_utf8_lossy().into_owned();
        let id = ticket::verify_token(world, &token).map_err(|rejected| refuse(world, rejected))?;
        return Ok(Caller::http(Identity::Token(id), node));
    }
    let method = request.method.as_str();
    if matches!(
        (method, path),
        ("GET", "/access/domains") | ("GET" | "POST", "/access/ticket") | ("POST", "/access/vncticket")
    ) {
        return Ok(Caller::http(Identity::Nobody, node));
    }
    let Some(text) =
        cookie(request).or_else(|| authorization.strip_prefix("PVEAuthCookie=").map(str::to_owned))
    else {
        return Err(refuse(world, Rejected::NoTicket));
    };
    let text =
        percent_decode_str(text.split(';').next().unwrap_or_default()).decode_utf8_lossy().into_owned();
    let user = ticket::verify_ticket(world, &text).map_err(|rejected| refuse(world, rejected))?;
    if method != "GET" && !is_upload {
        let csrf = request.header("csrfpreventiontoken");
        if !ticket::verify_csrf(world, &user, csrf) {
            return Err(Refusal::unauthenticated("Permission denied - invalid csrf token"));
        }
    }
    Ok(Caller::http(Identity::User(user), node))
}

fn cookie(request: &Request) -> Option<String> {
    let cookies = request.headers.iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value);
    cookies
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix("PVEAuthCookie=").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expect: Value) {
        let got: serde_json::Map<String, Value> = pairs(text).into_iter().collect();
        assert_eq!(Value::Object(got), expect, "{text}");
    }

    #[test]
    fn forms_are_read_as_pve_reads_them() {
        check("a=1&b=x%20y+z", json!({ "a": "1", "b": "x y z" }));
        check("boot=order=scsi0", json!({ "boot": "order" }));
        check("boot=order%3Dscsi0;c", json!({ "boot": "order=scsi0", "c": "" }));
        check("k=1&k=2&k=3", json!({ "k": ["1", "2", "3"] }));
    }
}

#[cfg(test)]
mod pace_tests {
    use super::*;
    use crate::still_tests as still;

    fn ends_of(world: &WorldHandle, paths: &[&str]) -> Vec<u64> {
        let token = world.with(|world| {
            let (_, token) = world.access.token("root@pam!lab").unwrap();
            token.secret.clone()
        });
        let one = |path: &&str| {
            let (world, path) = (world.clone(), format!("/api2/json{path}"));
            let headers = vec![("authorization".to_owned(), format!("PVEAPIToken=root@pam!lab={token}"))];
            let request = Request { method: "GET".to_owned(), path, headers, ..Request::default() };
            async move { answer(&world, "pve1", request).await.map(|answer| answer.status) }
        };
        let ends = still::run(world, paths.iter().map(one).collect());
        ends.into_iter()
            .map(|(at, status)| {
                assert_eq!(status.unwrap(), 200);
                at
            })
            .collect()
    }

    #[test]
    fn a_node_works_on_three_requests_at_once() {
        let world = still::world();
        assert_eq!(ends_of(&world, &["/version"; 7]), [17, 17, 17, 34, 34, 34, 51]);
        assert_eq!(ends_of(&world, &["/nodes/pve1/storage", "/nodes/pve1/storage/local/status"]), [120, 17]);
        assert_eq!(world.counts().api_requests, 9);
    }
}
