//! Uploads: `multipart/form-data` to `…/upload`.

use crate::api::{Caller, Params, Refusal, Reply};
use crate::world::WorldHandle;

/// The boundary that a content type names.
pub(super) fn boundary(parameters: &str) -> Option<String> {
    let text = parameters.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(text.trim_matches('"').to_owned())
}

/// Takes the whole body, keeps its file aside as PVE does, and calls the method with the fields.
pub(super) async fn receive(
    world: &WorldHandle,
    caller: &Caller,
    path: &str,
    boundary: &str,
    mut params: Params,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let broken = || Refusal::new(400, "wrong multipart data");
    let mut file = None;
    for part in parts(body, boundary) {
        let (head, content) = split_head(part).ok_or_else(broken)?;
        let name = disposition(&head, "name").ok_or_else(broken)?;
        match disposition(&head, "filename") {
            Some(filename) if name == "filename" => {
                params.insert("filename".into(), base_name(&filename).into());
                file = Some(content);
            }
            Some(_) => return Err(broken()),
            None if name == "tmpfilename" => return Err(broken()),
            None => drop(params.insert(name, String::from_utf8_lossy(content).into_owned().into())),
        }
    }
    let file =
        file.ok_or_else(|| Refusal::parameter("filename", "property is missing and it is not optional"))?;
    let kept = world.with(|world| world.keep_upload(&caller.node, file))?;
    params.insert("tmpfilename".into(), kept.clone().into());
    let answer = world.call(caller, "POST", path, &params).await;
    if answer.is_err() {
        world.with(|world| world.drop_upload(&caller.node, &kept));
    }
    answer
}

/// Everything up to the last slash or backslash is dropped, what is left is made plain.
fn base_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
}

fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}").into_bytes();
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(next) = find(&body[at..], &mark).map(|offset| at + offset) {
        if let Some(start) = start {
            let part: &[u8] = &body[start..next];
            found.push(part.strip_suffix(b"\r\n").unwrap_or(part));
        }
        at = next + mark.len();
        if body[at..].starts_with(b"--") {
            break;
        }
        start = Some(at + 2);
    }
    found
}

fn split_head(part: &[u8]) -> Option<(String, &[u8])> {
    let at = find(part, b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&part[..at]).into_owned(), &part[at + 4..]))
}

fn disposition(head: &str, key: &str) -> Option<String> {
    let line =
        head.lines().next().filter(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let value = line.split(';').find_map(|part| part.trim().strip_prefix(&format!("{key}=")))?;
    Some(value.trim_matches('"').to_owned())
}

/// Where `needle` first stands.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    while let Some(offset) = haystack[at..].iter().position(|byte| *byte == first) {
        at += offset;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_stands_between_boundaries() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X\r\nContent-Disposition: form-data; \
                     name=\"filename\"; filename=\"C:\\\\x y.iso\"\r\n\r\nbytes\r\n--X--\r\n";
        let parts = parts(body, "X");
        assert_eq!(parts.len(), 2);
        let (head, content) = split_head(parts[1]).unwrap();
        assert_eq!(content, b"bytes");
        assert_eq!(base_name(&disposition(&head, "filename").unwrap()), "x_y.iso");
    }
}
