//! `vmdeploy access password`.

use super::{SecretSource, Session};
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use pve_types::{Secret, UserId};

/// Sets a user's password.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The user
    user: UserId,
    #[command(flatten)]
    password: SecretSource,
}

pub(super) async fn run(args: &Args, session: &Session<'_>) -> CommandResult {
    let Some(password) = args.password.get(session.context)? else {
        return Err(Failure::usage("no new password was given").hint(
            "give it with `--password-env NAME`, or with `--password-file FILE` (`-` is standard input)",
        ));
    };
    if !session.confirmed(&format!("set the password of `{}`", args.user))? {
        return Ok(Exit::USAGE);
    }
    // PVE wants the caller's own password from everybody but root@pam, and only versions since 8 know it.
    let scope = session.context.environment.connection()?;
    let own = scope.get(names::API_PASSWORD).map(Secret::new);
    let caller = scope.get(names::API_USER);
    let own = own.filter(|_| caller.is_some_and(|user| user != "root@pam" && !user.contains('!')));
    let set = session.access.set_password(&args.user, &password, own.as_ref()).await;
    session.done(set, format!("password of `{}` set", args.user))
}
