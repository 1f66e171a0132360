//! Writing an image's checksum into a spec's text: only that value changes, comments and layout stay.

use super::diagnostic::{SourceFile, Span};
use super::tree::{Node, Shape, Tree};

/// Why a checksum could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No file has the image, or its keys, where they can be changed.
    #[error("image `{image}` does not stand in the spec in a form that can be changed")]
    NoPlace {
        /// The image.
        image: String,
    },
    /// The changed text would mean something else than the checksum alone.
    #[error("the change of image `{image}` would change more than its checksum")]
    OtherMeaning {
        /// The image.
        image: String,
    },
}

/// Returns the files in which the image has this checksum.
///
/// # Errors
/// See [`PinError`]; the image may stand behind an alias, for example.
pub fn with_checksum(files: &[SourceFile], image: &str, checksum: &str) -> Result<Vec<SourceFile>, PinError> {
    let no_place = || PinError::NoPlace { image: image.to_owned() };
    for (at, file) in files.iter().enumerate().filter(|(_, file)| !file.name.ends_with(".lock.yaml")) {
        let tree = Tree::parse(0, &file.text).map_err(|_| no_place())?;
        let Some(node) = image_in(&tree, image) else { continue };
        let text = edited(&file.text, node, checksum).ok_or_else(no_place)?;
        let changed = Tree::parse(0, &text).map_err(|_| no_place())?;
        let has_it =
            image_in(&changed, image).and_then(|node| node.get("checksum")?.text()) == Some(checksum);
        if !has_it || meaning(&tree, image) != meaning(&changed, image) {
            return Err(PinError::OtherMeaning { image: image.to_owned() });
        }
        let mut files = files.to_vec();
        files[at].text = text.into();
        return Ok(files);
    }
    Err(no_place())
}

fn image_in<'t>(tree: &'t Tree, image: &str) -> Option<Node<'t>> {
    tree.documents().find_map(|document| document.get("images")?.get(image))
}

fn edited(text: &str, image: Node<'_>, checksum: &str) -> Option<String> {
    if let Some(old) = image.get("checksum") {
        let (start, end) = scalar(text, old)?;
        return Some(format!("{}{checksum}{}", &text[..start], &text[end..]));
    }
    let (key, url) = image.entries().find(|(key, _)| key.text() == Some("url"))?;
    let (_, end) = scalar(text, url)?;
    let is_flow = text[offset(text, image.span())?..].starts_with('{');
    if is_flow {
        return Some(format!("{}, checksum: {checksum}{}", &text[..end], &text[end..]));
    }
    let indent = " ".repeat(key.span().column.saturating_sub(1) as usize);
    let line_end = text[end..].find('\n').map_or(text.len(), |at| end + at);
    Some(format!("{}\n{indent}checksum: {checksum}{}", &text[..line_end], &text[line_end..]))
}

/// Returns where a scalar of one line stands in the text, its quotes included.
fn scalar(text: &str, node: Node<'_>) -> Option<(usize, usize)> {
    let start = offset(text, node.span())?;
    let value = node.text()?;
    let length = match text[start..].chars().next()? {
        quote @ ('"' | '\'') => {
            let inner = &text[start + 1..];
            if !inner.starts_with(value) || !inner[value.len()..].starts_with(quote) {
                return None;
            }
            value.len() + 2
        }
        _ if text[start..].starts_with(value) => value.len(),
        _ => return None,
    };
    Some((start, start + length))
}

/// Returns where a place is in a text, in bytes.
fn offset(text: &str, span: Span) -> Option<usize> {
    let line_at = match span.line.checked_sub(1)? {
        0 => 0,
        before => text.match_indices('\n').nth(before as usize - 1)?.0 + 1,
    };
    let column = span.column.checked_sub(1)? as usize;
    text[line_at..].char_indices().map(|(at, _)| line_at + at).chain([text.len()]).nth(column)
}

/// Returns everything that a file says, but for the image's checksum.
fn meaning(tree: &Tree, image: &str) -> String {
    let mut out = String::new();
    tree.documents().for_each(|document| write(document, &["images", image, "checksum"], &mut out));
    out
}

/// Writes a value's meaning, without what stands at the path `left_out`.
fn write(node: Node<'_>, left_out: &[&str], out: &mut String) {
    match node.shape() {
        Shape::Null => out.push('~'),
        Shape::Plain(text) => out.push_str(&format!("p{text:?}")),
        Shape::Quoted(text) => out.push_str(&format!("q{text:?}")),
        Shape::List => {
            out.push('[');
            node.items().for_each(|item| write(item, &[], out));
            out.push(']');
        }
        Shape::Map => {
            out.push('{');
            for (key, value) in node.entries() {
                let is_on_path = key.text().is_some() && key.text() == left_out.first().copied();
                if is_on_path && left_out.len() == 1 {
                    continue;
                }
                write(key, &[], out);
                write(value, if is_on_path { &left_out[1..] } else { &[] }, out);
            }
            out.push('}');
        }
    }
}

