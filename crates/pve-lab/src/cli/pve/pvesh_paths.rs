//! `pvesh ls` and `pvesh usage`: what lies below a path, and what its methods take.
// PVE: pve-manager PVE/CLI/pvesh.pm

use pve_types::PveVersion;

use super::{api, scalar};
use crate::Params;
use crate::cli::{Context, Exit};
use crate::schema;

/// The lists whose entries are paths, with the key that names them; an index's entries have a `name`.
const CHILDREN: &[(&str, &str)] = &[
    ("/access/domains", "realm"),
    ("/access/groups", "groupid"),
    ("/access/roles", "roleid"),
    ("/access/users", "userid"),
    ("/cluster", "name"),
    ("/cluster/firewall", "name"),
    ("/cluster/firewall/rules", "pos"),
    ("/nodes", "node"),
    ("/nodes/{node}", "name"),
    ("/nodes/{node}/capabilities", "name"),
    ("/nodes/{node}/capabilities/qemu", "name"),
    ("/nodes/{node}/firewall", "name"),
    ("/nodes/{node}/firewall/rules", "pos"),
    ("/nodes/{node}/network", "iface"),
    ("/nodes/{node}/qemu", "vmid"),
    ("/nodes/{node}/qemu/{vmid}/firewall", "name"),
    ("/nodes/{node}/qemu/{vmid}/firewall/rules", "pos"),
    ("/nodes/{node}/qemu/{vmid}/snapshot", "name"),
    ("/nodes/{node}/storage", "storage"),
    ("/nodes/{node}/tasks", "upid"),
    ("/pools", "poolid"),
    ("/storage", "storage"),
];

const METHODS: [(&str, &str); 4] = [("get", "GET"), ("set", "PUT"), ("create", "POST"), ("delete", "DELETE")];

fn child_key(version: PveVersion, path: &str) -> Option<&'static str> {
    let found = schema::method(version, "GET", path)?;
    CHILDREN.iter().find(|(template, _)| *template == found.endpoint.path).map(|(_, key)| *key)
}

/// `Dr-cd`: whether there is something below a path, and which methods it has.
fn capabilities(version: PveVersion, path: &str) -> String {
    let has = |method| schema::method(version, method, path).is_some();
    let read = match (has("GET"), child_key(version, path)) {
        (true, Some(_)) => "Dr",
        (true, None) => "-r",
        (false, _) => "--",
    };
    let of = |method, letter| if has(method) { letter } else { '-' };
    format!("{read}{}{}{}", of("PUT", 'w'), of("POST", 'c'), of("DELETE", 'd'))
}

/// Lists what lies below a path.
pub(super) async fn ls(context: &Context, path: &str) -> Exit {
    let version = context.node.world.with(|world| world.version);
    if schema::method(version, "GET", path).is_none() {
        return context.fail(255, format!("no such resource '{path}'")).await;
    }
    let Some(key) = child_key(version, path) else {
        return context.fail(255, format!("resource '{path}' does not define child links")).await;
    };
    let data = match api(context, "GET", path, &Params::new()).await {
        Ok(reply) => reply.data,
        Err(refusal) => return context.fail(255, refusal.full_text()).await,
    };
    let items = data.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = items.iter().map(|item| scalar(&item[key])).collect();
    names.sort();
    let line = |name: &String| {
        let below = format!("{}/{name}", path.trim_end_matches('/'));
        format!("{:<12} {name}\n", capabilities(version, &below))
    };
    let text: String = names.iter().map(line).collect();
    context.print(text).await.map(|()| 0)
}

/// Says what the methods of a path take.
pub(super) async fn usage(context: &Context, path: &str) -> Exit {
    let version = context.node.world.with(|world| world.version);
    let lines: Vec<String> =
        METHODS.iter().filter_map(|(command, method)| one_usage(version, command, method, path)).collect();
    match lines.is_empty() {
        true => context.fail(255, format!("no such resource '{path}'")).await,
        false => context.print(lines.concat()).await.map(|()| 0),
    }
}

fn one_usage(version: PveVersion, command: &str, method: &str, path: &str) -> Option<String> {
    let found = schema::method(version, method, path)?;
    let own = || found.endpoint.params.iter().filter(|param| !found.path_params.contains_key(&param.name));
    let mut required: Vec<String> = own()
        .filter(|param| param.required)
        .map(|param| format!("--{} <{}>", param.name, param.kind.name()))
        .collect();
    required.sort();
    let options = if own().any(|param| !param.required) { " [OPTIONS]" } else { "" };
    Some(format!("USAGE: pvesh {command} {path} {}{options}\n", required.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_capabilities_and_methods_have_parameters() {
        let version = PveVersion::new(9, 2, 11);
        assert_eq!(capabilities(version, "/pools"), "Drwcd");
        assert_eq!(capabilities(version, "/version"), "-r---");
        assert_eq!(capabilities(version, "/nodes/pve1/qemu/100/resize"), "--w--");
        let resize = one_usage(version, "set", "PUT", "/nodes/pve1/qemu/100/resize").unwrap();
        let expect =
            "USAGE: pvesh set /nodes/pve1/qemu/100/resize --disk <string> --size <string> [OPTIONS]\n";
        assert_eq!(resize, expect);
        assert_eq!(one_usage(version, "get", "GET", "/version").unwrap(), "USAGE: pvesh get /version \n");
    }

    #[test]
    fn every_list_of_the_table_is_an_endpoint() {
        let endpoints = schema::table(PveVersion::new(9, 2, 11)).endpoints();
        for (template, _) in CHILDREN {
            let is_there = endpoints.iter().any(|it| it.method == "GET" && it.path == *template);
            assert!(is_there, "{template}");
        }
    }
}
