//! Whether an image is still what its build would make of today's source.

use super::record::{BuildRecord, RECORD_FORMAT_VERSION, record_path};
use super::source::SourceTree;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local_files;
use std::collections::BTreeSet;
use std::path::Path;
use vmdeploy_planner::spec::{Deployment, ImageBuild, ImageSource};

/// Returns the digest of all that the build is given, secrets apart.
///
/// # Errors
/// The source cannot be read.
pub fn inputs_sha256(build: &ImageBuild, source: Option<&SourceTree>) -> Result<String, Failure> {
    let source = source
        .map(|tree| tree.write(std::io::sink()))
        .transpose()
        .map_err(|error| Failure::of(Exit::USAGE, error).context("the source cannot be read"))?;
    let text = serde_json::to_vec(&(source, &build.command.value, &build.output.value, &build.env));
    Ok(vmdeploy_planner::digest::of_bytes(&text.map_err(anyhow::Error::from)?))
}

/// Returns the images of the spec that were built of another source, command or environment than it has now.
///
/// An image without a record, or one whose source is outside the spec's folder or cannot be read, is not judged.
pub fn outdated(deployment: &Deployment, folder: &Path, context: &Context) -> BTreeSet<String> {
    let files = local_files::of(context, folder);
    let is_outdated = |build: &ImageBuild| {
        let file = files.resolve(&build.file.as_ref()?.value);
        let record = std::fs::read_to_string(record_path(&file)).ok()?;
        let record: BuildRecord = serde_json::from_str(&record).ok()?;
        let source = match &build.source {
            None => None,
            Some(source) => {
                let path = files.check_place(&source.value).ok()?;
                Some(SourceTree::read(&path).ok()?)
            }
        };
        let now = inputs_sha256(build, source.as_ref()).ok()?;
        Some(record.format_version == RECORD_FORMAT_VERSION && record.inputs_sha256 != now)
    };
    let builds = deployment.images.values().filter_map(|image| match &image.source {
        ImageSource::Build(build) => Some((image, build)),
        _ => None,
    });
    builds
        .filter(|(_, build)| is_outdated(build) == Some(true))
        .map(|(image, _)| image.name.clone())
        .collect()
}
