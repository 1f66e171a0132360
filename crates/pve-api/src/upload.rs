//! A file that is uploaded, and how far that is.

use std::pin::Pin;
use tokio::io::AsyncRead;

/// Where an upload's bytes come from.
pub struct UploadSource {
    pub(crate) reader: Pin<Box<dyn AsyncRead + Send + Sync>>,
    pub(crate) length: u64,
}

impl UploadSource {
    /// Returns the source of `length` bytes from `reader`.
    pub fn new(reader: impl AsyncRead + Send + Sync + 'static, length: u64) -> Self {
        Self { reader: Box::pin(reader), length }
    }
    /// Returns the source that is a file, with the length it has now.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn file(path: &std::path::Path) -> std::io::Result<Self> {
        let file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        Ok(Self::new(file, length))
    }
    /// Returns the number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl std::fmt::Debug for UploadSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadSource").field("length", &self.length).finish_non_exhaustive()
    }
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadProgress {
    /// Bytes handed to the connection.
    pub sent: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A file to be uploaded under a name, and who is told how far it is.
pub struct Upload<'a> {
    /// The file's name on the storage.
    pub file_name: String,
    /// Its bytes.
    pub source: UploadSource,
    /// Called now and then, and once at the end.
    pub progress: &'a mut (dyn FnMut(UploadProgress) + Send),
}
