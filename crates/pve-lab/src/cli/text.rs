//! Programs that work on lines.

use super::files::{missing_operand, options};
use super::options::Options;
use super::{Context, Exit};
use crate::vfs::{FsError, Kind, glob_matches};

/// More than this is not text.
const MAX_TEXT: usize = 64 << 20;

/// The bytes of the named files, or of stdin; a file that cannot be read is complained about.
async fn inputs(
    context: &Context,
    name: &str,
    names: &[String],
) -> Result<(Vec<(String, Vec<u8>)>, i32), crate::shell::io::WriteError> {
    if names.is_empty() {
        return Ok((vec![("-".to_owned(), context.read_all(MAX_TEXT).await)], 0));
    }
    let (mut all, mut status) = (Vec::new(), 0);
    for operand in names {
        if operand == "-" {
            all.push((operand.clone(), context.read_all(MAX_TEXT).await));
            continue;
        }
        let path = context.absolute(operand);
        let read = context.node.files(|files| match files.stat(&path) {
            Ok(stat) if stat.size > MAX_TEXT as u64 => Err(FsError::TooLarge),
            Ok(_) => files.read(&path),
            Err(error) => Err(error),
        });
        match read {
            Ok(bytes) => all.push((operand.clone(), bytes)),
            Err(error) => {
                context.complain(format!("{name}: {operand}: {error}")).await?;
                status = if name == "grep" { 2 } else { 1 };
            }
        }
    }
    Ok((all, status))
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    lines.retain(|line| !line.is_empty());
    lines
}

pub(super) async fn head_or_tail(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| match argument.strip_prefix('-') {
            Some(count) if !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("-n{count}")
            }
            _ => argument.clone(),
        })
        .collect();
    let options = options!(context, name, &arguments, &["n|lines=", "c|bytes=", "q|quiet"]);
    let text = options.value("c").or(options.value("n")).unwrap_or("10");
    let (from_start, digits) = text.strip_prefix('+').map_or((false, text), |digits| (true, digits));
    let Ok(count) = digits.parse::<usize>() else {
        return context.fail(1, format!("{name}: invalid number of lines: ‘{text}’")).await;
    };
    let (all, status) = inputs(context, name, &options.operands).await?;
    for (_, bytes) in all {
        let pieces: Vec<&[u8]> = if options.has("c") { bytes.chunks(1).collect() } else { lines(&bytes) };
        let kept = match (name, from_start) {
            ("head", _) => &pieces[..count.min(pieces.len())],
            (_, true) => &pieces[count.saturating_sub(1).min(pieces.len())..],
            (_, false) => &pieces[pieces.len().saturating_sub(count)..],
        };
        context.print(kept.concat()).await?;
    }
    Ok(status)
}

pub(super) async fn wc(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "wc", arguments, &["l|lines", "c|bytes", "w|words", "m"]);
    let (all, status) = inputs(context, "wc", &options.operands).await?;
    let chosen = ["l", "w", "c"].iter().any(|option| options.has(option));
    for (name, bytes) in all {
        let words = String::from_utf8_lossy(&bytes).split_whitespace().count();
        let counts =
            [("l", bytes.iter().filter(|byte| **byte == b'\n').count()), ("w", words), ("c", bytes.len())];
        let shown: Vec<String> = counts
            .iter()
            .filter(|(option, _)| !chosen || options.has(option))
            .map(|(_, count)| count.to_string())
            .collect();
        let name = if options.operands.is_empty() { String::new() } else { format!(" {name}") };
        context.line(format!("{}{name}", shown.join(" "))).await?;
    }
    Ok(status)
}

/// A pattern without the means of regular expressions, but for `^`, `$` and `.`.
struct Pattern {
    text: Vec<char>,
    at_start: bool,
    at_end: bool,
    dots: bool,
    fold: bool,
}

impl Pattern {
    fn new(text: &str, fixed: bool, fold: bool) -> Result<Self, String> {
        let folded = if fold { text.to_lowercase() } else { text.to_owned() };
        if fixed {
            return Ok(Self {
                text: folded.chars().collect(),
                at_start: false,
                at_end: false,
                dots: false,
                fold,
            });
        }
        let inner = folded.strip_prefix('^').unwrap_or(&folded);
        let (inner, at_end) = inner.strip_suffix('$').map_or((inner, false), |inner| (inner, true));
        let mut plain = Vec::new();
        let mut characters = inner.chars();
        let mut dots = false;
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some(escaped) if !escaped.is_alphanumeric() => plain.push(escaped),
                    _ => return Err(format!("the lab's grep does not know the pattern ‘{text}’")),
                },
                '.' => {
                    dots = true;
                    plain.push('\0');
                }
                '*' | '[' | '+' | '?' | '(' | ')' | '|' | '{' | '^' | '$' => {
                    return Err(format!("the lab's grep does not know the pattern ‘{text}’"));
                }
                other => plain.push(other),
            }
        }
        Ok(Self { text: plain, at_start: folded.starts_with('^'), at_end, dots, fold })
    }

    fn matches(&self, line: &str) -> bool {
        let line: Vec<char> =
            if self.fold { line.to_lowercase().chars().collect() } else { line.chars().collect() };
        if self.text.len() > line.len() {
            return false;
        }
        let last = line.len() - self.text.len();
        let starts = if self.at_start { 0..=0 } else { 0..=last };
        starts.into_iter().any(|start| {
            (!self.at_end || start == last)
                && line[start..]
                    .iter()
                    .zip(&self.text)
                    .all(|(have, want)| have == want || (self.dots && *want == '\0'))
        })
    }
}

