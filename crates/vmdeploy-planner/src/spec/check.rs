//! The check of what a file says against the table, key by key, before anything is merged.

use super::diagnostic::Span;
use super::faults::{Faults, Path};
use super::hints::{
    closest, example, nearest, number_hint, shape_hint, time_hint, truth_hint, unit_hint, word_hint,
};
use super::scalar::{parse_bool, parse_duration, parse_number};
use super::schema::{Field, Kind, Nullable, Object, TextRule, rules};
use super::tree::{Node, Shape};
use pve_types::Bytes;
use std::collections::HashSet;

/// How many keys a map with fixed keys may have, known or not.
const MAX_KEYS: usize = 1_000;
/// How many entries a free map, and how many items a list, may have.
const MAX_ENTRIES: usize = 20_000;
/// How many values a free value, such as an inventory variable, may hold.
const MAX_FREE_VALUES: usize = 10_000;

/// Refuses a map or list that is far too long; nothing is read of such a spec.
fn is_flood(node: Node<'_>, most: usize, path: Path<'_>, faults: &mut Faults) -> bool {
    let is_flood = node.len() > most;
    if is_flood {
        let message = format!("{} entries are too many; the limit is {most}", node.len());
        faults.error(node.span(), path, message);
        faults.give_up();
    }
    is_flood
}

/// Checks a map (or the scalar that stands for it).
pub(crate) fn check_object(node: Node<'_>, object: &'static Object, path: Path<'_>, faults: &mut Faults) {
    match node.shape() {
        Shape::Map => check_entries(node, object, path, faults),
        Shape::Plain(_) | Shape::Quoted(_) if object.secret => refuse_literal(node, path, faults),
        Shape::List if object.secret => refuse_literal(node, path, faults),
        Shape::Plain(_) | Shape::Quoted(_) => match object.shorthand.and_then(|key| object.field(key)) {
            Some(field) => check_kind(node, &field.kind, path, faults),
            None => wrong(node, &Kind::Object(object), path, faults),
        },
        Shape::Null | Shape::List => wrong(node, &Kind::Object(object), path, faults),
    }
}

fn refuse_literal(node: Node<'_>, path: Path<'_>, faults: &mut Faults) {
    faults.conceal(node.span());
    let message = "a spec must not contain a secret; it is not shown here";
    faults.error_hint(
        node.span(),
        path,
        message,
        "write its source: `{env: NAME}`, `{file: PATH}` or `{command: [...]}`",
    );
}

fn check_entries(node: Node<'_>, object: &'static Object, path: Path<'_>, faults: &mut Faults) {
    each_entry(node, MAX_KEYS, path, faults, |key, name, value, faults| match object.field(name) {
        Some(field) => check_field(value, field, path.key(name), faults),
        None => unknown_key(key, value, name, object, path, faults),
    });
}

/// Calls `check` with each key, its text and its value, unless there are more than `most`; a key that stands twice is a
/// fault.
fn each_entry<'a>(
    node: Node<'a>,
    most: usize,
    path: Path<'_>,
    faults: &mut Faults,
    mut check: impl FnMut(Node<'a>, &'a str, Node<'a>, &mut Faults),
) {
    if is_flood(node, most, path, faults) {
        return;
    }
    let mut seen = HashSet::with_capacity(node.len());
    for (key, value) in node.entries() {
        if faults.are_full() {
            return;
        }
        let Some(name) = key_text(key, path, faults) else { continue };
        if !seen.insert(name) {
            faults.error_hint(key.span(), path.key(name), "duplicate key", "remove one of them");
            continue;
        }
        check(key, name, value, faults);
    }
}

fn check_field(value: Node<'_>, field: &'static Field, path: Path<'_>, faults: &mut Faults) {
    if !value.is_null() {
        check_kind(value, &field.kind, path, faults);
    } else if !field.nullable && !path.is_layered() {
        refuse_null(value.span(), field, path, faults);
    }
}

/// Refuses a `null` that removes nothing.
pub(crate) fn refuse_null(span: Span, field: &Field, path: Path<'_>, faults: &mut Faults) {
    let hint = match &field.kind {
        Kind::Map(rule, _, Nullable::Yes) => {
            format!("name what to remove: `{}: {{{}: null}}`", field.key, rule.example)
        }
        kind => format!("remove the key, or write {}", kind.describe()),
    };
    faults.error_hint(span, path, "`null` is not allowed here", hint);
}

