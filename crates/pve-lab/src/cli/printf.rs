//! `echo` and `printf`.

use super::{Context, Exit};

pub(super) async fn echo(context: &Context, arguments: &[String]) -> Exit {
    let mut rest = arguments;
    let (mut newline, mut escapes) = (true, false);
    while let Some(first) = rest.first().filter(|first| {
        first.len() > 1 && first.starts_with('-') && first[1..].chars().all(|letter| "neE".contains(letter))
    }) {
        for letter in first[1..].chars() {
            match letter {
                'n' => newline = false,
                letter => escapes = letter == 'e',
            }
        }
        rest = &rest[1..];
    }
    let text = rest.join(" ");
    let (mut bytes, stopped) = if escapes { unescape(&text, true) } else { (text.into_bytes(), false) };
    if newline && !stopped {
        bytes.push(b'\n');
    }
    context.print(bytes).await.map(|()| 0)
}

/// Resolves backslash escapes; the second result tells that `\c` ended the output.
fn unescape(text: &str, leading_zero: bool) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            push(&mut out, character);
            continue;
        }
        match characters.next() {
            Some('a') => out.push(7),
            Some('b') => out.push(8),
            Some('c') => return (out, true),
            Some('e') => out.push(27),
            Some('f') => out.push(12),
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('v') => out.push(11),
            Some('\\') => out.push(b'\\'),
            Some('"') if !leading_zero => out.push(b'"'),
            Some('x') => {
                let digits = take(&mut characters, 16, 2);
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) => out.push(byte),
                    Err(_) => out.extend_from_slice(b"\\x"),
                }
            }
            Some(digit @ '0'..='7') => {
                let mut digits = if leading_zero && digit == '0' { String::new() } else { digit.to_string() };
                let room = 3 - digits.len();
                digits += &take(&mut characters, 8, room);
                out.push(u32::from_str_radix(&digits, 8).map_or(0, |value| (value & 255) as u8));
            }
            Some(other) => {
                out.push(b'\\');
                push(&mut out, other);
            }
            None => out.push(b'\\'),
        }
    }
    (out, false)
}

fn take(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, radix: u32, most: usize) -> String {
    let mut digits = String::new();
    while digits.len() < most {
        match characters.next_if(|character| character.is_digit(radix)) {
            Some(digit) => digits.push(digit),
            None => break,
        }
    }
    digits
}

fn push(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A piece of a format.
enum Piece {
    Text(Vec<u8>),
    Conversion { flags: String, width: Option<usize>, precision: Option<usize>, kind: char },
}

fn parse_format(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\' {
            text.push('\\');
            text.extend(characters.next());
            continue;
        }
        if character != '%' {
            text.push(character);
            continue;
        }
        if characters.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        pieces.push(Piece::Text(unescape(&std::mem::take(&mut text), false).0));
        let mut flags = String::new();
        while let Some(flag) = characters.next_if(|flag| "-+ 0#".contains(*flag)) {
            flags.push(flag);
        }
        let width = take(&mut characters, 10, 4).parse().ok();
        let precision =
            characters.next_if_eq(&'.').map(|_| take(&mut characters, 10, 4).parse().unwrap_or(0));
        match characters.next() {
            Some(kind @ ('s' | 'b' | 'q' | 'c' | 'd' | 'i' | 'u' | 'x' | 'X' | 'o')) => {
                pieces.push(Piece::Conversion { flags, width, precision, kind });
            }
            other => {
                return Err(format!(
                    "`%{}': the lab's printf does not know this conversion",
                    other.map(String::from).unwrap_or_default()
                ));
            }
        }
    }
    pieces.push(Piece::Text(unescape(&text, false).0));
    Ok(pieces)
}

