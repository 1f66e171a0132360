//! `vmdeploy access groups`.

use super::{Session, one, text};
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::table::Table;
use pve_api::access::GroupItem;
use pve_types::GroupId;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List groups
    List,
    /// Show a group with its members
    Show {
        /// The group
        group: GroupId,
    },
    /// Create a group
    Add {
        /// The group
        group: GroupId,
        /// A comment
        #[arg(long)]
        comment: Option<String>,
    },
    /// Change a group's comment
    Change {
        /// The group
        group: GroupId,
        /// A comment
        #[arg(long)]
        comment: String,
    },
    /// Remove a group and its ACL entries; its users are kept
    Remove {
        /// The group
        group: GroupId,
    },
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let groups = session.access.groups();
    match command {
        Command::List => session.print(groups.list().await, |list| table(list)),
        Command::Show { group } => session.print(groups.get(group).await, |found| {
            one([
                ("group", group.to_string()),
                ("comment", text(found.comment.as_ref())),
                ("members", found.members.join(",")),
            ])
        }),
        Command::Add { group, comment } => {
            if !session.confirmed(&format!("create group `{group}`"))? {
                return Ok(Exit::USAGE);
            }
            let made = groups.create(group, comment.as_deref()).await;
            session.done(made, format!("group `{group}` created"))
        }
        Command::Change { group, comment } => {
            if !session.confirmed(&format!("change group `{group}`"))? {
                return Ok(Exit::USAGE);
            }
            session.done(groups.update(group, comment).await, format!("group `{group}` changed"))
        }
        Command::Remove { group } => {
            if !session.confirmed(&format!("remove group `{group}` and its ACL entries"))? {
                return Ok(Exit::DONE);
            }
            session.done(groups.delete(group).await, format!("group `{group}` removed"))
        }
    }
}

fn table(groups: &[GroupItem]) -> Table {
    let mut table = Table::new(&["group", "users", "comment"]);
    for group in groups {
        table.row([group.groupid.to_string(), text(group.users.as_ref()), text(group.comment.as_ref())]);
    }
    table
}
