//! High availability: resources, groups (8) or rules (9), status.

use pve_types::Vmid;
use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};
use super::sections::{self, File};
use crate::api::qemu::Asker;
use crate::world::{Config, Stage, TaskKey, Worker, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/ha", |_| {
        Ok(["status", "resources", "groups", "rules"].iter().map(|name| json!({ "id": name })).collect())
    }),
    ("GET", "/cluster/ha/resources", list),
    ("POST", "/cluster/ha/resources", create),
    ("GET", "/cluster/ha/resources/{sid}", get),
    ("PUT", "/cluster/ha/resources/{sid}", update),
    ("DELETE", "/cluster/ha/resources/{sid}", delete),
    ("POST", "/cluster/ha/resources/{sid}/migrate", move_resource),
    ("POST", "/cluster/ha/resources/{sid}/relocate", move_resource),
    ("GET", "/cluster/ha/groups", groups),
    ("POST", "/cluster/ha/groups", create_group),
    ("GET", "/cluster/ha/groups/{group}", get_group),
    ("PUT", "/cluster/ha/groups/{group}", update_group),
    ("DELETE", "/cluster/ha/groups/{group}", delete_group),
    ("GET", "/cluster/ha/rules", rules),
    ("POST", "/cluster/ha/rules", create_rule),
    ("GET", "/cluster/ha/rules/{rule}", get_rule),
    ("PUT", "/cluster/ha/rules/{rule}", update_rule),
    ("DELETE", "/cluster/ha/rules/{rule}", delete_rule),
    ("GET", "/cluster/ha/status", |_| {
        Ok(["current", "manager_status"].iter().map(|name| json!({ "name": name })).collect())
    }),
    ("GET", "/cluster/ha/status/current", current),
    ("GET", "/cluster/ha/status/manager_status", manager),
];

const RESOURCES: File = File { name: "ha/resources", id: "sid", noun: "resource" };
const GROUPS: File = File { name: "ha/groups", id: "group", noun: "ha group" };
const RULES: File = File { name: "ha/rules", id: "rule", noun: "ha rule" };

/// `vm:100` of `vm:100` or `100`.
fn sid(world: &World, text: &str) -> String {
    match text.split_once(':') {
        Some(_) => text.to_owned(),
        None => {
            let guest = text.parse::<Vmid>().ok().and_then(|vmid| world.guests.get(&vmid));
            let is_container = guest.is_some_and(|guest| guest.kind == crate::world::GuestKind::Lxc);
            format!("{}:{text}", if is_container { "ct" } else { "vm" })
        }
    }
}

fn of(world: &World, vmid: Vmid) -> Option<&Config> {
    world
        .sections
        .get(RESOURCES.name)
        .and_then(|all| all.get(&format!("vm:{vmid}")).or_else(|| all.get(&format!("ct:{vmid}"))))
}

/// Tells whether HA looks after the guest.
pub fn is_ha_managed(world: &World, vmid: Vmid) -> bool {
    of(world, vmid).is_some_and(|resource| resource.get("state").is_none_or(|state| state != "ignored"))
}

/// The state that HA wants the guest in.
pub fn resource_state(world: &World, vmid: Vmid) -> Option<String> {
    of(world, vmid).map(|resource| resource.get("state").cloned().unwrap_or_else(|| "started".to_owned()))
}

/// What a guest's status says of HA.
pub fn ha_state(world: &World, vmid: Vmid) -> Value {
    match resource_state(world, vmid) {
        None => json!({ "managed": 0 }),
        Some(state) => json!({ "managed": 1, "state": state }),
    }
}

