//! One VM.

use super::IN_VM;
use super::cluster::values_of;
use super::devices::{read_cloud_init, read_disks, read_nics};
use super::raw::read_raw;
use crate::plan::{IpFamily, OnFailure};
use crate::spec::diagnostic::Span;
use crate::spec::faults::{Faults, Path};
use crate::spec::lower::{Options, lower_options};
use crate::spec::model::{
    CloneFrom, CloneMode, CloneSource, Desired, DesiredOption, Duplicate, Ha, Inventory, Lifecycle,
    MovedFrom, OptionValue, Permission, PowerState, Ready, ReadyCommand, ReadyIp, ReadyTcp, Replacement,
    Spanned, Vm, VmidWish,
};
use crate::spec::schema::{MOVED_FROM, Object, VM};
use crate::spec::tree::{Node, Shape};
use crate::spec::view::View;
use pve_types::{GuestName, HaState, NodeName, Vmid};
use std::collections::BTreeSet;
use std::time::Duration;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// Reads a VM; nothing if its name is none.
pub(super) fn read_vm(
    view: &View<'_>,
    name: &str,
    span: Span,
    clusters: &[&str],
    path: Path<'_>,
    faults: &mut Faults,
) -> Option<Vm> {
    let name: GuestName = name.parse().ok()?;
    let get = |key| view.some(&VM, key);
    let mut options = Options::new();
    lower_options(view, &VM, IN_VM, &mut options);
    // The cloud-init keys are lowered with cloud-init.
    options.retain(|_, desired| desired.path != "cloud_init" && !desired.path.starts_with("cloud_init."));
    read_boot(view, &mut options);
    if let Some(raw) = get("raw") {
        read_raw(&raw, path.key("raw"), &mut options, faults);
    }
    Some(Vm {
        name: Spanned::new(name, span),
        group: None,
        after: get("after").map(|after| read_names(&after)).unwrap_or_default(),
        cluster: cluster_of(view, span, clusters, path, faults),
        vmid: read_vmid(get("vmid").as_ref(), path, faults),
        uuid: get("uuid").and_then(|uuid| uuid.text()).map(|uuid| uuid.map(str::to_ascii_lowercase)),
        renamed_from: get("renamed_from").and_then(|old| old.parse::<GuestName>()),
        moved_from: get("moved_from").as_ref().and_then(read_moved_from),
        allow_duplicate: get("allow_duplicate").map(|view| read_duplicates(&view)).unwrap_or_default(),
        node: placed(view, "node", path, faults).and_then(|node| node.parse::<NodeName>()),
        pool: View::desired(placed(view, "pool", path, faults).as_ref()),
        ha: read_ha(view.get(&VM, "ha").as_ref()),
        description: read_text(view.get(&VM, "description").as_ref()),
        tags: read_tags(view.get(&VM, "tags").as_ref()),
        template: get("template").and_then(|view| view.bool()).is_some_and(|template| template.value),
        clone: get("clone").and_then(|clone| read_clone(&clone)),
        options,
        disks: read_disks(view, path, faults),
        nics: read_nics(view),
        cloud_init: get("cloud_init").map(|cloud| read_cloud_init(&cloud)),
        lifecycle: get("lifecycle").map(|life| read_lifecycle(&life)).unwrap_or_default(),
        ready: get("ready").map(|ready| read_ready(&ready)).unwrap_or_default(),
        inventory: get("inventory").map(|inventory| read_inventory(&inventory)).unwrap_or_default(),
    })
}

fn cluster_of(view: &View<'_>, span: Span, clusters: &[&str], path: Path<'_>, faults: &mut Faults) -> String {
    let said = view.some(&VM, "cluster").and_then(|view| view.text());
    match (said, clusters) {
        (Some(name), _) if clusters.contains(&name.value) => name.value.to_owned(),
        (Some(name), _) => {
            let message = format!("there is no cluster `{}`", name.value.escape_debug());
            faults.error_hint(
                name.span,
                path.key("cluster"),
                message,
                crate::spec::hints::name_hint(name.value, "cluster", clusters),
            );
            name.value.to_owned()
        }
        (None, []) => "default".to_owned(),
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            let hint = format!("add `cluster: {}`, here or in `defaults`", clusters[0]);
            faults.error_hint(
                span,
                path,
                "the spec has several clusters, and this VM has no `cluster`",
                hint,
            );
            clusters[0].to_owned()
        }
    }
}

