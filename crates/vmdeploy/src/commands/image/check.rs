//! `vmdeploy image check`: what a new VM would find of each image, on each node.

use super::{CheckArgs, Looked, draft_of_new_vms, look};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::local_files;
use crate::output;
use crate::reach;
use crate::spec_files::show;
use crate::table::Table;
use pve_ssh::command::{Command, files, pvesm};
use pve_ssh::parse;
use pve_types::{NodeName, VolumeId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use vmdeploy_executor::{Connections, observe, unpacked_digest};
use vmdeploy_planner::Draft;
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{Action, ImageOrigin, Step};
use vmdeploy_planner::spec::{Deployment, Diagnostic, ImageSource};

/// A slow disk reads a large image in this time.
const CHECKSUM_LIMIT: Duration = Duration::from_secs(1_800);

/// How an image stands on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is there, and its checksum is right.
    Verified,
    /// It is there, and the spec has no checksum of it.
    Present,
    /// It is there, and its checksum could not be computed, for want of SSH or of the algorithm.
    Unverified,
    /// It is there, and its checksum is another.
    WrongChecksum,
    /// It is not there, and `deploy` will place it.
    WillBePlaced,
    /// It is not there.
    Missing,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Present => "there",
            Self::Unverified => "there, not verified",
            Self::WrongChecksum => "WRONG CHECKSUM",
            Self::WillBePlaced => "will be placed",
            Self::Missing => "MISSING",
        }
    }
}

/// An image on a node.
#[derive(Debug, Serialize)]
struct Row {
    image: String,
    node: NodeName,
    /// Path or volume.
    location: String,
    present: bool,
    state: State,
    size: Option<String>,
    virtual_size: Option<String>,
    format: Option<String>,
    /// `ALGORITHM:hex`, as the spec says.
    checksum: Option<String>,
    /// `ALGORITHM:hex`, as the node computes it.
    found_checksum: Option<String>,
}

/// Prints the table. Exit 4 where an image is missing or is another one.
pub(super) async fn check(args: &CheckArgs, context: &Context) -> CommandResult {
    let looked = look(&args.spec.specs, context).await?;
    let Draft { steps, refused, .. } = draft_of_new_vms(&looked, context)?;
    let placed = look_again(&looked, &steps).await?;
    let rows = rows(&looked, &steps, &placed, context)?;
    let checks = rows.into_iter().map(|row| verified(row, &looked.connections));
    let rows = futures::future::join_all(checks).await;
    looked.connections.close().await;
    let rows: Vec<Row> = rows.into_iter().collect::<Result<_, _>>()?;
    if args.json {
        output::print_document("images", &rows)?;
    } else {
        output::write_stdout(&table(&rows).render());
    }
    let in_state = |state: State| rows.iter().filter(move |row| row.state == state);
    let to_place: BTreeSet<&str> = in_state(State::WillBePlaced).map(|row| row.image.as_str()).collect();
    if !to_place.is_empty() {
        let names = to_place.into_iter().collect::<Vec<_>>().join(", ");
        output::say(&format!("deploy will place {names}; `vmdeploy image push` does so now"));
    }
    let bad = in_state(State::WrongChecksum).chain(in_state(State::Missing)).count();
    // What else the plan would be refused for is no matter of the images.
    let about_images: Vec<Diagnostic> =
        refused.into_iter().filter(|fault| fault.path.starts_with("images.")).collect();
    show(&about_images);
    Ok(if bad == 0 && about_images.is_empty() { Exit::DONE } else { Exit::OBSERVED })
}

/// Looks whether what the plan places is there already: only the plan knows in which storage.
async fn look_again(looked: &Looked, steps: &[Step]) -> Result<Observed, Failure> {
    let queries: BTreeSet<Query> = steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::PlaceImage { node, volume, .. } => Some(Query::Content {
                node: node.clone(),
                storage: volume.storage().clone(),
                content: volume.name().split_once('/')?.0.to_owned(),
            }),
            _ => None,
        })
        .collect();
    if queries.is_empty() {
        return Ok(looked.observed.clone());
    }
    let queries: Vec<Query> = queries.into_iter().collect();
    observe(&looked.connections, &queries).await.map_err(|failure| reach::executor_failure(&failure))
}

/// Returns the images that are named where they lie, then those that the plan places.
fn rows(looked: &Looked, steps: &[Step], seen: &Observed, context: &Context) -> Result<Vec<Row>, Failure> {
    let deployment = &looked.spec.deployment;
    let mut places: BTreeSet<(String, NodeName, String)> = BTreeSet::new();
    for (name, image) in &deployment.images {
        let place = |query: &Query| match (&image.source, query) {
            (ImageSource::Path { path: wanted }, Query::File { node, path }) if wanted.value == *path => {
                Some((name.clone(), node.clone(), path.clone()))
            }
            (ImageSource::Volume { volume }, Query::Content { node, storage, .. })
                if volume.value.storage() == storage =>
            {
                Some((name.clone(), node.clone(), volume.value.to_string()))
            }
            _ => None,
        };
        places.extend(looked.queries.iter().filter_map(place));
    }
    let named = places.into_iter().map(|place| Ok(row(place, &looked.observed, None, deployment)));
    let placed = steps.iter().filter_map(|step| match &step.action {
        Action::PlaceImage { image, node, volume, checksum, origin } => {
            let place = (image.clone(), node.clone(), volume.to_string());
            let row = row(place, seen, Some(checksum.clone()), deployment);
            Some(with_unpacked_checksum(row, origin, &looked.spec.folder, context))
        }
        _ => None,
    });
    named.chain(placed).collect()
}

