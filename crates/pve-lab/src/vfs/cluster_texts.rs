//! The texts of the configuration files in `/etc/pve` that PVE makes of its state.

use std::collections::BTreeMap;

use crate::world::{Config, World};

pub(super) fn storage_cfg(world: &World) -> String {
    let mut text = String::new();
    for def in world.storages.values() {
        text.push_str(&format!("{}: {}\n", def.kind, def.id));
        for (key, value) in &def.options {
            match (key.as_str(), value.as_str()) {
                ("disable", "1") => text.push_str("\tdisable\n"),
                ("disable", _) => {}
                _ => text.push_str(&format!("\t{key} {value}\n")),
            }
        }
        let content: Vec<&str> = def.content.iter().map(String::as_str).collect();
        text.push_str(&format!("\tcontent {}\n\n", content.join(",")));
    }
    text
}

// PVE: pve-access-control src/PVE/AccessControl.pm write_user_config
pub(super) fn user_cfg(world: &World) -> String {
    let access = &world.access;
    let mut text = String::new();
    for (id, user) in &access.users {
        text.push_str(&format!("user:{id}:{}:0::::::\n", u8::from(user.enable)));
        for (name, token) in &user.tokens {
            text.push_str(&format!("token:{id}!{name}:{}:{}::\n", token.expire, u8::from(token.privsep)));
        }
    }
    text.push('\n');
    for (id, comment) in &access.groups {
        let members: Vec<&str> = access
            .users
            .iter()
            .filter(|(_, user)| user.groups.contains(id))
            .map(|(id, _)| id.as_str())
            .collect();
        text.push_str(&format!(
            "group:{id}:{}:{}:\n",
            members.join(","),
            comment.as_deref().unwrap_or_default()
        ));
    }
    text.push('\n');
    for (id, pool) in &access.pools {
        let guests: Vec<String> = pool.guests.iter().map(ToString::to_string).collect();
        let storages: Vec<&str> = pool.storages.iter().map(String::as_str).collect();
        text.push_str(&format!(
            "pool:{id}:{}:{}:{}:\n",
            pool.comment.as_deref().unwrap_or_default(),
            guests.join(","),
            storages.join(",")
        ));
    }
    text.push('\n');
    for (id, role) in access.roles.iter().filter(|(_, role)| !role.special) {
        let privileges: Vec<&str> = role.privileges.iter().map(|privilege| privilege.as_str()).collect();
        text.push_str(&format!("role:{id}:{}:\n", privileges.join(",")));
    }
    text.push('\n');
    for (path, node) in &access.acl {
        let of = |grants: &crate::world::Grants, sign: &str| -> String {
            let entries = grants
                .iter()
                .flat_map(|(id, roles)| roles.iter().map(move |(role, propagate)| (id, role, propagate)));
            entries
                .map(|(id, role, propagate)| {
                    format!("acl:{}:{path}:{sign}{id}:{role}:\n", u8::from(*propagate))
                })
                .collect()
        };
        text.push_str(&of(&node.groups, "@"));
        text.push_str(&of(&node.users, ""));
        text.push_str(&of(&node.tokens, ""));
    }
    text
}

/// A file of sections: `vm: 100`, then its options, each after a tab.
// PVE: pve-common src/PVE/SectionConfig.pm write_config.
pub(super) fn sections(sections: &BTreeMap<String, Config>) -> String {
    let section = |(id, options): (&String, &Config)| {
        let of_id = id.split_once(':').map_or("group", |(kind, _)| kind);
        let kind = options.get("type").map_or(of_id, String::as_str);
        let name = id.strip_prefix(&format!("{kind}:")).unwrap_or(id);
        let mut text = format!("{kind}: {name}\n");
        for (key, value) in options.iter().filter(|(key, _)| *key != "type") {
            text += &format!("\t{key} {value}\n");
        }
        text + "\n"
    };
    sections.iter().map(section).collect()
}

/// A file of mappings: sections of a name alone, and each entry of `map` on a line of its own.
// PVE: pve-guest-common src/PVE/Mapping/PCI.pm format_section_header.
pub(super) fn mappings(sections: &BTreeMap<String, Config>) -> String {
    let section = |(id, options): (&String, &Config)| {
        let mut text = format!("{id}\n");
        for (key, value) in options {
            let entries: Option<Vec<String>> =
                (key == "map").then(|| serde_json::from_str(value).ok()).flatten();
            for entry in entries.unwrap_or_else(|| vec![value.clone()]) {
                text += &format!("\t{key} {entry}\n");
            }
        }
        text + "\n"
    };
    sections.iter().map(section).collect()
}

/// The VNets of all zones.
// PVE: pve-network src/PVE/Network/SDN/Vnets.pm, /etc/pve/sdn/vnets.cfg.
pub(super) fn vnets_cfg(world: &World) -> String {
    let mut text = String::new();
    for (zone, spec) in &world.zones {
        for (id, vnet) in &spec.vnets {
            text += &format!("vnet: {id}\n\tzone {zone}\n");
            text += &vnet.tag.map_or_else(String::new, |tag| format!("\ttag {tag}\n"));
            text += if vnet.vlanaware { "\tvlanaware 1\n\n" } else { "\n" };
        }
    }
    text
}

/// The cluster and its nodes, as JSON.
// PVE: pve-cluster src/pmxcfs/status.c create_cluster_members.
pub(super) fn members(world: &World, here: &str) -> String {
    let Some(name) = &world.cluster else {
        return format!("{{\n\"nodename\": \"{here}\",\n\"version\": 0\n}}\n");
    };
    let node = |(name, node): (&String, &crate::world::Node)| {
        let is_up = u8::from(node.spec.up);
        format!(
            "  \"{name}\": {{ \"id\": {}, \"online\": {is_up}, \"ip\": \"{}\"}}",
            node.number, node.address
        )
    };
    let nodes: Vec<String> = world.nodes.iter().map(node).collect();
    let quorate = u8::from(world.quorate);
    format!(
        "{{\n\"nodename\": \"{here}\",\n\"version\": 5,\n\"cluster\": {{ \"name\": \"{name}\", \"version\": 2, \
         \"nodes\": {}, \"quorate\": {quorate} }},\n\"nodelist\": {{\n{}\n  }}\n}}\n",
        nodes.len(),
        nodes.join(",\n")
    )
}
