//! Reading the table.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use pve_types::PveVersion;

use super::model::{Check, Endpoint, Format, Kind, Param, ParamSet, Pattern, Permission, PropertyFormat};

/// The whole table of one release.
#[derive(Debug, Default)]
pub struct Table {
    endpoints: Vec<Endpoint>,
    formats: BTreeMap<String, Arc<PropertyFormat>>,
    groups: BTreeMap<String, Vec<Param>>,
    vm_config: ParamSet,
    root: Branch,
}

/// A place in the tree of paths.
#[derive(Debug, Default)]
struct Branch {
    fixed: BTreeMap<String, Branch>,
    any: Option<(String, Box<Branch>)>,
    methods: BTreeMap<String, usize>,
}

/// An endpoint found by its path.
#[derive(Debug)]
pub struct Found {
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// Its number in the table.
    pub index: usize,
    /// What stood in the path where the endpoint has a parameter.
    pub path_params: BTreeMap<String, String>,
}

/// The table of a version.
pub fn table(version: PveVersion) -> &'static Table {
    static TABLES: [OnceLock<Table>; 2] = [OnceLock::new(), OnceLock::new()];
    let (slot, release) = if version.at_least(9, 0) { (1, '9') } else { (0, '8') };
    TABLES[slot].get_or_init(|| {
        let mut table = Table::default();
        table.read(include_str!("formats.txt"), release);
        table.read(include_str!("endpoints.txt"), release);
        table.finish();
        table
    })
}

impl Table {
    /// Every endpoint.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
    /// The options of a VM's configuration.
    pub fn vm_config(&self) -> &ParamSet {
        &self.vm_config
    }
    /// The property string that a format's name stands for.
    pub fn property_format(&self, name: &str) -> Option<&Arc<PropertyFormat>> {
        self.formats.get(name)
    }
    /// The endpoint with this method and path; the path has been decoded.
    pub fn find(&'static self, method: &str, path: &str) -> Option<Found> {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut names = Vec::new();
        let index = find_in(&self.root, method, &segments, &mut names)?;
        let path_params = names.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Some(Found { endpoint: self.endpoints.get(index)?, index, path_params })
    }

    fn read(&mut self, text: &str, release: char) {
        for block in text.split("\n\n") {
            let lines: Vec<&str> =
                block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
            let Some((head, body)) = lines.split_first() else { continue };
            let Some(head) = of_release(head, release) else { continue };
            let body = body.iter().filter_map(|line| of_release(line.trim_start(), release));
            match head.chars().next() {
                Some('%') => {
                    let name = head[1..].to_owned();
                    let keys = ParamSet::new(body.map(|line| self.param(line)).collect());
                    self.formats.insert(name.clone(), Arc::new(PropertyFormat { name, keys }));
                }
                Some('&') => {
                    let params = body.map(|line| self.param(line)).collect();
                    self.groups.insert(head[1..].to_owned(), params);
                }
                _ => self.endpoint(head, body.collect()),
            }
        }
    }

    fn endpoint(&mut self, head: &str, body: Vec<&str>) {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut endpoint = Endpoint {
            method: method.to_owned(),
            path: path.to_owned(),
            params: ParamSet::default(),
            permission: Permission::Root,
            proxied_to: None,
            protected: false,
            allows_tokens: true,
        };
        for word in words {
            match word.split_once(':') {
                Some(("proxy", name)) => endpoint.proxied_to = Some(name.to_owned()),
                _ if word == "protected" => endpoint.protected = true,
                _ => endpoint.allows_tokens = false,
            }
        }
        let mut params = Vec::new();
        for line in body {
            if let Some(text) = line.strip_prefix("? ") {
                endpoint.permission = permission(text);
            } else if let Some(group) = line.strip_prefix('&') {
                params.extend(self.groups.get(group).cloned().unwrap_or_default());
            } else {
                params.push(self.param(line));
            }
        }
        endpoint.params = ParamSet::new(params);
        self.endpoints.push(endpoint);
    }

