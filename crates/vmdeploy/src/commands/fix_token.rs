//! `vmdeploy fix-token`: grants exactly what check-token finds missing, and asks as the token whether it helped.

use super::check_token::{by_ssh, config, user_holds, verdict};
use crate::confirm::confirm;
use crate::context::Context;
use crate::environment::{CredentialScope, DOTENV, names, set_in_dotenv};
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::reach;
use crate::spec_files::{LoadedSpec, SpecArgs, load_whole_if_named};
use crate::token::grants::{AccessFacts, Operation, Shut, operations, shut};
use crate::token::{Identity, RequiredPrivilege};
use pve_api::access::{Subject, TokenSettings, UserSettings};
use pve_api::{ApiError, Client, TokenId};
use pve_types::{Secret, TokenName, UserId};
use std::collections::BTreeMap;
use std::path::Path;
use vmdeploy_executor::{Connections, ConnectionsConfig};

/// Shows the commands that grant the missing privileges, and runs them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Cluster, if the spec has several
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Create the user and token named in PROXMOX_API_USER if they do not exist, and write the secret to .env
    #[arg(long)]
    create: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Fixes the token.
///
/// # Errors
/// No credentials may change permissions, or the cluster cannot be reached.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let scope = context.environment.connection()?;
    let user = scope.get(names::API_USER).ok_or_else(|| {
        Failure::usage(format!("{} is not set", names::API_USER))
            .hint("set it to `user@realm!token`, such as `vmdeploy@pve!ci`; `--create` creates the user and the token")
    })?;
    let identity = Identity::parse(user).map_err(|error| Failure::of(Exit::USAGE, error))?;
    let Some(token) = identity.token.clone() else {
        output::say(&format!("{user} logs in with a password: there is no token to change"));
        return Ok(Exit::DONE);
    };
    let spec = load_whole_if_named(&args.spec, context)?;
    let admin = Admin::find(context).await?;
    let made = if args.create { create(args, &admin, &identity.user, &token).await? } else { None };
    if made.is_none() && scope.get(names::API_PASSWORD).is_none() {
        return Err(no_secret(args, &identity.user, &token));
    }
    if let Some(secret) = &made {
        remember(scope, secret)?;
    }
    let with_secret = made.as_ref().map(|secret| Context {
        environment: context.environment.with(names::API_PASSWORD, secret.expose()),
        ..context.clone()
    });
    let context = with_secret.as_ref().unwrap_or(context);
    let spec = (spec.as_ref(), args.cluster.as_deref());
    let config = config(context, spec.0, spec.1)?;
    Fix { args, user, token, admin, config, spec, context }.run().await
}

/// The token being fixed.
struct Fix<'a> {
    args: &'a Args,
    user: &'a str,
    token: TokenName,
    admin: Admin,
    config: ConnectionsConfig,
    spec: (Option<&'a LoadedSpec>, Option<&'a str>),
    context: &'a Context,
}

impl Fix<'_> {
    /// Grants what is missing, and asks as the token whether it is enough now. What the token may see decides what can
    /// be planned, so a grant may show that more is needed: then that is granted in the same run.
    async fn run(&self) -> CommandResult {
        let mut tried: Vec<Operation> = Vec::new();
        loop {
            let verdict = verdict(self.user, &self.config, self.spec, self.context).await?;
            let missing: Vec<RequiredPrivilege> =
                verdict.required_privileges.iter().filter(|required| !required.held).cloned().collect();
            if missing.is_empty() {
                return Ok(self.done(!tried.is_empty(), verdict.required_privileges.len()));
            }
            let mut todo = self.admin.operations(&missing, &verdict.identity, &self.token).await?;
            todo.retain(|operation| !tried.contains(operation));
            if todo.is_empty() {
                return Err(still_missing(&missing));
            }
            output::say(&format!("to run as {}:", self.admin.name));
            todo.iter().for_each(|operation| output::print_line(&format!("  {operation}")));
            let what = format!("change roles and permissions for {}", self.user);
            if !confirm(self.args.yes, &what, "`--yes`")? {
                return Ok(Exit::USAGE);
            }
            for operation in &todo {
                self.admin.carry_out(operation).await?;
            }
            tried.extend(todo);
        }
    }

    fn done(&self, changed: bool, count: usize) -> Exit {
        match changed {
            true => output::say(&format!(
                "done; read back from {}: all {count} required privileges are granted",
                self.user
            )),
            false => output::say("nothing is missing; nothing was changed"),
        }
        Exit::DONE
    }
}