/// Returns a key that may stand at the top of the VM or below `placement`, the uppermost layer's first.
fn placed<'a>(view: &View<'a>, key: &str, path: Path<'_>, faults: &mut Faults) -> Option<View<'a>> {
    let mut found = None;
    for layer in view.layers() {
        let placement = layer.get("placement");
        let (short, long) = (layer.get(key), placement.and_then(|placement| placement.get(key)));
        if let (Some(_), Some(long)) = (short, long) {
            faults.error_hint(
                long.span(),
                path.key("placement").key(key),
                format!("`{key}` is set twice: in its short and its long form"),
                "remove one of them",
            );
        }
        found = found.or(short).or(long);
        if found.is_some() || placement.is_some_and(Node::is_null) {
            break;
        }
    }
    View::of(found.into_iter().collect())
}

fn read_vmid(view: Option<&View<'_>>, path: Path<'_>, faults: &mut Faults) -> VmidWish {
    let Some(view) = view else { return VmidWish::Any };
    if let Some(vmid) = view.parse::<Vmid>() {
        return VmidWish::Fixed(vmid);
    }
    let Some(range) = view.top().get("range") else { return VmidWish::Any };
    let ends: Vec<Vmid> = range.items().filter_map(|node| node.text()?.parse().ok()).collect();
    match ends.as_slice() {
        [first, last] if first <= last => VmidWish::Range(Spanned::new((*first, *last), range.span())),
        _ => {
            let message = "a range has two numbers, and the first must not be greater than the second";
            faults.error_hint(
                range.span(),
                path.key("vmid").key("range"),
                message,
                "write `{range: [200, 299]}`",
            );
            VmidWish::Any
        }
    }
}

/// Reads the identity that VMs had.
pub(super) fn read_moved_from(view: &View<'_>) -> Option<MovedFrom> {
    let get = |key| Some(view.some(&MOVED_FROM, key)?.text()?.map(str::to_owned));
    let moved = MovedFrom { project: get("project"), cluster: get("cluster") };
    (moved.project.is_some() || moved.cluster.is_some()).then_some(moved)
}

fn read_names(view: &View<'_>) -> Vec<Spanned<GuestName>> {
    let name = |node: Node<'_>| Some(Spanned::new(node.text()?.parse().ok()?, node.span()));
    view.items().into_iter().filter_map(name).collect()
}

fn read_duplicates(view: &View<'_>) -> BTreeSet<Duplicate> {
    let duplicate = |word: &str| match word {
        "name" => Some(Duplicate::Name),
        "address" => Some(Duplicate::Address),
        _ => None,
    };
    texts(view).filter_map(duplicate).collect()
}

fn read_text(view: Option<&View<'_>>) -> Desired<String> {
    match view {
        Some(view) if !view.is_null() => match view.text() {
            Some(text) => Desired::of(text.map(|text| text.trim_end().to_owned())),
            None => Desired::Unmanaged,
        },
        other => View::desired(other),
    }
}

fn read_tags(view: Option<&View<'_>>) -> Desired<BTreeSet<String>> {
    match view {
        None => Desired::Unmanaged,
        Some(view) if view.is_null() => Desired::Remove(view.span()),
        Some(view) => Desired::of(Spanned::new(texts(view).map(str::to_lowercase).collect(), view.span())),
    }
}

/// Returns the texts of a list, or the single one in its place.
pub(super) fn texts<'a>(view: &View<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    view.items().into_iter().filter_map(Node::text)
}

fn read_boot(view: &View<'_>, options: &mut Options) {
    let Some(boot) = view.get(&VM, "boot") else { return };
    let value = if boot.is_null() {
        OptionValue::Remove
    } else {
        OptionValue::Whole(format!("order={}", texts(&boot).collect::<Vec<_>>().join(";")))
    };
    options.insert("boot".to_owned(), DesiredOption { path: "boot".to_owned(), span: boot.span(), value });
}