    fn finish(&mut self) {
        self.vm_config = ParamSet::new(self.groups.get("vm-config").cloned().unwrap_or_default());
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let mut branch = &mut self.root;
            for part in endpoint.path.split('/').filter(|part| !part.is_empty()) {
                branch = match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                    Some(name) => &mut branch.any.get_or_insert_with(|| (name.to_owned(), Box::default())).1,
                    None => branch.fixed.entry(part.to_owned()).or_default(),
                };
            }
            branch.methods.insert(endpoint.method.clone(), index);
        }
    }

    fn param(&self, line: &str) -> Param {
        let (line, pattern) = match line.split_once(" re:") {
            Some((line, pattern)) => (line, Some(Pattern::new(pattern))),
            None => (line, None),
        };
        let mut words = line.split(' ');
        let (name, required, count) = name_of(words.next().unwrap_or_default());
        let mut param = Param {
            name,
            count,
            required,
            kind: Kind::String,
            default_key: false,
            minimum: None,
            maximum: None,
            min_length: None,
            max_length: None,
            needs: None,
            values: Vec::new(),
            format: None,
            items: None,
            pattern,
            alias: None,
            key_alias: None,
            only_for: Vec::new(),
        };
        words.for_each(|word| self.word(&mut param, word));
        param
    }

    fn word(&self, param: &mut Param, word: &str) {
        match word {
            "s" => param.kind = Kind::String,
            "i" => param.kind = Kind::Integer,
            "n" => param.kind = Kind::Number,
            "b" => param.kind = Kind::Boolean,
            "a" => param.kind = Kind::Array,
            "*" => param.default_key = true,
            "-" => {}
            _ => self.long_word(param, word),
        }
    }

    fn long_word(&self, param: &mut Param, word: &str) {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        if let Some((name, rest)) = word.split_once(':') {
            match name {
                "len" => {
                    let (min, max) = rest.split_once('-').unwrap_or_default();
                    (param.min_length, param.max_length) = (min.parse().ok(), max.parse().ok());
                }
                "needs" => param.needs = Some(rest.to_owned()),
                "key" => param.key_alias = Some(rest.to_owned()),
                "for" => param.only_for = list(rest),
                _ => {}
            }
        } else if let Some(text) = word.strip_prefix('(') {
            param.values = list(text.trim_end_matches(')'));
        } else if let Some(name) = word.strip_prefix('~') {
            param.format = Some(match self.formats.get(name) {
                Some(format) => Format::Property(format.clone()),
                None => Format::Named(name.to_owned()),
            });
        } else if let Some(name) = word.strip_prefix('%') {
            param.format = self.formats.get(name).cloned().map(Format::Property);
        } else if let Some(name) = word.strip_prefix('@') {
            let item = self.formats.get(name).and_then(|format| format.keys.get("item").cloned());
            param.items = item.map(Box::new);
        } else if let Some(name) = word.strip_prefix('=') {
            param.alias = Some(name.to_owned());
        } else if let Some((low, high)) = word.split_once("..") {
            (param.minimum, param.maximum) = (low.parse().ok(), high.parse().ok());
        }
    }
}

/// The line without its release mark; `None` when it is for another release.
fn of_release(line: &str, release: char) -> Option<&str> {
    match line.strip_prefix("8:").map(|rest| ('8', rest)).or(line.strip_prefix("9:").map(|rest| ('9', rest)))
    {
        Some((mark, rest)) => (mark == release).then_some(rest),
        None => Some(line),
    }
}

/// `net[32]!` is a required parameter `net` with 32 numbers.
fn name_of(word: &str) -> (String, bool, Option<u32>) {
    let (word, required) = match word.strip_suffix('!') {
        Some(word) => (word, true),
        None => (word, false),
    };
    match word.strip_suffix(']').and_then(|word| word.split_once('[')) {
        Some((name, count)) => (name.to_owned(), required, count.parse().ok()),
        None => (word.to_owned(), required, None),
    }
}

fn permission(text: &str) -> Permission {
    match text {
        "root" => Permission::Root,
        "all" => Permission::All,
        "world" => Permission::World,
        _ => {
            let text = text.replace('(', "( ").replace(')', " )");
            let mut words = text.split_whitespace().peekable();
            Permission::Check(check(&mut words))
        }
    }
}

fn check<'a>(words: &mut impl Iterator<Item = &'a str>) -> Check {
    match words.next() {
        Some("(") => {
            let mut list = Vec::new();
            loop {
                match check(words) {
                    Check::Word(word) if word == ")" => return Check::List(list),
                    item => list.push(item),
                }
            }
        }
        word => Check::Word(word.unwrap_or(")").to_owned()),
    }
}

fn find_in<'a>(
    branch: &'a Branch,
    method: &str,
    segments: &[&str],
    names: &mut Vec<(&'a str, String)>,
) -> Option<usize> {
    let Some((first, rest)) = segments.split_first() else {
        return branch.methods.get(method).copied();
    };
    if let Some(next) = branch.fixed.get(*first) {
        return find_in(next, method, rest, names);
    }
    let (name, next) = branch.any.as_ref()?;
    // A volume's name may hold slashes: nothing follows it, so it takes the rest.
    if name == "volume" {
        names.push((name, segments.join("/")));
        return next.methods.get(method).copied();
    }
    names.push((name, (*first).to_owned()));
    find_in(next, method, rest, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nine() -> &'static Table {
        table(PveVersion::new(9, 2, 11))
    }

    #[test]
    fn a_path_leads_to_its_endpoint_with_its_parameters() {
        let found = nine().find("PUT", "/nodes/pve1/qemu/100/config").unwrap();
        assert_eq!(found.path_params["vmid"], "100");
        assert_eq!(found.endpoint.proxied_to.as_deref(), Some("node"));
        let volume =
            nine().find("DELETE", "/nodes/n/storage/local/content/local:100/vm-100-disk-0.qcow2").unwrap();
        assert_eq!(volume.path_params["volume"], "local:100/vm-100-disk-0.qcow2");
        assert!(nine().find("PATCH", "/version").is_none());
        assert!(nine().find("GET", "/nodes/n/nothing").is_none());
    }

    #[test]
    fn numbered_parameters_end_where_pve_ends_them() {
        let config = nine().vm_config();
        assert!(config.get("ide3").is_some() && config.get("net31").is_some());
        assert!(config.get("ide4").is_none() && config.get("net01").is_none() && config.get("net").is_none());
    }

    #[test]
    fn every_pattern_compiles() {
        for endpoint in nine().endpoints() {
            for param in endpoint.params.iter() {
                if let Some(pattern) = &param.pattern {
                    pattern.matches("");
                    let text = pattern.text.replace("(?^i:", "(?i:").replace("(?^:", "(?:");
                    assert!(regex::Regex::new(&text).is_ok(), "{} {}: {text}", endpoint.path, param.name);
                }
            }
        }
    }
}
