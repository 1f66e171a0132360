//! `vmdeploy access tokens`.

use super::{Session, expiry, one, text, yes_no};
use crate::api_client;
use crate::commands::api::print_json;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::table::Table;
use pve_api::access::{NewToken, Token, TokenSettings};
use pve_types::{TokenName, UserId};
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List a user's tokens
    List {
        /// The user
        user: UserId,
    },
    /// Show a token
    Show {
        /// The user
        user: UserId,
        /// Name of the token
        name: TokenName,
    },
    /// Create a token; its secret is shown only once
    Add {
        /// The user
        user: UserId,
        /// Name of the token
        name: TokenName,
        #[command(flatten)]
        settings: Settings,
        /// Write the secret to this new file (mode 0600) instead of printing it
        #[arg(long, value_name = "FILE")]
        secret_to: Option<PathBuf>,
    },
    /// Change a token; its secret is kept
    Change {
        /// The user
        user: UserId,
        /// Name of the token
        name: TokenName,
        #[command(flatten)]
        settings: Settings,
    },
    /// Remove a token and its ACL entries
    Remove {
        /// The user
        user: UserId,
        /// Name of the token
        name: TokenName,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Privilege separation: limit the token to privileges granted to the token itself
    #[arg(long, value_name = "BOOL")]
    privsep: Option<bool>,
    /// Expiry, in seconds since 1970; 0 is never
    #[arg(long, value_name = "SECONDS")]
    expire: Option<u64>,
    /// A comment
    #[arg(long)]
    comment: Option<String>,
}

impl Settings {
    fn settings(&self) -> TokenSettings {
        TokenSettings { privsep: self.privsep, expire: self.expire, comment: self.comment.clone() }
    }
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    match command {
        Command::List { user } => session.print(session.access.tokens(user).list().await, |list| table(list)),
        Command::Show { user, name } => session.print(session.access.tokens(user).get(name).await, |token| {
            one([
                ("token", format!("{user}!{name}")),
                ("privsep", yes_no(Some(token.is_separated()))),
                ("expires", expiry(token.expire)),
                ("comment", text(token.comment.as_ref())),
            ])
        }),
        Command::Add { user, name, settings, secret_to } => {
            if !session.confirmed(&format!("create token `{user}!{name}`"))? {
                return Ok(Exit::USAGE);
            }
            // The file is made first: a secret that cannot be kept must not be made.
            let file =
                secret_to.as_deref().map(|path| Ok::<_, Failure>((path, new_file(path)?))).transpose()?;
            let made = session.access.tokens(user).create(name, &settings.settings()).await;
            let made = match made {
                Ok(made) => made,
                Err(error) => {
                    if let Some((path, _)) = file {
                        let _ = std::fs::remove_file(path);
                    }
                    return Err(api_client::failure(error));
                }
            };
            hand_over(&made, file, session.json)
        }
        Command::Change { user, name, settings } => {
            if !session.confirmed(&format!("change token `{user}!{name}`"))? {
                return Ok(Exit::USAGE);
            }
            let changed = session.access.tokens(user).update(name, &settings.settings()).await;
            session.done(changed, format!("token `{user}!{name}` changed"))
        }
        Command::Remove { user, name } => {
            if !session.confirmed(&format!("remove token `{user}!{name}` and its ACL entries"))? {
                return Ok(Exit::DONE);
            }
            let removed = session.access.tokens(user).delete(name).await;
            session.done(removed, format!("token `{user}!{name}` removed"))
        }
    }
}

/// Prints or writes the secret, which cannot be read again.
fn hand_over(made: &NewToken, file: Option<(&Path, std::fs::File)>, json: bool) -> CommandResult {
    let written = file.map(|(path, mut file)| {
        writeln!(file, "{}", made.secret.expose()).and_then(|()| file.sync_all()).map(|()| path)
    });
    match written {
        Some(Ok(path)) => {
            output::say(&format!("token `{}` created; its secret is in `{}`", made.id, path.display()));
        }
        Some(Err(error)) => {
            let message = format!("token `{}` was created, but its secret could not be written", made.id);
            let hint = format!(
                "remove the token with `vmdeploy access tokens remove {} {}` and try again",
                made.id.user, made.id.name
            );
            return Err(Failure::of(Exit::FAILED_LEFT, error).context(message).hint(hint));
        }
        None if json => print_json(&serde_json::json!({
            "full-tokenid": made.id.to_string(),
            "value": made.secret.expose(),
        }))?,
        None => {
            output::say(&format!("token `{}` created; its secret cannot be shown again:", made.id));
            output::print_line(made.secret.expose());
        }
    }
    Ok(Exit::DONE)
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    crate::files::create_new(path).map_err(|error| crate::files::cannot_write(path, error))
}

fn table(tokens: &[Token]) -> Table {
    let mut table = Table::new(&["token", "privsep", "expires", "comment"]);
    for token in tokens {
        table.row([
            token.tokenid.as_ref().map(ToString::to_string).unwrap_or_default(),
            yes_no(Some(token.is_separated())),
            expiry(token.expire),
            text(token.comment.as_ref()),
        ]);
    }
    table
}