/// What a compressed image unpacks to is what lies on the node: that is what its checksum is compared with.
fn with_unpacked_checksum(
    mut row: Row,
    origin: &ImageOrigin,
    folder: &Path,
    context: &Context,
) -> Result<Row, Failure> {
    if let (true, ImageOrigin::File { path, unpack: Some(how) }) = (row.present, origin) {
        let path = local_files::resolve(path, folder, context);
        let unpacked =
            unpacked_digest(&path, how, &mut |_, _| true).map_err(|error| Failure::of(Exit::USAGE, error))?;
        row.checksum = Some(format!("sha256:{}", unpacked.sha256));
    }
    Ok(row)
}

/// `placed` is the checksum of an image that the plan places.
fn row(
    (image, node, location): (String, NodeName, String),
    observed: &Observed,
    placed: Option<Option<String>>,
    deployment: &Deployment,
) -> Row {
    let seen = observed.image(&node, &location).filter(|seen| seen.present);
    let of_spec = || deployment.images.get(&image)?.checksum.as_ref().map(|checksum| checksum.value.clone());
    let absent = if placed.is_some() { State::WillBePlaced } else { State::Missing };
    let checksum = placed.flatten().or_else(of_spec);
    let there = if checksum.is_some() { State::Unverified } else { State::Present };
    Row {
        present: seen.is_some(),
        state: if seen.is_some() { there } else { absent },
        size: seen.and_then(|seen| seen.size).map(|size| size.to_string()),
        virtual_size: seen.and_then(|seen| seen.virtual_size).map(|size| size.to_string()),
        format: seen.and_then(|seen| seen.format.clone()),
        checksum,
        found_checksum: None,
        image,
        node,
        location,
    }
}

/// Computes the checksum on the node, where there is one to compare with and a way to get there.
async fn verified(mut row: Row, connections: &Connections) -> Result<Row, Failure> {
    if row.state != State::Unverified || !connections.has_ssh() {
        return Ok(row);
    }
    let Some((algorithm, expected)) = row.checksum.as_deref().and_then(|checksum| checksum.split_once(':'))
    else {
        return Ok(row);
    };
    let bits = match algorithm {
        "sha1" => 1,
        "sha256" => 256,
        "sha512" => 512,
        _ => return Ok(row),
    };
    let path = match row.location.parse::<VolumeId>() {
        Ok(volume) if !row.location.starts_with('/') => path_of(connections, &row.node, &volume).await?,
        _ => row.location.clone(),
    };
    let printed = run(connections, &row.node, &row.image, &files::checksum(bits, &path)).await?;
    let found = parse::checksum(bits, &printed).map_err(anyhow::Error::from)?;
    let is_right = found.eq_ignore_ascii_case(expected);
    row.found_checksum = Some(format!("{algorithm}:{found}"));
    row.state = if is_right { State::Verified } else { State::WrongChecksum };
    Ok(row)
}

/// Returns where a volume lies on its node.
pub(super) async fn path_of(
    connections: &Connections,
    node: &NodeName,
    volume: &VolumeId,
) -> Result<String, Failure> {
    let printed = run(connections, node, volume.as_str(), &pvesm::path(volume)).await?;
    Ok(parse::pvesm_path(&printed).map_err(anyhow::Error::from)?)
}

/// Runs a command that looks at an image on a node, and returns what it printed.
pub(super) async fn run(
    connections: &Connections,
    node: &NodeName,
    image: &str,
    command: &Command,
) -> Result<String, Failure> {
    let unreachable = |failure: vmdeploy_executor::Failure| reach::executor_failure(&failure);
    let host = connections.host(node).await.map_err(unreachable)?;
    let options = pve_ssh::RunOptions::within(CHECKSUM_LIMIT);
    let output = host.run(command, options, &mut |_, _| {}).await;
    let output = output.map_err(|error| unreachable(vmdeploy_executor::Failure::from(error).at(node)))?;
    if output.success() {
        return Ok(output.stdout);
    }
    let said = output.stderr.lines().next().unwrap_or_default().escape_debug().to_string();
    let message = format!("`{command}` for image `{image}` failed on {node}: {said}");
    Err(Failure::new(Exit::OBSERVED, message).hint("nothing was changed by it; look at the file on the node"))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["image", "node", "location", "state", "file", "disk", "format"]);
    for row in rows {
        table.row([
            row.image.clone(),
            row.node.to_string(),
            row.location.clone(),
            row.state.text().to_owned(),
            row.size.clone().unwrap_or_default(),
            row.virtual_size.clone().unwrap_or_default(),
            row.format.clone().unwrap_or_default(),
        ]);
    }
    table
}
