//! The node on which commands run: its part of the world, its processes.

use std::sync::Arc;

use super::process::Processes;
use crate::vfs::NodeFiles;
use crate::world::WorldHandle;

/// One node, as its commands see it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) world: WorldHandle,
    pub(crate) processes: Arc<Processes>,
}

impl Node {
    /// Returns the node of that name.
    pub(crate) fn new(world: WorldHandle, name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), world, processes: Arc::default() })
    }

    /// Works on the node's files, while nothing else changes the world.
    pub(crate) fn files<T>(&self, work: impl FnOnce(&mut NodeFiles<'_>) -> T) -> T {
        self.world.with(|world| work(&mut NodeFiles::new(world, &self.name)))
    }
}