fn convert(piece: &Piece, value: &str) -> Result<(Vec<u8>, bool), String> {
    let Piece::Conversion { flags, width, precision, kind } = piece else { return Ok((Vec::new(), false)) };
    let number = || -> Result<i64, String> {
        if let Some(quoted) = value.strip_prefix(['\'', '"']) {
            return Ok(quoted.chars().next().map_or(0, |character| i64::from(u32::from(character))));
        }
        let parsed = match value.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None if value.is_empty() => Ok(0),
            None => value.parse(),
        };
        parsed.map_err(|_| format!("{value}: invalid number"))
    };
    let (mut bytes, stop) = match kind {
        's' => (value.as_bytes().to_vec(), false),
        'b' => unescape(value, true),
        'q' => (quote(value).into_bytes(), false),
        'c' => (value.chars().next().map(String::from).unwrap_or_default().into_bytes(), false),
        'x' => (format!("{:x}", number()?).into_bytes(), false),
        'X' => (format!("{:X}", number()?).into_bytes(), false),
        'o' => (format!("{:o}", number()?).into_bytes(), false),
        _ => {
            let number = number()?;
            let sign = if flags.contains('+') && number >= 0 { "+" } else { "" };
            (format!("{sign}{number}").into_bytes(), false)
        }
    };
    if let Some(precision) = precision.filter(|_| matches!(kind, 's' | 'b')) {
        bytes.truncate(precision);
    }
    let missing = width.unwrap_or(0).saturating_sub(bytes.len());
    if flags.contains('-') {
        bytes.extend(std::iter::repeat_n(b' ', missing));
    } else {
        let zero = flags.contains('0') && !matches!(kind, 's' | 'b' | 'q' | 'c');
        let at = usize::from(zero && bytes.starts_with(b"-"));
        bytes.splice(at..at, std::iter::repeat_n(if zero { b'0' } else { b' ' }, missing));
    }
    Ok((bytes, stop))
}

/// bash's `%q`.
fn quote(value: &str) -> String {
    if value.is_empty() {
        return "''".into();
    }
    if value.chars().any(char::is_control) {
        let inner: String = value
            .chars()
            .map(|character| match character {
                '\n' => "\\n".into(),
                '\t' => "\\t".into(),
                '\'' => "\\'".into(),
                '\\' => "\\\\".into(),
                other if other.is_control() => format!("\\{:03o}", u32::from(other)),
                other => other.to_string(),
            })
            .collect();
        return format!("$'{inner}'");
    }
    let plain = |character: char| character.is_alphanumeric() || "_-./:@%+=".contains(character);
    value
        .chars()
        .map(|character| if plain(character) { character.to_string() } else { format!("\\{character}") })
        .collect()
}

pub(super) async fn printf(context: &Context, arguments: &[String]) -> Exit {
    let arguments =
        if arguments.first().is_some_and(|first| first == "--") { &arguments[1..] } else { arguments };
    let Some((format, values)) = arguments.split_first() else {
        return context.fail(2, "printf: usage: printf [-v var] format [arguments]").await;
    };
    if format == "-v" {
        return context.fail(2, "printf: -v: the lab does not know this option").await;
    }
    let pieces = match parse_format(format) {
        Ok(pieces) => pieces,
        Err(text) => return context.fail(1, format!("bash: line 1: printf: {text}")).await,
    };
    let (mut out, mut status, mut values) = (Vec::new(), 0, values.iter());
    let conversions = pieces.iter().filter(|piece| matches!(piece, Piece::Conversion { .. })).count();
    'all: loop {
        for piece in &pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Conversion { .. } => match convert(piece, values.next().map_or("", String::as_str)) {
                    Ok((bytes, stop)) => {
                        out.extend(bytes);
                        if stop {
                            break 'all;
                        }
                    }
                    Err(text) => {
                        context.complain(format!("bash: line 1: printf: {text}")).await?;
                        out.push(b'0');
                        status = 1;
                    }
                },
            }
        }
        if conversions == 0 || values.len() == 0 {
            break;
        }
    }
    context.print(out).await.map(|()| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, values: &[&str], expect: &str) {
        let pieces = parse_format(format).unwrap();
        let mut values = values.iter();
        let mut out = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                conversion => out.extend(convert(conversion, values.next().unwrap_or(&"")).unwrap().0),
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), expect, "{format}");
    }

    #[test]
    fn conversions_and_escapes() {
        check("%s|%5s|%-5s|\\n", &["a", "b", "c"], "a|    b|c    |\n");
        check("%d %03d %x %%", &["7", "-5", "255"], "7 -05 ff %");
        check("%b %q", &["a\\tb", "it's $x"], "a\tb it\\'s\\ \\$x");
        check("%.2s", &["abc"], "ab");
        check("\\101\\x42\\\\", &[], "AB\\");
        assert!(parse_format("%y").is_err());
    }
}