/// Has HA look after a guest.
pub fn add_ha_resource(world: &mut World, vmid: Vmid) {
    let options = [("type", "vm"), ("state", "started")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    world.sections.entry(RESOURCES.name).or_default().insert(format!("vm:{vmid}"), options);
}

/// Removes a guest from everything that names it.
pub fn purge_guest(world: &mut World, key: TaskKey, vmid: Vmid) {
    let resources = world.sections.entry(RESOURCES.name).or_default();
    let was = [format!("vm:{vmid}"), format!("ct:{vmid}")].iter().any(|sid| resources.remove(sid).is_some());
    if was {
        world.log(key, format!("NOTE: removed VM {vmid} from HA resource configuration."));
    }
    let jobs = world.sections.entry("backup").or_default();
    for job in jobs.values_mut() {
        for option in ["vmid", "exclude"] {
            if let Some(list) = job.get_mut(option) {
                let left: Vec<&str> = list.split(',').filter(|id| *id != vmid.to_string()).collect();
                *list = left.join(",");
            }
        }
        job.retain(|option, value| option != "vmid" || !value.is_empty());
    }
    jobs.retain(|_, job| ["vmid", "all", "pool", "exclude"].iter().any(|option| job.contains_key(*option)));
}

/// Requests a state of a guest from HA, which then acts on its own.
pub fn ha_request(world: &mut World, asker: &Asker, kind: &'static str, state: &'static str) -> String {
    let (inner, verb) = (asker.clone(), if state == "started" { "start" } else { "stop" });
    let stage = Stage::now(move |world, key| {
        world.log(key, format!("Requesting HA {verb} for VM {}", inner.vmid));
        let name = format!("vm:{}", inner.vmid);
        if let Some(resource) = world.sections.entry(RESOURCES.name).or_default().get_mut(&name) {
            resource.insert("state".into(), state.to_owned());
        }
        follow(world, inner.vmid);
        Ok(())
    });
    let worker = Worker {
        node: asker.node.clone(),
        kind,
        id: asker.vmid.to_string(),
        owner: asker.auth_id.clone(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    };
    world.start_worker(worker)
}

/// HA brings the guest into the state that it is wanted in.
fn follow(world: &mut World, vmid: Vmid) {
    let wanted = resource_state(world, vmid);
    let Some(guest) = world.guests.get(&vmid) else { return };
    let (node, runs) = (guest.node.clone(), guest.is_running());
    match wanted.as_deref() {
        Some("started" | "enabled") if !runs => {
            let asker = Asker { auth_id: "root@pam".to_owned(), node, vmid, pool: None };
            crate::api::qemu::start_in_background(world, &asker);
        }
        Some("stopped" | "disabled") if runs => crate::api::qemu::switch_off(world, vmid),
        _ => {}
    }
}

fn shown(call: &Call<'_>, id: &str, options: &Config) -> Value {
    let mut shown = sections::shown(call, "/cluster/ha/resources", ("sid", id), options);
    shown["type"] = id.split(':').next().unwrap_or("vm").into();
    shown["digest"] = sections::digest(call.world, &RESOURCES).into();
    shown
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let kind = call.text("type");
    let all = sections::all(call.world, &RESOURCES)
        .filter(|(id, _)| kind.is_none_or(|kind| id.starts_with(&format!("{kind}:"))));
    Ok(all.map(|(id, options)| shown(call, id, options)).collect())
}

/// Groups have become rules in 9.
fn no_group(call: &Call<'_>) -> Result<(), Refusal> {
    match call.world.version.at_least(9, 0) && call.is_given("group") {
        true => Err(Refusal::new(400, "invalid parameter 'group': ha groups have been migrated to rules")),
        false => Ok(()),
    }
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    no_group(call)?;
    let id = sid(call.world, &call.string("sid"));
    let vmid = id.split_once(':').and_then(|(_, id)| id.parse::<Vmid>().ok());
    let exists = vmid.is_some_and(|vmid| call.world.guests.contains_key(&vmid));
    if !exists {
        return Err(Refusal::died(format!("resource '{id}' does not exist in cluster")));
    }
    let mut options = sections::given(call, &RESOURCES);
    options.entry("state".into()).or_insert_with(|| "started".to_owned());
    if sections::one(call.world, &RESOURCES, &id).is_ok() {
        return Err(Refusal::died(format!("create resource failed: resource ID '{id}' already defined")));
    }
    sections::add(call, &RESOURCES, &id, options)?;
    vmid.into_iter().for_each(|vmid| follow(call.world, vmid));
    Ok(Value::Null)
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = sid(call.world, &call.string("sid"));
    let options = sections::one(call.world, &RESOURCES, &id)?;
    Ok(shown(call, &id, options))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    no_group(call)?;
    let id = sid(call.world, &call.string("sid"));
    sections::change(call, &RESOURCES, &id)?;
    let vmid = id.split_once(':').and_then(|(_, id)| id.parse::<Vmid>().ok());
    vmid.into_iter().for_each(|vmid| follow(call.world, vmid));
    Ok(Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = sid(call.world, &call.string("sid"));
    if sections::one(call.world, &RESOURCES, &id).is_err() {
        return Err(Refusal::died(format!("cannot delete service '{id}', not HA managed!")));
    }
    sections::remove(call, &RESOURCES, &id)?;
    Ok(Value::Null)
}

fn move_resource(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = sid(call.world, &call.string("sid"));
    sections::one(call.world, &RESOURCES, &id)?;
    let node = call.string("node");
    if !call.world.nodes.contains_key(&node) {
        return Err(Refusal::parameter("node", format!("node '{node}' does not exist")));
    }
    let vmid = id.split_once(':').and_then(|(_, id)| id.parse::<Vmid>().ok());
    if let Some(guest) = vmid.and_then(|vmid| call.world.guests.get_mut(&vmid)) {
        guest.node.clone_from(&node);
    }
    Ok(json!({ "sid": id, "requested-node": node }))
}

fn migrated(call: &Call<'_>, verb: &str) -> Result<(), Refusal> {
    match call.world.version.at_least(9, 0) {
        true => Err(Refusal::died(format!("cannot {verb}: ha groups have been migrated to rules"))),
        false => Ok(()),
    }
}

fn groups(call: &mut Call<'_>) -> Result<Value, Refusal> {
    migrated(call, "index groups")?;
    Ok(sections::all(call.world, &GROUPS)
        .map(|(id, options)| sections::shown(call, "/cluster/ha/groups", ("group", id), options))
        .collect())
}

fn create_group(call: &mut Call<'_>) -> Result<Value, Refusal> {
    migrated(call, "create group")?;
    let (id, options) = (call.string("group"), sections::given(call, &GROUPS));
    sections::add(call, &GROUPS, &id, options).map(|()| Value::Null)
}

fn get_group(call: &mut Call<'_>) -> Result<Value, Refusal> {
    migrated(call, "read group")?;
    let id = call.string("group");
    let options = sections::one(call.world, &GROUPS, &id)?;
    Ok(sections::shown(call, "/cluster/ha/groups", ("group", &id), options))
}

fn update_group(call: &mut Call<'_>) -> Result<Value, Refusal> {
    migrated(call, "update group")?;
    let id = call.string("group");
    sections::change(call, &GROUPS, &id).map(|()| Value::Null)
}

fn delete_group(call: &mut Call<'_>) -> Result<Value, Refusal> {
    migrated(call, "delete group")?;
    let id = call.string("group");
    sections::remove(call, &GROUPS, &id).map(|()| Value::Null)
}

fn rules(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (kind, resource) = (call.text("type"), call.text("resource"));
    let wanted = |options: &Config| {
        kind.is_none_or(|kind| options.get("type").is_some_and(|of| of == kind))
            && resource.is_none_or(|resource| {
                options.get("resources").is_some_and(|list| list.split(',').any(|item| item == resource))
            })
    };
    let all = sections::all(call.world, &RULES).filter(|(_, options)| wanted(options));
    let digest = sections::digest(call.world, &RULES);
    Ok(all
        .map(|(id, options)| {
            let mut shown = sections::shown(call, "/cluster/ha/rules", ("rule", id), options);
            shown["digest"] = digest.as_str().into();
            shown
        })
        .collect())
}

/// A resource is placed by one rule.
// PVE: pve-ha-manager src/PVE/HA/Rules/NodeAffinity.pm check_single_resource_reference.
fn placed_once(world: &World, id: &str, options: &Config) -> Result<(), Refusal> {
    let affine = |options: &Config| options.get("type").is_some_and(|kind| kind == "node-affinity");
    let resources = |options: &Config| -> Vec<String> {
        options.get("resources").map_or_else(Vec::new, |list| list.split(',').map(str::to_owned).collect())
    };
    let others = sections::all(world, &RULES).filter(|(other, rule)| *other != id && affine(rule));
    let taken: Vec<String> = others.flat_map(|(_, rule)| resources(rule)).collect();
    match resources(options).into_iter().find(|sid| affine(options) && taken.contains(sid)) {
        None => Ok(()),
        Some(sid) => Err(Refusal::died(format!(
            "Rule '{id}' is invalid.\n  resources: resource '{sid}' is already used in another node affinity rule"
        ))),
    }
}

fn create_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, options) = (call.string("rule"), sections::given(call, &RULES));
    placed_once(call.world, &id, &options)?;
    let needed = if call.string("type") == "node-affinity" { "nodes" } else { "affinity" };
    if !call.is_given(needed) {
        return Err(Refusal::parameter(needed, "property is missing and it is not optional"));
    }
    sections::add(call, &RULES, &id, options).map(|()| Value::Null)
}

fn get_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("rule");
    let options = sections::one(call.world, &RULES, &id)?;
    Ok(sections::shown(call, "/cluster/ha/rules", ("rule", &id), options))
}

