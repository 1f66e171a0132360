//! Names that PVE gives to nodes, storages, users and the like, each with PVE's own rule.
//!
//! A copy of a name shares its text: a plan for thousands of VMs names the same nodes and storages again and again.

use crate::{ParseError, string_form};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);
        impl $name {
            /// Returns the name as PVE writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let rule: fn(&str) -> Result<(), &'static str> = $rule;
                match rule(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(reason) => Err(ParseError::new($kind, text, reason)),
                }
            }
        }
        string_form!($name);
    };
}

name!(
    /// A cluster node's name.
    // PVE: pve-common src/PVE/JSONSchema.pm, format pve-node.
    NodeName, "node name", dns_label
);
name!(
    /// A storage's identifier, as in `storage.cfg`.
    // PVE: pve-storage src/PVE/Storage/Plugin.pm, format pve-storage-id.
    StorageId, "storage ID", storage_id
);
name!(
    /// A guest's name: DNS labels joined by dots.
    // PVE: qemu-server src/PVE/QemuServer.pm, format dns-name.
    GuestName, "guest name", dns_name
);
name!(
    /// A resource pool, up to three levels joined by `/`.
    // PVE: pve-access-control src/PVE/AccessControl.pm, format pve-poolid.
    PoolId, "pool name", pool_id
);
name!(
    /// A network bridge or VNet a NIC is plugged into.
    // PVE: qemu-server src/PVE/QemuServer/Network.pm, `bridge=[-_.\w\d]+`.
    BridgeName, "bridge name", bridge
);
name!(
    /// A user of a realm, `user@realm`, without a token part.
    // PVE: pve-access-control src/PVE/Auth/Plugin.pm, format pve-userid.
    UserId, "user ID", user_id
);
name!(
    /// The part of a token's ID after the `!`.
    // PVE: pve-access-control src/PVE/AccessControl.pm, token_subid_regex.
    TokenName, "token name", realm
);
name!(
    /// An authentication realm.
    // PVE: pve-access-control src/PVE/Auth/Plugin.pm, format pve-realm.
    RealmId, "realm", realm
);
name!(
    /// A role's name.
    // PVE: pve-access-control src/PVE/AccessControl.pm, format pve-roleid.
    RoleId, "role name", plain_id
);
name!(
    /// A group's name.
    // PVE: pve-access-control src/PVE/AccessControl.pm, format pve-groupid.
    GroupId, "group name", plain_id
);

impl UserId {
    /// Returns the realm, the part after the last `@`.
    pub fn realm(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, realm)| realm)
    }
}

fn dns_label(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.is_empty() {
        Err("it is empty")
    } else if text.len() > 63 {
        Err("it is longer than 63 characters")
    } else if !text.chars().all(inner) {
        Err("only letters, digits and `-` are allowed")
    } else if text.starts_with('-') || text.ends_with('-') {
        Err("it must start and end with a letter or digit")
    } else {
        Ok(())
    }
}

fn dns_name(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("it is longer than 253 characters");
    }
    text.split('.').try_for_each(dns_label)
}

fn storage_id(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.len() < 2 {
        Err("it needs at least two characters")
    } else if text.len() > 100 {
        Err("it is longer than 100 characters")
    } else if !text.chars().all(inner) {
        Err("only letters, digits, `-`, `_` and `.` are allowed")
    } else if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Err("it must start with a letter")
    } else if !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("it must end with a letter or digit")
    } else {
        Ok(())
    }
}

fn plain_id(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() {
        Err("it is empty")
    } else if !text.chars().all(inner) {
        Err("only letters, digits, `-`, `_` and `.` are allowed")
    } else {
        Ok(())
    }
}

fn pool_id(text: &str) -> Result<(), &'static str> {
    if text.split('/').count() > 3 {
        return Err("at most three levels are allowed");
    }
    text.split('/').try_for_each(plain_id)
}

fn bridge(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() {
        Err("it is empty")
    } else if text.len() > 15 {
        Err("it is longer than 15 characters")
    } else if !text.chars().all(inner) {
        Err("only letters, digits, `-`, `_` and `.` are allowed")
    } else {
        Ok(())
    }
}

fn realm(text: &str) -> Result<(), &'static str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.len() < 2 {
        Err("it needs at least two characters")
    } else if !text.chars().all(inner) {
        Err("only letters, digits, `-`, `_` and `.` are allowed")
    } else if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        Err("it must start with a letter")
    } else {
        Ok(())
    }
}

fn user_id(text: &str) -> Result<(), &'static str> {
    if !(3..=64).contains(&text.chars().count()) {
        return Err("it must be 3 to 64 characters long");
    }
    let Some((user, realm_part)) = text.rsplit_once('@') else {
        return Err("it needs a realm, as in `root@pam`");
    };
    if user.is_empty() {
        return Err("the part before `@` is empty");
    }
    if user.chars().any(|c| c.is_whitespace() || c.is_control() || ":/!".contains(c)) {
        return Err("spaces, `:`, `/` and `!` are not allowed before `@`");
    }
    realm(realm_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::str::FromStr>(accepted: &[&str], refused: &[&str]) {
        for text in accepted {
            assert!(text.parse::<T>().is_ok(), "`{text}` must be accepted");
        }
        for text in refused {
            assert!(text.parse::<T>().is_err(), "`{text}` must be refused");
        }
    }

    #[test]
    fn names_follow_the_rules_of_pve() {
        check::<NodeName>(&["pve1", "a", "pve-2"], &["", "-a", "a-", "a b", "a;b", "a\n", "pvé"]);
        check::<StorageId>(&["local-lvm", "aa", "a.b_c"], &["a", "1a", "a-", "a:b", "a/b", ""]);
        check::<GuestName>(&["web01", "web.example.org"], &["", "a..b", "-a", "a_b", "a$(id)", "a'b"]);
        check::<PoolId>(&["lab", "a/b/c"], &["", "a/b/c/d", "a//b", "a b"]);
        check::<BridgeName>(&["vmbr0", "vnet_1"], &["", "a b", "aaaaaaaaaaaaaaaa", "a,b"]);
        check::<UserId>(&["root@pam", "a.b@c@pve"], &["root", "@pam", "a b@pam", "a@p", "a!t@pam"]);
        check::<TokenName>(&["ci", "deploy-1"], &["c", "1c", "a b", ""]);
    }

    #[test]
    fn an_error_shows_control_characters_escaped() {
        let error = "a\u{1b}[31m".parse::<NodeName>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}