fn key_text<'a>(key: Node<'a>, path: Path<'_>, faults: &mut Faults) -> Option<&'a str> {
    let text = key.text();
    if text.is_none() {
        let hint = "check for an extra `- ` or a missing space after `:`";
        faults.error_hint(key.span(), path, "a key must be a plain string", hint);
    }
    text
}

fn unknown_key(
    key: Node<'_>,
    value: Node<'_>,
    name: &str,
    object: &Object,
    path: Path<'_>,
    faults: &mut Faults,
) {
    let shown: String = name.chars().take(60).collect();
    let message = format!("unknown key `{}`", shown.escape_debug());
    let close = closest(name, object.fields.iter().map(|field| field.key)).and_then(|key| object.field(key));
    let meant_secret =
        close.is_some_and(|field| matches!(&field.kind, Kind::Object(object) if object.secret));
    if object.secret || meant_secret || name.to_ascii_lowercase().contains("pass") || name.contains("secret")
    {
        faults.conceal(value.span());
    }
    let hint = match (name, suggestion(name, object)) {
        ("<<", _) => "merge keys (`<<`) are not supported: use `profiles:` and `profile:`".to_owned(),
        (_, Some(hint)) => hint,
        (_, None) => keys_hint(name, object),
    };
    faults.error_hint(key.span(), path, message, hint);
}

/// How many keys are named where none is close to what was written.
const NAMED_KEYS: usize = 12;

/// Names the keys, or the closest ones of many.
fn keys_hint(name: &str, object: &Object) -> String {
    let mut keys: Vec<_> = object.fields.iter().map(|field| field.key).collect();
    keys.sort_unstable();
    if keys.len() <= NAMED_KEYS {
        return format!("valid keys are {}", keys.join(", "));
    }
    let near = nearest(name, &keys, 3).join("`, `");
    format!(
        "similar keys are `{near}`; docs/spec.md and `vmdeploy schema` list all keys of `{}`",
        object.name
    )
}

/// Returns what was probably meant by an unknown key.
fn suggestion(name: &str, object: &Object) -> Option<String> {
    if let Some((_, meant)) = SYNONYMS.iter().find(|(object_name, _)| *object_name == (object.name, name)) {
        return Some((*meant).to_owned());
    }
    let close = closest(name, object.fields.iter().map(|field| field.key));
    close.map(|key| format!("did you mean `{key}`?"))
}

