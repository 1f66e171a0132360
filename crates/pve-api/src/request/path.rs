//! Paths of the API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is left as it is in a path segment, a name or a value: RFC 3986's unreserved characters.
pub(super) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below `/api2/json`, as the list of its segments.
///
/// `"/nodes/pve1//qemu".parse()` cleans leading, doubled and trailing slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiPath {
    segments: Vec<String>,
}

/// Why a text is not a path of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an API path: {reason}", .path.escape_debug())]
pub struct InvalidPath {
    /// The refused path.
    pub path: String,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl ApiPath {
    /// Returns the path made of `segments`, each of which is taken literally.
    ///
    /// An empty segment is left out. A segment of dots only cannot be sent, since URLs fold it: it becomes
    /// `%2E…` text, which PVE answers with an error.
    pub fn new<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Self {
        let segments = segments.into_iter().map(|segment| segment.as_ref().to_owned());
        Self { segments: segments.filter(|segment| !segment.is_empty()).collect() }
    }
    /// Returns the path extended by one segment.
    pub fn join(&self, segment: impl AsRef<str>) -> Self {
        let mut path = self.clone();
        if !segment.as_ref().is_empty() {
            path.segments.push(segment.as_ref().to_owned());
        }
        path
    }
    /// Returns the segments, not encoded.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
    /// Returns the path as a URL writes it: `/storage/local/content/local%3Aiso%2Fa.iso`.
    pub fn encoded(&self) -> String {
        self.segments.iter().map(|segment| format!("/{}", encode_segment(segment))).collect()
    }
}

fn encode_segment(segment: &str) -> String {
    match segment {
        // URL parsers fold `.` and `..`, and `%2E%2E` too: these never name anything in PVE.
        "." | ".." => segment.replace('.', "%252E"),
        _ => utf8_percent_encode(segment, ENCODED).to_string(),
    }
}

impl std::fmt::Display for ApiPath {
    /// Writes the path as a person would: not encoded, control characters escaped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| write!(f, "/{}", crate::text::one_line(segment)))
    }
}

impl std::str::FromStr for ApiPath {
    type Err = InvalidPath;
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let refuse = |reason| Err(InvalidPath { path: text.chars().take(200).collect(), reason });
        if text.contains(['?', '#']) {
            return refuse("pass parameters separately from the path, as `key=value`");
        }
        if text.chars().any(char::is_control) {
            return refuse("control characters are not allowed");
        }
        let trimmed = text.trim_start_matches('/');
        let trimmed = trimmed.strip_prefix("api2/json").unwrap_or(trimmed);
        if trimmed.split('/').any(|segment| segment == "." || segment == "..") {
            return refuse("`.` and `..` are not allowed");
        }
        Ok(Self::new(trimmed.split('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_encoded() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<ApiPath>().unwrap().encoded(), expect, "{text}");
        };
        check("version", "/version");
        check("//nodes///pve1/", "/nodes/pve1");
        check("/api2/json/nodes", "/nodes");
        check("", "");
        check("/access/users/a b@pve", "/access/users/a%20b%40pve");
        check("/a/100%", "/a/100%25");
        check("/ü", "/%C3%BC");
        for text in ["/a?b=c", "/a#b", "/a/../b", "/./a", "/a\nb"] {
            assert!(text.parse::<ApiPath>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn a_segment_never_leaves_its_place() {
        let check = |segment: &str, expect: &str| {
            assert_eq!(ApiPath::new(["a", segment, "b"]).encoded(), expect, "{segment}");
        };
        check("local:iso/x.iso", "/a/local%3Aiso%2Fx.iso/b");
        check("..", "/a/%252E%252E/b");
        check("?x=1&y#z", "/a/%3Fx%3D1%26y%23z/b");
        check("UPID:pve1:0000C2A1:00A1B2C3:6560A1B2:qmstart:100:root@pam!ci:", {
            "/a/UPID%3Apve1%3A0000C2A1%3A00A1B2C3%3A6560A1B2%3Aqmstart%3A100%3Aroot%40pam%21ci%3A/b"
        });
    }

    #[test]
    fn a_path_is_shown_without_control_characters() {
        assert_eq!(ApiPath::new(["a", "b\u{1b}[31m"]).to_string(), "/a/b\\u{1b}[31m");
    }
}