pub(super) async fn grep(context: &Context, arguments: &[String]) -> Exit {
    let known = &[
        "q|quiet|silent",
        "F|fixed-strings",
        "E|extended-regexp",
        "v|invert-match",
        "i|ignore-case",
        "c|count",
        "x|line-regexp",
        "e|regexp=",
        "s|no-messages",
        "h|no-filename",
        "l|files-with-matches",
        "n|line-number",
        "m|max-count=",
        "H",
        "w",
        "a|text",
        "r|recursive",
        "include=",
    ];
    let options = options!(context, "grep", arguments, known);
    let mut operands = options.operands.as_slice();
    let text = match options.value("e") {
        Some(text) => text.to_owned(),
        None => match operands.split_first() {
            Some((text, rest)) => {
                operands = rest;
                text.clone()
            }
            None => return context.fail(2, "Usage: grep [OPTION]... PATTERNS [FILE]...").await,
        },
    };
    if options.has("w") || options.has("m") {
        return context.fail(2, "grep: the lab does not know the options -w and -m").await;
    }
    let pattern = match Pattern::new(&text, options.has("F"), options.has("i")) {
        Ok(pattern) => Pattern {
            at_start: pattern.at_start || options.has("x"),
            at_end: pattern.at_end || options.has("x"),
            ..pattern
        },
        Err(text) => return context.fail(2, format!("grep: {text}")).await,
    };
    let files;
    if options.has("r") {
        files = files_below(context, operands, options.value("include").unwrap_or("*"));
        operands = &files;
        if files.is_empty() {
            return Ok(1);
        }
    }
    let (all, problem) = inputs(context, "grep", operands).await?;
    let named = (all.len() > 1 || options.has("H") || options.has("r")) && !options.has("h");
    let mut found = false;
    for (name, bytes) in &all {
        let text = String::from_utf8_lossy(bytes);
        let hits: Vec<(usize, &str)> =
            text.lines().enumerate().filter(|(_, line)| pattern.matches(line) != options.has("v")).collect();
        found |= !hits.is_empty();
        if options.has("q") {
            continue;
        }
        let prefix = if named { format!("{name}:") } else { String::new() };
        if options.has("l") {
            if !hits.is_empty() {
                context.line(name).await?;
            }
        } else if options.has("c") {
            context.line(format!("{prefix}{}", hits.len())).await?;
        } else {
            for (number, line) in hits {
                let number = if options.has("n") { format!("{}:", number + 1) } else { String::new() };
                context.line(format!("{prefix}{number}{line}")).await?;
            }
        }
    }
    Ok(if problem != 0 && !(found && options.has("q")) { problem } else { i32::from(!found) })
}

/// Returns the files below the operands whose names fit the pattern; an operand that is no folder stands for itself.
fn files_below(context: &Context, operands: &[String], include: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut places: Vec<String> = operands.iter().rev().cloned().collect();
    while let Some(place) = places.pop() {
        let path = context.absolute(&place);
        // `stat` follows links; what is below a folder is followed by `grep -R` alone.
        match context.node.files(|files| files.list(&path)) {
            Ok(mut names) => {
                names.sort_unstable_by(|one, other| other.cmp(one));
                let inner = names.into_iter().map(|name| format!("{}/{name}", place.trim_end_matches('/')));
                places.extend(inner.filter(|place| {
                    let link = context.node.files(|files| files.stat_link(&context.absolute(place)));
                    !link.is_ok_and(|stat| stat.kind == Kind::Symlink)
                }));
            }
            Err(_) => {
                let name = place.rsplit('/').next().unwrap_or_default();
                if glob_matches(include, name) || operands.contains(&place) {
                    found.push(place);
                }
            }
        }
    }
    found
}