/// What other tools, and PVE, call what a spec calls otherwise.
const SYNONYMS: &[((&str, &str), &str)] = &[
    (("vm", "count"), "write a group: `groups: {NAME: {count: 3, vm: {…}}}`"),
    (("vm", "replicas"), "write a group: `groups: {NAME: {count: 3, vm: {…}}}`"),
    (("vm", "for_each"), "write a group: `groups: {NAME: {members: [a, b], vm: {…}}}`"),
    (("vm", "depends_on"), "write `after: [NAME]`"),
    (("vm", "needs"), "write `after: [NAME]`"),
    (("vm", "requires"), "write `after: [NAME]`"),
    (("vm", "rollout"), "a rollout is that of a group, `groups: {NAME: {rollout: …}}`, or of the spec"),
    (("group", "replicas"), "write `count: N`"),
    (("group", "size"), "write `count: N`"),
    (("group", "template"), "write `vm: {…}`"),
    (("group", "vms"), "write `members: [a, b]`"),
    (("rollout", "batch"), "write `max_unavailable: N`"),
    (("rollout", "batch_size"), "write `max_unavailable: N`"),
    (("rollout", "serial"), "write `max_unavailable: N`"),
    (("vm", "target_node"), "write `node: pve1`"),
    (("vm", "host"), "write `node: pve1`, or `inventory: {host: ADDRESS}` for its address"),
    (("vm", "hostname"), "the VM's key is its name"),
    (("vm", "iso"), "write `disks: {ide2: {iso: \"local:iso/NAME.iso\"}}`"),
    (("vm", "cores"), "write `cpu: {cores: N}`, or `cpu: N`"),
    (("vm", "sockets"), "write `cpu: {sockets: N}`"),
    (("vm", "cpus"), "write `cpu: N`"),
    (("vm", "ram"), "write `memory: 4GiB`"),
    (("vm", "balloon"), "write `memory: {balloon: 1GiB}`"),
    (("vm", "net"), "write `nics: {net0: {bridge: vmbr0}}`"),
    (("vm", "network"), "write `nics: {net0: {bridge: vmbr0}}`"),
    (("vm", "networks"), "write `nics: {net0: {bridge: vmbr0}}`"),
    (("vm", "net0"), "write `nics: {net0: {bridge: vmbr0}}`"),
    (("vm", "scsi0"), "write `disks: {scsi0: {storage: local-lvm, size: 20GiB}}`"),
    (("vm", "storage"), "write `disks: {scsi0: {storage: local-lvm, size: 20GiB}}`"),
    (("vm", "image"), "write `disks: {scsi0: {storage: local-lvm, image: NAME}}`"),
    (("vm", "id"), "write `vmid: 201`"),
    (("vm", "name"), "the VM's key is its name"),
    (("vm", "os"), "write `ostype: l26`"),
    (("vm", "efi"), "write `bios: {type: ovmf, efi: {storage: local-lvm}}`"),
    (("vm", "efidisk0"), "write `bios: {type: ovmf, efi: {storage: local-lvm}}`"),
    (("vm", "tpmstate0"), "write `tpm: {storage: local-lvm}`"),
    (("vm", "user"), "write `cloud_init: {user: admin}`"),
    (("vm", "password"), "write `cloud_init: {password: {env: NAME}}`"),
    (("vm", "ssh_keys"), "write `cloud_init: {ssh_keys: [{file: ~/.ssh/id_ed25519.pub}]}`"),
    (("vm", "state"), "write `lifecycle: {state: running}`"),
    (("vm", "ip"), "write `nics: {net0: {ip: 10.0.0.5/24}}`"),
    (("vm", "profiles"), "write `profile: [NAME]`; `profiles:` is a top-level key"),
    (("vm", "hugepages"), "write `memory: {hugepages: any}`"),
    (("vm", "affinity"), "write `cpu: {affinity: 0-3}`"),
    (("vm", "args0"), "write `args: …`"),
    (("disk", "replicate_"), "write `replicate`"),
    (("disk", "pool"), "write `storage`"),
    (("disk", "datastore"), "write `storage`"),
    (("disk", "media"), "write `iso: …` for a CD drive"),
    (("disk", "ro"), "write `readonly`"),
    (("disk", "mbps_rd"), "write `throttle: {read_mbps: N}`"),
    (("disk", "mbps_wr"), "write `throttle: {write_mbps: N}`"),
    (("disk", "import_from"), "write `image: NAME`, and define the image below `images:`"),
    (("nic", "gw"), "write `gateway`"),
    (("nic", "gw6"), "write `gateway6`"),
    (("nic", "tag"), "write `vlan`"),
    (("nic", "macaddr"), "write `mac`"),
    (("nic", "address"), "write `ip: 10.0.0.5/24`"),
    (("nic", "ipv4"), "write `ip: 10.0.0.5/24`"),
    (("nic", "ipv6"), "write `ip6: fd00::5/64`"),
    (("cloud_init", "ciuser"), "write `user`"),
    (("cloud_init", "cipassword"), "write `password: {env: NAME}`"),
    (("cloud_init", "sshkeys"), "write `ssh_keys`"),
    (("cloud_init", "nameserver"), "write `dns: {servers: [10.0.0.1]}`"),
    (("cloud_init", "searchdomain"), "write `dns: {search: example.org}`"),
    (("cloud_init", "userdata"), "write `user_data`"),
    (("ssh", "mode"), "`transport` controls the use of SSH: `transport: api` does not use it"),
    (("limits", "tasks"), "write `per_node`"),
    (("tls", "verify"), "TLS verification cannot be disabled: set `fingerprint` or `ca_file`"),
    (("tls", "insecure"), "TLS verification cannot be disabled: set `fingerprint` or `ca_file`"),
    (("spec", "vm"), "write `vms: {NAME: {…}}`"),
    (("spec", "cluster"), "write `clusters: {NAME: {…}}`"),
];

