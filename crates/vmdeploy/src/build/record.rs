//! The record of a build, stored next to the image.

use crate::local_files::sha256_of;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the record's form.
pub const RECORD_FORMAT_VERSION: u32 = 1;

/// A build: what was made, when, where, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// [`RECORD_FORMAT_VERSION`].
    pub format_version: u32,
    /// The image's name in the spec.
    pub image: String,
    /// The file that holds it, as the spec writes it.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, computed on the builder and here.
    pub sha256: String,
    /// Its format, as `qemu-img info` says it.
    pub format: Option<String>,
    /// The size of the disk in it in bytes, as `qemu-img info` says it.
    pub virtual_size: Option<u64>,
    /// The folder that was sent, as the spec writes it.
    pub source: Option<String>,
    /// The digest of what was sent.
    pub source_sha256: Option<String>,
    /// The digest of all that the build was given: source, command, output and environment, secrets apart.
    pub inputs_sha256: String,
    /// The command.
    pub command: String,
    /// The builder, as `user@host:port`.
    pub builder: String,
    /// The builder's name, where it is a VM of the spec.
    pub vm: Option<String>,
    /// When the build began.
    pub started: jiff::Timestamp,
    /// When the image was here, checked.
    pub ended: jiff::Timestamp,
    /// The program that wrote this.
    pub vmdeploy: String,
    /// Where in PVE it was placed by the same command.
    pub placed: Vec<Placed>,
}

/// A place in PVE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The node.
    pub node: String,
    /// The path there, or the volume.
    pub location: String,
}

/// Returns where the record of the image in `file` lies.
pub fn record_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".build.json");
    PathBuf::from(name)
}

/// Tells whether `file` is there, as its record says, and was built of these inputs.
pub fn is_up_to_date(file: &Path, inputs_sha256: &str) -> bool {
    let record = std::fs::read_to_string(record_path(file)).ok();
    let record = record.and_then(|text| serde_json::from_str::<BuildRecord>(&text).ok());
    record.is_some_and(|record| {
        record.format_version == RECORD_FORMAT_VERSION
            && record.inputs_sha256 == inputs_sha256
            && sha256_of(file).is_ok_and(|(sum, _)| sum == record.sha256)
    })
}