fn update_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("rule");
    sections::change(call, &RULES, &id).map(|()| Value::Null)
}

fn delete_rule(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("rule");
    sections::remove(call, &RULES, &id).map(|()| Value::Null)
}

fn current(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let world = &*call.world;
    let mut shown = vec![json!({
        "id": "quorum", "type": "quorum", "node": world.api_node, "status": if world.quorate { "OK" } else { "No quorum!" },
        "quorate": u8::from(world.quorate),
    })];
    for (id, options) in sections::all(world, &RESOURCES) {
        let vmid = id.split_once(':').and_then(|(_, id)| id.parse::<Vmid>().ok());
        let node = vmid.and_then(|vmid| world.guests.get(&vmid)).map_or("", |guest| guest.node.as_str());
        let state = options.get("state").map_or("started", String::as_str);
        shown.push(json!({
            "id": format!("service:{id}"), "sid": id, "type": "service", "node": node, "state": state, "crm_state": state,
            "request_state": state, "status": format!("{id} ({node}, {state})"),
        }));
    }
    Ok(shown.into())
}

fn manager(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let nodes: serde_json::Map<String, Value> = call
        .world
        .nodes
        .iter()
        .map(|(name, node)| (name.clone(), if node.spec.up { "online" } else { "unknown" }.into()))
        .collect();
    Ok(
        json!({ "manager_status": { "node_status": nodes, "service_status": {} }, "quorum": { "node": call.world.api_node, "quorate": u8::from(call.world.quorate).to_string() } }),
    )
}