/// Checks a value.
pub(crate) fn check_kind(node: Node<'_>, kind: &'static Kind, path: Path<'_>, faults: &mut Faults) {
    match kind {
        Kind::Object(object) => check_object(node, object, path, faults),
        Kind::Map(rule, value, nullable) => check_map(node, rule, value, *nullable, path, faults),
        Kind::List(item) => match node.shape() {
            Shape::List => check_items(node, item, path, faults),
            _ => wrong(node, kind, path, faults),
        },
        Kind::OneOrMany(item) => match node.shape() {
            Shape::List => check_items(node, item, path, faults),
            _ => check_kind(node, item, path, faults),
        },
        Kind::OneOf(kinds) => check_one_of(node, kinds, path, faults),
        Kind::Free => check_free(node, path, faults),
        _ => match node.shape() {
            Shape::Plain(_) | Shape::Quoted(_) => check_scalar(node, kind, path, faults),
            Shape::Null | Shape::List | Shape::Map => wrong(node, kind, path, faults),
        },
    }
}

fn check_items(node: Node<'_>, item: &'static Kind, path: Path<'_>, faults: &mut Faults) {
    if is_flood(node, MAX_ENTRIES, path, faults) {
        return;
    }
    for (at, value) in node.items().enumerate() {
        if faults.are_full() {
            return;
        }
        let number = at.to_string();
        check_kind(value, item, path.key(&number), faults);
    }
}

fn check_map(
    node: Node<'_>,
    rule: &'static TextRule,
    kind: &'static Kind,
    nullable: Nullable,
    path: Path<'_>,
    faults: &mut Faults,
) {
    if !matches!(node.shape(), Shape::Map) {
        let hint = match node.shape() {
            Shape::List => format!(
                "write a map, `{{{}: …}}`: its keys stay stable when entries are removed",
                rule.example
            ),
            _ => format!("write `{{{}: …}}`", rule.example),
        };
        faults.error_hint(node.span(), path, format!("it must be a map keyed by {}", rule.name), hint);
        return;
    }
    each_entry(node, MAX_ENTRIES, path, faults, |key, name, value, faults| {
        check_text(key, name, rule, path, faults);
        if !value.is_null() || !(nullable == Nullable::Yes || path.is_layered()) {
            check_kind(value, kind, path.key(name), faults);
        }
    });
}

/// Checks a free value; its keys must be words, and it must not be endless.
fn check_free(node: Node<'_>, path: Path<'_>, faults: &mut Faults) {
    let mut left = MAX_FREE_VALUES;
    if !free_value_fits(node, &mut left, path, faults) && !faults.are_full() {
        faults.error(node.span(), path, format!("this contains more than {MAX_FREE_VALUES} values"));
        faults.give_up();
    }
}

fn free_value_fits(node: Node<'_>, left: &mut usize, path: Path<'_>, faults: &mut Faults) -> bool {
    if node.len() > *left {
        return false;
    }
    *left -= node.len();
    let mut seen = HashSet::new();
    for (key, value) in node.entries() {
        let Some(name) = key_text(key, path, faults) else { continue };
        if !seen.insert(name) {
            faults.error_hint(key.span(), path.key(name), "duplicate key", "remove one of them");
        }
        if faults.are_full() || !free_value_fits(value, left, path.key(name), faults) {
            return false;
        }
    }
    node.items().all(|value| free_value_fits(value, left, path, faults))
}

