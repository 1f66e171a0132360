//! The frame that all of PVE's programs share: commands found by unique beginnings, options by the schema of the
//! method behind, errors with a usage line.
// PVE: pve-common src/PVE/CLIHandler.pm, src/PVE/RESTHandler.pm cli_handler, src/PVE/JSONSchema.pm get_options

use serde_json::Value;

use crate::Params;
use crate::api::Refusal;
use crate::schema::{Kind, ParamSet};

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value.
    Text,
    /// A value that may be left out, and is 1 then.
    Flag,
    /// A value that may be left out, and is asked for then: a password.
    Asked,
    /// Values, repeated and joined by commas.
    List,
    /// Values, repeated.
    Array,
}

/// An option that a command knows.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) takes: Takes,
    pub(super) required: bool,
    /// How the usage line names its value.
    pub(super) type_text: String,
}

impl Known {
    /// An option that a program adds to those of its method.
    pub(super) fn own(name: &str, takes: Takes) -> Self {
        let type_text = if takes == Takes::Flag { "<boolean>" } else { "<string>" };
        Self { name: name.to_owned(), takes, required: false, type_text: type_text.to_owned() }
    }
}

/// The options that a method's parameters make.
pub(super) fn known_options(set: &ParamSet) -> Vec<Known> {
    let mut all = Vec::new();
    for param in set.iter() {
        let takes = match param.kind {
            Kind::Boolean => Takes::Flag,
            Kind::Array => Takes::Array,
            _ if param.is_list() => Takes::List,
            _ => Takes::Text,
        };
        let type_text = if param.values.is_empty() {
            format!("<{}>", param.kind.name())
        } else {
            format!("<{}>", param.values.join(" | "))
        };
        let names: Vec<String> = match param.count {
            Some(count) => (0..count).map(|number| format!("{}{number}", param.name)).collect(),
            None => vec![param.name.clone()],
        };
        for name in names {
            all.push(Known {
                name,
                takes,
                required: param.required && param.count.is_none(),
                type_text: type_text.clone(),
            });
        }
    }
    all
}

/// What stands on a command line, or what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) params: Params,
    /// Warnings that Getopt::Long prints on stderr.
    pub(super) warnings: Vec<String>,
}

/// A fault of the command line: what Getopt::Long printed, and PVE's own text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) warnings: Vec<String>,
    pub(super) text: String,
}

/// Takes a command line apart. `arguments` names the positional parameters, optional ones in brackets; a last
/// `extra-args` takes all that is left. `fixed` are parameters that cannot be given.
pub(super) fn parse_line(
    words: &[String],
    known: &[Known],
    arguments: &[&str],
    fixed: &[&str],
) -> Result<Line, BadLine> {
    let usable: Vec<&Known> = known.iter().filter(|option| !fixed.contains(&option.name.as_str())).collect();
    let mut parsed = Getopt { usable, line: Line::default(), operands: Vec::new() };
    parsed.read(words);
    let Getopt { mut line, operands, .. } = parsed;
    let bad = |warnings: Vec<String>, text: &str| BadLine { warnings, text: text.to_owned() };
    if !line.warnings.is_empty() {
        return Err(bad(line.warnings, "unable to parse option"));
    }
    let mut operands = operands.into_iter();
    for argument in arguments {
        let (name, optional) = argument
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .map_or((*argument, false), |name| (name, true));
        if name == "extra-args" {
            let rest: Vec<Value> = operands.by_ref().map(Value::from).collect();
            line.params.insert(name.to_owned(), rest.into());
            continue;
        }
        match operands.next() {
            Some(value) => {
                line.params.insert(name.to_owned(), value.into());
            }
            None if optional || line.params.contains_key(name) => {}
            None => return Err(bad(Vec::new(), "not enough arguments")),
        }
    }
    if operands.next().is_some() {
        return Err(bad(Vec::new(), "too many arguments"));
    }
    flags_to_numbers(&mut line.params, known).map_err(|text| bad(Vec::new(), text))?;
    Ok(line)
}

