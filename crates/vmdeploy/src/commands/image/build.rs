//! `vmdeploy image build`: a folder goes to a builder, its command runs there, and the image comes back.

use super::{ImageArgs, PushArgs};
use crate::build::{
    BuildRecord, Built, Job, Placed, RECORD_FORMAT_VERSION, RemoteBuild, SourceTree, Way, check_info,
    connect, inputs_sha256, is_up_to_date, record_path,
};
use crate::confirm::confirm;
use crate::context::Context;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::fleet::{self, Selection};
use crate::inventory;
use crate::local_files;
use crate::output;
use crate::place::Place;
use crate::planning::{self, PlanArgs, Planned};
use crate::reach;
use crate::running::{RunArgs, carry_out, exit_of};
use crate::secrets::Resolver;
use crate::signals::Signals;
use crate::spec_files::{LoadedSpec, SpecArgs, load};
use jiff::Timestamp;
use pve_ssh::command::files;
use pve_ssh::{Host, Upload};
use pve_types::{Bytes, NodeName, Secret, VolumeId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use vmdeploy_executor::{Connections, LocalFiles, SecretResolver as _};
use vmdeploy_planner::plan::PlanMode;
use vmdeploy_planner::spec::{Image, ImageBuild, ImageSource};

/// `image build`.
#[derive(Debug, clap::Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Build on this host instead of the builder VM of the spec; Proxmox VE is not contacted
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    host: Option<Place>,
    #[command(flatten)]
    way: Way,
    /// Do nothing if source, command and environment have not changed since the last build
    #[arg(long)]
    if_changed: bool,
    /// Upload the image afterwards, as `image push` does
    #[arg(long)]
    push: bool,
    /// Copy the image to this path on the node afterwards, over SSH
    #[arg(long, value_name = "PATH")]
    to_path: Option<String>,
    /// Node for `--to-path`, and for an image that no VM of the spec uses [default: PROXMOX_NODE]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// Keep the build folder on the builder
    #[arg(long)]
    keep_work: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// How long a builder that was just started may take to listen.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the spec says of the build, with its paths found and allowed.
struct Order<'a> {
    image: &'a Image,
    build: &'a ImageBuild,
    /// The file's path in the spec and on disk.
    file: (&'a str, PathBuf),
    source: Option<SourceTree>,
    inputs_sha256: String,
}

/// Builds.
///
/// # Errors
/// The spec is refused, the builder cannot be reached, or the build fails.
pub(super) async fn build(args: &BuildArgs, context: &Context) -> CommandResult {
    let spec = load(&SpecArgs::new(args.image.specs()), context)?;
    let order = order(args, &spec, context)?;
    if args.if_changed && is_up_to_date(&order.file.1, &order.inputs_sha256) {
        output::say(&format!(
            "{} is up to date: its source has not changed since it was built",
            order.file.0
        ));
        return Ok(Exit::DONE);
    }
    let where_ = args.host.as_ref().map_or_else(|| order.build.vm.value.to_string(), Place::to_string);
    let what = format!("run `{}` on {where_} and write {}", order.build.command.value, order.file.0);
    if !confirm(args.yes, &what, "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    let secrets = secrets(args, &order, &spec, context)?;
    let place = match &args.host {
        Some(place) => place.clone(),
        None => match vm_place(args, &order, &spec, context).await? {
            Ok(place) => place,
            Err(exit) => return Ok(exit),
        },
    };
    let patience = if args.host.is_some() { Duration::ZERO } else { PATIENCE };
    let host = connect(&context.environment, &place, &args.way, patience).await?;
    let record = build_on(args, &order, &spec, &host, secrets).await;
    host.close().await;
    let mut record = record?;
    write_record(&order, &record)?;
    let exit = place_it(args, &order, &spec, &mut record, context).await?;
    write_record(&order, &record)?;
    if args.run.json {
        output::print_line(&pve_types::escape_json(
            &serde_json::to_string(&record).map_err(anyhow::Error::from)?,
        ));
    }
    Ok(exit)
}

/// Finds the image and its paths, and refuses those that the spec may not use.
fn order<'a>(args: &BuildArgs, spec: &'a LoadedSpec, context: &Context) -> Result<Order<'a>, Failure> {
    let images = &spec.deployment.images;
    let builds: Vec<&str> = images
        .values()
        .filter(|image| matches!(image.source, ImageSource::Build(_)))
        .map(|image| image.name.as_str())
        .collect();
    let name = args.image.name()?;
    let image = images.get(&name);
    let Some((image, build)) = image.and_then(|image| match &image.source {
        ImageSource::Build(build) => Some((image, &**build)),
        _ => None,
    }) else {
        let message = format!("the spec builds no image `{}`", name.escape_debug());
        let known = if builds.is_empty() {
            "it builds none; see `build` in docs/spec.md".to_owned()
        } else {
            format!("it builds {}", builds.join(", "))
        };
        return Err(Failure::usage(message).hint(known));
    };
    let file = build.file.as_ref().map_or("", |file| file.value.as_str());
    let files = local_files::of(context, &spec.folder);
    let path = check_inside(&files, file)?;
    let parent = path.parent().unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(&parent).map_err(|error| {
        Failure::of(Exit::USAGE, error).context(format!("cannot create the folder `{}`", parent.display()))
    })?;
    // Once more: what was made may be reached through a link.
    check_inside(&files, file)?;
    let source = match &build.source {
        None => None,
        Some(source) => Some(SourceTree::read(&check_inside(&files, &source.value)?)?),
    };
    let inputs_sha256 = inputs_sha256(build, source.as_ref())?;
    Ok(Order { image, build, file: (file, path), source, inputs_sha256 })
}

