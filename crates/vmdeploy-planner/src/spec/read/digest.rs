//! What a spec means, as one number: not its layout, comments, order or files.

use super::{Named, Top};
use crate::spec::model::{Pin, Spanned};
use crate::spec::tree::{Node, Shape};
use pve_types::GuestName;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Returns the SHA-256, in hexadecimal.
pub(super) fn of(
    top: &Top<'_>,
    project: Option<&Spanned<String>>,
    pins: &BTreeMap<(String, GuestName), Pin>,
) -> String {
    let mut hash = Sha256::new();
    text(&mut hash, b'p', project.map_or("", |project| &project.value));
    text(&mut hash, b'r', &format!("{:?}", top.transport.map(|transport| transport.value)));
    if let Some(defaults) = top.defaults {
        value(&mut hash, defaults);
    }
    if let Some(moved) = top.moved_from {
        hash.update([b'm']);
        value(&mut hash, moved);
    }
    for (mark, things) in
        [(b'c', &top.clusters), (b'i', &top.images), (b'f', &top.profiles), (b'v', &top.vms)]
    {
        named(&mut hash, mark, things);
    }
    if let Some(pools) = top.address_pools {
        hash.update([b'a']);
        value(&mut hash, pools);
    }
    if let Some(rollout) = top.rollout {
        hash.update([b'o']);
        value(&mut hash, rollout);
    }
    if !top.groups.list.is_empty() {
        named(&mut hash, b'g', &top.groups);
    }
    for ((cluster, name), pin) in pins {
        text(&mut hash, b'l', &format!("{cluster}/{name}={}", pin.vmid));
    }
    pve_types::hex(hash.finalize())
}

fn named(hash: &mut Sha256, mark: u8, things: &Named<'_>) {
    hash.update([mark]);
    for (name, &at) in &things.at {
        text(hash, b'k', name);
        value(hash, things.list[at].2);
    }
    hash.update([b'.']);
}

fn value(hash: &mut Sha256, node: Node<'_>) {
    match node.shape() {
        Shape::Null => hash.update([b'0']),
        Shape::Plain(plain) => text(hash, b's', plain),
        Shape::Quoted(quoted) => text(hash, b'q', quoted),
        Shape::List => {
            hash.update([b'[']);
            node.items().for_each(|item| value(hash, item));
            hash.update([b']']);
        }
        Shape::Map => {
            let mut entries: Vec<_> = node.entries().collect();
            entries.sort_by_key(|(key, _)| key.text().unwrap_or_default());
            hash.update([b'{']);
            for (key, inner) in entries {
                text(hash, b'k', key.text().unwrap_or_default());
                value(hash, inner);
            }
            hash.update([b'}']);
        }
    }
}

fn text(hash: &mut Sha256, mark: u8, text: &str) {
    hash.update([mark]);
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}