/// Getopt::Long as PVE configures it: `--name value`, `-name value`, `--name=value`, unique beginnings, any case.
struct Getopt<'a> {
    usable: Vec<&'a Known>,
    line: Line,
    operands: Vec<String>,
}

impl<'a> Getopt<'a> {
    fn read(&mut self, words: &[String]) {
        let mut rest = words.iter().peekable();
        while let Some(word) = rest.next() {
            if word == "--" {
                self.operands.extend(rest.cloned());
                return;
            }
            let Some(option) = word
                .strip_prefix("--")
                .or_else(|| word.strip_prefix('-'))
                .filter(|option| !option.is_empty())
            else {
                self.operands.push(word.clone());
                continue;
            };
            let (name, joined) =
                option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value.to_owned())));
            let Some(found) = self.find(name) else { continue };
            let (full, takes) = (found.name.clone(), found.takes);
            let looks_like_option = |word: &str| word.len() > 1 && word.starts_with('-');
            let value = match (joined, takes) {
                (Some(value), _) => value,
                (None, Takes::Flag | Takes::Asked) => {
                    match rest.peek().filter(|next| !looks_like_option(next)) {
                        Some(_) => rest.next().cloned().unwrap_or_default(),
                        None => String::new(),
                    }
                }
                (None, _) => match rest.next() {
                    Some(value) => value.clone(),
                    None => {
                        self.line.warnings.push(format!("Option {name} requires an argument"));
                        continue;
                    }
                },
            };
            self.keep(full, takes, value);
        }
    }

    fn find(&mut self, name: &str) -> Option<&'a Known> {
        let lower = name.to_ascii_lowercase();
        let exact = self.usable.iter().find(|option| option.name.eq_ignore_ascii_case(&lower)).copied();
        let begins = |option: &&&Known| option.name.to_ascii_lowercase().starts_with(&lower);
        let candidates: Vec<&'a Known> = self.usable.iter().filter(begins).copied().collect();
        match (exact, candidates.as_slice()) {
            (Some(found), _) => Some(found),
            (None, [found]) => Some(*found),
            (None, []) => {
                self.line.warnings.push(format!("Unknown option: {name}"));
                None
            }
            (None, several) => {
                let mut names: Vec<&str> = several.iter().map(|option| option.name.as_str()).collect();
                names.sort_unstable();
                self.line.warnings.push(format!("Option {name} is ambiguous ({})", names.join(", ")));
                None
            }
        }
    }

    fn keep(&mut self, name: String, takes: Takes, value: String) {
        let params = &mut self.line.params;
        match (takes, params.get_mut(&name)) {
            (Takes::Array, Some(Value::Array(items))) => items.push(value.into()),
            (Takes::Array, _) => {
                params.insert(name, Value::Array(vec![value.into()]));
            }
            (Takes::List, Some(Value::String(text))) => {
                text.push(',');
                text.push_str(&value);
            }
            _ => {
                params.insert(name, value.into());
            }
        }
    }
}

/// Turns `yes`, `off`, a bare `--flag` into 1 and 0.
fn flags_to_numbers(params: &mut Params, known: &[Known]) -> Result<(), &'static str> {
    for option in known.iter().filter(|option| option.takes == Takes::Flag) {
        let Some(Value::String(text)) = params.get_mut(&option.name) else { continue };
        *text = match text.to_ascii_lowercase().as_str() {
            "" | "1" | "on" | "yes" | "true" => "1".to_owned(),
            "0" | "off" | "no" | "false" => "0".to_owned(),
            _ => return Err("unable to parse boolean option"),
        };
    }
    Ok(())
}

