//! `vmdeploy check-token`: a verdict on the credentials, not a dump.

use crate::context::Context;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::local_files;
use crate::output;
use crate::planning::{self, PlanArgs, ReachArgs, RightsAnswer};
use crate::reach::{self, executor_failure};
use crate::reach_cluster::config_for;
use crate::spec_files::{LoadedSpec, SpecArgs, load_whole_if_named};
use crate::table::Table;
use crate::token::{
    Identity, Judged, Reach, Refusal, RequiredPrivilege, general_required_privileges, look_up, spec_needs,
    why_refused,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};
use vmdeploy_executor::{Connections, ConnectionsConfig, observe};
use vmdeploy_planner::observed::{Observed, Query, Rights};
use vmdeploy_planner::plan::PlanContext;
use vmdeploy_planner::spec::{Diagnostic, LocalFile, LocalFileUse};

/// Checks whether the credentials have the privileges that a spec needs, and shows which are missing, where, and for which steps.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Cluster, if the spec has several
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also show the privileges that are granted
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
    pub required_privileges: Vec<RequiredPrivilege>,
    /// What is wrong with the account.
    troubles: Vec<String>,
    /// What stands in a deployment's way, and is no matter of rights.
    notes: Vec<String>,
    /// What could not be planned, so that its required privileges are unknown.
    unjudged: Vec<String>,
    /// Whether it is enough.
    enough: bool,
}

/// Prints the verdict.
///
/// # Errors
/// The cluster cannot be reached, or the spec is refused.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let spec = load_whole_if_named(&args.spec, context)?;
    let cluster = args.cluster.as_deref();
    let config = config(context, spec.as_ref(), cluster)?;
    let Some(user) = config.api.as_ref().map(|api| api.user.clone()) else {
        return Err(Failure::usage("no API user is set, so there is no token to check")
            .hint("set PROXMOX_API_USER and PROXMOX_API_PASSWORD; the `ssh` transport needs no token"));
    };
    let verdict = verdict(&user, &config, (spec.as_ref(), cluster), context).await?;
    if args.json {
        output::print_line(&output::json(&verdict)?);
    } else {
        show(&verdict, args.all);
    }
    Ok(if verdict.enough { Exit::DONE } else { Exit::RIGHTS })
}

/// Returns how the environment's credentials reach the cluster: with what the spec says of it, where one is named.
pub(super) fn config(
    context: &Context,
    spec: Option<&LoadedSpec>,
    cluster: Option<&str>,
) -> Result<ConnectionsConfig, Failure> {
    let Some(spec) = spec else { return reach::connections_config(&context.environment) };
    planning::check_cluster(cluster, &spec.deployment)?;
    config_for(context, spec, cluster)
}

/// Finds out what the credentials must and may do.
pub(super) async fn verdict(
    user: &str,
    config: &ConnectionsConfig,
    (spec, cluster): (Option<&LoadedSpec>, Option<&str>),
    context: &Context,
) -> Result<Verdict, Failure> {
    let mut identity = Identity::parse(user).map_err(|error| Failure::of(Exit::USAGE, error))?;
    let connections = reach::open(config.clone()).await?;
    let asked = required_privileges(&connections, spec, cluster, context).await;
    let Asked { required_privileges, rights, version, notes, unjudged } = match asked {
        Ok(asked) => asked,
        Err(failure) => return Err(explained(failure, &identity, config).await),
    };
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
    let enough = troubles.is_empty() && required_privileges.iter().all(|required| required.held);
    Ok(Verdict {
        format_version: 1,
        identity,
        is_root: rights.is_root,
        version,
        required_privileges,
        troubles: troubles.iter().map(ToString::to_string).collect(),
        notes,
        unjudged,
        enough,
    })
}

