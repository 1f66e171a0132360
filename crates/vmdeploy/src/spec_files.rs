//! The spec's files: found, read, checked, and their faults shown.

use crate::context::Context;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use pve_types::GuestName;
use std::path::{Path, PathBuf};
use vmdeploy_planner::spec::{self, Deployment, Diagnostic, LoadOptions, SourceFile};

/// The specs of a command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SpecArgs {
    /// Spec files, or folders whose *.yaml files form one spec [default: VMDEPLOY_SPEC]
    #[arg(value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// Same as SPEC
    #[arg(long = "spec", value_name = "SPEC", hide = true)]
    spec_option: Vec<PathBuf>,
}

impl SpecArgs {
    /// Builds the arguments from paths.
    pub fn new(specs: Vec<PathBuf>) -> Self {
        Self { specs, spec_option: Vec::new() }
    }
    /// Returns the paths on the command line, without `VMDEPLOY_SPEC`.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.specs.iter().chain(&self.spec_option).cloned().collect()
    }
}

/// Words of a command line among which specs and names stand.
#[derive(Debug, Clone, Default)]
pub struct SpecWords {
    /// The specs: those of `--spec`, and words with a `/` or that end in .yaml or .yml.
    pub specs: Vec<PathBuf>,
    /// All other words.
    pub rest: Vec<String>,
}

impl SpecWords {
    /// Tells the words apart.
    pub fn of(words: &[String], specs: &[PathBuf]) -> Self {
        let (named, rest): (Vec<String>, Vec<String>) =
            words.iter().cloned().partition(|word| is_spec_word(word));
        let specs = specs.iter().cloned().chain(named.into_iter().map(PathBuf::from)).collect();
        Self { specs, rest }
    }
    /// As [`SpecWords::of`], but only the words before the first name are specs.
    pub fn leading(words: &[String], specs: &[PathBuf]) -> Self {
        let named = words.iter().take_while(|word| is_spec_word(word)).count();
        let specs = specs.iter().cloned().chain(words[..named].iter().map(PathBuf::from)).collect();
        Self { specs, rest: words[named..].to_vec() }
    }
    /// Returns the other words as names of VMs.
    ///
    /// # Errors
    /// One is not a name that a VM can have.
    pub fn names(&self, what: &str) -> Result<Vec<GuestName>, Failure> {
        let name = |word: &String| {
            word.parse::<GuestName>().map_err(|error| {
                let shown = crate::escape::one_line(word);
                Failure::usage(format!("`{shown}` is not the name of a {what}: {error}"))
            })
        };
        self.rest.iter().map(name).collect()
    }
}

/// Tells whether a word of the command line is a spec and not a name.
pub(crate) fn is_spec_word(word: &str) -> bool {
    word.contains('/') || word == "." || word == ".." || word.ends_with(".yaml") || word.ends_with(".yml")
}

/// Tells whether the command line or `VMDEPLOY_SPEC` names a spec.
pub fn is_named(args: &SpecArgs, context: &Context) -> bool {
    !named(args, context).is_empty()
}

/// A checked spec, and the folder that its relative paths start from.
#[derive(Debug)]
pub struct LoadedSpec {
    /// What it says.
    pub deployment: Deployment,
    /// The folder of the first file.
    pub folder: PathBuf,
}

/// Reads and checks the specs that the command line or `VMDEPLOY_SPEC` names, and prints warnings.
///
/// # Errors
/// None is named, one cannot be read, or the spec is refused: all its faults are printed.
pub fn load(args: &SpecArgs, context: &Context) -> Result<LoadedSpec, Failure> {
    load_paths(&needed(args, context)?)
}

/// Reads and checks the specs, and returns the faults instead of printing them.
///
/// # Errors
/// None is named, or one cannot be read.
pub fn check(args: &SpecArgs, context: &Context) -> Result<Result<spec::Loaded, Vec<Diagnostic>>, Failure> {
    let files = read_paths(&needed(args, context)?)?;
    Ok(spec::load(&files, &LoadOptions::default()))
}

/// Reads and checks the specs as [`load`] does, but for checksums that images by `url` lack.
///
/// # Errors
/// As [`load`].
pub fn load_unpinned(args: &SpecArgs, context: &Context) -> Result<Deployment, Failure> {
    let files = read_paths(&needed(args, context)?)?;
    let options = LoadOptions { allow_unpinned: true, ..LoadOptions::default() };
    spec::load(&files, &options).map(|loaded| loaded.deployment).map_err(|faults| refused(&faults))
}

