//! No two modules of a crate need each other, neither at the top nor next to each other in a folder: a reader can begin
//! with what needs nothing.

use super::{assert_none, files, read};
use std::collections::{BTreeMap, BTreeSet};

/// The circles that are left, by crate. They may become fewer.
const KNOWN: [(&str, usize); 1] = [("pve-lab", 7)];

/// A module by its path below the crate.
type Module = Vec<String>;

#[derive(Default)]
struct Crate {
    sources: BTreeMap<Module, String>,
    /// What modules hand on under a name of their own: `(module, name)` to where it is from.
    exports: BTreeMap<(Module, String), Module>,
}

/// Reads a crate's modules, without comments and unit tests.
fn read_crate(name: &str) -> Crate {
    let mut found = Crate::default();
    let folder = format!("crates/{name}/src/");
    for file in files(&folder).iter().filter(|file| file.ends_with(".rs") && !file.ends_with("main.rs")) {
        let path = file[folder.len()..].trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Module = path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
        if module.last().is_none_or(|last| !last.ends_with("tests")) {
            let source = read(file);
            let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
            found.sources.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
    let exports = found.sources.iter().flat_map(|(module, source)| {
        let public = uses(source).filter(|(is_public, _)| *is_public);
        public.filter_map(|(_, path)| {
            let name = path.rsplit("::").next()?.to_owned();
            Some(((module.clone(), name), found.absolute(module, &path)?))
        })
    });
    let exports = exports.collect();
    Crate { exports, ..found }
}

/// Returns the paths that a source names in its `use`s, and whether it hands them on.
fn uses(source: &str) -> impl Iterator<Item = (bool, String)> {
    source.split(';').filter_map(|item| item.rsplit_once("use ")).flat_map(|(before, tree)| {
        let is_public = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("pub"));
        let mut paths = Vec::new();
        expand(tree, &mut paths);
        paths.into_iter().map(move |path| (is_public, path))
    })
}

/// Takes the paths out of a tree such as `a::{b, c::{d, e}}`.
fn expand(tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else {
        return paths.push(tree.split(" as ").next().unwrap_or_default().trim().to_owned());
    };
    let mut depth = 0;
    let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        expand(&format!("{prefix}{}", part.trim()), paths);
    }
}

impl Crate {
    /// Returns a path as it is from the crate's root; `None` for one that leads out of the crate.
    fn absolute(&self, module: &Module, path: &str) -> Option<Module> {
        let mut parts = path.split("::").map(str::to_owned).peekable();
        let mut at = match parts.peek()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => module.clone(),
            child => {
                let child: Module = module.iter().cloned().chain([child.to_owned()]).collect();
                return self
                    .sources
                    .contains_key(&child)
                    .then(|| module.iter().cloned().chain(parts).collect());
            }
        };
        while let Some(up) = parts.next_if(|part| ["crate", "self", "super"].contains(&part.as_str())) {
            if up == "super" {
                at.pop();
            }
        }
        at.extend(parts);
        Some(at)
    }
    /// Returns the module in which what the path names is defined.
    fn home(&self, path: &[String], depth: usize) -> Option<Module> {
        let mut module = Module::new();
        for (place, part) in path.iter().enumerate() {
            let child: Module = module.iter().cloned().chain([part.clone()]).collect();
            if self.sources.contains_key(&child) {
                module = child;
                continue;
            }
            return match self.exports.get(&(module.clone(), part.clone())) {
                Some(from) if depth < 8 && from != path => {
                    let whole: Module = from.iter().chain(&path[place + 1..]).cloned().collect();
                    self.home(&whole, depth + 1)
                }
                _ => Some(module),
            };
        }
        Some(module)
    }
    /// Returns which modules need which of their siblings, by parent.
    fn needs(&self) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
        let mut needs: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, source) in &self.sources {
            let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let words = source.split(|c| !is_of_path(c)).map(|word| word.trim_end_matches(':').to_owned());
            let named = words
                .filter(|word| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start)));
            for path in uses(source).map(|(_, path)| path).chain(named) {
                let Some(home) = self.absolute(module, &path).and_then(|path| self.home(&path, 0)) else {
                    continue;
                };
                let same = module.iter().zip(&home).take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(to)) = (module.get(same), home.get(same)) {
                    let of_parent = needs.entry(module[..same].to_vec()).or_default();
                    of_parent.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        needs
    }
}

/// Returns what a module needs, directly or by others.
fn reach(needs: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        let more = needs.get(&module).into_iter().flatten().filter(|to| found.insert((*to).clone()));
        open.extend(more.cloned());
    }
    found
}

/// Returns the groups of modules that need each other.
fn circles(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (parent, needs) in read_crate(name).needs() {
        for module in needs.keys() {
            let reached = reach(&needs, module);
            let group: Vec<&String> =
                reached.iter().filter(|other| reach(&needs, other).contains(module)).collect();
            if group.len() > 1 {
                found.insert(format!("{name} {}: {group:?}", parent.join("::")));
            }
        }
    }
    found
}

#[test]
fn no_two_modules_need_each_other() {
    let crates: BTreeSet<String> =
        files("crates").iter().filter_map(|file| Some(file.split('/').nth(1)?.to_owned())).collect();
    let mut faults = Vec::new();
    for name in crates {
        let found = circles(&name);
        let known = KNOWN.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        if found.len() > known {
            faults.extend(found);
        }
    }
    assert_none("modules that need each other", &faults);
}

#[test]
fn a_tree_of_uses_is_read_as_its_paths() {
    let read = |text: &str| uses(text).collect::<Vec<_>>();
    assert_eq!(
        read("pub use crate::a::{B, c::{D as E, self}};\nuse super::f;"),
        [
            (true, "crate::a::B".to_owned()),
            (true, "crate::a::c::D".to_owned()),
            (true, "crate::a::c::self".to_owned()),
            (false, "super::f".to_owned()),
        ]
    );
}