/// Says why PVE refuses the credentials, where root may be asked.
async fn explained(failure: Failure, identity: &Identity, config: &ConnectionsConfig) -> Failure {
    if failure.exit() != Exit::RIGHTS || config.ssh.is_none() {
        return failure;
    }
    let Some(root) = by_ssh(config).await else { return failure };
    let refusal = why_refused(identity, root.api(), now()).await;
    root.close().await;
    match refusal {
        Some(Refusal { why, hint }) => {
            Failure::chain(Exit::RIGHTS, "the credentials were refused", &[&why]).hint(hint)
        }
        None => failure,
    }
}

/// Returns connections that go through `pvesh` as root, if SSH works.
pub(super) async fn by_ssh(config: &ConnectionsConfig) -> Option<Connections> {
    let connections =
        Connections::open(ConnectionsConfig { api: None, ssh: config.ssh.clone() }).await.ok()?;
    let host = connections.first_host().ok()?;
    match host.check().await {
        Ok(_) => Some(connections),
        Err(error) => {
            tracing::info!(%error, "SSH does not work; only the token was checked");
            None
        }
    }
}

/// What the cluster said.
struct Asked {
    required_privileges: Vec<RequiredPrivilege>,
    rights: Rights,
    version: String,
    notes: Vec<String>,
    unjudged: Vec<String>,
}

async fn required_privileges(
    connections: &Connections,
    spec: Option<&LoadedSpec>,
    cluster: Option<&str>,
    context: &Context,
) -> Result<Asked, Failure> {
    let Some(spec) = spec else { return general(connections).await };
    let args = PlanArgs {
        reach: ReachArgs { cluster: cluster.map(str::to_owned), ..ReachArgs::default() },
        ..PlanArgs::default()
    };
    let (_, mut observed) = planning::look(&args, spec, connections, context).await?;
    let deployment = &spec.deployment;
    // What is there already is compared with what the files hold: it needs no right to stay as it is.
    let mut local_files = local_files::small_ones(deployment, &spec.folder, context);
    // A planner that needs a built image that is not there says how it is built.
    local_files.retain(|path, _| {
        let is_built =
            |file: &LocalFile| file.used_as == LocalFileUse::BuiltImage && file.path.value == *path;
        !deployment.local_files().iter().any(is_built)
            || local_files::of(context, &spec.folder).resolve(path).is_file()
    });
    let default_node = reach::default_node(&context.environment)?;
    let judge = |observed: &Observed| {
        let plan_context = PlanContext {
            cluster: args.reach.cluster.clone(),
            default_node: default_node.clone(),
            local_files: local_files.clone(),
            ssh_available: connections.has_ssh(),
            pins: planning::pins(deployment, cluster),
            ..PlanContext::new("check-token", observed)
        };
        spec_needs(deployment, observed, &plan_context)
    };
    let inherited = judge(&observed);
    let answer = planning::settle_rights(inherited.needs.keys(), connections, &mut observed).await?;
    let judged = match answer {
        RightsAnswer::AsInherited => inherited,
        RightsAnswer::LessThanInherited => judge(&observed),
    };
    let rights = observed.rights.clone().unwrap_or_default();
    let required_privileges = judged.required_privileges(&rights);
    let Judged { refused, unjudged, .. } = judged;
    let missing = local_files::missing(deployment, &spec.folder, context).into_iter().map(|file| {
        format!("`{}`, which the spec refers to, does not exist", escape::one_line(&file.path.value))
    });
    let notes = refused.iter().map(in_words).chain(missing).collect();
    let unjudged = unjudged.iter().map(in_words).collect();
    Ok(Asked { required_privileges, rights, version: observed.version.to_string(), notes, unjudged })
}

/// What is needed as a rule, where no spec was given.
async fn general(connections: &Connections) -> Result<Asked, Failure> {
    let queries = [Query::Version, Query::Resources, Query::Rights];
    let observed = observe(connections, &queries).await.map_err(|failure| executor_failure(&failure))?;
    let rights = observed.rights.clone().unwrap_or_default();
    let required_privileges = general_required_privileges(observed.version, &rights);
    let version = observed.version.to_string();
    Ok(Asked { required_privileges, rights, version, notes: Vec::new(), unjudged: Vec::new() })
}