fn needed(args: &SpecArgs, context: &Context) -> Result<Vec<PathBuf>, Failure> {
    let paths = named(args, context);
    if paths.is_empty() {
        return Err(Failure::usage("no spec was given")
            .hint(format!("pass a spec file or folder (SPEC=… with make), or set {} in .env", names::SPEC))
            .hint("`make init` writes a first spec and a .env to fill in (so does `vmdeploy init`)")
            .hint("`make demo` shows a deployment without a Proxmox host"));
    }
    Ok(paths)
}

/// Reads and checks the specs, if any are named, and tells their folder, too.
///
/// # Errors
/// As [`load`].
pub fn load_whole_if_named(args: &SpecArgs, context: &Context) -> Result<Option<LoadedSpec>, Failure> {
    let paths = named(args, context);
    if paths.is_empty() { Ok(None) } else { load_paths(&paths).map(Some) }
}

fn named(args: &SpecArgs, context: &Context) -> Vec<PathBuf> {
    match args.paths() {
        none if none.is_empty() => context.environment.path(names::SPEC).into_iter().collect(),
        paths => paths,
    }
}

fn load_paths(paths: &[PathBuf]) -> Result<LoadedSpec, Failure> {
    let files = read_paths(paths)?;
    let folder = folder_of(&paths[0]);
    match spec::load(&files, &LoadOptions::default()) {
        Ok(loaded) => {
            show(&loaded.warnings);
            Ok(LoadedSpec { deployment: loaded.deployment, folder })
        }
        Err(faults) => Err(refused(&faults)),
    }
}

fn read_paths(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(read_all(path)?);
    }
    Ok(files)
}

/// Prints the faults, and returns what is said below them.
pub fn refused(faults: &[Diagnostic]) -> Failure {
    show(faults);
    let errors = faults.iter().filter(|fault| fault.severity == spec::Severity::Error).count();
    let errors = vmdeploy_planner::render::count(errors, "error");
    Failure::usage(format!("the spec has {errors}; the cluster was not contacted"))
}

/// Prints diagnostics to stderr, each with its line.
pub fn show(diagnostics: &[Diagnostic]) {
    if !diagnostics.is_empty() {
        diagnostics.iter().for_each(|diagnostic| output::say_lines(&format!("{diagnostic}\n")));
    }
}

fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Reads a file and the lock file next to it, or a folder's `*.yaml`, sorted by name.
fn read_all(path: &Path) -> Result<Vec<SourceFile>, Failure> {
    let mut names = if path.is_dir() { yaml_files(path)? } else { vec![path.to_owned()] };
    if !path.is_dir() {
        names.extend(lock_file_of(path).filter(|lock| lock.is_file()));
    }
    names.iter().map(|name| read(name)).collect()
}

/// Returns `web.lock.yaml` for `web.yaml`.
pub fn lock_file_of(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str()?;
    (!stem.ends_with(".lock")).then(|| path.with_file_name(format!("{stem}.lock.yaml")))
}

/// Returns the path of the lock file, next to the spec file; `None` for a folder or several files.
pub fn lock_path(args: &SpecArgs, context: &Context) -> Option<PathBuf> {
    match named(args, context).as_slice() {
        [one] if !one.is_dir() => lock_file_of(one),
        _ => None,
    }
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml") && path.is_file())
        .collect();
    files.sort();
    if files.iter().all(|path| path.to_string_lossy().ends_with(".lock.yaml")) {
        return Err(Failure::usage(format!("`{}` contains no *.yaml file", folder.display()))
            .hint("pass the file or folder of the spec; `vmdeploy init` writes a first one"));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<SourceFile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Ok(SourceFile::new(path.display().to_string(), text))
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let failure =
        Failure::of(Exit::USAGE, error).context(format!("cannot read the spec `{}`", path.display()));
    let word = path.to_string_lossy();
    if is_missing && !is_spec_word(&word) && word.parse::<GuestName>().is_ok() {
        return failure.hint(format!("to select a VM of a spec, use `--target {word}`"));
    }
    failure.hint("pass the file or folder of the spec; `vmdeploy init` writes a first one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_yaml_files_and_a_file_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", "a.lock.yaml", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |files: Vec<SourceFile>| -> Vec<String> {
            files.iter().map(|file| file.name.rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names(read_all(folder.path()).unwrap()), ["a.lock.yaml", "a.yaml", "b.yaml"]);
        assert_eq!(names(read_all(&folder.path().join("a.yaml")).unwrap()), ["a.yaml", "a.lock.yaml"]);
        assert_eq!(names(read_all(&folder.path().join("b.yaml")).unwrap()), ["b.yaml"]);
    }
}