/// A spec from git may send no folder of this machine away, and write over no file, but below its own folder.
fn check_inside(files: &LocalFiles, name: &str) -> Result<PathBuf, Failure> {
    files.check_place(name).map_err(|error| {
        let failure = Failure::usage(format!("`{}` {error}", escape::one_line(name)));
        error.hint().into_iter().fold(failure, Failure::hint)
    })
}

fn secrets(
    args: &BuildArgs,
    order: &Order<'_>,
    spec: &LoadedSpec,
    context: &Context,
) -> Result<BTreeMap<String, Secret>, Failure> {
    let files = local_files::of(context, &spec.folder);
    let resolver = Resolver::new(&context.environment, files, args.run.allow_commands);
    let resolved = order.build.secrets.iter().map(|(name, source)| {
        let secret = resolver.secret(&source.value).map_err(|error| {
            let failure = Failure::usage(format!("the build's secret {name}: {}", error.what));
            error.hint.into_iter().fold(failure, Failure::hint)
        })?;
        Ok((name.clone(), secret))
    });
    resolved.collect()
}

/// Deploys the builder where it is not as the spec says, and returns where it is reached; or how that failed.
async fn vm_place(
    args: &BuildArgs,
    order: &Order<'_>,
    spec: &LoadedSpec,
    context: &Context,
) -> Result<Result<Place, Exit>, Failure> {
    let name = &order.build.vm.value;
    let plan_args = PlanArgs {
        spec: SpecArgs::new(args.image.specs()),
        target: vec![name.clone()],
        ..PlanArgs::default()
    };
    let Planned { plan, connections, .. } = planning::plan(&plan_args, PlanMode::Deploy, context).await?;
    if !plan.is_empty() {
        output::write_stderr(&planning::plan_text(&plan, output::Stream::Stderr, context));
        let checked = planning::check(plan)?;
        if !confirm(args.yes, &format!("deploy the builder {name}"), "`--yes`")? {
            return Ok(Err(Exit::USAGE));
        }
        let report = carry_out(checked, &connections, &spec.folder, &args.run, context).await?;
        if exit_of(&report) != Exit::DONE {
            return Ok(Err(exit_of(&report)));
        }
    }
    let selection = Selection { target: vec![name.clone()], ..Selection::default() };
    let members = selection.of(fleet::members(&spec.deployment, &connections).await?)?;
    let members = fleet::look(members, &connections).await;
    connections.close().await;
    let (inventory, unknown) = inventory::build(&spec.deployment, &members);
    match inventory.hosts.first() {
        Some(host) => Ok(Ok(Place { user: host.user.clone(), host: host.address.to_string(), port: None })),
        None => {
            let why = unknown.first().map_or("it is not there", |(_, why)| why.as_str());
            Err(Failure::chain(
                Exit::OBSERVED,
                &format!("the address of the builder {name} is not known"),
                &[why],
            )
            .hint("add `ready: {ip: {}}` to its spec to wait for one, or name the builder with `--host`"))
        }
    }
}

async fn build_on(
    args: &BuildArgs,
    order: &Order<'_>,
    spec: &LoadedSpec,
    host: &Host,
    secrets: BTreeMap<String, Secret>,
) -> Result<BuildRecord, Failure> {
    let job = Job {
        image: &order.image.name,
        format: order.image.format.as_ref().map(|format| format.value.as_str()),
        build: order.build,
        source: order.source.clone(),
        secrets,
        keep_work: args.keep_work,
    };
    let stop = CancellationToken::new();
    let name = format!("{}-{}", spec.deployment.project.value, planning::new_run_id());
    let remote = RemoteBuild { job, host, name, stop: stop.clone() };
    let log = order.file.1.with_file_name(format!(
        "{}.build.log",
        order.file.1.file_name().unwrap_or_default().to_string_lossy()
    ));
    let started = Timestamp::now();
    let mut signals = Signals::catch()?;
    let work = remote.run(&order.file.1, &log);
    tokio::pin!(work);
    let built: Built = loop {
        tokio::select! {
            built = &mut work => break built?,
            _ = signals.next() => {
                output::say(&format!("stopping the build on {}", host.address()));
                stop.cancel();
            }
        }
    };
    Ok(BuildRecord {
        format_version: RECORD_FORMAT_VERSION,
        image: order.image.name.clone(),
        file: order.file.0.to_owned(),
        size: built.size.get(),
        sha256: built.sha256,
        format: built.info.as_ref().map(|info| info.format.clone()),
        virtual_size: built.info.as_ref().map(|info| info.virtual_size),
        source: order.build.source.as_ref().map(|source| source.value.clone()),
        source_sha256: built.source_sha256,
        inputs_sha256: order.inputs_sha256.clone(),
        command: order.build.command.value.clone(),
        builder: format!("{}@{}", host.config().user, host.address()),
        vm: args.host.is_none().then(|| order.build.vm.value.to_string()),
        started,
        ended: Timestamp::now(),
        vmdeploy: env!("CARGO_PKG_VERSION").to_owned(),
        placed: Vec::new(),
    })
}

