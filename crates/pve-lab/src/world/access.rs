//! Users, groups, roles, tokens, ACLs and realms, as user.cfg and domains.cfg hold them.

use std::collections::{BTreeMap, BTreeSet};

use pve_types::PveVersion;

pub use super::roles::Role;

/// An API token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Only what the token's own ACL and its owner both have.
    pub privsep: bool,
    /// Seconds of the Unix epoch; 0 is never.
    pub expire: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// Its secret.
    pub secret: String,
}

/// A second factor.
#[derive(Debug, Clone)]
pub struct Factor {
    /// Its id in the list.
    pub id: String,
    /// What it is.
    pub kind: FactorKind,
    /// Its description.
    pub description: String,
    /// Whether it may be used.
    pub enable: bool,
    /// Seconds of the Unix epoch.
    pub created: u64,
}

/// The kinds of second factor that the lab answers.
#[derive(Debug, Clone)]
pub enum FactorKind {
    /// Time-based codes; the secret in Base32.
    Totp {
        /// The shared secret, Base32.
        secret: String,
    },
    /// Single-use codes; `None` for a used one.
    Recovery {
        /// The codes.
        codes: Vec<Option<String>>,
    },
}

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// May log in.
    pub enable: bool,
    /// Seconds of the Unix epoch; 0 is never.
    pub expire: u64,
    /// firstname, lastname, email, comment, keys: those that are set.
    pub properties: BTreeMap<String, String>,
    /// The password, `None` for none (no login).
    pub password: Option<String>,
    /// The groups it is in.
    pub groups: BTreeSet<String>,
    /// Its tokens.
    pub tokens: BTreeMap<String, Token>,
    /// Its second factors.
    pub factors: Vec<Factor>,
    /// Wrong TOTP codes in a row.
    pub totp_failures: u32,
}

impl Default for User {
    fn default() -> Self {
        Self {
            enable: true,
            expire: 0,
            properties: BTreeMap::new(),
            password: None,
            groups: BTreeSet::new(),
            tokens: BTreeMap::new(),
            factors: Vec::new(),
            totp_failures: 0,
        }
    }
}

/// Roles by whom they were given to: id → role → propagate.
pub type Grants = BTreeMap<String, BTreeMap<String, bool>>;

/// The entries of one ACL path.
#[derive(Debug, Clone, Default)]
pub struct AclNode {
    /// By user id.
    pub users: Grants,
    /// By group.
    pub groups: Grants,
    /// By full token id.
    pub tokens: Grants,
}

impl AclNode {
    /// Tells whether no entry is left.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.tokens.is_empty()
    }
}

/// An authentication realm: its type and its other options.
#[derive(Debug, Clone, Default)]
pub struct Realm {
    /// `pam`, `pve`, `ldap`, `ad`, `openid`.
    pub kind: String,
    /// Everything else in domains.cfg.
    pub options: BTreeMap<String, String>,
}

/// A resource pool.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// Its comment.
    pub comment: Option<String>,
    /// The guests in it.
    pub guests: BTreeSet<u32>,
    /// The storages in it.
    pub storages: BTreeSet<String>,
}

/// All of access control.
#[derive(Debug, Clone)]
pub struct Access {
    /// By user id.
    pub users: BTreeMap<String, User>,
    /// Groups with their comments.
    pub groups: BTreeMap<String, Option<String>>,
    /// By role id.
    pub roles: BTreeMap<String, Role>,
    /// By path.
    pub acl: BTreeMap<String, AclNode>,
    /// By realm id.
    pub realms: BTreeMap<String, Realm>,
    /// By pool id.
    pub pools: BTreeMap<String, Pool>,
    /// The key that tickets and CSRF tokens are signed with.
    pub signing_key: [u8; 32],
}

impl Access {
    /// Tells whether it is the user's password.
    pub(crate) fn password_fits(&self, user: &str, password: &str) -> bool {
        let known = self.users.get(user).and_then(|user| user.password.as_deref());
        known.is_some_and(|known| known == password)
    }
    /// A fresh installation: root@pam with this password, the built-in realms and roles.
    pub fn fresh(version: PveVersion, root_password: &str, signing_key: [u8; 32]) -> Self {
        let root = User { password: Some(root_password.to_owned()), ..User::default() };
        let realm = |kind: &str, comment: &str| {
            let options = BTreeMap::from([("comment".to_owned(), comment.to_owned())]);
            (kind.to_owned(), Realm { kind: kind.to_owned(), options })
        };
        Self {
            users: BTreeMap::from([("root@pam".to_owned(), root)]),
            groups: BTreeMap::new(),
            roles: super::roles::built_in(version),
            acl: BTreeMap::new(),
            realms: BTreeMap::from([
                realm("pam", "Linux PAM standard authentication"),
                realm("pve", "Proxmox VE authentication server"),
            ]),
            pools: BTreeMap::new(),
            signing_key,
        }
    }
    /// Finds a token by its full id (`user@realm!name`).
    pub fn token(&self, full_id: &str) -> Option<(&User, &Token)> {
        let (user, name) = full_id.rsplit_once('!')?;
        let user = self.users.get(user)?;
        Some((user, user.tokens.get(name)?))
    }
}
