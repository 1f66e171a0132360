//! Requests as data: the only place that makes URLs and bodies.
//!
//! A [`Request`] is a method, an [`ApiPath`] and [`Params`]; nothing here touches the network.

mod params;
mod path;
mod task;

pub use params::{IntoParam, Param, Params};
pub use path::{ApiPath, InvalidPath};
pub(crate) use task::{ExpectedId, ExpectedTask, expected_task};

/// What a request does with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or starts something.
    Post,
    /// Changes.
    Put,
    /// Removes.
    Delete,
}

impl Method {
    /// Returns the name as HTTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
    /// Returns the name as `pvesh` writes it.
    // PVE: pve-manager PVE/CLI/pvesh.pm.
    pub fn as_pvesh(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "create",
            Self::Put => "set",
            Self::Delete => "delete",
        }
    }
    /// Tells whether the parameters go in the query string; otherwise they are the form body.
    // PVE: pve-http-server src/PVE/APIServer/AnyEvent.pm answers 501 to a body on GET or DELETE.
    pub fn has_query(self) -> bool {
        matches!(self, Self::Get | Self::Delete)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One call of the API, ready for any transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is done.
    pub method: Method,
    /// Where.
    pub path: ApiPath,
    /// With what.
    pub params: Params,
}

impl Request {
    /// Returns a request without parameters.
    pub fn new(method: Method, path: ApiPath) -> Self {
        Self { method, path, params: Params::new() }
    }
    /// Returns the request with these parameters instead of its own.
    pub fn with(mut self, params: Params) -> Self {
        self.params = params;
        self
    }
    /// Returns the path and, for methods that have one, the query: `/api2/json/version`.
    pub fn target(&self) -> String {
        let path = self.path.encoded();
        let query = if self.method.has_query() { self.params.encoded() } else { String::new() };
        match query.is_empty() {
            true => format!("/api2/json{path}"),
            false => format!("/api2/json{path}?{query}"),
        }
    }
    /// Returns the target of an upload, whose parameters are parts of its body.
    pub fn upload_target(&self) -> String {
        format!("/api2/json{}", self.path.encoded())
    }
    /// Returns the form body, or `None` for a method that has none.
    pub fn body(&self) -> Option<String> {
        (!self.method.has_query()).then(|| self.params.encoded())
    }
    /// Tells whether the call starts a task and answers its UPID before the work is done.
    ///
    /// A synchronous error of such a call comes from the checks made before the worker was forked.
    // PVE: qemu-server src/PVE/API2/Qemu.pm, pve-storage src/PVE/API2/Storage/{Content,Status}.pm.
    pub fn starts_task(&self) -> bool {
        expected_task(self).is_some()
    }
    /// Tells whether it makes a guest under a VMID of its own choice, new or from a backup.
    pub(crate) fn creates_guest(&self) -> bool {
        let segments: Vec<&str> = self.path.segments().iter().map(String::as_str).collect();
        self.method == Method::Post && matches!(segments.as_slice(), ["nodes", _, "qemu"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ApiPath {
        text.parse().unwrap()
    }

    #[test]
    fn parameters_go_in_the_body_or_the_query() {
        let params = || Params::new().with("boot", "order=scsi0;net0").with("onboot", true);
        let post = Request::new(Method::Post, path("/nodes/pve1/qemu")).with(params());
        assert_eq!(post.target(), "/api2/json/nodes/pve1/qemu");
        assert_eq!(post.body().unwrap(), "boot=order%3Dscsi0%3Bnet0&onboot=1");
        let delete = Request::new(Method::Delete, path("/nodes/pve1/qemu/100")).with(params());
        assert_eq!(delete.target(), "/api2/json/nodes/pve1/qemu/100?boot=order%3Dscsi0%3Bnet0&onboot=1");
        assert_eq!(delete.body(), None);
        assert_eq!(Request::new(Method::Put, path("/a")).body().unwrap(), "");
    }

    #[test]
    fn a_secret_is_sent_and_not_shown() {
        let params = Params::new().with("userid", "a@pve").with("password", "hunter2secret");
        let request = Request::new(Method::Put, path("/access/password")).with(params);
        assert!(request.body().unwrap().contains("hunter2secret"));
        assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
    }

    fn decoded(text: &str) -> String {
        percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_value_holds_it_arrives_as_it_was(pairs in proptest::collection::vec((".{1,8}", ".{0,20}"), 1..5)) {
            let params: Params = pairs.iter().map(|(key, value)| (key, value.as_str())).collect();
            let encoded = params.encoded();
            let read: Vec<(String, String)> = encoded
                .split('&')
                .map(|pair| pair.split_once('=').map(|(key, value)| (decoded(key), decoded(value))).unwrap())
                .collect();
            proptest::prop_assert_eq!(read, pairs);
            proptest::prop_assert!(encoded.is_ascii());
        }

        #[test]
        fn whatever_a_segment_holds_it_stays_one_segment(segment in ".{1,20}") {
            let encoded = ApiPath::new(["a", segment.as_str(), "b"]).encoded();
            let parts: Vec<&str> = encoded.split('/').collect();
            proptest::prop_assert_eq!(parts.len(), 4);
            proptest::prop_assert!(!encoded.contains(['?', '#', ' ']));
            let shown = ApiPath::new([segment.as_str()]).to_string();
            proptest::prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
