//! `/nodes/{node}/storage/{storage}`: what is on a storage.

use super::StorageState;
use crate::client::Place;
use crate::error::ApiError;
use crate::request::{Method, Params, Request};
use crate::tasks::Task;
use crate::upload::{Upload, UploadProgress, UploadSource};
use pve_types::{StorageId, Upid, Vmid, VolumeId};
use serde::{Deserialize, Serialize};

/// A volume on a storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Its identifier.
    pub volid: VolumeId,
    /// What it is: `images`, `iso`, `import`, `backup` …
    pub content: Option<String>,
    /// `raw`, `qcow2`, `iso` …
    pub format: Option<String>,
    /// Its size in bytes; for an image, what its guest sees.
    pub size: Option<u64>,
    /// What it takes on the storage, in bytes.
    pub used: Option<u64>,
    /// The guest it belongs to.
    pub vmid: Option<Vmid>,
    /// When it was made, in seconds since 1970.
    pub ctime: Option<u64>,
    /// The image it was cloned from.
    pub parent: Option<String>,
    /// What its owner wrote about it.
    pub notes: Option<String>,
    /// Whether a backup is kept from being pruned.
    pub protected: Option<bool>,
}

/// A volume's attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeAttributes {
    /// Where it is on the node.
    pub path: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// What it takes on the storage, in bytes.
    pub used: Option<u64>,
    /// Its format.
    pub format: Option<String>,
    /// What its owner wrote about it.
    pub notes: Option<String>,
    /// Whether a backup is kept from being pruned.
    pub protected: Option<bool>,
}

/// Which volumes to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContentFilter {
    /// Only of this kind: `images`, `iso`, `import`, `backup` …
    pub content: Option<String>,
    /// Only those of this guest.
    pub vmid: Option<Vmid>,
}

/// What an uploaded or downloaded file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// A CD image, `.iso` or `.img`.
    Iso,
    /// A container template.
    Template,
    /// A disk image or appliance to import from: `.qcow2`, `.raw`, `.vmdk` since 8.4, `.ova` since 8.3.
    Import,
}

impl FileContent {
    fn as_str(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::Template => "vztmpl",
            Self::Import => "import",
        }
    }
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Iso => &[".iso", ".img"],
            Self::Template => &[".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar"],
            Self::Import => &[".ova", ".qcow2", ".raw", ".vmdk"],
        }
    }
}

/// A checksum that PVE compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// `md5`, `sha1`, `sha224`, `sha256`, `sha384` or `sha512`.
    pub algorithm: String,
    /// The sum in hexadecimal digits.
    pub value: String,
}

/// What to download to a storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Download {
    /// Where from, `http` or `https`.
    pub url: String,
    /// What it is.
    pub content: FileContent,
    /// Its name on the storage.
    pub file_name: String,
    /// What it must sum up to.
    pub checksum: Option<Checksum>,
    /// How an ISO is compressed: `gz`, `lzo`, `zst`. Since 8.
    pub compression: Option<String>,
    /// Whether to check the server's certificate; PVE does by default.
    pub verify_certificates: Option<bool>,
}

/// A storage on a node.
#[derive(Debug, Clone)]
pub struct NodeStorage {
    place: Place,
    storage: StorageId,
}