/// The usage line: `qm set <vmid> [OPTIONS]`.
pub(super) fn usage(command: &str, known: &[Known], arguments: &[&str], fixed: &[&str]) -> String {
    let plain = |argument: &str| argument.trim_matches(['[', ']']).to_owned();
    let names: Vec<String> = arguments.iter().map(|argument| plain(argument)).collect();
    let mut shown: Vec<String> = arguments
        .iter()
        .map(|argument| match argument.strip_prefix('[') {
            Some(_) => format!("[<{}>]", plain(argument)),
            None if known.iter().any(|option| option.name == **argument && option.takes == Takes::List) => {
                format!("{{<{argument}>}}")
            }
            None if *argument == "extra-args" => "[<extra-args>]".to_owned(),
            None => format!("<{argument}>"),
        })
        .collect();
    let mut others: Vec<&Known> = known
        .iter()
        .filter(|option| !names.contains(&option.name) && !fixed.contains(&option.name.as_str()))
        .collect();
    others.sort_by(|left, right| left.name.cmp(&right.name));
    shown.extend(
        others
            .iter()
            .filter(|option| option.required)
            .map(|option| format!("--{} {}", option.name, option.type_text)),
    );
    let options = if others.iter().any(|option| !option.required) { " [OPTIONS]" } else { "" };
    format!("{command} {}{options}", shown.join(" "))
}

/// What a refusal prints on stderr, and the exit status. Faults of parameters come with the usage line.
pub(super) fn refusal_text(refusal: &Refusal, usage: &str) -> (String, i32) {
    let mut text = match refusal.status {
        500 | 501 | 595 | 596 => refusal.message.clone(),
        status => format!("{status} {}", refusal.message),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, message) in &refusal.errors {
        text.push_str(&format!("{name}: {message}\n"));
    }
    if refusal.status == 400 {
        text.push_str(usage);
        text.push('\n');
    }
    let is_missing = refusal.message.starts_with("Configuration file")
        && refusal.message.trim_end().ends_with("does not exist");
    (text, if is_missing { 2 } else { 255 })
}

/// Finds a command of several words among `table` by unique beginnings; returns its place and the words left over.
///
/// # Errors
/// PVE's text.
pub(super) fn find_command<'a>(
    program: &str,
    table: &[&str],
    words: &'a [String],
) -> Result<(usize, &'a [String]), String> {
    if words.is_empty() || words[0].starts_with('-') {
        return Err("no command specified".to_owned());
    }
    let mut chosen: Vec<String> = Vec::new();
    for (depth, word) in words.iter().enumerate() {
        let below: Vec<&str> = table
            .iter()
            .filter(|entry| {
                entry.split(' ').zip(&chosen).all(|(have, want)| have == want)
                    && entry.split(' ').count() > depth
            })
            .copied()
            .collect();
        let mut names: Vec<&str> = below.iter().filter_map(|entry| entry.split(' ').nth(depth)).collect();
        names.sort_unstable();
        names.dedup();
        let matching: Vec<&str> =
            names.iter().filter(|name| name.starts_with(word.as_str())).copied().collect();
        let name = match (names.iter().find(|name| *name == word), matching.as_slice()) {
            (Some(exact), _) => *exact,
            (None, [only]) => *only,
            _ => {
                let so_far: String = chosen.iter().map(|part| format!("{part} ")).collect();
                return Err(format!("unknown command '{program} {so_far}{word}'"));
            }
        };
        chosen.push(name.to_owned());
        if let Some(index) = table.iter().position(|entry| *entry == chosen.join(" ")) {
            return Ok((index, &words[depth + 1..]));
        }
    }
    Err(format!("incomplete command '{program} {}'", chosen.join(" ")))
}

/// JSON as Perl's `JSON` writes it when asked to be pretty: three blanks, ` : `.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_pretty(&mut out, value, 0);
    out.push('\n');
    out
}

