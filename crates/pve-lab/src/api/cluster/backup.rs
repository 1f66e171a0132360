//! Backup jobs.

use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};
use super::sections::{self, File};
use crate::world::made_up_uuid;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/backup", list),
    ("POST", "/cluster/backup", create),
    ("GET", "/cluster/backup/{id}", get),
    ("PUT", "/cluster/backup/{id}", update),
    ("DELETE", "/cluster/backup/{id}", delete),
    ("GET", "/cluster/backup/{id}/included_volumes", included),
    ("GET", "/cluster/backup-info", |_| Ok(json!([{ "subdir": "not-backed-up" }]))),
    ("GET", "/cluster/backup-info/not-backed-up", not_backed_up),
];

const JOBS: File = File { name: "backup", id: "id", noun: "vzdump job" };

fn missing(id: &str) -> Refusal {
    Refusal::parameter("id", format!("No such job '{id}'"))
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let all = sections::all(call.world, &JOBS);
    Ok(all
        .map(|(id, options)| {
            let mut shown = sections::shown(call, "/cluster/backup", ("id", id), options);
            shown["type"] = "vzdump".into();
            shown["enabled"] = u8::from(options.get("enabled").is_none_or(|value| value == "1")).into();
            shown
        })
        .collect())
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = match call.text("id") {
        Some(id) => id.to_owned(),
        None => format!("backup-{}", &made_up_uuid(&mut call.world.random)[..13]),
    };
    if !["all", "vmid", "pool"].iter().any(|option| call.is_given(option)) {
        return Err(Refusal::parameter("vmid", "property is missing and it is not optional"));
    }
    let mut options = sections::given(call, &JOBS);
    if let Some(start) = options.remove("starttime") {
        let days = options.remove("dow").map_or_else(String::new, |days| format!("{days} "));
        options.insert("schedule".into(), format!("{days}{start}"));
    }
    options.entry("enabled".into()).or_insert_with(|| "1".to_owned());
    if sections::one(call.world, &JOBS, &id).is_ok() {
        return Err(Refusal::parameter("id", format!("Job '{id}' already exists")));
    }
    sections::add(call, &JOBS, &id, options).map(|()| Value::Null)
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("id");
    let options = sections::one(call.world, &JOBS, &id).map_err(|_| missing(&id))?;
    Ok(sections::shown(call, "/cluster/backup", ("id", &id), options))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("id");
    sections::one(call.world, &JOBS, &id).map_err(|_| missing(&id))?;
    sections::change(call, &JOBS, &id).map(|()| Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("id");
    sections::remove(call, &JOBS, &id).map_err(|_| missing(&id)).map(|()| Value::Null)
}

/// Tells whether a job takes a guest.
fn takes(call: &Call<'_>, options: &crate::world::Config, vmid: pve_types::Vmid) -> bool {
    let id = vmid.to_string();
    let names = |option: &str| options.get(option).is_some_and(|list| list.split(',').any(|item| item == id));
    let pool = options.get("pool").and_then(|pool| call.world.access.pools.get(pool));
    let all = options.get("all").is_some_and(|value| value == "1");
    (all && !names("exclude")) || names("vmid") || pool.is_some_and(|pool| pool.guests.contains(&vmid.get()))
}

fn included(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("id");
    let options = sections::one(call.world, &JOBS, &id).map_err(|_| missing(&id))?;
    let guests = call.world.guests.values().filter(|guest| takes(call, options, guest.vmid));
    let children = guests.map(|guest| {
        let drives = crate::api::qemu::drives(call.world.version, &guest.config).into_iter().filter(|drive| !drive.is_cdrom());
        let volumes: Vec<Value> = drives
            .map(|drive| {
                let is_in = drive.option("backup") != Some("0");
                json!({ "id": format!("{}:{}", guest.vmid, drive.slot), "name": drive.file(), "included": is_in, "reason": if is_in { "enabled" } else { "disabled" } })
            })
            .collect();
        json!({ "id": guest.vmid.get(), "name": guest.display_name(), "type": "qemu", "children": volumes })
    });
    Ok(json!({ "children": children.collect::<Vec<_>>() }))
}

fn not_backed_up(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let taken = |vmid| sections::all(call.world, &JOBS).any(|(_, options)| takes(call, options, vmid));
    let left = call.world.guests.values().filter(|guest| !taken(guest.vmid));
    let shown = left.map(|guest| {
        let kind = if guest.kind == crate::world::GuestKind::Qemu { "qemu" } else { "lxc" };
        json!({ "vmid": guest.vmid.get(), "name": guest.display_name(), "type": kind })
    });
    Ok(shown.collect())
}