fn in_words(fault: &Diagnostic) -> String {
    let text = if fault.path.is_empty() {
        fault.message.clone()
    } else {
        format!("{}: {}", fault.path, fault.message)
    };
    escape::one_line(&text)
}

pub(super) fn now() -> u64 {
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
        output::print_line("  root@pam has every privilege");
    }
    let shown: Vec<&RequiredPrivilege> =
        verdict.required_privileges.iter().filter(|required| all || !required.held).collect();
    if !shown.is_empty() {
        output::print_line("");
        output::write_stdout(&table(&shown, identity).render());
    }
    verdict.unjudged.iter().for_each(|what| output::say(&format!("not checked: {what}")));
    let of_deploy = verdict.notes.iter().filter(|note| !verdict.unjudged.contains(note));
    of_deploy.for_each(|note| output::say(&format!("note: `deploy` would be refused: {note}")));
    if !verdict.notes.is_empty() {
        output::say("hint: this is not a permission problem; `vmdeploy plan` shows how to solve it");
    }
    output::print_line("");
    let held = verdict.required_privileges.iter().filter(|required| required.held).count();
    let count = format!("{held} of {} required privileges are granted", verdict.required_privileges.len());
    let count = match verdict.unjudged.len() {
        0 => count,
        more => format!("{count}; {} could not be checked", vmdeploy_planner::render::count(more, "desired")),
    };
    if verdict.enough {
        output::print_line(&format!("ENOUGH: {count}"));
    } else {
        output::print_line(&format!("NOT ENOUGH: {count}"));
        output::say(
            "hint: `vmdeploy fix-token` shows and runs the commands that grant exactly what is missing",
        );
    }
}

/// Returns one row per privilege, verdict and kind of path: thousands of VMs make no thousands of rows.
fn table(required_privileges: &[&RequiredPrivilege], identity: &Identity) -> Table {
    let mut rows: BTreeMap<(String, bool, &str), Vec<&RequiredPrivilege>> = BTreeMap::new();
    for required in required_privileges {
        let kind = required.path.rsplit_once('/').map_or("", |(above, _)| above);
        rows.entry((kind.to_owned(), required.held, required.privilege.as_str())).or_default().push(required);
    }
    let mut table = Table::new(&["right", "path", "verdict", "needed by"]);
    for ((_, held, privilege), required_privileges) in rows {
        let steps: BTreeSet<&String> =
            required_privileges.iter().flat_map(|required| &required.needed_by).collect();
        table.row([
            privilege.to_owned(),
            shortened(required_privileges.iter().map(|required| required.path.as_str())),
            verdict_word(held, &required_privileges, identity).to_owned(),
            shortened(steps.into_iter().map(String::as_str)),
        ]);
    }
    table
}

fn verdict_word(held: bool, required_privileges: &[&RequiredPrivilege], identity: &Identity) -> &'static str {
    if held {
        return "held";
    }
    let user_has = |required: &&RequiredPrivilege| {
        identity.user_may.as_ref().is_some_and(|may| user_holds(may, required))
    };
    if identity.token.is_some()
        && identity.separated == Some(true)
        && required_privileges.iter().all(user_has)
    {
        "MISSING (the user has it, the token does not)"
    } else {
        "MISSING"
    }
}

/// Tells whether the permissions, as PVE lists them by path, hold on the required's path.
pub(super) fn user_holds(may: &pve_api::access::Permissions, required: &RequiredPrivilege) -> bool {
    let rights = Rights { paths: crate::token::identity::typed(may), ..Rights::default() };
    let by_pool = match &required.reach {
        Reach::Pool(pool) => rights.holds(required.privilege, &format!("/pool/{pool}")),
        Reach::Path | Reach::Guests => false,
    };
    by_pool || rights.holds(required.privilege, &required.path)
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