fn write_pretty(out: &mut String, value: &Value, depth: usize) {
    let pad = |depth: usize| "   ".repeat(depth);
    match value {
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push_str("[\n");
            for (index, item) in items.iter().enumerate() {
                out.push_str(&pad(depth + 1));
                write_pretty(out, item, depth + 1);
                out.push_str(if index + 1 < items.len() { ",\n" } else { "\n" });
            }
            out.push_str(&pad(depth));
            out.push(']');
        }
        Value::Object(entries) if entries.is_empty() => out.push_str("{}"),
        Value::Object(entries) => {
            out.push_str("{\n");
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(&format!("{}{} : ", pad(depth + 1), Value::from(key.as_str())));
                write_pretty(out, item, depth + 1);
                out.push_str(if index + 1 < entries.len() { ",\n" } else { "\n" });
            }
            out.push_str(&pad(depth));
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Known> {
        let mut all: Vec<Known> = ["vmid", "memory", "name", "nameserver", "scsi0", "scsi1"]
            .iter()
            .map(|name| Known::own(name, Takes::Text))
            .collect();
        all.push(Known::own("onboot", Takes::Flag));
        all.push(Known::own("vms", Takes::List));
        all
    }

    fn check(line: &str, expect: Result<&str, &str>) {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let got = match parse_line(&words, &known(), &["vmid"], &["node"]) {
            Ok(line) => Ok(serde_json::to_string(&line.params).unwrap()),
            Err(bad) => Err([bad.warnings.join("|"), bad.text].join("|")),
        };
        assert_eq!(got.as_deref().map_err(String::as_str), expect, "{line}");
    }

    #[test]
    fn options_are_read_as_perl_reads_them() {
        check("100 --memory 512", Ok(r#"{"memory":"512","vmid":"100"}"#));
        check("-memory=512 100", Ok(r#"{"memory":"512","vmid":"100"}"#));
        check("100 --mem 512 --ONBOOT", Ok(r#"{"memory":"512","onboot":"1","vmid":"100"}"#));
        check("100 --onboot no --name x", Ok(r#"{"name":"x","onboot":"0","vmid":"100"}"#));
        check("100 --onboot --name x", Ok(r#"{"name":"x","onboot":"1","vmid":"100"}"#));
        check("100 --name -x", Ok(r#"{"name":"-x","vmid":"100"}"#));
        check("100 --vms 1 --vms 2", Ok(r#"{"vmid":"100","vms":"1,2"}"#));
        check("--vmid 100", Ok(r#"{"vmid":"100"}"#));
        check("100 --frob 1", Err("Unknown option: frob|unable to parse option"));
        check("100 --na x", Err("Option na is ambiguous (name, nameserver)|unable to parse option"));
        check("100 --memory", Err("Option memory requires an argument|unable to parse option"));
        check("100 --onboot maybe", Err("|unable to parse boolean option"));
        check("", Err("|not enough arguments"));
        check("100 200", Err("|too many arguments"));
        check("-- 100", Ok(r#"{"vmid":"100"}"#));
    }

    #[test]
    fn commands_are_found_by_unique_beginnings() {
        let table = ["create", "config", "disk import", "disk resize", "start", "status", "stop"];
        for (line, expect) in [
            ("create 100", Ok((0, 1))),
            ("cr 100", Ok((0, 1))),
            ("disk im 1 2", Ok((2, 2))),
            ("c", Err("unknown command 'qm c'")),
            ("frob", Err("unknown command 'qm frob'")),
            ("disk frob", Err("unknown command 'qm disk frob'")),
            ("disk", Err("incomplete command 'qm disk'")),
            ("sta", Err("unknown command 'qm sta'")),
            ("", Err("no command specified")),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let got = find_command("qm", &table, &words).map(|(index, rest)| (index, rest.len()));
            assert_eq!(got.as_ref().map_err(String::as_str).copied(), expect, "{line}");
        }
    }

    #[test]
    fn usage_lines_name_what_is_needed() {
        assert_eq!(usage("qm set", &known(), &["vmid"], &["node"]), "qm set <vmid> [OPTIONS]");
        assert_eq!(usage("pvesm status", &known(), &[], &[]), "pvesm status  [OPTIONS]");
        assert_eq!(
            usage("qm unlock", &[Known::own("vmid", Takes::Text)], &["vmid"], &[]),
            "qm unlock <vmid>"
        );
    }

    #[test]
    fn pretty_json_is_perls() {
        let value = serde_json::json!({"b": [1, {"c": "x"}], "a": {}});
        assert_eq!(
            pretty(&value),
            "{\n   \"a\" : {},\n   \"b\" : [\n      1,\n      {\n         \"c\" : \"x\"\n      }\n   ]\n}\n"
        );
    }
}
