//! What credentials must be allowed, what they are allowed, and how the difference is made up.

pub mod duties;
pub mod grants;
pub mod identity;

pub use duties::{Duty, general_duties, in_the_way, spec_duties};
pub use identity::{Identity, look_up};
