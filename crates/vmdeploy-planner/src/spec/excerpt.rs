//! The line that a message shows: without secrets, without control characters, and not too long.

use super::diagnostic::{Excerpt, SourceFile, Span};

/// How many characters of a line are shown.
const MAX_WIDTH: usize = 140;
/// How long a line may be, in bytes, to be shown at all.
const MAX_LINE: usize = 64 << 10;
/// What stands in place of a secret.
const HIDDEN: &str = "<hidden>";
/// What a key is called whose value may be a secret.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "totp", "private"];

/// Finds lines of files, best asked in the order of the lines.
pub(crate) struct Lines<'a> {
    files: &'a [SourceFile],
    /// The line that was found last in each file, and where it begins.
    last: Vec<(u32, usize)>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(files: &'a [SourceFile]) -> Self {
        Self { files, last: vec![(1, 0); files.len()] }
    }

    /// Returns what to show of the line at `span`.
    pub(crate) fn excerpt(&mut self, span: Span, concealed: &[Span]) -> Option<Excerpt> {
        let start = self.start(span)?;
        let text: &'a str = &self.files[usize::from(span.file)].text;
        let line = line_at(text, start).filter(|line| line.len() <= MAX_LINE)?;
        let column = usize::try_from(span.column).ok()?.max(1) - 1;
        let width = token_width(line, column);
        let hide_from = concealed
            .iter()
            .filter(|secret| (secret.file, secret.line) == (span.file, span.line))
            .map(|secret| secret.column as usize - 1)
            .chain(secret_column(line))
            .min();
        // A block of text under a key that may hold a secret has no key in its own line.
        let in_block = hide_from.is_none() && is_under_secret_key(text, start, line);
        Some(cut(line, column, width, if in_block { Some(0) } else { hide_from }))
    }

    /// Returns where the line of `span` begins.
    fn start(&mut self, span: Span) -> Option<usize> {
        let at = usize::from(span.file);
        let text = &self.files.get(at)?.text;
        let (mut line, mut start) = self.last[at];
        if span.line < line {
            (line, start) = (1, 0);
        }
        while line < span.line {
            start += text[start..].find('\n')? + 1;
            line += 1;
        }
        self.last[at] = (line, start);
        (span.line > 0).then_some(start)
    }
}

/// Returns the line that begins there.
fn line_at(text: &str, start: usize) -> Option<&str> {
    let rest = text.get(start..)?;
    let end = rest.find('\n').unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('\r'))
}

/// Tells whether the line belongs to a block of text that began with a secret's key (`password: |`).
fn is_under_secret_key(text: &str, mut start: usize, own: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(own);
    for _ in 0..20 {
        if start == 0 {
            return false;
        }
        start = text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
        let Some(line) = line_at(text, start).filter(|line| line.len() <= MAX_LINE) else { return false };
        if !line.trim().is_empty() && indent(line) < depth {
            let opens_block = line.trim_end().ends_with(['|', '>', '-', '+', ':', '"', '\'']);
            return opens_block && names_secret(line);
        }
    }
    false
}

fn names_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| text.contains(word))
}

/// Returns the column from which a line may show a secret: behind a key that is called so, unless a reference follows.
fn secret_column(line: &str) -> Option<usize> {
    if line.contains("PRIVATE KEY") || line.contains("$6$") || line.contains("$5$") {
        return Some(0);
    }
    let mut from = 0;
    while let Some(at) = line[from..].find([':', '=']) {
        let colon = from + at;
        let key = line[..colon].rsplit(['{', ',', '[', ' ']).next().unwrap_or_default();
        let rest = line[colon + 1..].trim_start();
        let is_reference =
            rest.is_empty() || rest.starts_with(['{', '#', '&', '*']) || rest.starts_with("null");
        if names_secret(key) && !is_reference && !key.contains("token_id") {
            let value = line.len() - rest.len();
            return Some(line[..value].chars().count());
        }
        from = colon + 1;
    }
    None
}

