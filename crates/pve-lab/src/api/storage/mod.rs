//! Storages: definitions, state, content.

mod content;
mod definitions;
mod node;
mod upload;

use super::Methods;

/// The methods about storages.
pub const METHODS: &[Methods] = &[content::METHODS, definitions::METHODS, node::METHODS, upload::METHODS];