fn check_one_of(node: Node<'_>, kinds: &'static [Kind], path: Path<'_>, faults: &mut Faults) {
    let fitting: Vec<&'static Kind> = kinds.iter().filter(|kind| takes_shape(kind, node)).collect();
    match fitting.as_slice() {
        [] => {
            let words: Vec<String> = kinds.iter().map(Kind::describe).collect();
            let map = kinds.iter().find(|kind| matches!(kind, Kind::Object(_)));
            let hint = map.or(kinds.first()).map_or_else(String::new, |kind| shape_hint(node, kind));
            faults.error_hint(node.span(), path, format!("it must be {}", words.join(", or ")), hint);
        }
        [only] => check_kind(node, only, path, faults),
        several => {
            let mut trial = Faults::default();
            for kind in several {
                trial = Faults::default();
                check_kind(node, kind, path, &mut trial);
                if !trial.has_errors() {
                    return;
                }
            }
            drop(trial);
            let text = node.text().unwrap_or_default();
            let words: Vec<String> = several.iter().map(|kind| kind.describe()).collect();
            let message = format!("`{}` is not {}", shown(text), words.join(", or "));
            let reason = || {
                let mut reasons = several.iter().filter_map(|kind| match kind {
                    Kind::Text(rule) => (rule.check)(text).err(),
                    _ => None,
                });
                reasons.next()
            };
            let like = || {
                several.iter().find_map(|kind| example(kind)).map(|like| format!("write it like `{like}`"))
            };
            let hint = several.iter().find_map(|kind| unit_hint(text, kind)).or_else(reason).or_else(like);
            match hint {
                Some(hint) => faults.error_hint(node.span(), path, message, hint),
                None => faults.error_hint(node.span(), path, message, "use one of these"),
            }
        }
    }
}

/// Tells whether a value of this shape can be of this kind at all.
fn takes_shape(kind: &Kind, node: Node<'_>) -> bool {
    match (kind, node.shape()) {
        (Kind::Object(object), Shape::Plain(_) | Shape::Quoted(_)) => object.shorthand.is_some(),
        (Kind::Object(_) | Kind::Map(..), shape) => matches!(shape, Shape::Map),
        (Kind::List(_), shape) => matches!(shape, Shape::List),
        (Kind::OneOrMany(_) | Kind::OneOf(_) | Kind::Free, _) => true,
        (_, shape) => matches!(shape, Shape::Plain(_) | Shape::Quoted(_)),
    }
}

