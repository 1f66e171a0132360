//! From the command line to a plan: load, read local files, observe, plan, show.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::local_files;
use crate::output;
use crate::reach;
use crate::reach_cluster::config_for;
use crate::spec_files::{LoadedSpec, SpecArgs, load, refused};
use crate::token::identity::typed;
use futures::StreamExt as _;
use pve_types::{GuestName, Vmid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use vmdeploy_executor::{Connections, observe, only_node};
use vmdeploy_planner::observed::{OBSERVED_FORMAT_VERSION, Observed, Query};
use vmdeploy_planner::plan::{
    Check, CheckedPlan, Note, NoteTopic, Plan, PlanContext, PlanMode, PlanRefusal, TransportChoice,
};
use vmdeploy_planner::rights::{Need, needs_of_steps};
use vmdeploy_planner::spec::{Deployment, Diagnostic};
use vmdeploy_planner::verify::{ask_again, check_world};
use vmdeploy_planner::{AskContext, Draft, ask, draft_plan, make_plan, render};

/// The inputs of a plan, in addition to the cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlanArgs {
    /// The specs.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Only this VM, or the members of this group; may be repeated
    #[arg(long, value_name = "VM|GROUP")]
    pub target: Vec<GuestName>,
    /// How the cluster is reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Delete the VMs of the project that are not in the spec, if there are exactly N
    #[arg(long, value_name = "N")]
    pub prune: Option<usize>,
    /// Destroy and recreate this VM, or each member of this group; may be repeated
    #[arg(long, value_name = "VM|GROUP")]
    pub replace: Vec<GuestName>,
    /// Destroy and recreate each VM whose image has changed since it was created
    #[arg(long)]
    pub replace_outdated: bool,
    /// Set passwords on existing VMs as well
    #[arg(long)]
    pub set_passwords: bool,
}

/// How the cluster is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReachArgs {
    /// Cluster, if the spec has several
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Transport for the steps; overrides the spec [default: hybrid]
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    pub transport: Option<TransportArg>,
}

/// The transport of a command that plans nothing.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TransportOption {
    /// Transport to the cluster: hybrid, auto, api or ssh; overrides the spec [default: hybrid]
    #[arg(long, value_enum, value_name = "TRANSPORT", hide_possible_values = true)]
    transport: Option<TransportArg>,
}

impl TransportOption {
    /// Returns the arguments of a plan with this transport.
    pub fn plan_args(&self) -> PlanArgs {
        PlanArgs {
            reach: ReachArgs { transport: self.transport, ..ReachArgs::default() },
            ..PlanArgs::default()
        }
    }
}

/// `--transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportArg {
    /// API for power and lifecycle, SSH for imports, disks and cloud-init
    Hybrid,
    /// The cheapest transport for each step that PVE's version and the privileges allow
    Auto,
    /// API only
    Api,
    /// SSH only; needs no token
    Ssh,
}

impl From<TransportArg> for TransportChoice {
    fn from(arg: TransportArg) -> Self {
        match arg {
            TransportArg::Hybrid => Self::Hybrid,
            TransportArg::Auto => Self::Auto,
            TransportArg::Api => Self::Api,
            TransportArg::Ssh => Self::Ssh,
        }
    }
}

/// A plan with all that it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The spec.
    pub spec: LoadedSpec,
    /// What was seen.
    pub observed: Observed,
    /// The plan.
    pub plan: Plan,
    /// The way to the cluster.
    pub connections: Connections,
}

/// Loads the spec, looks at the cluster, and makes the plan. Nothing is changed.
///
/// # Errors
/// The spec is refused, the cluster cannot be reached, or what the spec asks for cannot be done.
pub async fn plan(args: &PlanArgs, mode: PlanMode, context: &Context) -> Result<Planned, Failure> {
    plan_after(args, mode, context, async |_, _| Ok(())).await
}

/// Makes a plan that is carried out right away: first lets come to its end what a dead run of the project has sent, so
/// that the plan rests on it; and says which run of the project is unfinished.
///
/// # Errors
/// As [`plan`].
pub async fn plan_to_run(args: &PlanArgs, mode: PlanMode, context: &Context) -> Result<Planned, Failure> {
    plan_after(args, mode, context, async |spec, connections| {
        crate::running::after_dead_runs(&spec.deployment.project, connections, context).await
    })
    .await
}

