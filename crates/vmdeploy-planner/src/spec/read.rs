//! From files to a [`Deployment`]: parse, check against the table, merge, type, and check what belongs together.

mod cluster;
mod devices;
mod digest;
mod groups;
mod pools;
mod raw;
mod vm;

use groups::Entry;

use super::check::check_object;
use super::diagnostic::{Diagnostic, Severity, SourceFile, Span};
use super::faults::{Faults, Path};
use super::hints::name_hint;
use super::lock;
use super::model::{Deployment, Spanned, Vm};
use super::schema::{TOP, VM};
use super::tree::{MAX_NODES, Node, Shape, Tree};
use super::validate;
use super::view::View;
use crate::plan::TransportChoice;
use std::collections::BTreeMap;

/// Where a VM's own paths begin: they are written without its name.
const IN_VM: Path<'static> = Path::TOP;

/// How a spec is read.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The project where no file names one; `import-env` and tests use it.
    pub default_project: Option<String>,
    /// Whether an image by `url` may lack its checksum: `image pin` is about to find it out.
    pub allow_unpinned: bool,
}

/// What came of reading a spec that is not refused.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The deployment.
    pub deployment: Deployment,
    /// What is probably not meant so.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a deployment from its files; those named `*.lock.yaml` are lock files.
///
/// # Errors
/// Every fault of every file, each with its place, in the order of the files; warnings among them.
pub fn load(files: &[SourceFile], options: &LoadOptions) -> Result<Loaded, Vec<Diagnostic>> {
    let mut faults = Faults::default();
    let trees = parse_all(files, &mut faults);
    let deployment = trees.and_then(|trees| read_all(files, &trees, options, &mut faults));
    let refused = faults.has_errors();
    let diagnostics = faults.finish(files);
    match deployment {
        Some(deployment) if !refused => Ok(Loaded { deployment, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

/// Reads all files; nothing if one of them is no YAML, for then what it says is missing everywhere else.
fn parse_all(files: &[SourceFile], faults: &mut Faults) -> Option<Vec<Tree>> {
    let mut trees = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let Ok(number) = u16::try_from(at) else {
            faults.error(Span::default(), "", "a spec has at most 65535 files");
            return None;
        };
        match Tree::parse(number, &file.text) {
            Ok(tree) => trees.push(tree),
            Err(fault) => match fault.hint {
                Some(hint) => faults.error_hint(fault.span, "", fault.message, hint),
                None => faults.error(fault.span, "", fault.message),
            },
        }
    }
    if trees.len() == files.len() {
        return Some(trees);
    }
    for tree in &trees {
        tree.documents().for_each(|document| check_object(document, &TOP, Path::TOP, faults));
    }
    None
}

/// What the files say, side by side.
#[derive(Default)]
struct Top<'a> {
    project: Option<Spanned<String>>,
    transport: Option<Spanned<TransportChoice>>,
    moved_from: Option<Node<'a>>,
    rollout: Option<Node<'a>>,
    address_pools: Option<Node<'a>>,
    defaults: Option<Node<'a>>,
    clusters: Named<'a>,
    images: Named<'a>,
    profiles: Named<'a>,
    vms: Named<'a>,
    groups: Named<'a>,
}

/// Things by name, in the order of the files.
#[derive(Default)]
struct Named<'a> {
    list: Vec<(&'a str, Span, Node<'a>)>,
    at: BTreeMap<&'a str, usize>,
}

impl<'a> Named<'a> {
    fn get(&self, name: &str) -> Option<Node<'a>> {
        self.at.get(name).map(|&at| self.list[at].2)
    }
    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.at.keys().copied()
    }
    fn add_all(&mut self, node: Node<'a>, path: Path<'_>, files: &[SourceFile], faults: &mut Faults) {
        for (key, value) in node.entries() {
            let Some(name) = key.text() else { continue };
            if faults.are_full() {
                return;
            }
            if let Some(&at) = self.at.get(name) {
                // Twice in one map is a fault that the check has told of already.
                let first = self.list[at].1;
                if first.file != key.span().file || !same_map(node, first) {
                    let file = files.get(usize::from(first.file)).map_or("", |file| file.name.as_str());
                    let place = format!("{}:{}", file.escape_debug(), first.line);
                    let hint = format!("rename one of them; the first is at {place}");
                    let message = "this name is used twice in the spec";
                    faults.error_hint(key.span(), path.key(name), message, hint);
                }
                continue;
            }
            self.at.insert(name, self.list.len());
            self.list.push((name, key.span(), value));
        }
    }
}

/// Tells whether the map has a key at this place.
fn same_map(map: Node<'_>, place: Span) -> bool {
    map.entries().any(|(key, _)| key.span() == place)
}

