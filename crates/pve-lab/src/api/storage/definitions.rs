//! `/storage`: storage.cfg.

use std::collections::BTreeSet;

use pve_types::Privilege;
use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use crate::api::hex_sha1;
use crate::schema::{Kind, split_list, table};
use crate::world::StorageDef;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/storage", list),
    ("POST", "/storage", create),
    ("GET", "/storage/{storage}", get),
    ("PUT", "/storage/{storage}", update),
    ("DELETE", "/storage/{storage}", delete),
];

/// Content types as PVE prints them.
pub fn content_text(def: &StorageDef) -> String {
    def.content.iter().cloned().collect::<Vec<_>>().join(",")
}

fn digest(call: &Call<'_>) -> String {
    let text: Vec<String> = call
        .world
        .storages
        .values()
        .map(|def| format!("{} {} {:?} {:?}", def.id, def.kind, def.content, def.options))
        .collect();
    hex_sha1(&text.join("\n"))
}

fn shown(call: &Call<'_>, def: &StorageDef) -> Value {
    let endpoint =
        table(call.world.version).endpoints().iter().find(|it| it.method == "POST" && it.path == "/storage");
    let value = |name: &str, text: &str| {
        let kind = endpoint.and_then(|endpoint| endpoint.params.get(name)).map(|param| param.kind);
        match kind {
            Some(Kind::Boolean | Kind::Integer) => {
                text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
            }
            _ => text.into(),
        }
    };
    let mut shown: Map<String, Value> =
        def.options.iter().map(|(name, text)| (name.clone(), value(name, text))).collect();
    shown.insert("storage".into(), def.id.as_str().into());
    shown.insert("type".into(), def.kind.as_str().into());
    shown.insert("content".into(), content_text(def).into());
    shown.insert("digest".into(), digest(call).into());
    Value::Object(shown)
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let kind = call.text("type");
    let wanted = [Privilege::DatastoreAudit, Privilege::DatastoreAllocateSpace];
    let seen = call.world.storages.values().filter(|def| {
        kind.is_none_or(|kind| def.kind == kind)
            && call.require_any(&format!("/storage/{}", def.id), &wanted).is_ok()
    });
    Ok(seen.map(|def| shown(call, def)).collect())
}

fn missing(id: &str) -> Refusal {
    Refusal::died(format!("storage '{id}' does not exist"))
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("storage");
    let def = call.world.storages.get(&id).ok_or_else(|| missing(&id))?;
    Ok(shown(call, def))
}

/// What a definition of this type must say.
fn needed(kind: &str) -> &'static [&'static str] {
    match kind {
        "dir" | "btrfs" => &["path"],
        "nfs" => &["server", "export"],
        "cifs" => &["server", "share"],
        "lvm" => &["vgname"],
        "lvmthin" => &["vgname", "thinpool"],
        "zfspool" => &["pool"],
        "iscsi" => &["portal", "target"],
        "pbs" => &["server", "datastore", "username"],
        _ => &[],
    }
}

/// The content types that a storage type allows, and its defaults.
fn contents(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "dir" | "nfs" | "cifs" | "glusterfs" => (
            &["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"],
            &["images", "rootdir"],
        ),
        "btrfs" => (
            &["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"],
            &["images", "rootdir"],
        ),
        "cephfs" => (&["vztmpl", "iso", "backup", "snippets", "import"], &["backup"]),
        "pbs" => (&["backup", "none"], &["backup"]),
        "iscsi" | "iscsidirect" | "zfs" => (&["images", "none"], &["images"]),
        "esxi" => (&["import"], &["import"]),
        _ => (&["images", "rootdir", "none"], &["images", "rootdir"]),
    }
}

const NOT_OPTIONS: &[&str] = &["storage", "type", "content", "delete", "digest", "password"];

fn options(call: &Call<'_>) -> Vec<(String, String)> {
    let given = call.params.iter().filter(|(name, _)| !NOT_OPTIONS.contains(&name.as_str()));
    given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn content(call: &Call<'_>, kind: &str) -> Result<Option<BTreeSet<String>>, Refusal> {
    let Some(text) = call.text("content") else { return Ok(None) };
    let (allowed, _) = contents(kind);
    let given: BTreeSet<String> = split_list(text).map(str::to_owned).collect();
    match given.iter().find(|item| !allowed.contains(&item.as_str())) {
        Some(item) => {
            let text =
                format!("unable to parse value of 'content': storage does not support content type '{item}'");
            Err(Refusal::parameter("content", text))
        }
        None => Ok(Some(given)),
    }
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, kind) = (call.string("storage"), call.string("type"));
    let failed = |text: String| Refusal::died(format!("create storage failed: {text}"));
    if let Some(name) = needed(&kind).iter().find(|name| !call.is_given(name)) {
        return Err(Refusal::died(format!("missing value for required option '{name}'")));
    }
    if let Some((name, _)) = options(call).iter().find(|(name, _)| !belongs(call, &kind, name)) {
        return Err(Refusal::died(format!("unexpected property '{name}'")));
    }
    if call.world.storages.contains_key(&id) {
        return Err(failed(format!("storage ID '{id}' already defined")));
    }
    let content = content(call, &kind)?
        .unwrap_or_else(|| contents(&kind).1.iter().map(|item| (*item).to_owned()).collect());
    let def = StorageDef {
        id: id.clone(),
        kind: kind.clone(),
        content,
        options: options(call).into_iter().collect(),
        size: 100 << 30,
        offline_on: BTreeSet::new(),
    };
    place(call, &def);
    call.world.storages.insert(id.clone(), def);
    Ok(json!({ "storage": id, "type": kind }))
}

