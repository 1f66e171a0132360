//! What credentials must be allowed, what they are allowed, and how the difference is made up.

pub mod grants;
pub mod identity;
pub mod required_privileges;

pub use identity::{Identity, Refusal, look_up, why_refused};
pub use required_privileges::{Judged, Reach, RequiredPrivilege, general_required_privileges, spec_needs};
