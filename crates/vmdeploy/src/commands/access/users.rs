//! `vmdeploy access users`.

use super::{SecretSource, Session, expiry, one, text, yes_no};
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::table::Table;
use pve_api::access::{User, UserSettings};
use pve_types::{GroupId, UserId};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List users
    List,
    /// Show a user
    Show {
        /// The user, as `ann@pve`
        user: UserId,
    },
    /// Create a user
    Add {
        /// The user, as `ann@pve`
        user: UserId,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        password: SecretSource,
    },
    /// Change a user
    Change {
        /// The user
        user: UserId,
        #[command(flatten)]
        settings: Settings,
        /// Add to the user's existing groups
        #[arg(long, requires = "groups")]
        append: bool,
    },
    /// Remove a user, its tokens and ACL entries
    Remove {
        /// The user
        user: UserId,
    },
    /// Unlock a user's second factors
    UnlockTfa {
        /// The user
        user: UserId,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// A comment
    #[arg(long)]
    comment: Option<String>,
    /// Email address
    #[arg(long)]
    email: Option<String>,
    /// The first name
    #[arg(long)]
    firstname: Option<String>,
    /// The last name
    #[arg(long)]
    lastname: Option<String>,
    /// Groups, separated by commas
    #[arg(long, value_delimiter = ',')]
    groups: Option<Vec<GroupId>>,
    /// Expiry, in seconds since 1970; 0 is never
    #[arg(long, value_name = "SECONDS")]
    expire: Option<u64>,
    /// Allow the user to log in
    #[arg(long, value_name = "BOOL")]
    enable: Option<bool>,
}

impl Settings {
    fn settings(&self) -> UserSettings {
        UserSettings {
            enable: self.enable,
            expire: self.expire,
            firstname: self.firstname.clone(),
            lastname: self.lastname.clone(),
            email: self.email.clone(),
            comment: self.comment.clone(),
            groups: self.groups.clone(),
            keys: None,
        }
    }
}

pub(super) async fn run(command: &Command, session: &Session<'_>) -> CommandResult {
    let users = session.access.users();
    match command {
        Command::List => session.print(users.list_full().await, |list| table(list)),
        Command::Show { user } => session.print(users.get(user).await, |found| details(user, found)),
        Command::Add { user, settings, password } => {
            if !session.confirmed(&format!("create user `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            let password = password.get(session.context)?;
            let made = users.create(user, &settings.settings(), password.as_ref()).await;
            session.done(made, format!("user `{user}` created"))
        }
        Command::Change { user, settings, append } => {
            if !session.confirmed(&format!("change user `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            let changed = match append {
                true => users.update_adding_groups(user, &settings.settings()).await,
                false => users.update(user, &settings.settings()).await,
            };
            session.done(changed, format!("user `{user}` changed"))
        }
        Command::Remove { user } => {
            if !session.confirmed(&format!("remove user `{user}`, its tokens and its ACL entries"))? {
                return Ok(crate::exit::Exit::DONE);
            }
            session.done(users.delete(user).await, format!("user `{user}` removed"))
        }
        Command::UnlockTfa { user } => {
            if !session.confirmed(&format!("unlock the second factors of `{user}`"))? {
                return Ok(Exit::USAGE);
            }
            session.done(users.unlock_tfa(user).await, format!("the second factors of `{user}` unlocked"))
        }
    }
}

fn table(users: &[User]) -> Table {
    let mut table = Table::new(&["user", "enabled", "expires", "name", "groups", "tokens", "comment"]);
    for user in users {
        let name = [text(user.firstname.as_ref()), text(user.lastname.as_ref())].join(" ");
        table.row([
            user.userid.as_ref().map(ToString::to_string).unwrap_or_default(),
            yes_no(Some(user.enable != Some(false))),
            expiry(user.expire),
            name.trim().to_owned(),
            user.groups.join(","),
            user.tokens.join(","),
            text(user.comment.as_ref()),
        ]);
    }
    table
}

fn details(id: &UserId, user: &User) -> Table {
    one([
        ("user", id.to_string()),
        ("enabled", yes_no(Some(user.enable != Some(false)))),
        ("expires", expiry(user.expire)),
        ("firstname", text(user.firstname.as_ref())),
        ("lastname", text(user.lastname.as_ref())),
        ("email", text(user.email.as_ref())),
        ("comment", text(user.comment.as_ref())),
        ("groups", user.groups.join(",")),
        ("tokens", user.tokens.join(",")),
    ])
}
