//! Why a lab did not start.

use std::io;

/// Why a lab did not start.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A door could not be opened on 127.0.0.1.
    #[error("a door of the lab could not be opened on 127.0.0.1")]
    Listen(#[source] io::Error),
    /// The certificate could not be made.
    #[error("the lab's certificate could not be made")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The world has no node.
    #[error("the world has no node: give it at least one under `nodes`")]
    NoNode,
}
