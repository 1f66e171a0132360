//! `.env` files: `NAME=value` lines as a shell reads them when they are sourced, minus everything that runs code.
//!
//! `export` before the name, single quotes, double quotes with backslash escapes, `#` comments. A `$` is a `$`:
//! nothing is expanded, so a password may hold one.

/// Why a file is not understood. The line's text is not part of it: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DotenvError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Returns the variables in the order of the file; a name that is set twice appears twice.
///
/// # Errors
/// The first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, DotenvError> {
    let mut pairs = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        pairs.push(parse_line(trimmed).map_err(|reason| DotenvError { line: index + 1, reason })?);
    }
    Ok(pairs)
}

/// Returns the value so that a shell and [`parse`] both read it back as it is; `None` for one with a line break or NUL.
pub fn quote_value(value: &str) -> Option<String> {
    let quoted = pve_ssh::command::quote(value.as_bytes()).ok()?;
    String::from_utf8(quoted).ok().filter(|text| !text.contains(['\n', '\r']))
}

/// Returns the file's text with these variables set; other lines stay. `None` for a value with a line break.
pub fn replaced(text: &str, pairs: &[(&str, &str)]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in pairs {
        let value = quote_value(value)?;
        let sets = |line: &String| {
            let line = line.trim_start();
            let line = line.strip_prefix("export ").map_or(line, str::trim_start);
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
        };
        match lines.iter_mut().rev().find(|line| sets(line)) {
            Some(line) => {
                let export = if line.trim_start().starts_with("export ") { "export " } else { "" };
                *line = format!("{export}{name}={value}");
            }
            None => lines.push(format!("{name}={value}")),
        }
    }
    Some(lines.join("\n") + "\n")
}

fn parse_line(line: &str) -> Result<(String, String), &'static str> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=').ok_or("there is no `=`")?;
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_') {
        return Err("the text before `=` is not a variable name (letters, digits and `_`, no spaces)");
    }
    Ok((name.to_owned(), parse_value(value.trim_start())?))
}

/// Reads quoted and bare pieces one after the other, as a shell joins them, up to a comment.
fn parse_value(text: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => take_single_quoted(&mut characters, &mut value)?,
            '"' => take_double_quoted(&mut characters, &mut value)?,
            '\\' => value.extend(characters.next()),
            ' ' | '\t' => return rest_is_comment(characters).map(|()| value),
            other => value.push(other),
        }
    }
    Ok(value)
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn take_single_quoted(characters: &mut Characters<'_>, value: &mut String) -> Result<(), &'static str> {
    loop {
        match characters.next().ok_or("a single quote is not closed on the same line")? {
            '\'' => return Ok(()),
            other => value.push(other),
        }
    }
}

fn take_double_quoted(characters: &mut Characters<'_>, value: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a double quote is not closed on the same line";
    loop {
        match characters.next().ok_or(OPEN)? {
            '"' => return Ok(()),
            '\\' => match characters.next().ok_or(OPEN)? {
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

fn rest_is_comment(mut rest: Characters<'_>) -> Result<(), &'static str> {
    match rest.find(|character| !character.is_whitespace()) {
        None | Some('#') => Ok(()),
        Some(_) => Err("the value contains a space and needs quotes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<(&str, &str), &str>) {
        let parsed = parse(line);
        let got = match &parsed {
            Ok(pairs) => Ok((pairs[0].0.as_str(), pairs[0].1.as_str())),
            Err(error) => Err(error.reason),
        };
        assert_eq!(got, expect, "{line:?}");
    }

    #[test]
    fn lines_are_read_as_a_shell_reads_them() {
        check("A=b", Ok(("A", "b")));
        check("export A=b", Ok(("A", "b")));
        check("  export   A='b c' # comment", Ok(("A", "b c")));
        check(r#"A="b \"c\" \$d \n""#, Ok(("A", r#"b "c" $d \n"#)));
        check(r"A='it'\''s'", Ok(("A", "it's")));
        check("A=", Ok(("A", "")));
        check("A=b#c", Ok(("A", "b#c")));
        check("A=user@pve!token", Ok(("A", "user@pve!token")));
        check("A=pa$$word=x", Ok(("A", "pa$$word=x")));
    }

    #[test]
    fn what_is_not_understood_is_refused_without_showing_it() {
        check("A", Err("there is no `=`"));
        check("A =b", Err("the text before `=` is not a variable name (letters, digits and `_`, no spaces)"));
        check("A='b", Err("a single quote is not closed on the same line"));
        check("A=b c", Err("the value contains a space and needs quotes"));
        assert_eq!(parse("# x\n\nA=1\noops").unwrap_err().line, 4);
    }

    #[test]
    fn a_variable_is_replaced_in_its_place_and_the_rest_stays() {
        let text = "# mine\nexport A=old\nB='x' # kept\n";
        let expect = "# mine\nexport A='new one'\nB='x' # kept\nC=c\n";
        assert_eq!(replaced(text, &[("A", "new one"), ("C", "c")]).as_deref(), Some(expect));
        assert_eq!(replaced(text, &[("A", "two\nlines")]), None);
    }

    #[test]
    fn a_quoted_value_is_read_back() {
        for value in ["", "plain", "a b", "it's", "$(x) `y` \"z\" \\"] {
            check(&format!("A={}", quote_value(value).unwrap()), Ok(("A", value)));
        }
    }
}