fn wrong(node: Node<'_>, kind: &Kind, path: Path<'_>, faults: &mut Faults) {
    let found = match node.shape() {
        Shape::Null => "the value is empty",
        Shape::Plain(_) | Shape::Quoted(_) => "this is a single value",
        Shape::List => "this is a list",
        Shape::Map => "this is a map",
    };
    let message = format!("{found}; it must be {}", kind.describe());
    faults.error_hint(node.span(), path, message, shape_hint(node, kind));
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

fn check_text(node: Node<'_>, text: &str, rule: &TextRule, path: Path<'_>, faults: &mut Faults) {
    if text.contains("PRIVATE KEY") {
        faults.conceal(node.span());
        let message = "a spec must not contain a private key; it is not shown here";
        faults.error_hint(
            node.span(),
            path,
            message,
            "remove it from the file and its git history, and create a new key",
        );
        return;
    }
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if rule.name == rules::ENV.name && !is_word {
        // Perhaps the secret itself was written where its variable's name belongs.
        faults.conceal(node.span());
        let message = "this is not the name of an environment variable; it is not shown here";
        faults.error_hint(node.span(), path, message, format!("write it like `{}`", rule.example));
        return;
    }
    let is_address = rule.name == rules::URL.name || rule.name == rules::ENDPOINT.name;
    let of_host = text.split_once("://").map_or(text, |(_, rest)| rest).split(['/', '?', '#']).next();
    if is_address && of_host.is_some_and(|host| host.contains('@')) {
        faults.conceal(node.span());
        let message = "a spec must not contain an address with a user or password; it is not shown here";
        let hint = format!("write it without them, like `{}`, and change the password", rule.example);
        faults.error_hint(node.span(), path, message, hint);
        return;
    }
    if let Err(reason) = (rule.check)(text) {
        let message = format!("`{}` is not a valid {}: {reason}", shown(text), rule.name);
        let hint = path_hint(rule, text, path).unwrap_or_else(|| format!("write it like `{}`", rule.example));
        faults.error_hint(node.span(), path, message, hint);
    }
}

/// Returns how to write a path that was given instead of a volume or a public key.
fn path_hint(rule: &TextRule, text: &str, path: Path<'_>) -> Option<String> {
    if rule.name == rules::KEY_SOURCE.name && (text.ends_with(".pub") || text.starts_with(['~', '/', '.'])) {
        return Some(format!("write `{{file: {}}}`", shown(text)));
    }
    if rule.name != rules::VOLUME.name || !text.starts_with('/') {
        return None;
    }
    if path.to_string().starts_with("images.") {
        return Some("write a file of the node as `path:` instead of `volume:`".to_owned());
    }
    Some("write a device or file of the node in `raw`: `raw: {scsi1: \"/dev/disk/by-id/…\"}`".to_owned())
}

fn check_scalar(node: Node<'_>, kind: &Kind, path: Path<'_>, faults: &mut Faults) {
    let text = node.text().unwrap_or_default();
    let refuse = |faults: &mut Faults, hint: String| {
        let message = format!("`{}` is not {}", shown(text), kind.describe());
        faults.error_hint(node.span(), path, message, hint);
    };
    let quoted = matches!(node.shape(), Shape::Quoted(_));
    match kind {
        Kind::Text(rule) => check_text(node, text, rule, path, faults),
        Kind::Choice(words) if !words.contains(&text) => refuse(faults, word_hint(text, words)),
        Kind::Bool | Kind::Only(_) | Kind::Int(..) | Kind::Number(..) if quoted => {
            let helps = parse_bool(text).is_some() || parse_number(text).is_some();
            let unquoted = || "write it without quotes".to_owned();
            refuse(faults, if helps { unquoted() } else { unit_hint(text, kind).unwrap_or_else(unquoted) });
        }
        Kind::Bool if parse_bool(text).is_none() => {
            refuse(faults, truth_hint(text).unwrap_or_else(|| "write `true` or `false`".to_owned()));
        }
        Kind::Only(truth) if parse_bool(text) != Some(*truth) => refuse(faults, format!("write `{truth}`")),
        Kind::Int(min, max) if !text.parse().is_ok_and(|number: i64| (*min..=*max).contains(&number)) => {
            refuse(faults, unit_hint(text, kind).unwrap_or_else(|| number_hint(text, (*min, *max))));
        }
        // `0201` is 129 to some readers of YAML.
        Kind::Int(..) if text.len() > 1 && text.starts_with(['0', '+']) => {
            refuse(faults, "write it without a sign and without leading zeros".to_owned());
        }
        Kind::Number(min, max)
            if parse_number(text).is_none_or(|number| !(*min..=*max).contains(&number)) =>
        {
            refuse(faults, "write a number in that range, with a decimal point".to_owned());
        }
        Kind::Size(min, max, step) => check_size(node, text, (*min, *max, *step), path, faults),
        Kind::Duration if parse_duration(text).is_none() => refuse(faults, time_hint(text)),
        _ => {}
    }
}

fn check_size(
    node: Node<'_>,
    text: &str,
    (min, max, step): (u64, u64, u64),
    path: Path<'_>,
    faults: &mut Faults,
) {
    match text.parse::<Bytes>() {
        Ok(size) if (min..=max).contains(&size.get()) && size.get().is_multiple_of(step) => {}
        Ok(size) if (min..=max).contains(&size.get()) => {
            let (below, above) = (size.get() / step * step, size.get().div_ceil(step) * step);
            let fits = [below, above].into_iter().filter(|size| (min..=max).contains(size) && *size > 0);
            let fits: Vec<String> = fits.map(|size| format!("`{}MiB`", size >> 20)).collect();
            let message = format!("`{}` is not a whole number of MiB, which PVE requires", shown(text));
            faults.error_hint(node.span(), path, message, format!("write {}", fits.join(" or ")));
        }
        Ok(size) => {
            let between = format!("it must be {} to {}", Bytes::new(min), Bytes::new(max));
            let hint = if size.get() < min {
                format!("the minimum is `{}`", Bytes::new(min))
            } else {
                format!("the maximum is `{}`", Bytes::new(max))
            };
            faults.error_hint(node.span(), path, format!("`{size}` is out of range: {between}"), hint);
        }
        Err(error) => {
            let message = format!("`{}` is not a size: {}", shown(text), error.reason);
            let hint = unit_hint(text, &Kind::Size(min, max, step))
                .unwrap_or_else(|| "write it like `4GiB`".to_owned());
            faults.error_hint(node.span(), path, message, hint);
        }
    }
}