/// Returns how many characters the value at this column has.
fn token_width(line: &str, column: usize) -> usize {
    let rest: Vec<char> = line.chars().skip(column).collect();
    let Some(&first) = rest.first() else { return 1 };
    let opened = |brackets: [char; 2]| line.chars().take(column).filter(|c| brackets.contains(c)).count();
    let in_flow = opened(['{', '[']) > opened(['}', ']']);
    // A bracket may have been opened on a line before.
    let closes = |at: usize| rest[at..].iter().all(|c| matches!(c, ',' | '}' | ']' | ' '));
    let end = match first {
        '"' | '\'' => rest.iter().skip(1).position(|c| *c == first).map(|at| at + 2),
        '{' | '[' => Some(1),
        _ => rest.iter().enumerate().position(|(at, c)| match c {
            ',' => in_flow || rest.get(at + 1).is_none_or(|next| next.is_whitespace()),
            '}' | ']' => in_flow || closes(at),
            ':' => rest.get(at + 1).is_none_or(|next| next.is_whitespace()),
            '#' => at > 0 && rest[at - 1].is_whitespace(),
            _ => false,
        }),
    };
    let end = end.unwrap_or(rest.len());
    let text: String = rest[..end].iter().collect();
    text.trim_end().chars().count().max(1)
}

/// Cuts the line to what is shown around the column.
fn cut(line: &str, column: usize, width: usize, hide_from: Option<usize>) -> Excerpt {
    let shown: Vec<char> = match hide_from {
        Some(from) => line.chars().take(from).chain(HIDDEN.chars()).collect(),
        None => line.chars().collect(),
    };
    let column = column.min(shown.len());
    let width = width.min(shown.len() - column).max(1);
    let start = if column > MAX_WIDTH * 3 / 4 { column - MAX_WIDTH / 2 } else { 0 };
    let end = shown.len().min(start + MAX_WIDTH);
    // A control character becomes a mark of one column, so that the caret stays in its place.
    let clean = |c: &char| if pve_types::is_unprintable(*c) { '\u{b7}' } else { *c };
    let mut text: String = shown[start..end].iter().map(clean).collect();
    let mut column = column - start;
    if start > 0 {
        text.insert(0, '…');
        column += 1;
    }
    if end < shown.len() {
        text.push('…');
    }
    Excerpt { line: text, column, width: width.min(MAX_WIDTH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, line: u32, column: u32, concealed: &[Span]) -> (String, String) {
        let files = [SourceFile::new("a.yaml", text)];
        let excerpt = Lines::new(&files).excerpt(Span { file: 0, line, column }, concealed).unwrap();
        let caret = format!("{}{}", " ".repeat(excerpt.column), "^".repeat(excerpt.width));
        (excerpt.line, caret)
    }

    #[test]
    fn the_caret_stands_below_the_value() {
        let (line, caret) = show("vms:\n  web: {cpu: 2, memory: 4 # x\n", 2, 25, &[]);
        assert_eq!(
            (line.as_str(), caret.as_str()),
            ("  web: {cpu: 2, memory: 4 # x", "                        ^")
        );
        assert_eq!(show("memory: 1,5GiB", 1, 9, &[]).1, "        ^^^^^^");
        assert_eq!(show("  cpu: 2x}", 1, 8, &[]).1, "       ^^");
        let (_, caret) = show("name: \"a, b\", c: d", 1, 7, &[]);
        assert_eq!(caret, "      ^^^^^^");
    }

    #[test]
    fn a_secret_is_not_shown_whatever_the_fault_is_about() {
        let line = "cloud_init: {user: admin, password: hunter2, upgade: true}";
        assert!(!show(line, 1, 46, &[]).0.contains("hunter2"));
        assert!(!show("a: hunter2", 1, 4, &[Span { file: 0, line: 1, column: 4 }]).0.contains("hunter2"));
        assert!(!show("password: |\n  hunter2\n   x: y", 2, 3, &[]).0.contains("hunter2"));
        assert!(show("password: {env: X}, foo: 1", 1, 21, &[]).0.contains("foo"));
        assert!(show("auth: {token_id: a@pve!b, x: 1}", 1, 27, &[]).0.contains("a@pve!b"));
    }

    #[test]
    fn no_control_character_is_shown_and_a_long_line_is_cut() {
        let (line, _) = show("a: \u{1b}[31mred\u{202e}\t", 1, 4, &[]);
        assert_eq!(line, "a: ·[31mred··");
        let long = format!("{}here{}", "x".repeat(5000), "y".repeat(5000));
        let (line, caret) = show(&long, 1, 5001, &[]);
        assert!(line.chars().count() < 150 && line.starts_with('…') && line.ends_with('…'));
        assert_eq!(line.chars().nth(caret.find('^').unwrap()), Some('h'));
    }
}
