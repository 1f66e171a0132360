//! SDN: the lab has the zone of plain bridges and no other.

use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};
use crate::world::{Stage, Worker};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/sdn", |_| Ok(["vnets", "zones"].iter().map(|name| json!({ "id": name })).collect())),
    ("GET", "/cluster/sdn/vnets", |_| Ok(json!([]))),
    ("GET", "/cluster/sdn/zones", |_| Ok(json!([]))),
    ("PUT", "/cluster/sdn", reload),
];

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
