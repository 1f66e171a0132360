//! Uploads: `multipart/form-data` to `…/upload`.

use std::io;
use std::ops::Range;

use super::body::Body;
use crate::api::{Caller, Params, Refusal, Reply};
use crate::world::WorldHandle;

/// Bytes of a part's head that count.
const HEAD: usize = 8 << 10;
/// Bytes of a field that count.
const FIELD: usize = 64 << 10;
/// Bytes of a file that are moved while the world is locked.
const PIECE: usize = 1 << 20;

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
    body: &Body,
) -> Result<Reply, Refusal> {
    let broken = || Refusal::new(400, "wrong multipart data");
    let mut file = None;
    let lost = |error: io::Error| Refusal::died(format!("read failed - {error}"));
    for part in parts(body, boundary).map_err(lost)? {
        let (head, content) = split_head(body, part).map_err(lost)?.ok_or_else(broken)?;
        let name = disposition(&head, "name").ok_or_else(broken)?;
        match disposition(&head, "filename") {
            Some(filename) if name == "filename" => {
                params.insert("filename".into(), base_name(&filename).into());
                file = Some(content);
            }
            Some(_) => return Err(broken()),
            None if name == "tmpfilename" => return Err(broken()),
            None => {
                let value = body.read_at(content.start, FIELD.min((content.end - content.start) as usize));
                let value = String::from_utf8_lossy(&value.map_err(lost)?).into_owned();
                params.insert(name, value.into());
            }
        }
    }
    let file =
        file.ok_or_else(|| Refusal::parameter("filename", "property is missing and it is not optional"))?;
    let kept = keep(world, &caller.node, body, file)?;
    params.insert("tmpfilename".into(), kept.clone().into());
    let answer = world.call(caller, "POST", path, &params).await;
    if answer.is_err() {
        world.with(|world| world.drop_upload(&caller.node, &kept));
    }
    answer
}

/// Puts the file where PVE keeps an upload aside, piece by piece; returns where.
fn keep(world: &WorldHandle, node: &str, body: &Body, file: Range<u64>) -> Result<String, Refusal> {
    let kept = world.with(|world| world.begin_upload(node))?;
    let mut at = file.start;
    while at < file.end {
        let length = PIECE.min(usize::try_from(file.end - at).unwrap_or(PIECE));
        let added = match body.read_at(at, length) {
            Ok(bytes) => world.with(|world| world.extend_upload(node, &kept, at - file.start, &bytes)),
            Err(error) => Err(Refusal::died(format!("read failed - {error}"))),
        };
        if let Err(refusal) = added {
            world.with(|world| world.drop_upload(node, &kept));
            return Err(refusal);
        }
        at += length as u64;
    }
    Ok(kept)
}

/// Everything up to the last slash or backslash is dropped, what is left is made plain.
fn base_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
}

/// Where the parts of a body are, heads included.
fn parts(body: &Body, boundary: &str) -> io::Result<Vec<Range<u64>>> {
    let mark = format!("--{boundary}").into_bytes();
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(next) = body.find(&mark, at)? {
        if let Some(start) = start.filter(|start| *start <= next) {
            let ends = next.checked_sub(2).filter(|end| *end >= start);
            let has_line =
                ends.map(|end| body.read_at(end, 2)).transpose()?.is_some_and(|line| line == b"\r\n");
            found.push(start..if has_line { next - 2 } else { next });
        }
        at = next + mark.len() as u64;
        if body.read_at(at, 2)? == b"--" {
            break;
        }
        start = Some(at + 2);
    }
    Ok(found)
}

/// A part's head, and where its content is; `None` when it has no end of a head.
fn split_head(body: &Body, part: Range<u64>) -> io::Result<Option<(String, Range<u64>)>> {
    let Some(at) = body.find(b"\r\n\r\n", part.start)?.filter(|at| at + 4 <= part.end) else {
        return Ok(None);
    };
    let head = body.read_at(part.start, HEAD.min((at - part.start) as usize))?;
    Ok(Some((String::from_utf8_lossy(&head).into_owned(), at + 4..part.end)))
}

fn disposition(head: &str, key: &str) -> Option<String> {
    let line =
        head.lines().next().filter(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let value = line.split(';').find_map(|part| part.trim().strip_prefix(&format!("{key}=")))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_stands_between_boundaries() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X\r\nContent-Disposition: form-data; \
                     name=\"filename\"; filename=\"C:\\\\x y.iso\"\r\n\r\nbytes\r\n--X--\r\n";
        let mut kept = Body::default();
        kept.push(body).unwrap();
        let parts = parts(&kept, "X").unwrap();
        assert_eq!(parts.len(), 2);
        let (head, content) = split_head(&kept, parts[1].clone()).unwrap().unwrap();
        assert_eq!(kept.read_at(content.start, (content.end - content.start) as usize).unwrap(), b"bytes");
        assert_eq!(base_name(&disposition(&head, "filename").unwrap()), "x_y.iso");
    }
}
