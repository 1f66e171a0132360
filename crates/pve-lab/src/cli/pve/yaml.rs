//! YAML as Perl's YAML::XS writes it.
// PVE: pve-common src/PVE/CLIFormatter.pm print_api_result

use serde_json::Value;

/// Returns the document.
pub(super) fn dump(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "--- []\n".to_owned(),
        Value::Object(entries) if entries.is_empty() => "--- {}\n".to_owned(),
        Value::Array(_) | Value::Object(_) => {
            let mut text = "---\n".to_owned();
            block(value, 0, &mut text);
            text
        }
        scalar => format!("--- {}\n", self::scalar(scalar, 0)),
    }
}

/// Writes a list or a map whose lines begin at this depth.
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = " ".repeat(depth);
    match value {
        Value::Array(items) => {
            for item in items {
                text.push_str(&indent);
                text.push('-');
                match item {
                    Value::Array(inner) if !inner.is_empty() => nested(item, depth + 2, text),
                    Value::Object(inner) if !inner.is_empty() => nested(item, depth + 2, text),
                    item => text.push_str(&format!(" {}\n", scalar(item, depth + 2))),
                }
            }
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                text.push_str(&format!("{indent}{}:", plain_or_quoted(key)));
                match value {
                    // A list stands at the depth of its key.
                    Value::Array(items) if !items.is_empty() => {
                        text.push('\n');
                        block(value, depth, text);
                    }
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(value, depth + 2, text);
                    }
                    value => {
                        let start = depth + key.chars().count() + 2;
                        let shown = folded(&scalar(value, depth + 2), start, depth + 2);
                        text.push_str(&format!(" {shown}\n"));
                    }
                }
            }
        }
        _ => {}
    }
}

/// Writes a list or a map that begins on the line of its dash.
fn nested(value: &Value, depth: usize, text: &mut String) {
    let mut inner = String::new();
    block(value, depth, &mut inner);
    text.push(' ');
    text.push_str(inner.trim_start_matches(' '));
}

fn scalar(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "~".to_owned(),
        Value::Bool(true) => "1".to_owned(),
        Value::Bool(false) => "''".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.contains('\n') => lines(text, depth),
        Value::String(text) => plain_or_quoted(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

/// A text of several lines: literally where it is long, else in double quotes.
fn lines(text: &str, depth: usize) -> String {
    if text.chars().count() <= 30 {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        return format!("\"{escaped}\"");
    }
    let keep = if text.ends_with("\n\n") {
        "|+"
    } else if text.ends_with('\n') {
        "|"
    } else {
        "|-"
    };
    let indent = " ".repeat(depth);
    let body: Vec<String> = text
        .trim_end_matches('\n')
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") })
        .collect();
    format!("{keep}\n{}", body.join("\n"))
}

/// The width beyond which a plain text goes on in the next line, at a space.
const WIDTH: usize = 80;

/// Breaks a plain text that begins in this column.
fn folded(text: &str, start: usize, depth: usize) -> String {
    if text.contains('\n') || text.starts_with(['\'', '"']) {
        return text.to_owned();
    }
    let (mut shown, mut column) = (String::new(), start);
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        shown.push_str(word);
        column += word.chars().count();
        match words.peek() {
            None => {}
            // Only a single space may become a line's end.
            Some(next) if column > WIDTH && !next.is_empty() && !word.is_empty() => {
                shown.push('\n');
                shown.push_str(&" ".repeat(depth));
                column = depth;
            }
            Some(_) => {
                shown.push(' ');
                column += 1;
            }
        }
    }
    shown
}

fn plain_or_quoted(text: &str) -> String {
    let is_word = matches!(text, "" | "~" | "null" | "true" | "false" | "y" | "n");
    let is_number = text.parse::<f64>().is_ok() && !text.contains(['i', 'n', 'a']);
    let first = text.chars().next();
    let indicator = first.is_some_and(|c| "-?:,[]{}#&*!|>'\"%@`".contains(c));
    let lone_dash =
        matches!(first, Some('-' | '?' | ':')) && text.chars().nth(1).is_some_and(|c| !c.is_whitespace());
    let within = text.contains(": ") || text.contains(" #") || text.ends_with(':');
    let edges = text.starts_with(' ') || text.ends_with(' ');
    if is_word || is_number || (indicator && !lone_dash) || within || edges || text == "=" {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_are_sorted_and_texts_that_look_like_something_else_are_quoted() {
        let value = json!({
            "vmid": 100, "cores": "2", "name": "web", "tags": "", "list": [{"b": 1, "a": "x: y"}, "z"],
            "none": [], "map": {"k": null}, "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"
        });
        let expect = "---\ncores: '2'\nlist:\n- a: 'x: y'\n  b: 1\n- z\nmap:\n  k: ~\nname: web\n\
                      net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\nnone: []\ntags: ''\nvmid: 100\n";
        assert_eq!(dump(&value), expect);
        let long = json!({"description": format!("<!-- {} run=1 scsi0=3c762a1d -->", "x".repeat(70))});
        let expect = format!("---\ndescription: <!-- {}\n  run=1 scsi0=3c762a1d -->\n", "x".repeat(70));
        assert_eq!(dump(&long), expect);
        assert_eq!(dump(&json!("UPID:pve1")), "--- UPID:pve1\n");
        assert_eq!(dump(&json!([])), "--- []\n");
    }
}