/// Says what no grant of ours gave, by privilege.
fn still_missing(missing: &[RequiredPrivilege]) -> Failure {
    let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for required in missing {
        paths.entry(required.privilege.as_str()).or_default().push(required.path.as_str());
    }
    let lines = paths.into_iter().map(|(privilege, paths)| match paths.as_slice() {
        [one] => format!("{privilege} on {one}"),
        [first, rest @ ..] => format!("{privilege} on {first} and {} more", rest.len()),
        [] => privilege.to_owned(),
    });
    let still: Vec<String> = lines.collect();
    let still: Vec<&str> = still.iter().map(String::as_str).collect();
    Failure::list(Exit::RIGHTS, "the permissions were granted, but these are still missing", &still).hint(
        "an ACL entry on a deeper path, such as one with the role NoAccess, may override it: `pveum acl list` shows all entries, and `vmdeploy check-token` what each step needs",
    )
}

/// Who changes the access control.
struct Admin {
    connections: Connections,
    name: String,
}

impl Admin {
    /// Takes root by SSH where that works, else the API's own credentials.
    async fn find(context: &Context) -> Result<Self, Failure> {
        let by_api = reach::connections_config(&context.environment);
        let ssh = reach::ssh_only(&context.environment)?;
        if let Some(connections) = by_ssh(&ssh).await {
            return Ok(Self { connections, name: "root by SSH".to_owned() });
        }
        let config = by_api.map_err(|failure| {
            failure.hint("or allow root SSH login: then no other credentials are needed")
        })?;
        let name = config.api.as_ref().map(|api| api.user.clone()).unwrap_or_default();
        Ok(Self { connections: reach::open(config).await?, name: format!("{name} through the API") })
    }
    fn client(&self) -> &Client {
        self.connections.api()
    }

    async fn operations(
        &self,
        missing: &[RequiredPrivilege],
        identity: &Identity,
        token: &TokenName,
    ) -> Result<Vec<Operation>, Failure> {
        let facts = self.facts(&identity.user).await?;
        let mut identity = identity.clone();
        crate::token::look_up(&mut identity, self.client()).await;
        let id = TokenId { user: identity.user.clone(), name: token.clone() };
        let user_lacks: Vec<RequiredPrivilege> =
            missing.iter().filter(|required| !user_has(&identity, required)).cloned().collect();
        let (user, token) = (Subject::User(identity.user.clone()), Subject::Token(id));
        let is_separated = identity.separated != Some(false);
        let of_token = shut(missing, &token, &facts).filter(|_| is_separated);
        if let Some(entry) = of_token.or_else(|| shut(missing, &user, &facts)) {
            return Err(kept_out(&entry));
        }
        let of_user = operations(&user_lacks, &user, &facts);
        let of_token = if is_separated { operations(missing, &token, &facts) } else { Vec::new() };
        let mut all: Vec<Operation> = Vec::new();
        for operation in of_token.into_iter().chain(of_user) {
            if !all.contains(&operation) {
                all.push(operation);
            }
        }
        all.sort_by_key(|operation| matches!(operation, Operation::Grant { .. }));
        Ok(all)
    }

    async fn facts(&self, user: &UserId) -> Result<AccessFacts, Failure> {
        let access = self.client().access();
        Ok(AccessFacts {
            roles: access.roles().list().await.map_err(|error| self.refused("read the roles", error))?,
            acl: access
                .acl()
                .list()
                .await
                .map_err(|error| self.refused("read the access control list", error))?,
            groups: access.users().get(user).await.map(|user| user.groups).unwrap_or_default(),
        })
    }

    async fn carry_out(&self, operation: &Operation) -> Result<(), Failure> {
        let access = self.client().access();
        let done = match operation {
            Operation::CreateUser(user) => {
                let settings =
                    UserSettings { comment: Some("vmdeploy".to_owned()), ..UserSettings::default() };
                access.users().create(user, &settings, None).await
            }
            Operation::CreateToken(..) => Ok(()),
            Operation::CreateRole(role, privileges) => {
                access.roles().create(role, &privileges.iter().copied().collect::<Vec<_>>()).await
            }
            Operation::Grant { .. } => match operation.as_grant() {
                Some(grant) => access.acl().grant(&grant).await,
                None => Ok(()),
            },
        };
        done.map_err(|error| self.refused(&format!("run `{operation}`"), error))
    }

