//! Checksums of files.

use ring::digest::{Algorithm, Context as Hasher, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};

use super::files::options;
use super::options::Options;
use super::{Context, Exit};
use crate::vfs::FsError;

/// Bytes hashed while the world is held.
const PIECE: u64 = 4 << 20;

fn algorithm(name: &str) -> &'static Algorithm {
    match name {
        "sha1sum" => &SHA1_FOR_LEGACY_USE_ONLY,
        "sha384sum" => &SHA384,
        "sha512sum" => &SHA512,
        _ => &SHA256,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn of_file(context: &Context, name: &str, path: &str) -> Result<String, FsError> {
    let mut hasher = Hasher::new(algorithm(name));
    let mut offset = 0;
    loop {
        let piece = context.node.files(|files| files.read_at(path, offset, PIECE))?;
        if piece.is_empty() {
            return Ok(hex(hasher.finish().as_ref()));
        }
        offset += piece.len() as u64;
        hasher.update(&piece);
        tokio::task::yield_now().await;
    }
}

async fn of_stdin(context: &Context, name: &str) -> String {
    let mut hasher = Hasher::new(algorithm(name));
    while let Some(piece) = context.streams.stdin.read().await {
        hasher.update(&piece);
    }
    hex(hasher.finish().as_ref())
}

pub(super) async fn sum(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        name,
        arguments,
        &["c|check", "b|binary", "t|text", "status", "quiet", "strict", "w|warn", "z|zero"]
    );
    if options.has("c") {
        return check(context, name, &options).await;
    }
    let names = if options.operands.is_empty() { vec!["-".to_owned()] } else { options.operands };
    let mut status = 0;
    for operand in names {
        if operand == "-" {
            let digest = of_stdin(context, name).await;
            context.line(format!("{digest}  -")).await?;
            continue;
        }
        match of_file(context, name, &context.absolute(&operand)).await {
            // GNU: a name with a backslash or newline is escaped, and the line begins with a backslash.
            Ok(digest) if operand.contains(['\\', '\n']) => {
                let escaped = operand.replace('\\', "\\\\").replace('\n', "\\n");
                context.line(format!("\\{digest}  {escaped}")).await?;
            }
            Ok(digest) => context.line(format!("{digest}  {operand}")).await?,
            Err(error) => {
                context.complain(format!("{name}: {operand}: {error}")).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn check(context: &Context, name: &str, options: &Options) -> Exit {
    let mut lists = Vec::new();
    for operand in &options.operands {
        match context.node.files(|files| files.read(&context.absolute(operand))) {
            Ok(bytes) => lists.push(bytes),
            Err(error) => return context.fail(1, format!("{name}: {operand}: {error}")).await,
        }
    }
    if lists.is_empty() || options.operands.iter().any(|operand| operand == "-") {
        lists = vec![context.read_all(1 << 20).await];
    }
    let (mut mismatches, mut unreadable, mut checked) = (0, 0, 0);
    for line in lists
        .iter()
        .flat_map(|list| String::from_utf8_lossy(list).lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let Some((wanted, file)) = line.split_once(' ') else { continue };
        let file = file.strip_prefix([' ', '*']).unwrap_or(file);
        checked += 1;
        let verdict = match of_file(context, name, &context.absolute(file)).await {
            Ok(found) if found == wanted.to_ascii_lowercase() => "OK",
            Ok(_) => {
                mismatches += 1;
                "FAILED"
            }
            Err(error) => {
                unreadable += 1;
                context.complain(format!("{name}: {file}: {error}")).await?;
                "FAILED open or read"
            }
        };
        let is_told = verdict != "OK" || !options.has("quiet");
        if is_told && !options.has("status") {
            context.line(format!("{file}: {verdict}")).await?;
        }
    }
    if checked == 0 {
        return context.fail(1, format!("{name}: no properly formatted checksum lines found")).await;
    }
    if mismatches > 0 && !options.has("status") {
        let plural = if mismatches == 1 { "checksum did" } else { "checksums did" };
        context.complain(format!("{name}: WARNING: {mismatches} computed {plural} NOT match")).await?;
    }
    Ok(i32::from(mismatches + unreadable > 0))
}
