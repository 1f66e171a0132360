//! `vmdeploy access`: users, groups, roles, ACLs, realms, tokens, passwords, second factors, permissions.

mod acl;
mod groups;
mod password;
mod permissions;
mod realms;
mod roles;
mod tfa;
mod tokens;
mod users;

use crate::api_client;
use crate::commands::api::print_json;
use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::table::Table;
use pve_api::{ApiError, Params};

/// Manages users, groups, roles, ACLs, realms, tokens and passwords.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Do not ask before a change
    #[arg(long, short = 'y', global = true)]
    yes: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Manage users
    #[command(subcommand)]
    Users(users::Command),
    /// Manage groups
    #[command(subcommand)]
    Groups(groups::Command),
    /// Manage roles
    #[command(subcommand)]
    Roles(roles::Command),
    /// Manage access control lists: which role a user, group or token has on a path
    #[command(subcommand)]
    Acl(acl::Command),
    /// Manage authentication realms
    #[command(subcommand)]
    Realms(realms::Command),
    /// Manage API tokens
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// Manage second factors
    #[command(subcommand)]
    Tfa(tfa::Command),
    /// Set a user's password; requires a login with a password, not a token
    Password(password::Args),
    /// Show the privileges of a user or token
    Permissions(permissions::Args),
}

/// What every part of `access` is given.
struct Session<'a> {
    access: pve_api::access::Access,
    context: &'a Context,
    json: bool,
    yes: bool,
}

/// Does what is asked.
///
/// # Errors
/// The call fails, or a removal is not confirmed.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let client = api_client::open(context).await?;
    let (json, yes) = (args.json, args.yes);
    let session = Session { access: client.access(), context, json, yes };
    match &args.what {
        What::Users(command) => users::run(command, &session).await,
        What::Groups(command) => groups::run(command, &session).await,
        What::Roles(command) => roles::run(command, &session).await,
        What::Acl(command) => acl::run(command, &session).await,
        What::Realms(command) => realms::run(command, &session).await,
        What::Tokens(command) => tokens::run(command, &session).await,
        What::Tfa(command) => tfa::run(command, &session).await,
        What::Password(args) => password::run(args, &session).await,
        What::Permissions(args) => permissions::run(args, &session).await,
    }
}

impl Session<'_> {
    /// Prints data: as JSON, or as the table that `table` makes of it.
    fn print<T: serde::Serialize>(
        &self,
        data: Result<T, ApiError>,
        table: impl FnOnce(&T) -> Table,
    ) -> CommandResult {
        let data = data.map_err(api_client::failure)?;
        match self.json {
            true => print_json(&data)?,
            false => output::write_stdout(&table(&data).render()),
        }
        Ok(Exit::DONE)
    }
    /// Says what was done, on stderr; with `--json` nothing is printed, as there is no data.
    fn done(&self, result: Result<(), ApiError>, what: String) -> CommandResult {
        result.map_err(api_client::failure)?;
        output::say(&what);
        Ok(Exit::DONE)
    }
    /// Asks before something is changed or removed.
    fn confirmed(&self, what: &str) -> Result<bool, Failure> {
        confirm(self.yes, what, "`--yes`")
    }
}

/// Reads a secret from a variable or a file, or asks for it on the terminal.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
struct SecretSource {
    /// Read it from this environment variable
    #[arg(long, value_name = "NAME")]
    password_env: Option<String>,
    /// Read it from this file, or from standard input for `-`
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
}

impl SecretSource {
    fn get(&self, context: &Context) -> Result<Option<pve_types::Secret>, Failure> {
        if let Some(name) = &self.password_env {
            let value = context.environment.get(name);
            let value = value.ok_or_else(|| Failure::usage(format!("the variable `{name}` is not set")))?;
            crate::redact::register(value);
            return Ok(Some(pve_types::Secret::new(value)));
        }
        self.password_file.as_deref().map(crate::commands::api::secret_file).transpose()
    }
}

/// Returns a table of one thing: a line for each of its values.
fn one(rows: impl IntoIterator<Item = (&'static str, String)>) -> Table {
    let mut table = Table::new(&["key", "value"]);
    for (key, value) in rows {
        table.row([key.to_owned(), value]);
    }
    table
}

fn yes_no(flag: Option<bool>) -> String {
    flag.map_or(String::new(), |flag| if flag { "yes" } else { "no" }.to_owned())
}

/// Returns when something ends, where 0 and nothing are never.
fn expiry(seconds: Option<u64>) -> String {
    match seconds {
        None | Some(0) => "never".to_owned(),
        Some(seconds) => {
            let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            time.map_or_else(|| seconds.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
        }
    }
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

/// Reads `KEY=VALUE` parameters; the values of those that hold secrets come from elsewhere.
fn plain_params(pairs: &[String]) -> Result<Params, Failure> {
    let mut params = Params::new();
    for pair in pairs {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Failure::usage("write a parameter as `key=value`"))?;
        if Params::is_secret_key(key) {
            return Err(Failure::usage(format!(
                "`{key}` is a secret and must not be on a command line, which other users of this machine can see"
            ))
            .hint("give it with `--password-env NAME` or `--password-file FILE`"));
        }
        params.push(key, value);
    }
    Ok(params)
}