/// Returns the checksum, `ALGORITHM:HEX`, that a publisher's list states for a file: lines of `sha256sum` and `sha512sum`,
/// of BSD (`SHA256 (FILE) = HEX`), or a single sum without a name.
pub fn published_checksum(list: &str, file: &str) -> Option<String> {
    let lines: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let named = lines.iter().find_map(|line| of_line(line, file));
    named.or_else(|| match lines[..] {
        [only] => checksum(only),
        _ => None,
    })
}

fn of_line(line: &str, file: &str) -> Option<String> {
    let is_file = |name: &str| name.trim_start_matches(['*', ' ']).trim_start_matches("./") == file;
    if let Some((head, hex)) = line.split_once(" = ") {
        let (_, name) = head.split_once('(')?;
        return checksum(hex.trim()).filter(|_| name.strip_suffix(')').is_some_and(is_file));
    }
    let (hex, name) = line.split_once(char::is_whitespace)?;
    checksum(hex).filter(|_| is_file(name))
}

/// Returns a sum with its algorithm, which its length tells.
fn checksum(hex: &str) -> Option<String> {
    let algorithm = match hex.len() {
        64 => "sha256",
        96 => "sha384",
        128 => "sha512",
        _ => return None,
    };
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| format!("{algorithm}:{}", hex.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "sha256:aaaa";

    fn pinned(text: &str) -> Result<String, PinError> {
        let files = [SourceFile::new("a.yaml", text.to_owned())];
        with_checksum(&files, "debian", SUM).map(|files| files[0].text.to_string())
    }

    #[test]
    fn only_the_checksum_changes() {
        let check = |before: &str, after: &str| assert_eq!(pinned(before).as_deref(), Ok(after));
        check(
            "images: # ours\n  debian: # newest\n    url: https://e.org/d.qcow2 # moves\n    size: 3GiB\n",
            "images: # ours\n  debian: # newest\n    url: https://e.org/d.qcow2 # moves\n    checksum: sha256:aaaa\n    size: 3GiB\n",
        );
        check(
            "images: {debian: {url: \"https://e.org/d.qcow2\", size: 3GiB}}",
            "images: {debian: {url: \"https://e.org/d.qcow2\", checksum: sha256:aaaa, size: 3GiB}}",
        );
        check(
            "images:\n  debian: {checksum: 'sha256:bb', url: https://e.org/d}  # x\n",
            "images:\n  debian: {checksum: sha256:aaaa, url: https://e.org/d}  # x\n",
        );
        check(
            "images:\n  debian:\n    url: https://e.org/d",
            "images:\n  debian:\n    url: https://e.org/d\n    checksum: sha256:aaaa",
        );
        check(
            "images:\n  debian:\n    url: >-\n      https://e.org/d\n",
            "images:\n  debian:\n    url: >-\n      https://e.org/d\n    checksum: sha256:aaaa\n",
        );
    }

    #[test]
    fn what_cannot_be_changed_alone_is_refused() {
        for text in [
            "images: {other: {url: https://e.org/d}}",
            "x: &i {url: https://e.org/d}\nimages: {debian: *i}\nmore: {debian: *i}",
            "images:\n  debian:\n    url: >-\n      https://e.org/\n      d\n",
        ] {
            assert!(pinned(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_of_publishers_are_read() {
        let (a, b) = ("a".repeat(64), "B".repeat(128));
        let list = format!("# x\n{a} *other.qcow2\n{b}  ./d.qcow2\nshort d.qcow2\n");
        assert_eq!(published_checksum(&list, "d.qcow2"), Some(format!("sha512:{}", b.to_lowercase())));
        assert_eq!(
            published_checksum(&format!("SHA256 (d.qcow2) = {a}\nx\n"), "d.qcow2"),
            Some(format!("sha256:{a}"))
        );
        assert_eq!(published_checksum(&format!("{a}\n"), "d.qcow2"), Some(format!("sha256:{a}")));
        assert_eq!(published_checksum(&format!("{a}  other\n{a}  another\n"), "d.qcow2"), None);
        assert_eq!(published_checksum("<html>", "d.qcow2"), None);
    }
}
