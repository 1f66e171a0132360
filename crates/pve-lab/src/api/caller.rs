//! The caller, and the listener that it used.

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// No credentials.
    Anonymous,
    /// A user with a ticket, or root on the command line.
    User(String),
    /// An API token, by its full id (`user@realm!name`).
    Token(String),
}

/// The caller, and the listener that it used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// The node of the listener.
    pub node: String,
    /// Whether it is a command on the node (whose workers run in the foreground) and not an HTTP request.
    pub is_command: bool,
}

impl Caller {
    /// root on the command line of `node`: what `qm`, `pvesh` and the like are.
    pub fn root_cli(node: &str) -> Self {
        Self { identity: Identity::User("root@pam".to_owned()), node: node.to_owned(), is_command: true }
    }
    /// An HTTP request to the listener of `node`.
    pub fn http(identity: Identity, node: &str) -> Self {
        Self { identity, node: node.to_owned(), is_command: false }
    }
    /// `user@realm`, or the full token id: what a task's UPID ends with. Empty if not logged in.
    pub fn auth_id(&self) -> &str {
        match &self.identity {
            Identity::Anonymous => "",
            Identity::User(id) | Identity::Token(id) => id,
        }
    }
    /// `user@realm`, also for a token.
    pub fn user(&self) -> &str {
        self.auth_id().split('!').next().unwrap_or_default()
    }
    /// Tells whether it is root@pam itself, which a token of root@pam never is.
    pub fn is_root(&self) -> bool {
        self.identity == Identity::User("root@pam".to_owned())
    }
    /// Tells whether it is a token.
    pub fn is_token(&self) -> bool {
        matches!(self.identity, Identity::Token(_))
    }
}
