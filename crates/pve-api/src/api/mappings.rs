//! `/cluster/mapping`: names of the datacenter for devices and folders of its nodes. Since 8.

use super::Cluster;
use crate::error::ApiError;
use crate::request::Params;
use pve_types::MappingKind;
use serde::{Deserialize, Serialize};

/// A resource mapping: one name for a device or folder, with an entry for each node that has it.
// PVE: pve-guest-common src/PVE/Mapping/{PCI,USB,Dir}.pm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mapping {
    /// Its name.
    pub id: String,
    /// The entries, property strings such as `node=pve1,id=10de:2204,path=0000:01:00.0`; a node may have several.
    #[serde(default)]
    pub map: Vec<String>,
    /// Its comment.
    pub description: Option<String>,
}

impl Mapping {
    /// Returns the nodes that have an entry, as they are written there.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        let parts = self.map.iter().flat_map(|entry| entry.split(','));
        parts.filter_map(|part| part.trim().strip_prefix("node="))
    }
}

impl Cluster {
    /// Lists the mappings of a kind. What the caller may not see (without `Mapping.Use`, `Mapping.Audit` and
    /// `Mapping.Modify` on it) is left out without a word. Devices since 8.0, folders since 8.4.
    ///
    /// # Errors
    /// The call fails.
    // PVE: pve-manager PVE/API2/Cluster/Mapping/{PCI,USB,Dir}.pm index.
    pub async fn mappings(&self, kind: MappingKind) -> Result<Vec<Mapping>, ApiError> {
        self.place().join("mapping").join(kind.as_str()).get(Params::new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_tells_its_nodes() {
        let nodes = |entries: &[&str]| {
            let map = entries.iter().map(|entry| (*entry).to_owned()).collect();
            let mapping = Mapping { id: "gpu".to_owned(), map, description: None };
            mapping.nodes().map(str::to_owned).collect::<Vec<_>>()
        };
        let two = ["id=10de:2204,node=pve1,path=0000:01:00.0", "node=pve2,path=/srv/subnode=x"];
        assert_eq!(nodes(&two), ["pve1", "pve2"]);
        assert_eq!(nodes(&["path=/srv", ""]), [""; 0]);
    }
}