fn read_ha(view: Option<&View<'_>>) -> Desired<Ha> {
    let object = values_of(&VM, "ha");
    let Some(view) = view else { return Desired::Unmanaged };
    if view.is_null() {
        return Desired::Remove(view.span());
    }
    let get = |key| view.some(object, key);
    let number = |key| get(key).and_then(|view| view.parse::<u32>()).map(|number| number.value);
    let nodes = get("on_nodes").map_or_else(Vec::new, |nodes| nodes.entries());
    let node = |(name, _, priority): (&str, Span, View<'_>)| {
        Some((name.parse().ok()?, priority.parse::<u32>()?.value))
    };
    let ha = Ha {
        state: get("state").and_then(|view| view.top().text()?.parse().ok()).unwrap_or(HaState::Started),
        max_restart: number("max_restart"),
        max_relocate: number("max_relocate"),
        on_nodes: nodes.into_iter().filter_map(node).collect(),
        strict: get("strict").and_then(|view| view.bool()).is_some_and(|strict| strict.value),
    };
    Desired::of(Spanned::new(ha, view.span()))
}

fn read_clone(view: &View<'_>) -> Option<CloneFrom> {
    let object = values_of(&VM, "clone");
    let get = |key| view.some(object, key);
    let (word, from) = match view.text() {
        Some(word) if matches!(word.value, "linked" | "full") => (Some(word.value), None),
        Some(name) => (None, Some(name)),
        None => (get("mode").and_then(|mode| mode.top().text()), Some(get("from")?.text()?)),
    };
    // A mode alone names no source: the validation finds the template of the same image.
    let source = match from {
        None => CloneSource::Vm("template-of-the-image".parse().ok()?),
        Some(from) => match from.value.parse::<Vmid>() {
            Ok(vmid) => CloneSource::Vmid(vmid),
            Err(_) => CloneSource::Vm(from.value.parse().ok()?),
        },
    };
    Some(CloneFrom {
        from: Spanned::new(source, from.map_or(view.span(), |from| from.span)),
        by_image: from.is_none(),
        mode: if word == Some("linked") { CloneMode::Linked } else { CloneMode::Full },
        storage: if view.is_map() { get("storage").and_then(|view| view.parse()) } else { None },
        format: if view.is_map() { get("format").and_then(|view| view.parse()) } else { None },
        span: view.span(),
    })
}

fn read_lifecycle(view: &View<'_>) -> Lifecycle {
    let object = values_of(&VM, "lifecycle");
    let get = |key| view.some(object, key);
    let word = |key| get(key).and_then(|view| view.text());
    let state = |text: Spanned<&str>| match text.value {
        "running" => Some(Spanned::new(PowerState::Running, text.span)),
        "stopped" => Some(Spanned::new(PowerState::Stopped, text.span)),
        "unmanaged" => Some(Spanned::new(PowerState::Unmanaged, text.span)),
        _ => None,
    };
    let permission = |key| match word(key) {
        Some(word) if word.value == "if-needed" => Permission::IfNeeded,
        _ => Permission::Never,
    };
    let ignore = get("ignore").map_or_else(Vec::new, |view| view.items());
    let ignore =
        ignore.into_iter().filter_map(|node| Some(Spanned::new(node.text()?.to_owned(), node.span())));
    let default = Lifecycle::default();
    Lifecycle {
        state: word("state").and_then(state),
        restart: permission("restart"),
        replace: match word("replace").map(|word| word.value) {
            Some("if-needed") => Replacement::IfNeeded,
            Some("on-image-change") => Replacement::OnImageChange,
            _ => Replacement::Never,
        },
        keep_disks: get("keep_disks")
            .map(|view| texts(&view).map(str::to_owned).collect())
            .unwrap_or_default(),
        ignore: ignore.collect(),
        shutdown_timeout: get("shutdown_timeout")
            .and_then(|view| view.duration())
            .unwrap_or(default.shutdown_timeout),
        force_stop: get("force_stop").and_then(|view| view.bool()).is_some_and(|force| force.value),
        on_failure: word("on_failure").and_then(|word| match word.value {
            "rollback" => Some(OnFailure::Rollback),
            "keep" => Some(OnFailure::Keep),
            _ => None,
        }),
    }
}

