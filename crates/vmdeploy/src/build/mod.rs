//! Building an image on another host: what is sent, who builds, and what is written down about it.

mod builder;
mod outdated;
mod record;
mod remote;
mod source;

pub use builder::{Way, connect};
pub use outdated::{inputs_sha256, outdated};
pub use record::{BuildRecord, Placed, RECORD_FORMAT_VERSION, is_up_to_date, record_path};
pub(crate) use remote::check_info;
pub use remote::{Built, Job, RemoteBuild};
pub use source::SourceTree;
