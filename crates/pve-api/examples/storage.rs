//! Shows storages, and uploads a file where one is named: `cargo run --example storage disk.qcow2 local`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results")]
mod common;

use pve_api::{ContentFilter, FileContent, UploadSource, Wait};
use std::path::PathBuf;
use std::time::Duration;

#[tokio::main]
async fn main() -> common::Result {
    let (_, client, node) = common::environment()?;
    let node = client.node(&node);
    for storage in node.storages(None).await? {
        let name = storage.storage.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("{name}: {} bytes free, images: {}", storage.avail.unwrap_or(0), storage.holds("images"));
    }
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(storage)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Ok(());
    };
    let name = file.file_name().and_then(|name| name.to_str()).ok_or("the file has no name")?;
    let storage = node.storage(&storage.parse()?);
    let source = UploadSource::file(&file).await?;
    let task = storage
        .upload(FileContent::Import, name, source, None, |now| eprint!("\r{}/{}", now.sent, now.total))
        .await?;
    task.wait(Wait::at_most(Duration::from_secs(600))).await?;
    for volume in storage.content(&ContentFilter { content: Some("import".into()), vmid: None }).await? {
        println!("{}", volume.volid);
    }
    Ok(())
}
