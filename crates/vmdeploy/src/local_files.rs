//! Files on this machine that a spec names: public keys, snippets and images. Read when planning, sent when deploying.

use crate::context::Context;
use crate::environment::names;
use crate::exit::Exit;
use crate::failure::Failure;
use pve_types::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use vmdeploy_executor::{LocalFileError, LocalFiles, Reach};
use vmdeploy_planner::plan::{Compression, LocalFileFacts};
use vmdeploy_planner::spec::{Deployment, Diagnostic, LocalFile, LocalFileUse};

/// No public key file is longer than this, in bytes.
const LONGEST_KEY_FILE: u64 = 256 * 1024;
/// The key types that sshd takes, and certificates of none.
const KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Reads what the planner must know of every local file that the spec names.
///
/// # Errors
/// A file cannot be read, or should hold public keys and does not; its content is never shown.
pub fn read(
    deployment: &Deployment,
    folder: &Path,
    context: &Context,
) -> Result<BTreeMap<String, LocalFileFacts>, Failure> {
    match read_each(deployment, folder, context) {
        (facts, faults) if faults.is_empty() => Ok(facts),
        (_, faults) => Err(crate::spec_files::refused(&faults)
            .replaced("a file that the spec refers to cannot be used; nothing was changed", Exit::USAGE)),
    }
}

/// Reads those local files that can be read, and says of each other one why it cannot be used.
pub fn read_each(
    deployment: &Deployment,
    folder: &Path,
    context: &Context,
) -> (BTreeMap<String, LocalFileFacts>, Vec<Diagnostic>) {
    let files = of(context, folder);
    let (mut facts, mut faults) = (BTreeMap::new(), Vec::new());
    for file in deployment.local_files() {
        let name = &file.path.value;
        // A planner that needs it says how it is built.
        if file.used_as == LocalFileUse::BuiltImage && !files.resolve(name).exists() {
            continue;
        }
        let found = facts_of(&files, name, file.used_as);
        match found {
            Ok(found) => drop(facts.insert(file.path.value.clone(), found)),
            Err(refused) => faults.push(fault(deployment, &file, &refused)),
        }
    }
    (facts, faults)
}

/// Returns facts as if every local file were there: of keys and snippets what they hold, as far as they can be read, and
/// of images nothing, which are large. For what does not depend on the content of images.
pub fn small_ones(
    deployment: &Deployment,
    folder: &Path,
    context: &Context,
) -> BTreeMap<String, LocalFileFacts> {
    let files = of(context, folder);
    let mut facts = stand_ins(deployment);
    for file in deployment.local_files() {
        if !matches!(file.used_as, LocalFileUse::Image | LocalFileUse::BuiltImage) {
            let found = facts_of(&files, &file.path.value, file.used_as).ok();
            facts.extend(found.map(|found| (file.path.value.clone(), found)));
        }
    }
    facts
}

/// Returns facts as if every local file were there, without reading any: for what does not depend on their content.
pub fn stand_ins(deployment: &Deployment) -> BTreeMap<String, LocalFileFacts> {
    let facts = |used_as| match used_as {
        LocalFileUse::PublicKeys => LocalFileFacts::PublicKeys(vec!["ssh-ed25519 AAAA".to_owned()]),
        LocalFileUse::Snippet | LocalFileUse::Image | LocalFileUse::BuiltImage => {
            LocalFileFacts::Content { sha256: "0".repeat(64), size: Bytes::new(0), compression: None }
        }
    };
    let files = deployment.local_files().into_iter();
    files.map(|file| (file.path.value.clone(), facts(file.used_as))).collect()
}

/// Returns the local files that the spec names and that are not there, but for those that are still to be built.
pub fn missing(deployment: &Deployment, folder: &Path, context: &Context) -> Vec<LocalFile> {
    let files = of(context, folder);
    let named = deployment.local_files().into_iter();
    named
        .filter(|file| file.used_as != LocalFileUse::BuiltImage && !files.resolve(&file.path.value).is_file())
        .collect()
}

/// Returns the files of this machine that a spec in `folder` may name: those below it, and those below the folders that
/// `--allow-path` names.
pub fn of(context: &Context, folder: &Path) -> LocalFiles {
    LocalFiles {
        allowed: context.granted.allow_path.clone(),
        home: context.environment.path(names::HOME),
        credentials: context.environment.credential_files(),
        ..LocalFiles::of(folder)
    }
}

/// Tells whether two paths lead to the same file.
pub fn are_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Turns a file that may not be used into a failure; `what` names it.
pub fn failure(what: &str, error: &LocalFileError) -> Failure {
    let failure = Failure::new(Exit::RIGHTS, format!("{what} {error}"));
    error.hint().into_iter().fold(failure, Failure::hint)
}

