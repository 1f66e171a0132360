//! What lies under an error.

/// A boxed cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
