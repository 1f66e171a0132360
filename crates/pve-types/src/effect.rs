//! Whether something happened.

/// Whether a request, or a step made of requests, changed the world.
///
/// The question decides what a caller may do next: after [`TookEffect::No`] it may try again, after
/// [`TookEffect::Maybe`] it must look first, after [`TookEffect::Yes`] it must not repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TookEffect {
    /// Nothing was changed, certainly.
    No,
    /// It cannot be told from here: read before doing anything.
    Maybe,
    /// It was done, wholly or in part.
    Yes,
}

impl std::fmt::Display for TookEffect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::No => "it changed nothing",
            Self::Maybe => "it may have taken effect",
            Self::Yes => "it took effect partially",
        })
    }
}