fn fault(deployment: &Deployment, file: &LocalFile, refused: &Refused) -> Diagnostic {
    let fault = deployment.refusal(file.path.span, "", format!("`{}` {}", file.path.value, refused.why));
    match file.used_as {
        _ if refused.hint.is_some() => fault.with_hint(refused.hint.unwrap_or_default()),
        LocalFileUse::PublicKeys => {
            fault.with_hint("use a file with public keys; `ssh-keygen` creates a key pair")
        }
        LocalFileUse::Snippet | LocalFileUse::Image | LocalFileUse::BuiltImage => fault,
    }
}

/// Why a file is not used, and what to do.
#[derive(Debug)]
struct Refused {
    why: String,
    hint: Option<&'static str>,
}

impl From<LocalFileError> for Refused {
    fn from(error: LocalFileError) -> Self {
        Self { why: error.to_string(), hint: error.hint() }
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        LocalFileError::from(error).into()
    }
}

impl From<&str> for Refused {
    fn from(why: &str) -> Self {
        Self { why: why.to_owned(), hint: None }
    }
}

/// Returns what the planner must know of a file. One of public keys may lie anywhere: it is checked to hold nothing else.
fn facts_of(files: &LocalFiles, name: &str, used_as: LocalFileUse) -> Result<LocalFileFacts, Refused> {
    let reach = if used_as == LocalFileUse::PublicKeys { Reach::Anywhere } else { Reach::Confined };
    let (file, _) = files.open(name, reach)?;
    match used_as {
        LocalFileUse::PublicKeys => public_keys(file),
        LocalFileUse::Snippet => content(file),
        LocalFileUse::Image | LocalFileUse::BuiltImage => image(file),
    }
}

fn public_keys(file: File) -> Result<LocalFileFacts, Refused> {
    let mut text = String::new();
    file.take(LONGEST_KEY_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_KEY_FILE {
        return Err("is too large for a file with public keys".into());
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() || !keys.iter().all(|key| is_public_key(key)) {
        return Err("is not a file with public SSH keys (its content is not shown)".into());
    }
    Ok(LocalFileFacts::PublicKeys(keys))
}

/// Tells whether the line is a public key without options, of a type that sshd takes.
pub(crate) fn is_public_key(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let base64 = |character: char| character.is_ascii_alphanumeric() || "+/=".contains(character);
    KEY_TYPES.contains(&kind) && key.starts_with("AAAA") && key.chars().all(base64)
}

fn image(mut file: File) -> Result<LocalFileFacts, Refused> {
    let mut start = Vec::new();
    (&mut file).take(8).read_to_end(&mut start)?;
    file.rewind()?;
    let mut facts = content(file)?;
    if let LocalFileFacts::Content { compression, .. } = &mut facts {
        *compression = Compression::of(&start);
    }
    Ok(facts)
}

fn content(file: File) -> Result<LocalFileFacts, Refused> {
    let (sha256, size) = sha256_of_file(file)?;
    Ok(LocalFileFacts::Content { sha256, size: Bytes::new(size), compression: None })
}

/// Returns the SHA-256 of a file, in hexadecimal, and its size in bytes. The file is never held in memory.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of(path: &Path) -> std::io::Result<(String, u64)> {
    sha256_of_file(File::open(path)?)
}

fn sha256_of_file(mut file: File) -> std::io::Result<(String, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0_u64;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((pve_types::hex(digest.finalize()), size));
        }
        digest.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_image_is_known_by_its_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], expect: Option<Compression>| {
            let path = folder.path().join("disk");
            std::fs::write(&path, bytes).unwrap();
            let LocalFileFacts::Content { compression, .. } = image(File::open(&path).unwrap()).unwrap()
            else {
                panic!("content")
            };
            assert_eq!(compression, expect, "{bytes:?}");
        };
        check(b"\x1f\x8b\x08\0", Some(Compression::Gzip));
        check(b"\xfd7zXZ\0\0", Some(Compression::Xz));
        check(b"\x28\xb5\x2f\xfd\0", Some(Compression::Zstd));
        check(b"BZh91AY", Some(Compression::Bzip2));
        check(b"QFI\xfb\0\0\0\x03", None);
        check(b"", None);
    }

    #[test]
    fn only_public_keys_are_taken_for_such() {
        let check = |line: &str, expect: bool| assert_eq!(is_public_key(line), expect, "{line}");
        check("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDigm3MJiAsk me", true);
        check("-----BEGIN OPENSSH PRIVATE KEY-----", false);
        check("root:$6$salt$hash:19000:0", false);
        check("ssh-ed25519 not-a-key", false);
    }

    #[test]
    fn a_file_that_is_no_key_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shadow");
        std::fs::write(&path, "root:$6$secret\n").unwrap();
        assert!(!public_keys(File::open(&path).unwrap()).unwrap_err().why.contains("secret"));
    }

    #[test]
    fn content_is_known_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user-data");
        std::fs::write(&path, "abc").unwrap();
        let LocalFileFacts::Content { sha256, size, .. } = content(File::open(&path).unwrap()).unwrap()
        else {
            panic!("content")
        };
        assert_eq!((&sha256[..16], size.get()), ("ba7816bf8f01cfea", 3));
    }
}