/// Tells whether a storage type has an option.
// PVE: pve-common src/PVE/SectionConfig.pm check_config
fn belongs(call: &Call<'_>, kind: &str, name: &str) -> bool {
    const KINDS: &[(&str, &[&str])] = &[
        ("path", &["dir", "btrfs", "nfs", "cifs", "cephfs"]),
        ("vgname", &["lvm", "lvmthin"]),
        ("thinpool", &["lvmthin"]),
        ("pool", &["zfspool", "zfs", "rbd"]),
        ("server", &["nfs", "cifs", "pbs", "glusterfs", "esxi"]),
        ("export", &["nfs"]),
        ("share", &["cifs"]),
        ("portal", &["iscsi", "iscsidirect", "zfs"]),
        ("target", &["iscsi", "iscsidirect", "zfs"]),
        ("datastore", &["pbs"]),
        ("monhost", &["rbd", "cephfs"]),
        ("krbd", &["rbd"]),
        ("saferemove", &["lvm"]),
        ("sparse", &["zfspool", "zfs"]),
    ];
    let endpoints = crate::schema::table(call.world.version).endpoints();
    let all = endpoints.iter().find(|endpoint| endpoint.method == "POST" && endpoint.path == "/storage");
    let is_known = all.is_some_and(|endpoint| endpoint.params.get(name).is_some());
    let kinds = KINDS.iter().find(|(option, _)| *option == name);
    is_known && kinds.is_none_or(|(_, kinds)| kinds.contains(&kind))
}

/// Makes room for the volumes of a new storage.
fn place(call: &mut Call<'_>, def: &StorageDef) {
    let nodes: Vec<String> = call.world.nodes.keys().cloned().collect();
    match def.path() {
        Some(path) if def.is_shared() => {
            let mut tree = crate::vfs::Vfs::new(def.size);
            let _ = tree.create_dir_all(&path);
            call.world.shared_files.insert(def.id.clone(), tree);
        }
        Some(path) => {
            for node in call.world.nodes.values_mut() {
                let _ = node.files.create_dir_all(&path);
            }
        }
        None => {
            let homes = if def.is_shared() { vec![String::new()] } else { nodes };
            for home in homes {
                call.world.block_stores.entry((home, def.id.clone())).or_default();
            }
        }
    }
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("storage");
    if call.text("digest").is_some_and(|given| given != digest(call)) {
        return Err(Refusal::died(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    let failed = |text: String| Refusal::died(format!("update storage failed: {text}"));
    let kind = call.world.storages.get(&id).map(|def| def.kind.clone());
    let kind = kind.ok_or_else(|| failed(format!("storage '{id}' does not exist")))?;
    for name in call.list("delete").iter().filter(|name| *name != "content") {
        if needed(&kind).contains(&name.as_str()) {
            return Err(failed(format!("unable to delete required option '{name}'")));
        }
        if !belongs(call, &kind, name) {
            return Err(failed(format!("no such option '{name}'")));
        }
    }
    let (given, deleted, content) = (options(call), call.list("delete"), content(call, &kind)?);
    let def = call.world.storages.get_mut(&id).ok_or_else(|| missing(&id))?;
    for name in &deleted {
        if name == "content" {
            def.content = contents(&kind).1.iter().map(|item| (*item).to_owned()).collect();
        }
        def.options.remove(name);
    }
    def.options.extend(given);
    def.content = content.unwrap_or_else(|| def.content.clone());
    Ok(json!({ "storage": id, "type": kind }))
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("storage");
    let failed = |text: String| Refusal::died(format!("delete storage failed: {text}"));
    if call.world.storages.remove(&id).is_none() {
        return Err(failed(format!("storage '{id}' does not exist")));
    }
    call.world.access.acl.remove(&format!("/storage/{id}"));
    call.world.access.pools.values_mut().for_each(|pool| drop(pool.storages.take(&id)));
    Ok(Value::Null)
}