fn read_all(
    files: &[SourceFile],
    trees: &[Tree],
    options: &LoadOptions,
    faults: &mut Faults,
) -> Option<Deployment> {
    let is_lock = |at: &usize| files[*at].name.ends_with(".lock.yaml");
    let locks: Vec<&Tree> = (0..trees.len()).filter(is_lock).map(|at| &trees[at]).collect();
    let specs: Vec<&Tree> = (0..trees.len()).filter(|at| !is_lock(at)).map(|at| &trees[at]).collect();
    let documents: Vec<Node<'_>> = specs.iter().flat_map(|tree| tree.documents()).collect();
    let mut top = Top::default();
    for document in &documents {
        check_object(*document, &TOP, Path::TOP, faults);
        if faults.have_given_up() {
            return None;
        }
        top.add(*document, files, faults);
    }
    if documents.is_empty() {
        let place = Span { file: 0, line: u32::from(!files.is_empty()), column: 1 };
        faults.error_hint(
            place,
            "",
            "the spec is empty",
            "start with `version: 1`, `project: NAME` and `vms: {…}`",
        );
        return None;
    }
    for (name, _, profile) in &top.profiles.list {
        if let Some(inner) = profile.get("profile") {
            let path = Path::TOP.key("profiles");
            let hint = "list both at the VM: `profile: [first, second]`";
            faults.error_hint(inner.span(), path.key(name), "a profile cannot use other profiles", hint);
        }
    }
    let entries = groups::expand(&top, faults)?;
    if top.is_too_much(&entries, faults) {
        return None;
    }
    let project = top.project(options, &documents, faults);
    let clusters = cluster::read_clusters(&top.clusters, faults);
    let images = cluster::read_images(&top.images, options.allow_unpinned, faults);
    let names: Vec<&str> = clusters.keys().map(String::as_str).collect();
    let vms: Vec<Vm> = entries.iter().filter_map(|entry| top.read_vm(entry, &names, faults)).collect();
    let groups = groups::read(&top, &vms);
    let pins = lock::read_pins(&locks, faults);
    let digest = digest::of(&top, project.as_ref(), &pins);
    let mut deployment = Deployment {
        files: files.to_vec(),
        project: project.unwrap_or_else(|| Spanned::new("unnamed".to_owned(), Span::default())),
        transport: top.transport,
        clusters,
        images,
        vms,
        groups,
        rollout: top.rollout.and_then(groups::read_rollout),
        address_pools: pools::read_pools(top.address_pools, faults),
        address_pins: lock::read_address_pins(&locks),
        pins,
        digest,
    };
    validate::validate(&mut deployment, &top.images_templates(), faults);
    Some(deployment)
}

impl<'a> Top<'a> {
    fn add(&mut self, document: Node<'a>, files: &[SourceFile], faults: &mut Faults) {
        let path = Path::TOP;
        let get = |key| document.get(key).filter(|node| !node.is_null());
        match document.shape() {
            Shape::Map => {}
            _ => return,
        }
        if get("version").is_none() {
            let hint = "write `version: 1` at the top of each file";
            faults.error_hint(document.span(), "", "the key `version` is missing", hint);
        }
        if let Some(node) = get("project")
            && let Some(name) = node.text()
        {
            match &self.project {
                Some(first) if first.value != name => {
                    let file =
                        files.get(usize::from(first.span.file)).map_or("another file", |file| &file.name);
                    let (file, first) = (file.escape_debug(), first.value.escape_debug());
                    let message = format!("a spec has one project, and `{file}` sets `{first}`");
                    let hint =
                        format!("write `project: {first}`, or plan the files of each project separately");
                    faults.error_hint(node.span(), path.key("project"), message, hint);
                }
                _ => self.project = Some(Spanned::new(name.to_owned(), node.span())),
            }
        }
        if let Some(node) = get("transport")
            && let Some(transport) = node.text().and_then(parse_transport)
        {
            match self.transport {
                Some(first) if first.value != transport => {
                    faults.error_hint(
                        node.span(),
                        path.key("transport"),
                        "another file sets a different transport; a spec has one transport",
                        "set it in one file only",
                    );
                }
                _ => self.transport = Some(Spanned::new(transport, node.span())),
            }
        }
        for (key, place, hint) in [
            ("address_pools", &mut self.address_pools, "write all pools in one file"),
            (
                "defaults",
                &mut self.defaults,
                "write one `defaults:` for all VMs, and `profiles:` for the differences",
            ),
            (
                "rollout",
                &mut self.rollout,
                "write one for all VMs, and `rollout:` in a group for the differences",
            ),
            (
                "moved_from",
                &mut self.moved_from,
                "write one `moved_from:` for all VMs, and `moved_from:` at a VM for the differences",
            ),
        ] {
            match get(key) {
                Some(node) if place.is_some() => {
                    let message = format!("`{key}` is set in two files of the spec");
                    faults.error_hint(node.span(), path.key(key), message, hint);
                }
                Some(node) => *place = Some(node),
                None => {}
            }
        }
        for (key, named) in [
            ("clusters", &mut self.clusters),
            ("images", &mut self.images),
            ("profiles", &mut self.profiles),
            ("vms", &mut self.vms),
            ("groups", &mut self.groups),
        ] {
            if let Some(node) = get(key) {
                named.add_all(node, path.key(key), files, faults);
            }
        }
    }

