//! `vmdeploy check-token`: a verdict on the credentials, not a dump.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::output;
use crate::reach::{self, executor_failure};
use crate::spec_files::{OptionalSpecArgs, load_whole_if_named};
use crate::table::Table;
use crate::token::{Duty, Identity, general_duties, in_the_way, look_up, spec_duties};
use crate::{local_files, planning};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};
use vmdeploy_executor::{Connections, ConnectionsConfig, observe};
use vmdeploy_planner::observed::{ObservedGuest, Query, Rights};
use vmdeploy_planner::plan::PlanContext;
use vmdeploy_planner::{AskContext, ask};

/// Says whether the credentials are enough, and which privilege is missing where, for which step.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) spec: OptionalSpecArgs,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
    /// Show the privileges that are held, too
    #[arg(long)]
    all: bool,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    format_version: u32,
    /// The credentials.
    pub identity: Identity,
    /// Whether they may do everything anyway.
    is_root: bool,
    /// PVE's version.
    pub version: String,
    /// What must be allowed, and whether it is.
    pub duties: Vec<Duty>,
    /// What is wrong with the account.
    troubles: Vec<String>,
    /// What stands in a deployment's way, and is no matter of rights.
    notes: Vec<String>,
    /// Whether it is enough.
    enough: bool,
}

/// Prints the verdict.
///
/// # Errors
/// The cluster cannot be reached, or the spec is refused.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let config = reach::connections_config(&context.environment)?;
    let Some(user) = config.api.as_ref().map(|api| api.user.clone()) else {
        return Err(Failure::usage("no API user is set, so there is no token to check")
            .hint("set PROXMOX_API_USER and PROXMOX_API_PASSWORD; on the `ssh` road nothing is needed"));
    };
    let verdict = verdict(&user, &config, &args.spec, context).await?;
    if args.json {
        output::print_line(&serde_json::to_string_pretty(&verdict).map_err(anyhow::Error::from)?);
    } else {
        show(&verdict, args.all);
    }
    Ok(if verdict.enough { Exit::DONE } else { Exit::RIGHTS })
}

/// Finds out what the credentials must and may do.
pub(super) async fn verdict(
    user: &str,
    config: &ConnectionsConfig,
    spec: &OptionalSpecArgs,
    context: &Context,
) -> Result<Verdict, Failure> {
    let mut identity = Identity::parse(user).map_err(|error| Failure::of(Exit::USAGE, error))?;
    let connections = reach::open(config.clone()).await?;
    let Asked { duties, rights, version, notes } = duties(&connections, spec, context).await?;
    look_up(&mut identity, connections.api()).await;
    let unknown = identity.separated.is_none() && identity.token.is_some();
    if unknown
        && config.ssh.is_some()
        && let Some(root) = by_ssh(config).await
    {
        look_up(&mut identity, root.api()).await;
        root.close().await;
    }
    connections.close().await;
    let troubles = identity.troubles(now());
    let enough = troubles.is_empty() && duties.iter().all(|duty| duty.held);
    Ok(Verdict {
        format_version: 1,
        identity,
        is_root: rights.is_root,
        version,
        duties,
        troubles,
        notes,
        enough,
    })
}

/// Returns connections that go through `pvesh` as root, if SSH works.
pub(super) async fn by_ssh(config: &ConnectionsConfig) -> Option<Connections> {
    let connections =
        Connections::open(ConnectionsConfig { api: None, ssh: config.ssh.clone() }).await.ok()?;
    let host = connections.first_host().ok()?;
    match host.check().await {
        Ok(_) => Some(connections),
        Err(error) => {
            tracing::info!(%error, "SSH does not work; the verdict rests on the token alone");
            None
        }
    }
}

/// What the cluster said.
struct Asked {
    duties: Vec<Duty>,
    rights: Rights,
    version: String,
    notes: Vec<String>,
}

fn conflict(guest: &ObservedGuest) -> String {
    let name = guest.name.as_ref().map_or_else(
        || "a guest without a name".to_owned(),
        |name| format!("`{}`", crate::escape::one_line(name)),
    );
    format!(
        "VMID {} is taken on {} by {name}, which is not of this spec: deploy will refuse it",
        guest.vmid, guest.node
    )
}

