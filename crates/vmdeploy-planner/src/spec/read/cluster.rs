//! Clusters and images.

use super::Named;
use crate::plan::SecretRef;
use crate::spec::faults::{Faults, Path};
use crate::spec::model::{
    Auth, Cluster, Endpoint, Image, ImageBuild, ImageSource, ImageStore, Spanned, SpecLimits, Ssh, SshNode,
    Tls,
};
use crate::spec::scalar::parse_endpoint;
use crate::spec::schema::{Kind, Object, TOP};
use crate::spec::view::{View, check_complete};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns the object that the values of a map of `object` are.
pub(super) fn values_of(object: &'static Object, key: &str) -> &'static Object {
    match object.field(key).map(|field| &field.kind) {
        Some(kind) => object_of(kind).unwrap_or(object),
        None => object,
    }
}

/// Returns the object that a kind is, holds, or may be.
pub(super) fn object_of(kind: &'static Kind) -> Option<&'static Object> {
    match kind {
        Kind::Object(object) => Some(object),
        Kind::Map(_, inner, _) | Kind::List(inner) | Kind::OneOrMany(inner) => object_of(inner),
        Kind::OneOf(kinds) => kinds.iter().find_map(object_of),
        _ => None,
    }
}

pub(super) fn read_clusters(named: &Named<'_>, faults: &mut Faults) -> BTreeMap<String, Cluster> {
    let object = values_of(&TOP, "clusters");
    let top = Path::TOP.key("clusters");
    let mut clusters = BTreeMap::new();
    for (name, span, node) in &named.list {
        let Some(view) = View::of(vec![*node]).filter(View::is_map) else { continue };
        check_complete(&view, object, top.key(name), faults);
        let cluster = Cluster {
            name: (*name).to_owned(),
            span: *span,
            endpoints: endpoints(&view, object),
            auth: view.some(object, "auth").and_then(|auth| read_auth(&auth, values_of(object, "auth"))),
            tls: view
                .some(object, "tls")
                .map(|tls| read_tls(&tls, values_of(object, "tls")))
                .unwrap_or_default(),
            ssh: view
                .some(object, "ssh")
                .map(|ssh| read_ssh(&ssh, values_of(object, "ssh")))
                .unwrap_or_default(),
            limits: view
                .some(object, "limits")
                .map(|limits| read_limits(&limits, values_of(object, "limits")))
                .unwrap_or_default(),
            node: view.some(object, "node").and_then(|node| node.parse()),
        };
        clusters.insert((*name).to_owned(), cluster);
    }
    clusters
}

fn endpoints(view: &View<'_>, object: &Object) -> Vec<Spanned<Endpoint>> {
    let items = view.some(object, "endpoints").map_or_else(Vec::new, |view| view.items());
    let read = |node: &crate::spec::tree::Node<'_>| {
        let endpoint = parse_endpoint(node.text()?).ok()?;
        Some(Spanned::new(endpoint, node.span()))
    };
    items.iter().filter_map(read).collect()
}

fn read_auth(view: &View<'_>, object: &'static Object) -> Option<Auth> {
    let id = view.some(object, "token_id").or_else(|| view.some(object, "user"))?.text()?;
    Some(Auth {
        id: id.map(str::to_owned),
        secret: read_secret(&view.some(object, "secret")?, values_of(object, "secret"))?,
        totp: view.some(object, "totp").and_then(|totp| read_secret(&totp, values_of(object, "totp"))),
    })
}

/// Reads a reference to a secret.
pub(super) fn read_secret(view: &View<'_>, object: &'static Object) -> Option<Spanned<SecretRef>> {
    let text = |key: &str| Some(view.some(object, key)?.top().text()?.to_owned());
    let command = || {
        let list = view.some(object, "command")?;
        Some(list.items().into_iter().filter_map(|item| item.text().map(str::to_owned)).collect())
    };
    let secret = text("env")
        .map(SecretRef::Env)
        .or_else(|| text("file").map(SecretRef::File))
        .or_else(|| command().map(SecretRef::Command))?;
    Some(Spanned::new(secret, view.span()))
}

fn read_tls(view: &View<'_>, object: &Object) -> Tls {
    let plain = |text: Spanned<&str>| {
        text.map(|text| text.strip_prefix("sha256:").unwrap_or(text).to_ascii_uppercase())
    };
    Tls {
        fingerprint: view.some(object, "fingerprint").and_then(|view| view.text()).map(plain),
        ca_file: view.some(object, "ca_file").and_then(|view| view.parse()),
    }
}

fn read_ssh(view: &View<'_>, object: &'static Object) -> Ssh {
    let get = |key| view.some(object, key);
    let nodes = get("nodes").map_or_else(Vec::new, |nodes| nodes.entries());
    let node_object = values_of(object, "nodes");
    let read_node = |(name, _, view): (&str, _, View<'_>)| {
        let host = view.some(node_object, "host")?.parse()?;
        let port = view.some(node_object, "port").and_then(|port| port.parse());
        Some((name.parse().ok()?, SshNode { host, port }))
    };
    Ssh {
        user: get("user").and_then(|view| view.parse()),
        sudo: get("sudo").and_then(|view| view.bool()),
        port: get("port").and_then(|view| view.parse()),
        identity: get("identity").and_then(|view| view.parse()),
        agent: get("agent").and_then(|view| view.bool()),
        jump: get("jump").and_then(|view| view.parse()),
        known_hosts: get("known_hosts").and_then(|view| view.parse()),
        nodes: nodes.into_iter().filter_map(read_node).collect(),
    }
}

fn read_limits(view: &View<'_>, object: &Object) -> SpecLimits {
    let get = |key| view.some(object, key).and_then(|view| view.parse::<u32>()).map(|limit| limit.value);
    let overcommit = view.some(object, "overcommit").and_then(|view| view.parse::<f64>());
    SpecLimits {
        per_node: get("per_node"),
        per_storage: get("per_storage"),
        per_source: get("per_source"),
        overcommit_percent: overcommit.map(|factor| (factor.value * 100.0).round() as u32),
    }
}

/// PVE makes a disk of the bytes that are there: what is packed must be unpacked before.
// PVE: pve-storage src/PVE/API2/Storage/Status.pm download_url (007c700a): `decompression not supported for import`.
fn refuse_packed(source: &ImageSource, path: Path<'_>, faults: &mut Faults) {
    const PACKED: [&str; 9] = [".gz", ".xz", ".zst", ".bz2", ".lzo", ".zip", ".7z", ".tar", ".tgz"];
    let (place, key, why) = match source {
        ImageSource::Url { url } => (url, "url", "PVE does not unpack downloaded images"),
        ImageSource::Path { path } => (path, "path", "PVE does not unpack files on the node"),
        ImageSource::File { .. } | ImageSource::Volume { .. } | ImageSource::Build(_) => return,
    };
    let name = place.value.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let Some(ending) = PACKED.into_iter().find(|ending| name.ends_with(ending)) else { return };
    let message = format!("this image is compressed (`{ending}`): {why}");
    let hint = match (key, ending) {
        (_, ".lzo" | ".zip" | ".7z" | ".tar" | ".tgz") => {
            "extract the disk image and use it as a local `file:`, or as a `path:` on the node"
        }
        ("path", _) => {
            "decompress it on the node and use the result, or use a local `file:`, which vmdeploy decompresses"
        }
        _ => {
            "download it and use it as `file:`, which vmdeploy decompresses; `checksum` stays that of the compressed file"
        }
    };
    faults.error_hint(place.span, path.key(key), message, hint);
}

pub(super) fn read_images(
    named: &Named<'_>,
    allow_unpinned: bool,
    faults: &mut Faults,
) -> BTreeMap<String, Image> {
    let object = values_of(&TOP, "images");
    let top = Path::TOP.key("images");
    let mut images = BTreeMap::new();
    for (name, span, node) in &named.list {
        let Some(view) = View::of(vec![*node]).filter(View::is_map) else { continue };
        let path = top.key(name);
        check_complete(&view, object, path, faults);
        let checksum = view.some(object, "checksum").and_then(|view| view.text());
        if view.some(object, "url").is_some() && checksum.is_none() && !allow_unpinned {
            let hint = format!(
                "`vmdeploy image pin {}` finds it out and writes it; or add `checksum: \"sha512:…\"` as the image's \
                 publisher states it, or use the downloaded file: `file: PATH` instead of `url`",
                name.escape_debug()
            );
            faults.error_hint(*span, path, "an image with `url` requires a `checksum`", hint);
        }
        let Some(source) = read_source(name, &view, object) else { continue };
        refuse_packed(&source, path, faults);
        let image = Image {
            name: (*name).to_owned(),
            span: *span,
            source,
            checksum: checksum.map(|text| text.map(str::to_ascii_lowercase)),
            format: view.some(object, "format").and_then(|view| view.parse()),
            size: view.some(object, "size").and_then(|view| view.parse()),
            store: view
                .some(object, "store")
                .and_then(|store| read_store(&store, values_of(object, "store"))),
        };
        images.insert((*name).to_owned(), image);
    }
    images
}

fn read_source(name: &str, view: &View<'_>, object: &'static Object) -> Option<ImageSource> {
    let get = |key| view.some(object, key);
    if let Some(path) = get("path") {
        return Some(ImageSource::Path { path: path.parse()? });
    }
    if let Some(volume) = get("volume") {
        return Some(ImageSource::Volume { volume: volume.parse()? });
    }
    if let Some(path) = get("file") {
        return Some(ImageSource::File { path: path.parse()? });
    }
    if let Some(url) = get("url") {
        return Some(ImageSource::Url { url: url.parse()? });
    }
    let build = get("build")?;
    let format = get("format").and_then(|format| format.top().text()).unwrap_or("qcow2");
    let default = format!("images/{name}.{format}");
    read_build(&build, values_of(object, "build"), default).map(|build| ImageSource::Build(Box::new(build)))
}

fn read_build(view: &View<'_>, object: &'static Object, default_file: String) -> Option<ImageBuild> {
    let get = |key| view.some(object, key);
    let env = get("env").map_or_else(Vec::new, |env| env.entries());
    let variable =
        |(name, _, view): (&str, _, View<'_>)| Some((name.to_owned(), view.top().text()?.to_owned()));
    let secrets = get("secrets").map_or_else(Vec::new, |secrets| secrets.entries());
    let secret = |(name, _, view): (&str, _, View<'_>)| {
        Some((name.to_owned(), read_secret(&view, values_of(object, "secrets"))?))
    };
    Some(ImageBuild {
        vm: get("vm")?.parse()?,
        source: get("source").and_then(|view| view.parse()),
        command: get("command")?.parse()?,
        output: get("output")?.parse()?,
        file: get("file")
            .and_then(|view| view.parse())
            .or_else(|| Some(Spanned::new(default_file, view.span()))),
        env: env.into_iter().filter_map(variable).collect(),
        secrets: secrets.into_iter().filter_map(secret).collect(),
        timeout: get("timeout").and_then(|view| view.duration()).unwrap_or(Duration::from_secs(3600)),
    })
}

fn read_store(view: &View<'_>, object: &Object) -> Option<ImageStore> {
    let content = view.some(object, "content").and_then(|view| view.top().text());
    Some(ImageStore {
        storage: view.some(object, "storage")?.parse()?,
        content: content.unwrap_or("import").to_owned(),
    })
}