fn read_ready(view: &View<'_>) -> Ready {
    let object = values_of(&VM, "ready");
    let get = |key| view.some(object, key);
    Ready {
        agent: get("agent").and_then(|view| view.duration()),
        ip: get("ip").map(|ip| read_ready_ip(&ip, values_of(object, "ip"))),
        cloud_init: get("cloud_init").and_then(|view| view.duration()),
        tcp: get("tcp")
            .map(|tcp| tcp.items().into_iter().filter_map(read_ready_tcp).collect())
            .unwrap_or_default(),
        command: get("command").and_then(|command| read_ready_command(&command)),
    }
}

fn read_ready_ip(view: &View<'_>, object: &Object) -> ReadyIp {
    let get = |key| view.some(object, key);
    ReadyIp {
        nic: get("nic").and_then(|view| view.parse()),
        family: match get("family").and_then(|view| view.top().text()) {
            Some("6") => IpFamily::V6,
            Some("any") => IpFamily::Any,
            _ => IpFamily::V4,
        },
        within: get("within").and_then(|view| view.parse()),
        timeout: get("timeout").and_then(|view| view.duration()).unwrap_or(FIVE_MINUTES),
    }
}

fn read_ready_tcp(node: Node<'_>) -> Option<ReadyTcp> {
    let view = View::of(vec![node])?;
    if let Some(port) = view.parse() {
        return Some(ReadyTcp { port, timeout: FIVE_MINUTES });
    }
    let port = View::of(vec![node.get("port")?])?.parse()?;
    let timeout = node.get("timeout").and_then(|node| View::of(vec![node])).and_then(|view| view.duration());
    Some(ReadyTcp { port, timeout: timeout.unwrap_or(FIVE_MINUTES) })
}

fn read_ready_command(view: &View<'_>) -> Option<ReadyCommand> {
    let words = |view: &View<'_>| Spanned::new(texts(view).map(str::to_owned).collect(), view.span());
    if view.is_list() {
        return Some(ReadyCommand { argv: words(view), timeout: FIVE_MINUTES });
    }
    let object = values_of(values_of(&VM, "ready"), "command");
    let timeout = view.some(object, "timeout").and_then(|view| view.duration());
    Some(ReadyCommand { argv: words(&view.some(object, "argv")?), timeout: timeout.unwrap_or(FIVE_MINUTES) })
}

fn read_inventory(view: &View<'_>) -> Inventory {
    let object = values_of(&VM, "inventory");
    let get = |key| view.some(object, key);
    let vars = get("vars").map_or_else(Vec::new, |vars| vars.entries());
    Inventory {
        groups: get("groups").map(|groups| texts(&groups).map(str::to_owned).collect()).unwrap_or_default(),
        user: get("user").and_then(|view| view.top().text()).map(str::to_owned),
        host: get("host").and_then(|view| view.parse()).map(|host| host.value),
        vars: vars.into_iter().map(|(name, _, view)| (name.to_owned(), json(view.top()))).collect(),
    }
}

/// Returns a free value as JSON.
fn json(node: Node<'_>) -> serde_json::Value {
    use serde_json::Value;
    match node.shape() {
        Shape::Null => Value::Null,
        Shape::Quoted(text) => Value::from(text),
        Shape::Plain("true") => Value::Bool(true),
        Shape::Plain("false") => Value::Bool(false),
        Shape::Plain(text) => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => match crate::spec::scalar::parse_number(text) {
                Some(number) if text.contains('.') && !text.ends_with('.') => Value::from(number),
                _ => Value::from(text),
            },
        },
        Shape::List => Value::Array(node.items().map(json).collect()),
        Shape::Map => {
            let entry = |(key, value): (Node<'_>, Node<'_>)| Some((key.text()?.to_owned(), json(value)));
            Value::Object(node.entries().filter_map(entry).collect())
        }
    }
}