async fn duties(
    connections: &Connections,
    spec: &OptionalSpecArgs,
    context: &Context,
) -> Result<Asked, Failure> {
    let loaded = load_whole_if_named(spec, context)?;
    let default_node = reach::default_node(&context.environment)?;
    let queries = match &loaded {
        Some(loaded) => ask(
            &loaded.deployment,
            &AskContext { cluster: String::new(), default_node: default_node.clone() },
        ),
        None => vec![Query::Version, Query::Resources, Query::Rights],
    };
    let observed = observe(connections, &queries).await.map_err(|failure| executor_failure(&failure))?;
    let rights = observed.rights.clone().unwrap_or_default();
    let version = observed.version.to_string();
    let Some(loaded) = loaded else {
        let duties = general_duties(observed.version, &rights);
        return Ok(Asked { duties, rights, version, notes: Vec::new() });
    };
    let plan_context = PlanContext {
        default_node,
        local_files: local_files::read(&loaded.deployment, &loaded.folder, context)?,
        ssh_available: connections.has_ssh(),
        ..PlanContext::new("check-token", &observed)
    };
    let duties = spec_duties(&loaded.deployment, &observed, &plan_context, &rights)
        .map_err(|faults| planning::cannot_plan(&faults))?;
    let notes = in_the_way(&loaded.deployment, &observed).into_iter().map(conflict).collect();
    Ok(Asked { duties, rights, version, notes })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn show(verdict: &Verdict, all: bool) {
    let identity = &verdict.identity;
    let who = match &identity.token {
        Some(token) => format!("{}!{token}", identity.user),
        None => identity.user.to_string(),
    };
    output::print_line(&format!("{who} on PVE {}", verdict.version));
    identity.remarks(now()).iter().for_each(|remark| output::print_line(&format!("  {remark}")));
    verdict.troubles.iter().for_each(|trouble| output::print_line(&format!("  TROUBLE: {trouble}")));
    if verdict.is_root {
        output::print_line("  it is root@pam: nothing is refused to it");
    }
    let shown: Vec<&Duty> = verdict.duties.iter().filter(|duty| all || !duty.held).collect();
    if !shown.is_empty() {
        output::print_line("");
        output::write_stdout(&table(&shown, identity).render());
    }
    verdict.notes.iter().for_each(|note| output::say(&format!("note: {note}")));
    output::print_line("");
    let held = verdict.duties.iter().filter(|duty| duty.held).count();
    let count = format!("{held} of {} rights are held", verdict.duties.len());
    if verdict.enough {
        output::print_line(&format!("ENOUGH: {count}"));
    } else {
        output::print_line(&format!("NOT ENOUGH: {count}"));
        output::say("hint: `vmdeploy fix-token` shows how to grant exactly what is missing");
    }
}

/// Returns one row per privilege, verdict and kind of path: thousands of VMs make no thousands of rows.
fn table(duties: &[&Duty], identity: &Identity) -> Table {
    let mut rows: BTreeMap<(String, bool, &str), Vec<&Duty>> = BTreeMap::new();
    for duty in duties {
        let kind = duty.path.rsplit_once('/').map_or("", |(above, _)| above);
        rows.entry((kind.to_owned(), duty.held, duty.privilege.as_str())).or_default().push(duty);
    }
    let mut table = Table::new(&["right", "path", "verdict", "needed by"]);
    for ((_, held, privilege), duties) in rows {
        let steps: BTreeSet<&String> = duties.iter().flat_map(|duty| &duty.needed_by).collect();
        table.row([
            privilege.to_owned(),
            shortened(duties.iter().map(|duty| duty.path.as_str())),
            verdict_word(held, &duties, identity).to_owned(),
            shortened(steps.into_iter().map(String::as_str)),
        ]);
    }
    table
}

fn verdict_word(held: bool, duties: &[&Duty], identity: &Identity) -> &'static str {
    if held {
        return "held";
    }
    let user_has = |duty: &&Duty| identity.user_may.as_ref().is_some_and(|may| user_holds(may, duty));
    if identity.token.is_some() && identity.separated == Some(true) && duties.iter().all(user_has) {
        "MISSING (the user has it, the token has not)"
    } else {
        "MISSING"
    }
}

/// Tells whether the permissions, as PVE lists them by path, hold on the duty's path.
pub(super) fn user_holds(may: &pve_api::access::Permissions, duty: &Duty) -> bool {
    let rights = Rights { paths: crate::token::identity::typed(may), ..Rights::default() };
    rights.holds(duty.privilege, &duty.path)
}

fn shortened<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<&str> = items.collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one}, {two}"),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