pub(super) async fn cut(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "cut", arguments, &["d|delimiter=", "f|fields=", "s"]);
    let fields: Option<Vec<usize>> =
        options.value("f").and_then(|list| list.split(',').map(|field| field.parse().ok()).collect());
    let (Some(fields), delimiter) = (fields, options.value("d").unwrap_or("\t")) else {
        return context.fail(1, "cut: the lab knows lists of fields only: -f N,M").await;
    };
    let (all, status) = inputs(context, "cut", &options.operands).await?;
    for (_, bytes) in all {
        for line in String::from_utf8_lossy(&bytes).lines() {
            let parts: Vec<&str> = line.split(delimiter).collect();
            let chosen: Vec<&str> =
                fields.iter().filter_map(|field| parts.get(field.wrapping_sub(1)).copied()).collect();
            context.line(if parts.len() == 1 { line.to_owned() } else { chosen.join(delimiter) }).await?;
        }
    }
    Ok(status)
}

pub(super) async fn sort(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "sort", arguments, &["n|numeric-sort", "r|reverse", "u|unique"]);
    let (all, status) = inputs(context, "sort", &options.operands).await?;
    let text: String = all.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
    let mut lines: Vec<&str> = text.lines().collect();
    if options.has("n") {
        lines.sort_by_key(|line| line.trim().parse::<i64>().unwrap_or(0));
    } else {
        lines.sort_unstable();
    }
    if options.has("r") {
        lines.reverse();
    }
    if options.has("u") {
        lines.dedup();
    }
    for line in lines {
        context.line(line).await?;
    }
    Ok(status)
}

fn set_of(text: &str) -> Option<Vec<char>> {
    match text {
        "a-z" => Some(('a'..='z').collect()),
        "A-Z" => Some(('A'..='Z').collect()),
        "0-9" => Some(('0'..='9').collect()),
        "\\n" => Some(vec!['\n']),
        "[:space:]" => Some(" \t\n\r".chars().collect()),
        text if text.contains(['-', '[', '\\']) && text.len() > 1 => None,
        text => Some(text.chars().collect()),
    }
}

pub(super) async fn tr(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "tr", arguments, &["d|delete", "s|squeeze-repeats"]);
    let sets: Option<Vec<Vec<char>>> = options.operands.iter().map(|text| set_of(text)).collect();
    let bytes = context.read_all(MAX_TEXT).await;
    let text = String::from_utf8_lossy(&bytes);
    let out: String = match (sets.as_deref(), options.has("d"), options.has("s")) {
        (Some([set]), true, false) => text.chars().filter(|character| !set.contains(character)).collect(),
        (Some([from, to]), false, false) if !to.is_empty() => text
            .chars()
            .map(|character| match from.iter().position(|known| *known == character) {
                Some(index) => to[index.min(to.len() - 1)],
                None => character,
            })
            .collect(),
        _ => return context.fail(1, "tr: the lab does not know these sets").await,
    };
    context.print(out).await.map(|()| 0)
}

pub(super) async fn basename(context: &Context, arguments: &[String]) -> Exit {
    let Some(path) = arguments.iter().find(|argument| *argument != "--") else {
        return missing_operand(context, "basename").await;
    };
    let trimmed = path.trim_end_matches('/');
    let name = trimmed.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/");
    let suffix = arguments.get(1).map_or("", String::as_str);
    let shown = name.strip_suffix(suffix).filter(|rest| !rest.is_empty()).unwrap_or(name);
    context.line(shown).await.map(|()| 0)
}

pub(super) async fn dirname(context: &Context, arguments: &[String]) -> Exit {
    let names: Vec<&String> = arguments.iter().filter(|argument| *argument != "--").collect();
    if names.is_empty() {
        return missing_operand(context, "dirname").await;
    }
    for path in names {
        let parent = match path.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/",
            Some((parent, _)) => parent,
            None if path.starts_with('/') => "/",
            None => ".",
        };
        context.line(parent).await?;
    }
    Ok(0)
}

pub(super) async fn seq(context: &Context, arguments: &[String]) -> Exit {
    let numbers: Result<Vec<i64>, _> = arguments.iter().map(|argument| argument.parse()).collect();
    let (first, step, last) = match numbers.as_deref() {
        Ok([last]) => (1, 1, *last),
        Ok([first, last]) => (*first, 1, *last),
        Ok([first, step, last]) if *step != 0 => (*first, *step, *last),
        _ => return context.fail(1, "seq: the lab knows whole numbers only").await,
    };
    let mut number = first;
    while if step > 0 { number <= last } else { number >= last } {
        context.line(number.to_string()).await?;
        tokio::task::yield_now().await;
        match number.checked_add(step) {
            Some(next) => number = next,
            None => break,
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_plain_or_refused() {
        for (text, line, expect) in [
            ("^status: run", "status: running", Some(true)),
            ("running$", "not running here", Some(false)),
            ("a.c", "xabcx", Some(true)),
            ("a\\.c", "abc", Some(false)),
            ("a.*", "abc", None),
            ("", "x", Some(true)),
            ("^$", "", Some(true)),
        ] {
            assert_eq!(
                Pattern::new(text, false, false).ok().map(|pattern| pattern.matches(line)),
                expect,
                "{text}"
            );
        }
    }
}
