//! From a YAML spec and an observed cluster to an ordered plan of API and SSH steps; pure.
//!
//! No clock, randomness, file, environment or network: whatever must be known comes in as an argument.

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
