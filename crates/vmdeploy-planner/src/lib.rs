//! From a YAML spec and an observed cluster to an ordered plan of API and SSH steps; pure.
//!
//! No clock, randomness, file, environment or network: whatever must be known comes in as an argument.
//!
//! ```
//! use pve_types::PveVersion;
//! use vmdeploy_planner::observed::{Observed, ObservedNode};
//! use vmdeploy_planner::plan::{PlanContext, Verb};
//! use vmdeploy_planner::spec::{LoadOptions, SourceFile, load};
//!
//! let text = "version: 1\nproject: demo\nvms:\n  web01: {node: pve1, vmid: 201, memory: 1GiB}\n";
//! let loaded = load(&[SourceFile::new("vms.yaml", text)], &LoadOptions::default()).expect("the spec is sound");
//! let mut observed = Observed::nothing(PveVersion::new(9, 2, 0));
//! let node = ObservedNode { online: true, bridges: None, cpus: None, memory: None, cpu_models: None };
//! observed.nodes.insert("pve1".parse().expect("it is a name"), node);
//! let context = PlanContext::new("run-1", &observed);
//! let plan = vmdeploy_planner::make_plan(&loaded.deployment, &context).expect("nothing is refused");
//! assert_eq!(plan.changes[0].verb, Verb::Create);
//! assert_eq!(plan.steps[0].id.to_string(), "web01/create");
//! ```

mod adopt;
mod ask;
pub mod digest;
mod ha;
pub mod identity;
pub mod observed;
pub mod plan;
mod planning;
pub mod render;
pub mod rights;
pub mod spec;
pub mod timing;
pub mod verify;
pub mod volumes;

pub use adopt::{AdoptError, Adopted, adopt};
pub use ask::{AskContext, ask, identities, image_query};
pub use planning::{Draft, draft_plan, make_plan, plan_push};
