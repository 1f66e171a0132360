//! `vmdeploy access tfa`.

use super::{SecretSource, Session, text, yes_no};
use crate::api_client;
use crate::commands::api::print_json;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::table::Table;
use pve_api::access::TfaEntry;
use pve_types::{Secret, UserId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List second factors of all users or of one user
    List {
        /// The user
        user: Option<UserId>,
    },
    /// Add an authenticator app; the password is the caller's
    AddTotp {
        /// The user
        user: UserId,
        /// Description
        description: String,
        /// A file, or `-` for standard input, with two lines: the app's otpauth URI, and a code that the app shows now
        #[arg(long, value_name = "FILE")]
        from: String,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Create recovery keys, shown only once; the password is the caller's
    AddRecovery {
        /// The user
        user: UserId,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Change a second factor; the password is the caller's
    Change {
        /// The user
        user: UserId,
        /// ID of the second factor
        id: String,
        /// Enable or disable it
        #[arg(long, value_name = "BOOL")]
        enable: Option<bool>,
        /// A description
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Remove a second factor; the password is the caller's
    Remove {
        /// The user
        user: UserId,
        /// ID of the second factor
        id: String,
        #[command(flatten)]
        password: SecretSource,
    },
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let tfa = session.access.tfa();
    match command {
        Command::List { user: None } => session.print(tfa.list().await, |users| {
            let all = users
                .iter()
                .flat_map(|user| user.entries.iter().map(|entry| (user.userid.to_string(), entry)));
            table(all)
        }),
        Command::List { user: Some(user) } => session.print(tfa.list_of(user).await, |entries| {
            table(entries.iter().map(|entry| (user.to_string(), entry)))
        }),
        Command::AddTotp { user, description, from, password } => {
            if !session.confirmed(&format!("add a second factor to `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            let both = crate::commands::api::secret_file(from)?;
            let (uri, code) = both.expose().split_once('\n').ok_or_else(|| {
                Failure::usage(format!("`{from}` must contain two lines: an otpauth URI and a code"))
            })?;
            let (uri, code) = (Secret::new(uri.trim()), Secret::new(code.trim()));
            let password = password.get(session.context)?;
            let made = tfa.add_totp(user, description, &uri, &code, password.as_ref()).await;
            let id = made.as_ref().map(|made| made.id.clone()).unwrap_or_default();
            session.done(made.map(drop), format!("second factor `{id}` of `{user}` added"))
        }
        Command::AddRecovery { user, password } => {
            if !session.confirmed(&format!("create recovery keys for `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            let password = password.get(session.context)?;
            let made = tfa.add_recovery(user, password.as_ref()).await.map_err(api_client::failure)?;
            let keys: Vec<&str> = made.recovery.iter().map(pve_types::Secret::expose).collect();
            match session.json {
                true => print_json(&serde_json::json!({"id": made.id, "recovery": keys}))?,
                false => {
                    output::say("each key works once; the keys cannot be shown again:");
                    keys.iter().for_each(|key| output::print_line(key));
                }
            }
            Ok(Exit::DONE)
        }
        Command::Change { user, id, enable, description, password } => {
            if !session.confirmed(&format!("change second factor `{id}` of `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            let password = password.get(session.context)?;
            let changed = tfa.update(user, id, *enable, description.as_deref(), password.as_ref()).await;
            session.done(changed, format!("second factor `{id}` of `{user}` changed"))
        }
        Command::Remove { user, id, password } => {
            let password = password.get(session.context)?;
            if !session.confirmed(&format!("remove second factor `{id}` of `{user}`"))? {
                return Ok(Exit::DONE);
            }
            let removed = tfa.delete(user, id, password.as_ref()).await;
            session.done(removed, format!("second factor `{id}` of `{user}` removed"))
        }
    }
}

fn table<'a>(entries: impl Iterator<Item = (String, &'a TfaEntry)>) -> Table {
    let mut table = Table::new(&["user", "id", "type", "enabled", "description"]);
    for (user, entry) in entries {
        table.row([
            user,
            entry.id.clone(),
            text(entry.kind.as_ref()),
            yes_no(Some(entry.enable != Some(false))),
            text(entry.description.as_ref()),
        ]);
    }
    table
}
