//! What credentials must be allowed, what they are allowed, and how the difference is made up.

pub mod duties;
pub mod grants;
pub mod identity;

pub use duties::{Duty, Judged, general_duties, spec_duties};
pub use identity::{Identity, Refusal, look_up, why_refused};
