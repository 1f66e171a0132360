//! `pveum` and `pvesh`: users and rights, and the API without HTTP.
// PVE: pve-access-control src/PVE/CLI/pveum.pm, pve-manager PVE/CLI/pvesh.pm.

use super::Command;
use pve_types::{TokenName, UserId};

/// A verb of `pvesh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PveshVerb {
    /// GET.
    Get,
    /// PUT.
    Set,
    /// POST.
    Create,
    /// DELETE.
    Delete,
}

impl PveshVerb {
    /// Returns the verb as `pvesh` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

/// Returns `pvesh VERB PATH … --output-format json`. The parameters keep their order.
pub fn pvesh<K: AsRef<str>, V: AsRef<str>>(
    verb: PveshVerb,
    path: &str,
    parameters: impl IntoIterator<Item = (K, V)>,
) -> Command {
    Command::new("pvesh").arg(verb.as_str()).arg(path).options(parameters).option("output-format", "json")
}

/// Returns `pveum VERB… --output-format json` for the verbs that list something, such as `["user", "list"]`.
pub fn pveum_list(verbs: &[&str]) -> Command {
    Command::new("pveum").args(verbs).option("output-format", "json")
}

/// Returns `pveum VERB… ARGUMENTS… OPTIONS…` for the verbs that change something.
pub fn pveum<K: AsRef<str>, V: AsRef<str>>(
    verbs: &[&str],
    arguments: &[&str],
    options: impl IntoIterator<Item = (K, V)>,
) -> Command {
    Command::new("pveum").args(verbs).args(arguments).options(options)
}

/// Returns `pveum user token permissions USER TOKEN --output-format json`.
pub fn token_permissions(user: &UserId, token: &TokenName) -> Command {
    Command::new("pveum")
        .args(["user", "token", "permissions", user.as_str(), token.as_str()])
        .option("output-format", "json")
}

/// Returns `pveversion`: one line, `pve-manager/9.2.11/… (running kernel: …)`.
pub fn pveversion() -> Command {
    Command::new("pveversion")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_ask_for_json_wherever_there_is_some() {
        let none: [(&str, &str); 0] = [];
        for (command, expect) in [
            (pvesh(PveshVerb::Get, "/version", none), "pvesh get /version --output-format json"),
            (
                pvesh(PveshVerb::Set, "/nodes/pve1/qemu/100/config", [("name", "a b")]),
                "pvesh set /nodes/pve1/qemu/100/config --name 'a b' --output-format json",
            ),
            (pveum_list(&["user", "list"]), "pveum user list --output-format json"),
            (
                pveum(&["acl", "modify"], &["/vms"], [("roles", "PVEVMAdmin"), ("tokens", "a@pve!ci")]),
                "pveum acl modify /vms --roles PVEVMAdmin --tokens 'a@pve!ci'",
            ),
        ] {
            assert_eq!(command.to_string(), expect);
        }
    }
}