    fn refused(&self, what: &str, error: ApiError) -> Failure {
        let denied = error.is_denied();
        let exit = if denied { Exit::RIGHTS } else { Exit::OBSERVED };
        let failure = Failure::of(exit, error).context(format!("{} cannot {what}", self.name));
        if denied {
            failure.hint("allow root SSH login, or ask an administrator to run the printed commands")
        } else {
            failure
        }
    }
}

fn user_has(identity: &Identity, required: &RequiredPrivilege) -> bool {
    identity.user.as_str() == "root@pam"
        || identity.user_may.as_ref().is_some_and(|may| user_holds(may, required))
}

/// An entry that denies access to the account is not removed by fix-token.
fn kept_out(entry: &Shut) -> Failure {
    let failure =
        Failure::new(Exit::RIGHTS, format!("no grant helps while there is {entry}; nothing was changed"));
    failure.hint(format!("if it is not meant to be there: `{}`", entry.removal()))
}

/// Makes user and token where they are missing; returns the secret of a token that was made.
async fn create(
    args: &Args,
    admin: &Admin,
    user: &UserId,
    token: &TokenName,
) -> Result<Option<Secret>, Failure> {
    let access = admin.client().access();
    let mut todo = Vec::new();
    match access.users().get(user).await {
        Ok(_) => {}
        Err(error) if error.is_absent() => todo.push(Operation::CreateUser(user.clone())),
        Err(error) => return Err(admin.refused("look for the user", error)),
    }
    let there = todo.is_empty() && access.tokens(user).get(token).await.is_ok();
    if there {
        output::say(&format!("{user}!{token} exists already"));
        return Ok(None);
    }
    todo.push(Operation::CreateToken(user.clone(), token.clone()));
    output::say(&format!("to create as {}:", admin.name));
    todo.iter().for_each(|operation| output::print_line(&format!("  {operation}")));
    if !confirm(args.yes, &format!("create {user}!{token} and write its secret to {DOTENV}"), "`--yes`")? {
        return Err(Failure::usage("not confirmed; nothing was changed"));
    }
    for operation in todo.iter().filter(|operation| matches!(operation, Operation::CreateUser(_))) {
        admin.carry_out(operation).await?;
    }
    let settings = TokenSettings {
        privsep: Some(true),
        comment: Some("vmdeploy".to_owned()),
        ..TokenSettings::default()
    };
    let made = access.tokens(user).create(token, &settings).await;
    let made = made.map_err(|error| admin.refused("create the token", error))?;
    crate::redact::register(made.secret.expose());
    Ok(Some(made.secret))
}

/// A token's secret is told once: who has not kept it needs another token.
fn no_secret(args: &Args, user: &UserId, token: &TokenName) -> Failure {
    let failure = Failure::new(
        Exit::RIGHTS,
        format!("{} is not set, and {user}!{token} needs its secret", names::API_PASSWORD),
    );
    if args.create {
        failure.hint(format!(
            "the token exists already, and its secret cannot be read again: remove it (`pveum user token remove {user} {token}`) and run this again, or set another token name in {}",
            names::API_USER
        ))
    } else {
        failure.hint("set it in .env; `--create` creates the user and the token, and writes the secret there")
    }
}

/// Writes the secret into the `.env` that was read, or a new one, which only its owner may read.
///
/// The other settings of the connection are written with it: a secret is used with what the same file names, and with
/// nothing else.
fn remember(scope: CredentialScope<'_>, secret: &Secret) -> Result<(), Failure> {
    let path = scope.environment().dotenv().unwrap_or(Path::new(DOTENV));
    let shown = path.display();
    let others = scope.settings().filter(|(variable, _)| *variable != names::API_PASSWORD);
    let pairs: Vec<(&str, &str)> = others
        .map(|(variable, value)| (variable.name(), value))
        .chain([(names::API_PASSWORD.name(), secret.expose())])
        .collect();
    set_in_dotenv(path, &pairs).map_err(|error| {
        Failure::of(Exit::INTERNAL, error)
            .context(format!("the token was created, but its secret could not be written to {shown}"))
            .hint(format!(
                "remove the token (`pveum user token remove`), make {shown} writable, and run this again"
            ))
    })?;
    output::say(&format!("its secret is in {shown} (mode 0600)"));
    Ok(())
}
