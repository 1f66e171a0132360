//! `vmdeploy access acl`.

use super::{Session, yes_no};
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::table::Table;
use pve_api::TokenId;
use pve_api::access::{AclEntry, Grant, Subject};
use pve_types::{GroupId, RoleId, UserId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List ACL entries
    List {
        /// Only this path
        path: Option<String>,
    },
    /// Grant roles on a path
    Grant(What),
    /// Revoke roles on a path
    Revoke(What),
}

#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// The path, such as / or /vms/100
    path: String,
    /// The role; may be repeated
    #[arg(long = "role", required = true)]
    roles: Vec<RoleId>,
    /// A user; may be repeated
    #[arg(long = "user", required_unless_present_any = ["groups", "tokens"])]
    users: Vec<UserId>,
    /// A group; may be repeated
    #[arg(long = "group")]
    groups: Vec<GroupId>,
    /// A token, as `ann@pve!ci`; may be repeated
    #[arg(long = "token")]
    tokens: Vec<TokenId>,
    /// Only on the path itself, not below it
    #[arg(long)]
    no_propagate: bool,
}

impl What {
    fn grant(&self) -> Grant {
        let users = self.users.iter().cloned().map(Subject::User);
        let groups = self.groups.iter().cloned().map(Subject::Group);
        let tokens = self.tokens.iter().cloned().map(Subject::Token);
        Grant {
            path: self.path.clone(),
            roles: self.roles.clone(),
            subjects: users.chain(groups).chain(tokens).collect(),
            propagate: !self.no_propagate,
        }
    }
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let acl = session.access.acl();
    match command {
        Command::List { path } => {
            let entries = acl.list().await.map(|mut entries| {
                entries.retain(|entry| path.as_ref().is_none_or(|path| entry.path == *path));
                entries.sort_by(|a, b| (&a.path, &a.ugid, &a.roleid).cmp(&(&b.path, &b.ugid, &b.roleid)));
                entries
            });
            session.print(entries, |list| table(list))
        }
        Command::Grant(what) => {
            if !session.confirmed(&format!("grant these roles on `{}`", what.path))? {
                return Ok(Exit::USAGE);
            }
            session.done(acl.grant(&what.grant()).await, format!("granted on `{}`", what.path))
        }
        Command::Revoke(what) => {
            if !session.confirmed(&format!("revoke these roles on `{}`", what.path))? {
                return Ok(Exit::DONE);
            }
            session.done(acl.revoke(&what.grant()).await, format!("revoked on `{}`", what.path))
        }
    }
}

fn table(entries: &[AclEntry]) -> Table {
    let mut table = Table::new(&["path", "type", "who", "role", "propagates"]);
    for entry in entries {
        table.row([
            entry.path.clone(),
            entry.kind.clone(),
            entry.ugid.clone(),
            entry.roleid.to_string(),
            yes_no(Some(entry.propagate != Some(false))),
        ]);
    }
    table
}
