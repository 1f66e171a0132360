//! The one error of parsing, and what all textual identifiers share.

/// Why a text is not the identifier or quantity that was asked for.
///
/// The text itself is shown escaped, so that it can be printed on a terminal whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a valid {kind}: {reason}", .text.escape_debug())]
pub struct ParseError {
    /// What was expected, e.g. `VMID`.
    pub kind: &'static str,
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks, as a lowercase fragment.
    pub reason: String,
}

impl ParseError {
    /// Builds the error for `text`, which is cut to 80 characters.
    pub fn new(kind: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self { kind, text: text.chars().take(80).collect(), reason: reason.into() }
    }
}

/// Implements serde for a type as the text that its `Display` writes and its `FromStr` reads.
///
/// ```
/// struct Slot(u16);
/// # impl std::fmt::Display for Slot {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
/// # }
/// # impl std::str::FromStr for Slot {
/// #     type Err = std::num::ParseIntError;
/// #     fn from_str(text: &str) -> Result<Self, Self::Err> { text.parse().map(Self) }
/// # }
/// pve_types::serde_as_text!(Slot);
/// assert_eq!(serde_json::from_str::<Slot>("\"7\"").unwrap().0, 7);
/// assert_eq!(serde_json::to_string(&Slot(7)).unwrap(), "\"7\"");
/// ```
#[macro_export]
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Implements `Display`, `TryFrom<String>`, serde as a string for a type that has `FromStr` and `as_str`.
macro_rules! string_form {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        $crate::serde_as_text!($type);
        impl TryFrom<String> for $type {
            type Error = $crate::ParseError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}
pub(crate) use string_form;
