//! Tasks: lists, states, logs.

use pve_types::Privilege;
use serde_json::{Value, json};

use super::rights::has;
use super::{Call, Methods, Refusal};
use crate::world::{Task, TaskKey};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/tasks", list),
    ("GET", "/nodes/{node}/tasks/{upid}", index),
    ("DELETE", "/nodes/{node}/tasks/{upid}", stop),
    ("GET", "/nodes/{node}/tasks/{upid}/log", log),
    ("GET", "/nodes/{node}/tasks/{upid}/status", status),
    ("GET", "/cluster/tasks", cluster),
];

/// The caller's own: a user's tasks and those of its tokens; a token's alone.
fn is_own(call: &Call<'_>, task: &Task) -> bool {
    match call.caller.is_token() {
        true => task.token.as_deref() == Some(call.caller.auth_id()),
        false => task.user == call.caller.user(),
    }
}

/// A task in a list.
fn listed(task: &Task) -> Value {
    let mut entry = json!({
        "upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart, "starttime": task.started,
        "type": task.kind, "id": task.id, "user": task.user,
    });
    if let Some(token) = task.token.as_ref().and_then(|token| token.split_once('!')) {
        entry["tokenid"] = token.1.into();
    }
    match (task.ended, task.exit_status()) {
        (Some(ended), Some(status)) => {
            entry["endtime"] = ended.into();
            entry["status"] = status.into();
        }
        _ => entry["status"] = "RUNNING".into(),
    }
    entry
}

// PVE: pve-manager PVE/API2/Tasks.pm node_tasks: newest first.
fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let node = call.node();
    let audits = call.has(&format!("/nodes/{node}"), Privilege::SysAudit);
    let source = call.text("source").unwrap_or("archive").to_owned();
    let (types, user, vmid) = (call.text("typefilter"), call.text("userfilter"), call.text("vmid"));
    let (since, until) = (call.integer("since"), call.integer("until"));
    let states = call.list("statusfilter");
    let state_of = |task: &Task| match task.exit_status() {
        None => "unknown",
        Some("OK") => "ok",
        Some(status) if status.starts_with("WARNINGS: ") => "warning",
        Some(_) => "error",
    };
    let wanted = |task: &&Task| {
        let started = i64::try_from(task.started).unwrap_or(i64::MAX);
        let by_source = match source.as_str() {
            "active" => task.exit_status().is_none(),
            "archive" => task.exit_status().is_some(),
            _ => true,
        };
        task.node == node
            && (audits || is_own(call, task))
            && by_source
            && types.is_none_or(|kind| task.kind == kind)
            && user.is_none_or(|user| task.user.contains(user))
            && vmid.is_none_or(|vmid| task.id == vmid)
            && since.is_none_or(|since| started >= since)
            && until.is_none_or(|until| started <= until)
            && (!call.flag("errors") || !matches!(task.exit_status(), Some("OK") | None))
            && (states.is_empty() || states.iter().any(|state| state == state_of(task)))
    };
    let all: Vec<Value> = call.world.tasks.newest_first().filter(wanted).map(listed).collect();
    let start = call.integer("start").and_then(|start| usize::try_from(start).ok()).unwrap_or(0);
    let limit = call.integer("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(50);
    call.total = Some(all.len() as u64).filter(|total| *total > 0);
    Ok(all.into_iter().skip(start).take(limit).collect())
}

fn cluster(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let audits = call.has("/", Privilege::SysAudit);
    let seen = |task: &&Task| audits || (!call.caller.is_token() && is_own(call, task));
    let shown = call.world.tasks.newest_first().filter(seen).take(50).map(|task| {
        let mut entry = listed(task);
        if task.exit_status().is_none() {
            entry.as_object_mut().map(|entry| entry.remove("status"));
        }
        entry
    });
    Ok(shown.collect())
}

fn find<'a>(call: &'a Call<'_>, privilege: Privilege) -> Result<(TaskKey, &'a Task), Refusal> {
    let text = call.string("upid");
    if text.parse::<pve_types::Upid>().is_err() {
        return Err(Refusal::parameter("upid", "unable to parse worker upid"));
    }
    let missing = || Refusal::parameter("upid", "no such task");
    let key = call.world.tasks.key(&text).ok_or_else(missing)?;
    let task = call.world.tasks.by_key(key).filter(|task| task.node == call.node()).ok_or_else(missing)?;
    let path = format!("/nodes/{}", task.node);
    if !is_own(call, task) && !has(call.world, call.caller.auth_id(), &path, privilege) {
        return Err(Refusal::permission(&path, privilege.as_str()));
    }
    Ok((key, task))
}

fn index(call: &mut Call<'_>) -> Result<Value, Refusal> {
    find(call, Privilege::SysAudit)?;
    Ok(["log", "status"].iter().map(|name| json!({ "name": name })).collect())
}

fn status(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (_, task) = find(call, Privilege::SysAudit)?;
    let mut shown = json!({
        "upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart, "starttime": task.started,
        "type": task.kind, "id": task.id, "user": task.user,
        "status": if task.exit_status().is_some() { "stopped" } else { "running" },
    });
    if let Some((_, token)) = task.token.as_ref().and_then(|token| token.split_once('!')) {
        shown["tokenid"] = token.into();
    }
    if let Some(status) = task.exit_status() {
        shown["exitstatus"] = status.into();
    }
    Ok(shown)
}

fn log(call: &mut Call<'_>) -> Result<Value, Refusal> {
    if call.flag("download") && (call.is_given("start") || call.is_given("limit")) {
        let text = "download cannot be used together with 'start' or 'limit'";
        let given = ["start", "limit"].into_iter().filter(|name| call.is_given(name));
        return Err(Refusal::parameters(given.map(|name| (name.to_owned(), text.to_owned()))));
    }
    let (_, task) = find(call, Privilege::SysAudit)?;
    let start = call.integer("start").and_then(|start| usize::try_from(start).ok()).unwrap_or(0);
    let limit = call.integer("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(50);
    let limit = if limit == 0 { usize::MAX } else { limit };
    let lines = task.log();
    let total = lines.len() as u64;
    let numbered = lines.iter().enumerate().skip(start).take(limit);
    let mut shown: Vec<Value> = numbered.map(|(at, line)| json!({ "n": at + 1, "t": line })).collect();
    if lines.is_empty() {
        shown.push(json!({ "n": 1, "t": "no content" }));
    }
    call.total = Some(total.max(1));
    Ok(shown.into())
}

fn stop(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (key, _) = find(call, Privilege::SysModify)?;
    call.world.interrupt_task(key);
    Ok(Value::Null)
}
