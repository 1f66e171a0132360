//! `vmdeploy access permissions`.

use super::Session;
use crate::failure::CommandResult;
use crate::table::Table;
use pve_api::access::Permissions;

/// Shows what the caller, a user or a token may do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// User or token, such as `ann@pve!ci` [default: the caller]
    #[arg(long)]
    user: Option<String>,
    /// Only this path
    #[arg(long)]
    path: Option<String>,
}

pub(super) async fn run(args: &Args, session: &Session<'_>) -> CommandResult {
    let found = match (&args.user, &args.path) {
        (Some(user), path) => session.access.permissions_of(user, path.as_deref()).await,
        (None, Some(path)) => session.access.permissions_on(path).await,
        (None, None) => session.access.permissions().await,
    };
    session.print(found, table)
}

fn table(permissions: &Permissions) -> Table {
    let mut table = Table::new(&["path", "privilege", "propagates"]);
    for (path, privileges) in &permissions.paths {
        for (name, propagates) in privileges {
            table.row([path.clone(), name.clone(), super::yes_no(Some(*propagates))]);
        }
    }
    table
}
