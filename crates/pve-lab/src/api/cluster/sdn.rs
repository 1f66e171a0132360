//! SDN: zones and their VNets, as the world file says; the zone of plain bridges is always there and never listed.

use pve_types::Privilege;
use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};
use crate::world::{Stage, Worker};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/sdn", |_| Ok(["vnets", "zones"].iter().map(|name| json!({ "id": name })).collect())),
    ("GET", "/cluster/sdn/vnets", vnets),
    ("GET", "/cluster/sdn/zones", zones),
    ("PUT", "/cluster/sdn", reload),
];

/// Tells whether the caller may look at a zone or a VNet; the right to use it is not enough.
// PVE: pve-network src/PVE/API2/Network/SDN/Vnets.pm and Zones.pm, index.
fn sees(call: &Call<'_>, path: &str) -> bool {
    call.require_any(path, &[Privilege::SdnAudit, Privilege::SdnAllocate]).is_ok()
}

fn vnets(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let all = call.world.zones.iter().flat_map(|(zone, spec)| {
        spec.vnets.iter().map(move |(id, vnet)| {
            let mut shown = json!({ "vnet": id, "zone": zone, "type": "vnet" });
            if let Some(tag) = vnet.tag {
                shown["tag"] = tag.into();
            }
            if vnet.vlanaware {
                shown["vlanaware"] = 1.into();
            }
            (format!("/sdn/zones/{zone}/{id}"), shown)
        })
    });
    Ok(all.filter(|(path, _)| sees(call, path)).map(|(_, shown)| shown).collect())
}

fn zones(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let kind = call.text("type");
    let all = call.world.zones.iter().filter(|(_, zone)| kind.is_none_or(|kind| zone.kind == kind));
    let shown = all.filter(|(id, _)| sees(call, &format!("/sdn/zones/{id}"))).map(|(id, zone)| {
        let mut shown = json!({ "zone": id, "type": zone.kind });
        if !zone.nodes.is_empty() {
            shown["nodes"] = zone.nodes.iter().cloned().collect::<Vec<_>>().join(",").into();
        }
        shown
    });
    Ok(shown.collect())
}

fn reload(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let stage = Stage::now(|world, key| {
        let nodes: Vec<String> = world.nodes.keys().cloned().collect();
        nodes.iter().for_each(|node| world.log(key, format!("reloading network config on node {node}")));
        Ok(())
    });
    let worker = Worker {
        node: call.caller.node.clone(),
        kind: "reloadnetworkall",
        id: String::new(),
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    };
    Ok(call.world.start_worker(worker).into())
}
