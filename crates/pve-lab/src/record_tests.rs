//! The lab against what a real PVE 9.2 answered: the records in `tests/records`.
//!
//! A record is a list of calls, made one after the other in a fresh world: `call` is method and path, `with` the
//! parameters, `as` who calls (root@pam where it is left out). `expect` says what the answer was: `status`, `reason`
//! and `errors` of a refusal, `data` of an answer, and how a worker ended (`ends`) with its `log`. A call without
//! `expect` only prepares what follows. What differs from run to run is written as `<uuid>`, `<mac>` and the like.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use crate::api::{Caller, Identity, Params, dispatch};
use crate::world::{World, WorldSpec};

/// What differs from run to run, with what it is written as.
struct Masks(Vec<(Regex, &'static str)>);

impl Masks {
    fn new() -> Self {
        let patterns = [
            (r"UPID:([\w.-]+):[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:", "UPID:$1:<pid>:<pstart>:<time>:"),
            (r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<uuid>"),
            (r"\b([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b", "<mac>"),
            (r"\b[0-9a-f]{40}\b", "<sha1>"),
            (r"\b1[678]\d{8}\b", "<time>"),
            (r" at /usr/share/perl5/\S+ line \d+\.", " at <perl>"),
            (r"creation-qemu=[\d.]+", "creation-qemu=<version>"),
        ];
        Self(patterns.map(|(pattern, to)| (Regex::new(pattern).unwrap(), to)).into())
    }

    fn text(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (pattern, to)| pattern.replace_all(&text, *to).into_owned())
    }

    fn value(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::String(text) if key == "content" => {
                let mut parts: Vec<&str> = text.split(',').collect();
                parts.sort_unstable();
                parts.join(",").into()
            }
            Value::String(_) if key == "digest" => "<string>".into(),
            Value::String(text) => self.text(text).into(),
            Value::Number(number) if number.as_u64().is_some_and(|number| number > 1_600_000_000) => {
                "<time>".into()
            }
            Value::Array(items) => items.iter().map(|item| self.value("", item)).collect(),
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| (self.text(key), self.value(key, value)))
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    /// A worker's lines, the progress of a copy as one.
    fn log(&self, lines: &[String]) -> Value {
        let mut shown: Vec<String> = Vec::new();
        for line in lines {
            let is_progress = line.starts_with("transferred ") && line.ends_with("%)");
            let line = if is_progress { "transferred <progress>".to_owned() } else { self.text(line) };
            if !(is_progress && shown.last() == Some(&line)) {
                shown.push(line.trim_end().to_owned());
            }
        }
        shown.into()
    }
}

fn caller(step: &Value) -> Caller {
    let who = step["as"].as_str().unwrap_or("root@pam").to_owned();
    let identity = if who.contains('!') { Identity::Token(who) } else { Identity::User(who) };
    Caller::http(identity, "pve1")
}

/// Makes the call, and says of it what `expect` says.
fn answer(world: &mut World, masks: &Masks, step: &Value) -> Value {
    let (method, path) = step["call"].as_str().unwrap().split_once(' ').unwrap();
    let params: Params = step["with"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut shown = Map::new();
    match dispatch(world, &caller(step), method, path, &params) {
        Err(refusal) => {
            shown.insert("status".into(), refusal.status.into());
            let reason = refusal.message.lines().next().unwrap_or_default();
            shown.insert("reason".into(), masks.text(reason).into());
            if !refusal.errors.is_empty() {
                let errors =
                    refusal.errors.iter().map(|(name, text)| (name.clone(), masks.text(text).into()));
                shown.insert("errors".into(), Value::Object(errors.collect()));
            }
        }
        Ok(reply) => match reply.data.as_str().filter(|text| text.starts_with("UPID:") && method != "GET") {
            Some(upid) => {
                world.settle();
                let task = world.tasks.get(upid).unwrap();
                shown.insert("ends".into(), masks.text(task.exit_status().unwrap_or("runs")).into());
                shown.insert("log".into(), masks.log(task.log()));
            }
            None => {
                shown.insert("data".into(), masks.value("", &reply.data));
            }
        },
    }
    Value::Object(shown)
}

/// Tells whether an answer is the recorded one, where `<string>` and `<number>` stand for any.
fn fits(recorded: &Value, found: &Value) -> bool {
    match (recorded, found) {
        (Value::String(any), found) if any == "<string>" => found.is_string(),
        (Value::String(any), found) if any == "<number>" => found.is_number(),
        (Value::Object(recorded), Value::Object(found)) => {
            recorded.len() == found.len()
                && recorded.iter().all(|(key, value)| found.get(key).is_some_and(|found| fits(value, found)))
        }
        // PVE lists what it keeps by name in no fixed order.
        (Value::Array(recorded), Value::Array(found)) if recorded.iter().any(is_named) => {
            recorded.len() == found.len()
                && recorded.iter().all(|one| found.iter().any(|other| fits(one, other)))
        }
        (Value::Array(recorded), Value::Array(found)) => {
            recorded.len() == found.len() && recorded.iter().zip(found).all(|(one, other)| fits(one, other))
        }
        (recorded, found) => recorded == found,
    }
}

/// Tells whether it is an option or a snapshot of a list.
fn is_named(entry: &Value) -> bool {
    entry.get("key").is_some() || entry.get("snaptime").is_some()
}

/// Replays a record; returns how many answers were compared, and those that differ.
fn replay(path: &Path) -> (usize, Vec<String>) {
    let record: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let masks = Masks::new();
    let mut world = World::new(&WorldSpec::golden(), 1);
    let (mut compared, mut differs) = (0, Vec::new());
    for (number, step) in record["steps"].as_array().unwrap().iter().enumerate() {
        let found = answer(&mut world, &masks, step);
        if !step["expect"].is_object() {
            continue;
        }
        compared += 1;
        if !fits(&step["expect"], &found) {
            let asked = format!("{number}: {} {}", step["call"], step["with"]);
            differs.push(format!("{asked}\n  recorded {}\n  the lab  {found}", step["expect"]));
        }
    }
    (compared, differs)
}

#[test]
fn the_lab_answers_as_the_records_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    let mut compared = 0;
    let mut differs = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let (count, different) = replay(&path);
        compared += count;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        differs.extend(different.into_iter().map(|text| format!("{name} {text}")));
    }
    assert!(differs.is_empty(), "{} of {compared} answers differ:\n{}", differs.len(), differs.join("\n"));
    assert!(compared >= 200, "only {compared} answers");
}
