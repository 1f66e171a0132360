//! `vmdeploy access realms`.

use super::{SecretSource, Session, plain_params, text, yes_no};
use crate::api_client;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::table::Table;
use pve_api::access::{RealmItem, RealmSync, SyncScope};
use pve_types::RealmId;
use std::time::Duration;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List realms
    List,
    /// Show a realm's settings
    Show {
        /// The realm
        realm: RealmId,
    },
    /// Create a realm
    Add {
        /// The realm
        realm: RealmId,
        /// Type: ldap, ad or openid
        #[arg(long = "type", value_name = "TYPE")]
        kind: String,
        /// Settings, such as server1=ldap.example.net
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Change a realm's settings
    Change {
        /// The realm
        realm: RealmId,
        /// Settings, such as comment=Staff
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Remove a realm; its users are kept but cannot log in
    Remove {
        /// The realm
        realm: RealmId,
    },
    /// Sync users and groups from LDAP or AD
    Sync {
        /// The realm
        realm: RealmId,
        /// What to sync
        #[arg(long, value_enum)]
        scope: Option<Scope>,
        /// What to remove of vanished users and groups: entry, acl, properties, separated by `;`, or none
        #[arg(long, value_name = "WHAT")]
        remove_vanished: Option<String>,
        /// Allow new users to log in
        #[arg(long, value_name = "BOOL")]
        enable_new: Option<bool>,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        /// Maximum time to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Scope {
    Users,
    Groups,
    Both,
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let realms = session.access.realms();
    match command {
        Command::List => session.print(realms.list().await, |list| table(list)),
        Command::Show { realm } => session.print(realms.get(realm).await, |found| {
            let mut table = Table::new(&["key", "value"]);
            for (key, value) in &found.values {
                table.row([key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
            }
            table
        }),
        Command::Add { realm, kind, settings, password } => {
            if !session.confirmed(&format!("create realm `{realm}`"))? {
                return Ok(Exit::USAGE);
            }
            let mut params = plain_params(settings)?;
            if let Some(password) = password.get(session.context)? {
                params = params.with_secret("password", &password);
            }
            let made = realms.create(realm, kind, params).await;
            session.done(made, format!("realm `{realm}` created"))
        }
        Command::Change { realm, settings, password } => {
            if !session.confirmed(&format!("change realm `{realm}`"))? {
                return Ok(Exit::USAGE);
            }
            let mut params = plain_params(settings)?;
            if let Some(password) = password.get(session.context)? {
                params = params.with_secret("password", &password);
            }
            session.done(realms.update(realm, params).await, format!("realm `{realm}` changed"))
        }
        Command::Remove { realm } => {
            if !session.confirmed(&format!("remove realm `{realm}`"))? {
                return Ok(Exit::DONE);
            }
            session.done(realms.delete(realm).await, format!("realm `{realm}` removed"))
        }
        Command::Sync { realm, scope, remove_vanished, enable_new, dry_run, timeout } => {
            if !dry_run && !session.confirmed(&format!("sync users and groups from realm `{realm}`"))? {
                return Ok(Exit::USAGE);
            }
            let scope = scope.map(|scope| match scope {
                Scope::Users => SyncScope::Users,
                Scope::Groups => SyncScope::Groups,
                Scope::Both => SyncScope::Both,
            });
            let how = RealmSync {
                scope,
                remove_vanished: remove_vanished.clone(),
                enable_new: *enable_new,
                dry_run: *dry_run,
            };
            let task = realms.sync(realm, &how).await.map_err(api_client::failure)?;
            api_client::follow(&task, Duration::from_secs(*timeout)).await?;
            output::say(&format!("realm `{realm}` synced"));
            Ok(Exit::DONE)
        }
    }
}

fn table(realms: &[RealmItem]) -> Table {
    let mut table = Table::new(&["realm", "type", "default", "second factor", "comment"]);
    for realm in realms {
        table.row([
            realm.realm.to_string(),
            text(realm.kind.as_ref()),
            yes_no(Some(realm.default == Some(true))),
            text(realm.tfa.as_ref()),
            text(realm.comment.as_ref()),
        ]);
    }
    table
}