async fn plan_after(
    args: &PlanArgs,
    mode: PlanMode,
    context: &Context,
    before: impl AsyncFnOnce(&LoadedSpec, &Connections) -> Result<(), Failure>,
) -> Result<Planned, Failure> {
    let spec = load(&args.spec, context)?;
    let unfinished = crate::running::note_unfinished(&spec.deployment.project, context);
    let connections = open(args, &spec, context).await?;
    before(&spec, &connections).await?;
    let (mut plan, observed) = plan_of(args, mode, &spec, &connections, context).await?;
    if let Some(run) = unfinished.filter(|_| !plan.is_empty()) {
        let text = format!(
            "volumes that the unfinished run `{run}` created and that are not attached are removed once their VM is done"
        );
        plan.notes.push(Note { vm: None, text, hint: None, topic: NoteTopic::General });
    }
    Ok(Planned { spec, observed, plan, connections })
}

/// Opens the connections that the plan's transports need.
///
/// # Errors
/// No host is named, or a key or certificate cannot be read.
pub async fn open(args: &PlanArgs, spec: &LoadedSpec, context: &Context) -> Result<Connections, Failure> {
    check_cluster(args.reach.cluster.as_deref(), &spec.deployment)?;
    let mut config = config_for(context, spec, args.reach.cluster.as_deref())?;
    match transport(args, &spec.deployment) {
        TransportChoice::Ssh => config.api = None,
        TransportChoice::Api => config.ssh = None,
        TransportChoice::Hybrid | TransportChoice::Auto => {}
    }
    reach::open(config).await
}

