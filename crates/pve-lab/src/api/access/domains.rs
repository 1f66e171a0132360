//! Realms.

use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::super::{Call, Methods, Refusal};
use crate::world::{Realm, Stage, Worker};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/domains", list),
    ("POST", "/access/domains", create),
    ("GET", "/access/domains/{realm}", get),
    ("PUT", "/access/domains/{realm}", update),
    ("DELETE", "/access/domains/{realm}", delete),
    ("POST", "/access/domains/{realm}/sync", sync),
];

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let shown = call.world.access.realms.iter().map(|(id, realm)| {
        let mut entry = json!({ "realm": id, "type": realm.kind });
        if let Some(comment) = realm.options.get("comment") {
            entry["comment"] = comment.as_str().into();
        }
        if realm.options.get("default").is_some_and(|value| value == "1") {
            entry["default"] = 1.into();
        }
        let tfa = realm
            .options
            .get("tfa")
            .and_then(|tfa| tfa.split(',').find_map(|part| part.strip_prefix("type=")));
        if let Some(tfa) = tfa {
            entry["tfa"] = tfa.into();
        }
        entry
    });
    Ok(shown.collect())
}

/// Options that are neither shown nor kept as options.
const NOT_OPTIONS: &[&str] = &["realm", "type", "delete", "digest", "password"];

fn options(call: &Call<'_>) -> Vec<(String, String)> {
    let given = call.params.iter().filter(|(name, _)| !NOT_OPTIONS.contains(&name.as_str()));
    given.filter_map(|(name, value)| value.as_str().map(|text| (name.clone(), text.to_owned()))).collect()
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("realm");
    let failed = |text: String| Refusal::died(format!("add auth server failed: {text}"));
    if call.world.access.realms.contains_key(&id) {
        return Err(failed(format!("domain '{id}' already exists")));
    }
    let kind = call.string("type");
    let needed: &[&str] = match kind.as_str() {
        "pam" | "pve" => return Err(failed(format!("unable to create builtin type '{kind}'"))),
        "ldap" => &["base_dn", "server1", "user_attr"],
        "ad" => &["domain", "server1"],
        _ => &["client-id", "issuer-url"],
    };
    let missing = needed.iter().filter(|name| !call.is_given(name));
    let errors: Vec<(String, String)> = missing
        .map(|name| ((*name).to_owned(), "property is missing and it is not optional".to_owned()))
        .collect();
    if !errors.is_empty() {
        return Err(Refusal::parameters(errors));
    }
    let realm = Realm { kind, options: options(call).into_iter().collect() };
    call.world.access.realms.insert(id, realm);
    Ok(Value::Null)
}

fn missing(id: &str) -> Refusal {
    Refusal::died(format!("domain '{id}' does not exist"))
}

fn digest(call: &Call<'_>) -> String {
    let text = format!("{:?}", call.world.access.realms);
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("realm");
    let digest = digest(call);
    let realm = call.world.access.realms.get(&id).ok_or_else(|| missing(&id))?;
    let mut shown: Map<String, Value> =
        realm.options.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    shown.insert("type".into(), realm.kind.as_str().into());
    shown.insert("digest".into(), digest.into());
    Ok(Value::Object(shown))
}

/// What is said of a realm that is not there, under the lock.
fn failed(verb: &str, id: &str) -> Refusal {
    Refusal::died(format!("{verb} auth server failed: domain '{id}' does not exist"))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("realm");
    if call.text("digest").is_some_and(|given| given != digest(call)) {
        return Err(Refusal::died(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    let (given, deleted) = (options(call), call.list("delete"));
    let realm = call.world.access.realms.get_mut(&id).ok_or_else(|| failed("update", &id))?;
    deleted.iter().for_each(|name| drop(realm.options.remove(name)));
    realm.options.extend(given);
    if realm.options.get("default").is_some_and(|value| value == "1") {
        for (_, other) in call.world.access.realms.iter_mut().filter(|(other, _)| **other != id) {
            other.options.remove("default");
        }
    }
    Ok(Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("realm");
    call.world.access.realms.remove(&id).map(|_| Value::Null).ok_or_else(|| failed("delete", &id))
}

fn sync(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("realm");
    let kind = call.world.access.realms.get(&id).ok_or_else(|| missing(&id))?.kind.clone();
    if kind != "ldap" && kind != "ad" {
        let text = format!("Cannot sync realm type '{kind}'! Only LDAP/AD realms can be synced.");
        return Err(Refusal::died(text));
    }
    let dry_run = call.flag("dry-run");
    let stage = Stage::now(move |world, key| {
        let first =
            if dry_run { "(dry test run) starting sync for realm" } else { "starting sync for realm" };
        world.log(key, format!("{first} {id}"));
        Err(format!("the lab has no directory behind realm {id}"))
    });
    let worker = Worker {
        node: call.caller.node.clone(),
        kind: if dry_run { "auth-realm-sync-test" } else { "auth-realm-sync" },
        id: call.string("realm"),
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}
