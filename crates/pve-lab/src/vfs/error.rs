//! Why a file operation was refused, in the words of the C library.

/// A refused file operation; the text is what `strerror` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// `ENOENT`.
    #[error("No such file or directory")]
    NotFound,
    /// `EEXIST`.
    #[error("File exists")]
    Exists,
    /// `ENOTDIR`.
    #[error("Not a directory")]
    NotADirectory,
    /// `EISDIR`.
    #[error("Is a directory")]
    IsADirectory,
    /// `ENOTEMPTY`.
    #[error("Directory not empty")]
    NotEmpty,
    /// `ENOSPC`.
    #[error("No space left on device")]
    NoSpace,
    /// `EACCES`.
    #[error("Permission denied")]
    PermissionDenied,
    /// `EPERM`.
    #[error("Operation not permitted")]
    NotPermitted,
    /// `EINVAL`.
    #[error("Invalid argument")]
    Invalid,
    /// `ELOOP`.
    #[error("Too many levels of symbolic links")]
    Loop,
    /// `ENAMETOOLONG`.
    #[error("File name too long")]
    NameTooLong,
    /// `EXDEV`.
    #[error("Invalid cross-device link")]
    CrossDevice,
    /// `EFBIG`.
    #[error("File too large")]
    TooLarge,
    /// `EBADF`.
    #[error("Bad file descriptor")]
    BadHandle,
    /// `EIO`: the machine that the lab runs on could not hold the data.
    #[error("Input/output error")]
    Io,
}
