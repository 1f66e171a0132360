//! How answers are written.

/// How a request's answer is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `/api2/json`
    Json,
    /// `/api2/extjs`: always 200, the status in the body.
    ExtJs,
}