/// A mistyped cluster would have no VMs, and so nothing to do.
pub(crate) fn check_cluster(cluster: Option<&str>, deployment: &Deployment) -> Result<(), Failure> {
    let mut known: BTreeSet<&str> = deployment.clusters.keys().map(String::as_str).collect();
    known.extend(deployment.vms.iter().map(|vm| vm.cluster.as_str()));
    match cluster {
        Some(name) if !known.contains(name) => {
            let known: Vec<&str> = known.into_iter().collect();
            Err(Failure::usage(format!("the spec has no cluster `{}`", name.escape_debug()))
                .hint(format!("it has {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

fn transport(args: &PlanArgs, deployment: &Deployment) -> TransportChoice {
    let of_spec = deployment.transport.as_ref().map(|transport| transport.value);
    args.reach.transport.map(TransportChoice::from).or(of_spec).unwrap_or_default()
}

/// Observes the cluster, and makes the plan for a spec that is loaded already.
///
/// # Errors
/// As [`plan`].
pub async fn plan_of(
    args: &PlanArgs,
    mode: PlanMode,
    spec: &LoadedSpec,
    connections: &Connections,
    context: &Context,
) -> Result<(Plan, Observed), Failure> {
    let (_, mut observed) = look(args, spec, connections, context).await?;
    let plan = plan_from(args, mode, spec, (&observed, connections.has_ssh()), context)?;
    let needs = needs_of_steps(&plan.steps, &observed);
    let plan = match settle_rights(needs.keys(), connections, &mut observed).await? {
        RightsAnswer::AsInherited => plan,
        RightsAnswer::LessThanInherited => {
            plan_from(args, mode, spec, (&observed, connections.has_ssh()), context)?
        }
    };
    Ok((plan, observed))
}

/// What asking about single paths changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RightsAnswer {
    /// Nothing: the credentials hold there what they inherit.
    AsInherited,
    /// An entry for a path takes away what is inherited.
    LessThanInherited,
}

/// How many paths are asked about at once.
const PATHS_AT_ONCE: usize = 8;

/// Asks about each path whose privileges PVE's list leaves open, and notes the answers in the observation.
///
/// # Errors
/// The cluster cannot be reached.
pub async fn settle_rights<'n>(
    needs: impl Iterator<Item = &'n Need> + Clone,
    connections: &Connections,
    observed: &mut Observed,
) -> Result<RightsAnswer, Failure> {
    let Some(rights) = &observed.rights else { return Ok(RightsAnswer::AsInherited) };
    let paths = rights.uncertain(needs.clone());
    let before: Vec<bool> = needs.clone().map(|need| need.is_met(rights)).collect();
    let asked = paths.into_iter().map(|path| async move {
        let held = connections.api().access().permissions_on(path).await;
        let held = held.map_err(|error| Failure::of(Exit::OBSERVED, error))?;
        Ok((path.to_owned(), typed(&held).remove(path).unwrap_or_default()))
    });
    let answers: Vec<Result<_, Failure>> =
        futures::stream::iter(asked).buffer_unordered(PATHS_AT_ONCE).collect().await;
    let Some(rights) = &mut observed.rights else { return Ok(RightsAnswer::AsInherited) };
    for answer in answers {
        let (path, held) = answer?;
        rights.paths.insert(path, held);
    }
    let after = needs.map(|need| need.is_met(rights));
    Ok(if after.eq(before) { RightsAnswer::AsInherited } else { RightsAnswer::LessThanInherited })
}

/// Asks the cluster what the spec's plan rests on; returns the questions with the answers.
///
/// # Errors
/// The cluster cannot be reached.
pub async fn look(
    args: &PlanArgs,
    spec: &LoadedSpec,
    connections: &Connections,
    context: &Context,
) -> Result<(Vec<Query>, Observed), Failure> {
    let deployment = &spec.deployment;
    let mut default_node = reach::default_node(&context.environment)?;
    if default_node.is_none() && deployment.vms.iter().any(|vm| vm.node.is_none()) {
        default_node = only_node(connections).await.map_err(|failure| reach::executor_failure(&failure))?;
    }
    let asked = AskContext { cluster: args.reach.cluster.clone().unwrap_or_default(), default_node };
    let queries = ask(deployment, &asked);
    let observed =
        observe(connections, &queries).await.map_err(|failure| reach::executor_failure(&failure))?;
    Ok((queries, observed))
}

/// Makes the plan from what was observed, and from whether SSH is configured.
///
/// # Errors
/// What the spec asks for cannot be done.
pub fn plan_from(
    args: &PlanArgs,
    mode: PlanMode,
    spec: &LoadedSpec,
    (observed, ssh_available): (&Observed, bool),
    context: &Context,
) -> Result<Plan, Failure> {
    let deployment = &spec.deployment;
    let local_files = match mode {
        // What VMs are made of is not needed to take them away.
        PlanMode::Destroy => local_files::stand_ins(deployment),
        _ => local_files::read(deployment, &spec.folder, context)?,
    };
    let of_command_line = plan_context(args, spec, (observed, ssh_available), context)?;
    let plan_context = PlanContext { mode, local_files, ..of_command_line };
    make_plan(deployment, &plan_context).map_err(|faults| cannot_plan(&faults))
}

/// Observes the cluster, and drafts the plan as far as it can be made: what is wrong with one VM is in the way of that
/// VM alone.
///
/// # Errors
/// The cluster cannot be reached.
pub async fn draft_of(
    args: &PlanArgs,
    spec: &LoadedSpec,
    connections: &Connections,
    context: &Context,
) -> Result<Draft, Failure> {
    let (_, observed) = look(args, spec, connections, context).await?;
    let deployment = &spec.deployment;
    let (local_files, faults) = local_files::read_each(deployment, &spec.folder, context);
    let of_command_line = plan_context(args, spec, (&observed, connections.has_ssh()), context)?;
    let mut draft = draft_plan(deployment, &PlanContext { local_files, ..of_command_line });
    // Why a file cannot be used says more than that it was not read.
    draft.refused.retain(|refusal| !faults.iter().any(|fault| fault.span == refusal.span));
    draft.refused.splice(0..0, faults);
    Ok(draft)
}

/// Returns what the command line and the environment say of a plan.
fn plan_context<'a>(
    args: &PlanArgs,
    spec: &LoadedSpec,
    (observed, ssh_available): (&'a Observed, bool),
    context: &Context,
) -> Result<PlanContext<'a>, Failure> {
    let deployment = &spec.deployment;
    Ok(PlanContext {
        cluster: args.reach.cluster.clone(),
        transport: args.reach.transport.map(TransportChoice::from),
        default_node: reach::default_node(&context.environment)?,
        targets: args.target.iter().cloned().collect::<BTreeSet<_>>(),
        prune: args.prune,
        replace: args.replace.iter().cloned().collect(),
        replace_outdated: args.replace_outdated,
        set_passwords: args.set_passwords,
        unfinished_creates: crate::running::runs_folder(context)
            .unfinished_creates(&deployment.project)
            .unwrap_or_default(),
        ssh_available,
        pins: pins(deployment, args.reach.cluster.as_deref()),
        outdated_builds: crate::build::outdated(deployment, &spec.folder, context),
        ..PlanContext::new(new_run_id(), observed)
    })
}

/// Reads an observation that `plan --write-observed` wrote.
///
/// # Errors
/// The file cannot be read, or is none of this version's observations.
pub fn read_observed(path: &Path) -> Result<Observed, Failure> {
    let failed = |error: anyhow::Error| {
        Failure::of(Exit::USAGE, error)
            .context(format!("cannot read the observation `{}`", path.display()))
            .hint("`vmdeploy plan SPEC --write-observed FILE` writes one")
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
    let observed: Observed = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    if observed.format_version != OBSERVED_FORMAT_VERSION {
        let found = observed.format_version;
        return Err(failed(anyhow::anyhow!(
            "it has format {found}, but this version of vmdeploy reads format {OBSERVED_FORMAT_VERSION}"
        )));
    }
    Ok(observed)
}

/// Returns the numbers that the lock files pin for VMs of the planned cluster.
pub(crate) fn pins(deployment: &Deployment, cluster: Option<&str>) -> BTreeMap<GuestName, Vmid> {
    let meant = |name: &str| cluster.is_none_or(|cluster| cluster == name);
    let pins = deployment.pins.iter().filter(|((cluster, _), _)| meant(cluster));
    pins.map(|((_, name), pin)| (name.clone(), pin.vmid)).collect()
}

/// Shows why no plan can be made, and returns what is said below.
pub fn cannot_plan(faults: &[Diagnostic]) -> Failure {
    refused(faults).replaced("the spec cannot be planned; nothing was changed", Exit::OBSERVED)
}

/// Draws a run's name: when it was made, and six characters of chance.
pub(crate) fn new_run_id() -> String {
    let alphabet = b"abcdefghijkmnpqrstuvwxyz23456789";
    let chance: String =
        (0..6).map(|_| char::from(alphabet[rand::random_range(0..alphabet.len())])).collect();
    format!("{}-{chance}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"))
}

/// Observes the cluster again, and refuses a stored plan that it no longer fits.
///
/// # Errors
/// The cluster cannot be reached, or has changed in what the plan rests on.
pub async fn check_stored(plan: &Plan, connections: &Connections) -> Result<(), Failure> {
    vmdeploy_executor::check_cluster(plan, connections)
        .await
        .map_err(|failure| reach::executor_failure(&failure))?;
    let queries: Vec<Query> = ask_again(plan).into_iter().collect();
    let observed =
        observe(connections, &queries).await.map_err(|failure| reach::executor_failure(&failure))?;
    check_world(plan, &observed).map_err(|stale| {
        Failure::of(Exit::OBSERVED, stale)
            .context("the cluster has changed since the plan was created; nothing was changed")
            .hint("create a new plan with `vmdeploy plan --out FILE` and review it")
    })
}

/// Checks the plan, so that it may be carried out.
///
/// # Errors
/// Something is missing that the steps need: a right is exit code 7, anything else 4.
pub fn check(plan: Plan) -> Result<CheckedPlan, Failure> {
    CheckedPlan::new(plan).map_err(|refusal| match refusal {
        PlanRefusal::Missing(missing) => missing_failure(&missing),
        PlanRefusal::Format { .. } | PlanRefusal::VolumeAsText { .. } => {
            Failure::of(Exit::USAGE, refusal).hint("create a new plan with `vmdeploy plan --out FILE`")
        }
        PlanRefusal::Graph(_) => Failure::of(Exit::INTERNAL, refusal),
    })
}

/// Checks the plan as [`check`] does, but for rights: for credentials that only look.
///
/// # Errors
/// Something else is missing than a right.
pub fn check_but_rights(mut plan: Plan) -> Result<(), Failure> {
    plan.checks.retain(|check| !check.is_right);
    check(plan).map(drop)
}

fn missing_failure(missing: &[Check]) -> Failure {
    let about_rights = missing.iter().any(|check| check.is_right);
    let exit = if about_rights { Exit::RIGHTS } else { Exit::OBSERVED };
    let lines: Vec<String> = missing.iter().map(missing_line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let failure = Failure::list(exit, "requirements of the plan are not met; nothing was changed", &lines);
    if about_rights {
        failure.hint("`vmdeploy check-token` shows what is missing, and `vmdeploy fix-token` grants it")
    } else {
        failure
    }
}

fn missing_line(check: &Check) -> String {
    let by = match check.needed_by.as_slice() {
        [] => String::new(),
        [one] => format!(" (for {one})"),
        [first, rest @ ..] => format!(" (for {first} and {} more)", rest.len()),
    };
    let detail = check.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{by}{detail}", check.need)
}

/// Returns the plan as people read it on this stream: colored and as wide as the terminal, where it is one. With
/// `--verbose` it lists every VM and every check.
pub fn plan_text(plan: &Plan, stream: output::Stream, context: &Context) -> String {
    let (color, width) = (stream.has_color(), stream.width());
    let options = match context.verbosity {
        0 => render::RenderOptions::default(),
        _ => render::RenderOptions::verbose(),
    };
    render::text(plan, render::RenderOptions { color, width, ..options })
}

/// Writes a value as JSON into a file that only its owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn write_json<T: serde::Serialize>(value: &T, path: &Path) -> Result<(), Failure> {
    let text = output::json(value)?;
    crate::files::write_private(path, &format!("{text}\n")).map_err(|error| files::cannot_write(path, error))
}

/// Writes a plan to a file that only its owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<(), Failure> {
    write_json(plan, path)?;
    if !path.is_file() {
        return Ok(());
    }
    output::say(&format!(
        "plan written to {}; `vmdeploy deploy --plan {}` executes it",
        path.display(),
        path.display()
    ));
    Ok(())
}