    fn project(
        &self,
        options: &LoadOptions,
        documents: &[Node<'_>],
        faults: &mut Faults,
    ) -> Option<Spanned<String>> {
        let place = documents.first().map_or_else(Span::default, |node| node.span());
        let given = options.default_project.clone().map(|name| Spanned::new(name, place));
        let project = self.project.clone().or(given);
        if project.is_none() {
            let hint = "write `project: NAME` in one of the files; it is part of every ownership marker";
            faults.error_hint(place, "", "the key `project` is missing", hint);
        }
        project
    }

    /// Refuses VMs that are small by themselves and take too much from profiles and defaults: each has it all.
    fn is_too_much(&self, entries: &[Entry<'_>], faults: &mut Faults) -> bool {
        let of_profiles: BTreeMap<&str, usize> =
            self.profiles.list.iter().map(|(name, _, node)| (*name, node.weight())).collect();
        let of_defaults = self.defaults.map_or(0, Node::weight);
        let mut total = 0_usize;
        for Entry { name, span, layers, .. } in entries {
            let names = self.profile_names(layers);
            let taken: usize = names
                .iter()
                .filter_map(|name| of_profiles.get(name.text()?))
                .fold(0, |sum, weight| sum.saturating_add(*weight));
            let own: usize = layers.iter().map(|layer| layer.weight()).sum();
            total = total.saturating_add(own).saturating_add(taken).saturating_add(of_defaults);
            if total > MAX_NODES {
                let message = format!(
                    "the VMs up to this one have more than {MAX_NODES} values, including profiles and defaults"
                );
                let hint = "split the spec into several projects, or reduce `defaults`";
                let vms = Path::TOP.key("vms");
                faults.error_hint(*span, vms.key(name), message, hint);
                return true;
            }
        }
        false
    }

    /// Returns the names of a VM's profiles, as they stand.
    fn profile_names(&self, layers: &[Node<'a>]) -> Vec<Node<'a>> {
        let named = layers.iter().copied().chain(self.defaults).find_map(|layer| layer.get("profile"));
        named.and_then(|node| View::of(vec![node])).map_or_else(Vec::new, |view| view.items())
    }

    fn read_vm(&self, entry: &Entry<'a>, clusters: &[&str], faults: &mut Faults) -> Option<Vm> {
        let Entry { name, span, group, .. } = entry;
        let (vms, groups) = (Path::TOP.key("vms"), Path::TOP.key("groups"));
        let outer = group.map_or(vms, |group| groups.key(group));
        let path = outer.key(name);
        let mut layers = entry.layers.clone();
        for desired in self.profile_names(&entry.layers).iter().rev() {
            let Some(profile) = desired.text() else { continue };
            match self.profiles.get(profile) {
                Some(node) => layers.push(node),
                None => unknown_name(
                    *desired,
                    profile,
                    "profile",
                    self.profiles.names(),
                    path.key("profile"),
                    faults,
                ),
            }
        }
        layers.extend(self.defaults);
        let view = View::of(layers)?;
        if !view.is_map() {
            return None;
        }
        super::view::check_complete(&view, &VM, path, faults);
        let mut vm = vm::read_vm(&view, name, *span, clusters, path, faults)?;
        vm.group = group.map(str::to_owned);
        if vm.moved_from.is_none() && view.get(&VM, "moved_from").is_none() {
            let of_all = self.moved_from.and_then(|node| View::of(vec![node]));
            vm.moved_from = of_all.as_ref().and_then(vm::read_moved_from);
        }
        Some(vm)
    }

    /// Returns what the images say of their templates.
    fn images_templates(&self) -> BTreeMap<String, Spanned<String>> {
        let template = |(name, _, node): &(&str, Span, Node<'_>)| {
            let node = node.get("template")?;
            Some(((*name).to_owned(), Spanned::new(node.text()?.to_owned(), node.span())))
        };
        self.images.list.iter().filter_map(template).collect()
    }
}

/// Says that a name is not known, and what was probably meant.
fn unknown_name<'n>(
    node: Node<'_>,
    name: &str,
    what: &str,
    known: impl Iterator<Item = &'n str>,
    path: Path<'_>,
    faults: &mut Faults,
) {
    let known: Vec<&str> = known.collect();
    let message = format!("there is no {what} `{}`", name.escape_debug());
    faults.error_hint(node.span(), path, message, name_hint(name, what, &known));
}

fn parse_transport(text: &str) -> Option<TransportChoice> {
    match text {
        "hybrid" => Some(TransportChoice::Hybrid),
        "auto" => Some(TransportChoice::Auto),
        "api" => Some(TransportChoice::Api),
        "ssh" => Some(TransportChoice::Ssh),
        _ => None,
    }
}

/// Returns the errors among diagnostics.
pub fn errors(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
}
