//! Files that come onto a storage: uploads and downloads.

use serde_json::Value;

use super::super::{Call, Methods, Refusal};
use super::node::named;
use crate::world::{ContentSpec, Stage, TaskKey, Worker, World, content_folder, write_content};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("POST", "/nodes/{node}/storage/{storage}/upload", upload),
    ("POST", "/nodes/{node}/storage/{storage}/download-url", download),
];

/// Verifies a file's name for a content type.
// PVE: pve-storage src/PVE/API2/Storage/Status.pm upload
fn check_name(call: &Call<'_>, content: &str, name: &str) -> Result<(), Refusal> {
    let ends = |list: &[&str]| list.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    let refuse = |text: &str| Err(Refusal::parameter("filename", text));
    match content {
        "iso" if !ends(&[".iso", ".img"]) => refuse("wrong file extension"),
        "vztmpl" if !ends(&[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"]) => {
            refuse("wrong file extension")
        }
        "import" => {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+=_".contains(&byte));
            if !plain || !ends(&[".ova", ".qcow2", ".raw", ".vmdk"]) {
                return refuse("invalid filename or wrong extension");
            }
            if !call.world.version.at_least(8, 4) && !ends(&[".ova"]) {
                return refuse("invalid filename or wrong extension");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Where the file is going to be.
fn target(call: &Call<'_>) -> Result<(String, String), Refusal> {
    let (content, name) = (call.string("content"), call.string("filename"));
    let def = named(call)?;
    let node = call.node();
    let def = call.world.enabled_storage(&def.id.clone(), &node)?;
    let base =
        def.path().ok_or_else(|| Refusal::died(format!("can't upload to storage type '{}'", def.kind)))?;
    check_name(call, &content, &name)?;
    if !def.content.contains(&content) {
        return Err(Refusal::died(format!("storage '{}' does not support '{content}' content", def.id)));
    }
    Ok((format!("{base}/{}", content_folder(&content)), name))
}

fn worker(call: &Call<'_>, kind: &'static str, id: String, stage: Stage) -> Worker {
    Worker {
        node: call.node(),
        kind,
        id,
        owner: call.caller.auth_id().to_owned(),
        lock: None,
        stages: vec![stage],
        on_failure: None,
        error_prefix: String::new(),
    }
}

fn upload(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (folder, name) = target(call)?;
    let Some(kept) = call.text("tmpfilename").map(str::to_owned) else {
        return Err(Refusal::parameter("tmpfilename", "missing temporary file - internal error"));
    };
    let checksum = call.text("checksum").map(str::to_owned);
    let algorithm = call.string("checksum-algorithm");
    let node = call.node();
    let stage = Stage::now(move |world, key| {
        let done = receive(world, key, &node, &kept, &folder, &name, checksum.as_deref(), &algorithm);
        world.drop_upload(&node, &kept);
        done
    });
    let worker = worker(call, "imgcopy", String::new(), stage);
    Ok(call.world.start_worker(worker).into())
}

#[expect(clippy::too_many_arguments, reason = "a file, where it lies, where it goes, and its checksum")]
fn receive(
    world: &mut World,
    key: TaskKey,
    node: &str,
    kept: &str,
    folder: &str,
    name: &str,
    checksum: Option<&str>,
    algorithm: &str,
) -> Result<(), String> {
    world.log(key, format!("starting file import from: {kept}"));
    if let Some(expected) = checksum {
        let found = digest_of(world, node, kept, algorithm)?;
        if !found.eq_ignore_ascii_case(expected) {
            world.log(key, "calculating checksum...");
            return Err(format!("checksum mismatch: got '{found}' != expect '{expected}'"));
        }
        world.log(key, "calculating checksum...OK, checksum verified");
    }
    let path = format!("{folder}/{name}");
    let size = world.files(node, kept).and_then(|tree| tree.stat(kept).ok()).map_or(0, |stat| stat.size);
    world.log_lines(
        key,
        [
            format!("target node: {node}"),
            format!("target file: {path}"),
            format!("file size is: {size}"),
            format!("command: cp -- {kept} {path}"),
        ],
    );
    world.copy_file(node, kept, &path)?;
    world.log(key, "finished file import successfully");
    Ok(())
}

/// A file's checksum in lower-case hex.
fn digest_of(world: &World, node: &str, path: &str, algorithm: &str) -> Result<String, String> {
    match algorithm {
        "sha1" => digest_by::<sha1::Sha1>(world, node, path),
        "sha224" => digest_by::<sha2::Sha224>(world, node, path),
        "sha256" => digest_by::<sha2::Sha256>(world, node, path),
        "sha384" => digest_by::<sha2::Sha384>(world, node, path),
        "sha512" => digest_by::<sha2::Sha512>(world, node, path),
        other => Err(format!("the lab does not know the checksum '{other}'")),
    }
}

fn digest_by<D: sha2::Digest>(world: &World, node: &str, path: &str) -> Result<String, String> {
    let tree = world.files(node, path).ok_or("no such node")?;
    let (mut digest, mut offset) = (D::new(), 0);
    loop {
        let piece = tree.read_at(path, offset, 1 << 20).map_err(|error| error.to_string())?;
        if piece.is_empty() {
            return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        digest.update(&piece);
        offset += piece.len() as u64;
    }
}

/// What is not plain in a task's id is written as `%XX`.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

// The lab opens no connection: what can be downloaded stands in the world.
fn download(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (folder, name) = target(call)?;
    let (url, node) = (call.string("url"), call.node());
    let checksum = call.text("checksum").map(str::to_owned);
    let algorithm = call.string("checksum-algorithm");
    let found = call.world.urls.get(&url).cloned();
    let id = escaped(&name);
    let stage = Stage::now(move |world, key| {
        let path = format!("{folder}/{name}");
        let exists = world.files(&node, &path).is_some_and(|tree| tree.exists(&path));
        if exists {
            let same = checksum.as_ref().is_some_and(|expected| {
                digest_of(world, &node, &path, &algorithm)
                    .is_ok_and(|found| found.eq_ignore_ascii_case(expected))
            });
            if same {
                world.log(key, "OK, got correct file already, no need to download");
                return Ok(());
            }
            return Err(format!("refusing to override existing file '{path}'"));
        }
        fetch(world, key, &node, &url, &path, found, checksum.as_deref(), &algorithm)
    });
    let worker = worker(call, "download", id, stage);
    Ok(call.world.start_worker(worker).into())
}

#[expect(clippy::too_many_arguments, reason = "a file, where it comes from, where it goes, and its checksum")]
fn fetch(
    world: &mut World,
    key: TaskKey,
    node: &str,
    url: &str,
    path: &str,
    content: Option<ContentSpec>,
    checksum: Option<&str>,
    algorithm: &str,
) -> Result<(), String> {
    world.log(key, format!("downloading {url} to {path}"));
    let failed = |text: &str| format!("download failed: {text}");
    let content = content.ok_or_else(|| failed("server replied: 404 Not Found"))?;
    let tree = world.files_mut(node, path).ok_or("no such node")?;
    if let Err(error) = write_content(tree, path, &content) {
        let _ = tree.remove_file(path);
        return Err(failed(&format!("unable to write '{path}' - {error}")));
    }
    if let Some(expected) = checksum {
        let found = digest_of(world, node, path, algorithm)?;
        if !found.eq_ignore_ascii_case(expected) {
            if let Some(tree) = world.files_mut(node, path) {
                let _ = tree.remove_file(path);
            }
            return Err(failed(&format!("checksum mismatch: got '{found}' != expect '{expected}'")));
        }
        world.log(key, "calculating checksum...OK, checksum verified");
    }
    world.log(key, "download finished successfully");
    Ok(())
}
