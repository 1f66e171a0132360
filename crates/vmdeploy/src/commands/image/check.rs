//! `vmdeploy image check`: what a new VM would find of each image, on each node.

use super::{CheckArgs, draft_of_new_vms, look, unused};
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
use vmdeploy_executor::{Connections, Reach, observe, unpacked_digest};
use vmdeploy_planner::Draft;
use vmdeploy_planner::observed::{Observed, Query};
use vmdeploy_planner::plan::{Action, ImageOrigin, Step};
use vmdeploy_planner::spec::{Deployment, Diagnostic, Image, ImageSource};

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
    /// No VM uses it, and it could not be looked for.
    Unused,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Present => "there",
            Self::Unverified => "present, not verified",
            Self::WrongChecksum => "WRONG CHECKSUM",
            Self::WillBePlaced => "will be uploaded",
            Self::Missing => "MISSING",
            Self::Unused => "unused",
        }
    }
    /// Reports an image that no VM uses, which is not an error.
    fn text_of_unused(self) -> String {
        match self {
            Self::Unused => "unused".to_owned(),
            other => format!("unused, {}", other.text().to_lowercase()),
        }
    }
}

/// An image on a node.
#[derive(Debug, Clone, Serialize)]
struct Row {
    image: String,
    /// `None` where no node is known for an image that no VM uses.
    node: Option<NodeName>,
    /// Path or volume; the image's source if its location is not known.
    location: String,
    /// Whether a VM of the spec uses it.
    used: bool,
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
    let looked = look(&args.spec.paths(), context).await?;
    let Draft { steps, refused, .. } = draft_of_new_vms(&looked, context)?;
    let unused = unused::look(&looked, context).await?;
    let deployment = &looked.spec.deployment;
    let used = StepHistory { queries: &looked.queries, observed: &looked.observed, steps: &steps };
    let is_used = |name: &str| !unused.names.contains(name);
    let around = Around { deployment, folder: &looked.spec.folder, context };
    let mut rows = used.rows(is_used, &looked.connections, &around).await?;
    if let Some(observed) = &unused.observed {
        let history = StepHistory { queries: &unused.queries, observed, steps: &unused.steps };
        rows.extend(history.rows(|name| unused.names.contains(name), &looked.connections, &around).await?);
    }
    let listed: BTreeSet<String> = rows.iter().map(|row| row.image.clone()).collect();
    let others = deployment.images.values().filter(|image| unused.names.contains(&image.name));
    let others = others.filter(|image| !listed.contains(&image.name));
    rows.extend(others.map(|image| unknown(image, unused.node.clone())));
    for row in rows.iter_mut().filter(|row| !is_used(&row.image)) {
        row.used = false;
        // No step will upload it.
        row.state = if row.state == State::WillBePlaced { State::Missing } else { row.state };
    }
    let checks = rows.into_iter().map(|row| verified(row, &looked.connections));
    let rows = futures::future::join_all(checks).await;
    looked.connections.close().await;
    let rows: Vec<Row> = rows.into_iter().collect::<Result<_, _>>()?;
    if args.json {
        output::print_document("images", &rows)?;
    } else {
        output::write_stdout(&table(&rows).render());
    }
    let in_state = |state: State| rows.iter().filter(move |row| row.used && row.state == state);
    let to_place: BTreeSet<&str> = in_state(State::WillBePlaced).map(|row| row.image.as_str()).collect();
    if !to_place.is_empty() {
        let names = to_place.into_iter().collect::<Vec<_>>().join(", ");
        output::say(&format!("`deploy` will upload {names}; `vmdeploy image push` does it now"));
    }
    let bad = in_state(State::WrongChecksum).chain(in_state(State::Missing)).count();
    // What else the plan would be refused for is no matter of the images.
    let about_images: Vec<Diagnostic> =
        refused.into_iter().filter(|fault| fault.path.starts_with("images.")).collect();
    show(&about_images);
    Ok(if bad == 0 && about_images.is_empty() { Exit::DONE } else { Exit::OBSERVED })
}

/// What is known of some images of a spec.
struct StepHistory<'a> {
    /// What was asked of those that are named where they lie,
    queries: &'a [Query],
    /// what was answered,
    observed: &'a Observed,
    /// and what would place the others.
    steps: &'a [Step],
}

