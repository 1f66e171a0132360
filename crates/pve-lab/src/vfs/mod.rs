//! A node's own file tree: virtual, held by the lab, never a path of the machine it runs on.
//!
//! Paths are absolute. There is one user, root, so permissions are kept and shown but refuse nothing.

mod cluster_texts;
mod content;
mod error;
mod image;
mod node_files;
mod path;
mod tree;

pub use error::FsError;
pub use image::{ImageFormat, ImageInfo};
pub use node_files::NodeFiles;
pub use path::{glob_matches, join as join_path, normalize};
pub use tree::{Handle, Kind, Space, Stat, Vfs};