fn write_record(order: &Order<'_>, record: &BuildRecord) -> Result<(), Failure> {
    planning::write_json(record, &record_path(&order.file.1))
}

/// Brings the image into PVE, as far as that is asked for.
async fn place_it(
    args: &BuildArgs,
    order: &Order<'_>,
    spec: &LoadedSpec,
    record: &mut BuildRecord,
    context: &Context,
) -> CommandResult {
    if let Some(path) = &args.to_path {
        let placed = put_at(args, order, path, context).await?;
        output::say(&format!("{} is at {path} on {}", order.image.name, placed.node));
        record.placed.push(placed);
    }
    if !args.push {
        if args.to_path.is_none() {
            output::say(&format!(
                "{} is built; `vmdeploy image push {}` uploads it to the nodes",
                order.file.0, order.image.name
            ));
        }
        return Ok(Exit::DONE);
    }
    let push =
        PushArgs { image: args.image.clone(), node: args.node.clone(), yes: true, run: args.run.clone() };
    let (exit, placed) = super::push_and_tell(&push, context).await?;
    if exit == Exit::DONE {
        verify_placed(&placed, order, spec, context).await?;
    }
    record.placed.extend(
        placed
            .into_iter()
            .map(|(node, volume)| Placed { node: node.to_string(), location: volume.to_string() }),
    );
    Ok(exit)
}

/// Has the nodes' own `qemu-img` look at what was placed, where they are reached by SSH.
async fn verify_placed(
    placed: &[(NodeName, VolumeId)],
    order: &Order<'_>,
    spec: &LoadedSpec,
    context: &Context,
) -> Result<(), Failure> {
    let connections = planning::open(&PlanArgs::default(), spec, context).await?;
    if connections.has_ssh() {
        for (node, volume) in placed {
            look_at(order, &connections, node, &super::check::path_of(&connections, node, volume).await?)
                .await?;
        }
    }
    connections.close().await;
    Ok(())
}

/// Has the node's `qemu-img` say what lies at a path there, and refuses what the spec does not mean.
async fn look_at(
    order: &Order<'_>,
    connections: &Connections,
    node: &NodeName,
    path: &str,
) -> Result<(), Failure> {
    let printed = super::check::run(connections, node, &order.image.name, &files::image_info(path)).await?;
    let info = pve_ssh::parse::image_info(&printed).map_err(anyhow::Error::from)?;
    let format = order.image.format.as_ref().map(|format| format.value.as_str());
    check_info(&order.image.name, format, &info)?;
    let (format, size) = (escape::one_line(&info.format), Bytes::new(info.virtual_size));
    output::say(&format!("qemu-img on {node}: {format}, a disk of {size}"));
    Ok(())
}

/// Puts the image at a path of a node, and has the node's own `qemu-img` look at it.
async fn put_at(
    args: &BuildArgs,
    order: &Order<'_>,
    path: &str,
    context: &Context,
) -> Result<Placed, Failure> {
    let environment = &context.environment;
    let node = match &args.node {
        Some(node) => Some(node.clone()),
        None => reach::default_node(environment)?,
    };
    let node = node.ok_or_else(|| {
        Failure::usage("`--to-path` needs a node").hint("name it with `--node`, or set PROXMOX_NODE in .env")
    })?;
    let connections = reach::open(reach::connections_config(environment)?).await?;
    let told = |failure: vmdeploy_executor::Failure| reach::executor_failure(&failure);
    let host = connections.host(&node).await.map_err(told)?;
    let upload = Upload::file(&order.file.1, path);
    host.upload(&upload, &mut |_, _| {})
        .await
        .map_err(|error| told(vmdeploy_executor::Failure::from(error).at(&node)))?;
    look_at(order, &connections, &node, path).await?;
    connections.close().await;
    Ok(Placed { node: node.to_string(), location: path.to_owned() })
}
