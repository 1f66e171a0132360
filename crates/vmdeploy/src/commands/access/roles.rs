//! `vmdeploy access roles`.

use super::{Session, yes_no};
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::table::Table;
use pve_api::access::Role;
use pve_types::{Privilege, RoleId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List roles
    List,
    /// Show a role's privileges
    Show {
        /// The role
        role: RoleId,
    },
    /// Create a role
    Add {
        /// The role
        role: RoleId,
        /// Its privileges, such as VM.Allocate
        #[arg(required = true)]
        privileges: Vec<String>,
    },
    /// Change a role's privileges
    Change {
        /// The role
        role: RoleId,
        /// The privileges
        #[arg(required = true)]
        privileges: Vec<String>,
        /// Add to the role's existing privileges
        #[arg(long)]
        append: bool,
    },
    /// Remove a role and its ACL entries
    Remove {
        /// The role
        role: RoleId,
    },
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let roles = session.access.roles();
    match command {
        Command::List => session.print(roles.list().await, |list| table(list)),
        Command::Show { role } => session.print(roles.get(role).await, |privileges| {
            let mut table = Table::new(&["privilege"]);
            privileges.iter().for_each(|name| table.row([name.clone()]));
            table
        }),
        Command::Add { role, privileges } => {
            if !session.confirmed(&format!("create role `{role}`"))? {
                return Ok(Exit::USAGE);
            }
            let made = roles.create(role, &parsed(privileges)?).await;
            session.done(made, format!("role `{role}` created"))
        }
        Command::Change { role, privileges, append } => {
            if !session.confirmed(&format!("change role `{role}`"))? {
                return Ok(Exit::USAGE);
            }
            let privileges = parsed(privileges)?;
            let changed = match append {
                true => roles.add_privileges(role, &privileges).await,
                false => roles.update(role, &privileges).await,
            };
            session.done(changed, format!("role `{role}` changed"))
        }
        Command::Remove { role } => {
            if !session.confirmed(&format!("remove role `{role}` and its ACL entries"))? {
                return Ok(Exit::DONE);
            }
            session.done(roles.delete(role).await, format!("role `{role}` removed"))
        }
    }
}

fn parsed(names: &[String]) -> Result<Vec<Privilege>, Failure> {
    let names = names.iter().flat_map(|names| names.split(','));
    names
        .map(|name| name.trim().parse().map_err(|error: pve_types::ParseError| Failure::usage(error)))
        .collect()
}

fn table(roles: &[Role]) -> Table {
    let mut table = Table::new(&["role", "built-in", "privileges"]);
    for role in roles {
        let privileges: Vec<&str> = role.privileges().collect();
        table.row([role.roleid.to_string(), yes_no(Some(role.special)), privileges.join(" ")]);
    }
    table
}