/// The spec, and where its files are.
struct Around<'a> {
    deployment: &'a Deployment,
    folder: &'a Path,
    context: &'a Context,
}

impl StepHistory<'_> {
    /// Returns the images that are named where they lie, then those that the plan places.
    async fn rows(
        &self,
        is_meant: impl Fn(&str) -> bool,
        connections: &Connections,
        around: &Around<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let seen = look_again(connections, self.observed, self.steps).await?;
        let places = self.places(around.deployment).into_iter().filter(|(name, _, _)| is_meant(name));
        let named = places.map(|place| Ok(row(place, self.observed, None, around.deployment)));
        let placed = self.steps.iter().filter_map(|step| match &step.action {
            Action::PlaceImage { image, node, volume, checksum, origin } if is_meant(image) => {
                let place = (image.clone(), node.clone(), volume.to_string());
                let row = row(place, &seen, Some(checksum.clone()), around.deployment);
                Some(with_unpacked_checksum(row, origin, around.folder, around.context))
            }
            _ => None,
        });
        named.chain(placed).collect()
    }

    /// Returns image, node and location of those that are named where they lie.
    fn places(&self, deployment: &Deployment) -> BTreeSet<(String, NodeName, String)> {
        let mut places = BTreeSet::new();
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
            places.extend(self.queries.iter().filter_map(place));
        }
        places
    }
}

/// Returns the report for an image that could not be checked.
fn unknown(image: &Image, node: Option<NodeName>) -> Row {
    Row {
        image: image.name.clone(),
        node,
        location: unused::origin(image),
        used: false,
        present: false,
        state: State::Unused,
        size: None,
        virtual_size: None,
        format: None,
        checksum: image.checksum.as_ref().map(|checksum| checksum.value.clone()),
        found_checksum: None,
    }
}

/// Looks whether what the plan places is there already: only the plan knows in which storage.
async fn look_again(
    connections: &Connections,
    observed: &Observed,
    steps: &[Step],
) -> Result<Observed, Failure> {
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
        return Ok(observed.clone());
    }
    let queries: Vec<Query> = queries.into_iter().collect();
    observe(connections, &queries).await.map_err(|failure| reach::executor_failure(&failure))
}

/// What a compressed image unpacks to is what lies on the node: that is what its checksum is compared with.
fn with_unpacked_checksum(
    mut row: Row,
    origin: &ImageOrigin,
    folder: &Path,
    context: &Context,
) -> Result<Row, Failure> {
    if let (true, ImageOrigin::File { path, unpack: Some(how) }) = (row.present, origin) {
        let path = local_files::of(context, folder)
            .check(path, Reach::Confined)
            .map_err(|error| local_files::failure(&format!("`{path}`"), &error))?;
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
        used: true,
        image,
        node: Some(node),
        location,
    }
}

/// Computes the checksum on the node, where there is one to compare with and a way to get there. Of an image that no VM
/// uses it may stay open.
async fn verified(row: Row, connections: &Connections) -> Result<Row, Failure> {
    if row.state != State::Unverified || !connections.has_ssh() {
        return Ok(row);
    }
    let Some(node) = row.node.clone() else { return Ok(row) };
    let (used, open) = (row.used, row.clone());
    match compared(row, &node, connections).await {
        Err(_) if !used => Ok(open),
        other => other,
    }
}

async fn compared(mut row: Row, node: &NodeName, connections: &Connections) -> Result<Row, Failure> {
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
        Ok(volume) if !row.location.starts_with('/') => path_of(connections, node, &volume).await?,
        _ => row.location.clone(),
    };
    let printed = run(connections, node, &row.image, &files::checksum(bits, &path)).await?;
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
    Err(Failure::new(Exit::OBSERVED, message).hint("nothing was changed; check the file on the node"))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["image", "node", "location", "state", "file", "disk", "format"]);
    for row in rows {
        table.row([
            row.image.clone(),
            row.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.location.clone(),
            if row.used { row.state.text().to_owned() } else { row.state.text_of_unused() },
            row.size.clone().unwrap_or_default(),
            row.virtual_size.clone().unwrap_or_default(),
            row.format.clone().unwrap_or_default(),
        ]);
    }
    table
}