impl NodeStorage {
    pub(super) fn new(place: Place, storage: StorageId) -> Self {
        Self { place, storage }
    }
    /// Returns its identifier.
    pub fn id(&self) -> &StorageId {
        &self.storage
    }
    /// Returns its state.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_absent`] if there is no such storage.
    pub async fn status(&self) -> Result<StorageState, ApiError> {
        self.place.join("status").get(Params::new()).await
    }
    /// Lists its volumes, in no fixed order.
    ///
    /// # Errors
    /// The call fails.
    pub async fn content(&self, filter: &ContentFilter) -> Result<Vec<Volume>, ApiError> {
        let params =
            Params::new().with_some("content", filter.content.as_deref()).with_some("vmid", filter.vmid);
        self.place.join("content").get(params).await
    }
    /// Returns a volume's attributes.
    ///
    /// # Errors
    /// The call fails.
    pub async fn volume(&self, volume: &VolumeId) -> Result<VolumeAttributes, ApiError> {
        self.place.join("content").join(volume).get(Params::new()).await
    }
    /// Allocates a volume of `size_kib` KiB for a guest, and returns its identifier.
    ///
    /// # Errors
    /// The call fails; [`ApiError::is_already_there`] if the name is taken.
    pub async fn allocate(
        &self,
        vmid: Vmid,
        file_name: &str,
        size_kib: u64,
        format: Option<&str>,
    ) -> Result<VolumeId, ApiError> {
        let params = Params::new()
            .with("vmid", vmid)
            .with("filename", file_name)
            .with("size", size_kib)
            .with_some("format", format);
        self.place.join("content").post(params).await
    }
    /// Frees a volume: what is on it is lost. `None` where it was done at once.
    ///
    /// # Errors
    /// The call fails.
    pub async fn free(&self, volume: &VolumeId) -> Result<Option<Task>, ApiError> {
        let answer: super::MaybeUpid = self.place.join("content").join(volume).delete(Params::new()).await?;
        Ok(answer.task(&self.place.client))
    }
    /// Lets the node download a file.
    ///
    /// # Errors
    /// The call fails; a file that is there already fails the task.
    pub async fn download_url(&self, what: &Download) -> Result<Task, ApiError> {
        let params = Params::new()
            .with("content", what.content.as_str())
            .with("filename", &what.file_name)
            .with("url", &what.url)
            .with_some("compression", what.compression.as_deref())
            .with_some("verify-certificates", what.verify_certificates)
            .and(checksum_params(what.checksum.as_ref()));
        let upid: Upid = self.place.join("download-url").post(params).await?;
        super::started(&self.place.client, upid)
    }
    /// Uploads a file; one of that name is overwritten. The task then moves it to its place and compares the
    /// checksum.
    ///
    /// # Errors
    /// The name is not one that PVE takes, or the call fails; it is never repeated.
    pub async fn upload(
        &self,
        content: FileContent,
        file_name: &str,
        source: UploadSource,
        checksum: Option<&Checksum>,
        mut progress: impl FnMut(UploadProgress) + Send,
    ) -> Result<Task, ApiError> {
        check_file_name(content, file_name)?;
        let params = Params::new()
            .with("content", content.as_str())
            .and(checksum_params(checksum))
            .with("filename", file_name);
        let path = self.place.path.join("upload");
        let request = Request::new(Method::Post, path).with(params);
        let upload = Upload { file_name: file_name.to_owned(), source, progress: &mut progress };
        let response = self.place.client.send_upload(&request, upload).await?;
        let upid: Upid = response
            .decode()
            .map_err(|source| ApiError::Decode { call: crate::Call::of(&request), source })?;
        super::started(&self.place.client, upid)
    }
}

fn checksum_params(checksum: Option<&Checksum>) -> Params {
    match checksum {
        Some(checksum) => {
            Params::new().with("checksum-algorithm", &checksum.algorithm).with("checksum", &checksum.value)
        }
        None => Params::new(),
    }
}

/// Refuses a name that PVE would change or refuse, before gigabytes are sent.
// PVE: pve-storage src/PVE/API2/Storage/Status.pm upload; PVE/Storage.pm normalize_content_filename.
fn check_file_name(content: FileContent, name: &str) -> Result<(), ApiError> {
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let extension = content
        .extensions()
        .iter()
        .any(|ending| name.len() > ending.len() && name.to_ascii_lowercase().ends_with(ending));
    if !name.chars().all(kept) || name.starts_with('.') {
        let shown = crate::text::one_line(name);
        let why =
            format!("`{shown}` is not a valid file name on a storage: use letters, digits, `.`, `_`, `-`");
        return Err(ApiError::Unusable(why));
    }
    if !extension {
        let endings = content.extensions().join(", ");
        let why =
            format!("`{name}` cannot be uploaded as `{}`: it must end with {endings}", content.as_str());
        return Err(ApiError::Unusable(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_pve_would_refuse_is_refused_before_the_upload() {
        assert!(check_file_name(FileContent::Import, "debian-13.qcow2").is_ok());
        assert!(check_file_name(FileContent::Iso, "a.ISO").is_ok());
        for (content, name) in [
            (FileContent::Import, "debian.img"),
            (FileContent::Iso, "a b.iso"),
            (FileContent::Iso, "../a.iso"),
            (FileContent::Iso, ".iso"),
            (FileContent::Template, "a.zip"),
            (FileContent::Iso, ""),
        ] {
            assert!(check_file_name(content, name).is_err(), "`{name}`");
        }
    }
}
