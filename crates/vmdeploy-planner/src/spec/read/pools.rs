//! Address pools.

use super::cluster::values_of;
use crate::spec::faults::{Faults, Path};
use crate::spec::pools::{AddressPool, parse_range};
use crate::spec::schema::TOP;
use crate::spec::tree::Node;
use crate::spec::view::{View, check_complete};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Reads the pools.
pub(super) fn read_pools(node: Option<Node<'_>>, faults: &mut Faults) -> BTreeMap<String, AddressPool> {
    let object = values_of(&TOP, "address_pools");
    let Some(pools) = node.and_then(|node| View::of(vec![node])) else { return BTreeMap::new() };
    let top = Path::TOP.key("address_pools");
    let mut found = BTreeMap::new();
    for (name, span, view) in pools.entries() {
        let path = top.key(name);
        check_complete(&view, object, path, faults);
        let get = |key| view.some(object, key);
        let range = get("range").and_then(|range| parse_range(range.top().text()?));
        let prefix = get("prefix").and_then(|prefix| prefix.parse::<u8>());
        let (Some((first, last)), Some(prefix)) = (range, prefix) else { continue };
        let network =
            |address: Ipv4Addr| ipnet::Ipv4Net::new(address, prefix.value).map(|net| net.trunc()).ok();
        if network(first) != network(last) {
            let message = format!("{first} and {last} are not in one network with prefix {}", prefix.value);
            faults.error_hint(
                prefix.span,
                path.key("prefix"),
                message,
                "write a shorter prefix, or a smaller range",
            );
        }
        let exclude = get("exclude").map_or_else(Vec::new, |view| view.items());
        let pool = AddressPool {
            name: name.to_owned(),
            span,
            first,
            last,
            prefix: prefix.value,
            gateway: get("gateway").and_then(|gateway| gateway.parse()).map(|gateway| gateway.value),
            exclude: exclude.into_iter().filter_map(|node| node.text()?.parse().ok()).collect(),
        };
        found.insert(name.to_owned(), pool);
    }
    found
}
