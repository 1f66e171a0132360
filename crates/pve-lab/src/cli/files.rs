//! Programs that change files.

use super::options::Options;
use super::{Context, Exit};
use crate::vfs::{FsError, Kind, NodeFiles};

/// Takes options apart, or says what is wrong as the program would.
macro_rules! options {
    ($context:expr, $name:expr, $arguments:expr, $known:expr) => {
        match Options::parse($arguments, $known) {
            Ok(options) => options,
            Err(text) => {
                return $context
                    .fail(1, format!("{}: {text}\nTry '{} --help' for more information.", $name, $name))
                    .await
            }
        }
    };
}
pub(super) use options;

/// Says what is wrong when there are too few operands.
pub(super) async fn missing_operand(context: &Context, name: &str) -> Exit {
    context.fail(1, format!("{name}: missing operand\nTry '{name} --help' for more information.")).await
}

pub(super) async fn cat(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "cat", arguments, &["u"]);
    let mut status = 0;
    let names = if options.operands.is_empty() { vec!["-".to_owned()] } else { options.operands };
    for name in names {
        if name == "-" {
            while let Some(piece) = context.streams.stdin.read().await {
                context.print(piece).await?;
            }
            continue;
        }
        let path = context.absolute(&name);
        let mut offset = 0;
        loop {
            match context.node.files(|files| files.read_at(&path, offset, 256 * 1024)) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => {
                    offset += piece.len() as u64;
                    context.print(piece).await?;
                }
                Err(error) => {
                    context.complain(format!("cat: {name}: {error}")).await?;
                    status = 1;
                    break;
                }
            }
        }
    }
    Ok(status)
}

/// Does something with each operand, and says `NAME: WHAT 'OPERAND': why` where it fails.
async fn each(
    context: &Context,
    name: &str,
    what: &str,
    operands: &[String],
    mut work: impl FnMut(&mut NodeFiles<'_>, &str) -> Result<(), FsError>,
) -> Exit {
    let mut status = 0;
    for operand in operands {
        let path = context.absolute(operand);
        let done = context.node.files(|files| work(files, &path));
        if let Err(error) = done {
            context.complain(format!("{name}: {what} '{operand}': {error}")).await?;
            status = 1;
        }
    }
    Ok(status)
}

pub(super) async fn mkdir(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "mkdir", arguments, &["p|parents", "m|mode=", "v|verbose"]);
    if options.operands.is_empty() {
        return missing_operand(context, "mkdir").await;
    }
    let mode = options.value("m").map(|text| u32::from_str_radix(text, 8));
    let mode = match mode {
        Some(Err(_)) => {
            return context
                .fail(1, format!("mkdir: invalid mode ‘{}’", options.value("m").unwrap_or_default()))
                .await;
        }
        Some(Ok(mode)) => Some(mode),
        None => None,
    };
    let parents = options.has("p");
    let default_mode = 0o777 & !context.umask;
    each(context, "mkdir", "cannot create directory", &options.operands, |files, path| {
        let path = path.trim_end_matches('/');
        if parents {
            if files.stat(path).is_ok_and(|stat| stat.kind == Kind::Directory) {
                return Ok(());
            }
            files.create_dir_all(path)?;
        } else {
            files.create_dir(path)?;
        }
        match mode {
            Some(mode) => files.set_mode(path, mode),
            None if default_mode != 0o755 => files.set_mode(path, default_mode).or(Ok(())),
            None => Ok(()),
        }
    })
    .await
}

pub(super) async fn rmdir(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "rmdir", arguments, &["ignore-fail-on-non-empty"]);
    if options.operands.is_empty() {
        return missing_operand(context, "rmdir").await;
    }
    let lenient = options.has("ignore-fail-on-non-empty");
    let mut status = 0;
    for operand in &options.operands {
        let path = context.absolute(operand);
        match context.node.files(|files| files.remove_dir(&path)) {
            Ok(()) => {}
            Err(FsError::NotEmpty) if lenient => {}
            Err(error) => {
                context.complain(format!("rmdir: failed to remove '{operand}': {error}")).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

pub(super) async fn rm(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "rm",
        arguments,
        &["r|R|recursive", "f|force", "v|verbose", "d|dir", "i", "I", "one-file-system", "preserve-root"]
    );
    if options.operands.is_empty() {
        return if options.has("f") { Ok(0) } else { missing_operand(context, "rm").await };
    }
    let (recursive, force) = (options.has("r"), options.has("f"));
    if options.operands.iter().any(|operand| recursive && context.absolute(operand) == "/") {
        return context.fail(1, "rm: it is dangerous to operate recursively on '/'\nrm: use --no-preserve-root to override this failsafe").await;
    }
    each(context, "rm", "cannot remove", &options.operands, |files, path| {
        let done = match files.stat_link(path.trim_end_matches('/')) {
            Ok(stat) if stat.kind == Kind::Directory && recursive => {
                remove_tree(files, path.trim_end_matches('/'))
            }
            Ok(stat) if stat.kind == Kind::Directory => Err(FsError::IsADirectory),
            Ok(_) => files.remove_file(path),
            Err(error) => Err(error),
        };
        match done {
            Err(FsError::NotFound | FsError::NotADirectory) if force => Ok(()),
            other => other,
        }
    })
    .await
}

fn remove_tree(files: &mut NodeFiles<'_>, path: &str) -> Result<(), FsError> {
    for name in files.list(path)? {
        let below = format!("{path}/{name}");
        if files.stat_link(&below)?.kind == Kind::Directory {
            remove_tree(files, &below)?;
        } else {
            files.remove_file(&below)?;
        }
    }
    files.remove_dir(path)
}

/// The place that a file gets: in the target when that is a directory.
fn destination(files: &NodeFiles<'_>, from: &str, to: &str) -> String {
    let is_directory = files.stat(to).is_ok_and(|stat| stat.kind == Kind::Directory);
    let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if is_directory { format!("{}/{name}", to.trim_end_matches('/')) } else { to.to_owned() }
}

fn split_target(options: &Options) -> Option<(&[String], &str)> {
    match options.value("t") {
        Some(target) => (!options.operands.is_empty()).then_some((&options.operands, target)),
        None => options
            .operands
            .split_last()
            .filter(|(_, sources)| !sources.is_empty())
            .map(|(target, sources)| (sources, target.as_str())),
    }
}

async fn refuse_operands(context: &Context, name: &str, options: &Options) -> Exit {
    let text = match options.operands.first() {
        None => format!("{name}: missing file operand"),
        Some(only) => format!("{name}: missing destination file operand after '{only}'"),
    };
    context.fail(1, format!("{text}\nTry '{name} --help' for more information.")).await
}

pub(super) async fn mv(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "mv",
        arguments,
        &["f|force", "n|no-clobber", "T|no-target-directory", "t|target-directory=", "v|verbose"]
    );
    let Some((sources, target)) = split_target(&options) else {
        return refuse_operands(context, "mv", &options).await;
    };
    let (keep, plain, to) = (options.has("n"), options.has("T"), context.absolute(target));
    if sources.len() > 1
        && !context.node.files(|files| files.stat(&to).is_ok_and(|stat| stat.kind == Kind::Directory))
    {
        return context.fail(1, format!("mv: target '{target}' is not a directory")).await;
    }
    let mut status = 0;
    for source in sources {
        let from = context.absolute(source);
        let done = context.node.files(|files| {
            let place = if plain { to.clone() } else { destination(files, &from, &to) };
            if keep && files.exists(&place) {
                return Ok(());
            }
            match files.rename(from.trim_end_matches('/'), place.trim_end_matches('/')) {
                Err(FsError::CrossDevice) if files.stat(&from)?.kind == Kind::File => {
                    files.copy(&from, &place)?;
                    files.remove_file(&from)
                }
                other => other,
            }
        });
        match done {
            Ok(()) => {}
            Err(FsError::NotFound) if !context.node.files(|files| files.stat_link(&from).is_ok()) => {
                context.complain(format!("mv: cannot stat '{source}': No such file or directory")).await?;
                status = 1;
            }
            Err(error) => {
                context.complain(format!("mv: cannot move '{source}' to '{target}': {error}")).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

pub(super) async fn cp(context: &Context, arguments: &[String]) -> Exit {
    let known = &[
        "f|force",
        "p",
        "a|archive",
        "n|no-clobber",
        "r|R|recursive",
        "T|no-target-directory",
        "t|target-directory=",
        "v|verbose",
        "sparse=",
        "reflink=",
    ];
    let options = options!(context, "cp", arguments, known);
    let Some((sources, target)) = split_target(&options) else {
        return refuse_operands(context, "cp", &options).await;
    };
    let recursive = options.has("r") || options.has("a");
    let (keep, plain, to) = (options.has("n"), options.has("T"), context.absolute(target));
    if sources.len() > 1
        && !context.node.files(|files| files.stat(&to).is_ok_and(|stat| stat.kind == Kind::Directory))
    {
        return context.fail(1, format!("cp: target '{target}' is not a directory")).await;
    }
    let mut status = 0;
    for source in sources {
        let from = context.absolute(source);
        let problem = context.node.files(|files| {
            let stat = match files.stat(&from) {
                Ok(stat) => stat,
                Err(error) => return Some(format!("cp: cannot stat '{source}': {error}")),
            };
            if stat.kind == Kind::Directory && !recursive {
                return Some(format!("cp: -r not specified; omitting directory '{source}'"));
            }
            let place = if plain { to.clone() } else { destination(files, &from, &to) };
            if keep && files.exists(&place) {
                return None;
            }
            copy_tree(files, &from, &place)
                .err()
                .map(|error| format!("cp: cannot create regular file '{target}': {error}"))
        });
        if let Some(problem) = problem {
            context.complain(problem).await?;
            status = 1;
        }
    }
    Ok(status)
}

fn copy_tree(files: &mut NodeFiles<'_>, from: &str, to: &str) -> Result<(), FsError> {
    if files.stat(from)?.kind != Kind::Directory {
        return files.copy(from, to);
    }
    if crate::vfs::normalize("/", to).starts_with(&format!("{}/", from.trim_end_matches('/'))) {
        return Err(FsError::Invalid);
    }
    if !files.exists(to) {
        files.create_dir(to)?;
    }
    for name in files.list(from)? {
        copy_tree(files, &format!("{from}/{name}"), &format!("{to}/{name}"))?;
    }
    Ok(())
}

pub(super) async fn touch(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "touch", arguments, &["c|no-create", "a", "m", "d|date=", "t="]);
    if options.operands.is_empty() {
        return context
            .fail(1, "touch: missing file operand\nTry 'touch --help' for more information.")
            .await;
    }
    let now = context.node.world.with(|world| world.now_seconds());
    let time = match options.value("d") {
        None => now,
        Some(text) => match text.strip_prefix('@').and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => seconds,
            None => {
                return context
                    .fail(1, format!("touch: the lab knows dates as @SECONDS only, not ‘{text}’"))
                    .await;
            }
        },
    };
    if options.has("t") {
        return context.fail(1, "touch: the lab does not know the option -t").await;
    }
    let (create, mode) = (!options.has("c"), 0o666 & !context.umask);
    each(context, "touch", "cannot touch", &options.operands, |files, path| match files.stat(path) {
        Ok(_) => files.set_mtime(path, time),
        Err(FsError::NotFound) if !create => Ok(()),
        Err(FsError::NotFound) => {
            files.create(path, mode)?;
            files.set_mtime(path, time)
        }
        Err(error) => Err(error),
    })
    .await
}

/// Parses `644`, `u+x`, `go-rwx`, `a=r`.
fn new_mode(text: &str, old: u32, is_directory: bool) -> Option<u32> {
    if let Ok(mode) = u32::from_str_radix(text, 8) {
        return (mode <= 0o7777).then_some(mode);
    }
    let mut mode = old;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, operation) = clause.split_at(at);
        let mut bits = 0;
        for letter in operation[1..].chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || old & 0o111 != 0 => 0o111,
                'X' => 0,
                _ => return None,
            };
        }
        let mut mask = 0;
        for letter in if who.is_empty() { "a" } else { who }.chars() {
            mask |= match letter {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return None,
            };
        }
        mode = match &operation[..1] {
            "+" => mode | (bits & mask),
            "-" => mode & !(bits & mask),
            _ => (mode & !mask) | (bits & mask),
        };
    }
    Some(mode)
}

pub(super) async fn chmod(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "chmod", arguments, &["R|recursive", "f", "v"]);
    let Some((mode, names)) = options.operands.split_first().filter(|(_, names)| !names.is_empty()) else {
        return missing_operand(context, "chmod").await;
    };
    if new_mode(mode, 0, false).is_none() {
        return context.fail(1, format!("chmod: invalid mode: ‘{mode}’")).await;
    }
    let recursive = options.has("R");
    each(context, "chmod", "changing permissions of", names, |files, path| {
        change_tree(files, path, recursive, &mut |files, path| {
            let stat = files.stat(path)?;
            files.set_mode(path, new_mode(mode, stat.mode, stat.kind == Kind::Directory).unwrap_or(stat.mode))
        })
    })
    .await
}

fn change_tree(
    files: &mut NodeFiles<'_>,
    path: &str,
    recursive: bool,
    work: &mut dyn FnMut(&mut NodeFiles<'_>, &str) -> Result<(), FsError>,
) -> Result<(), FsError> {
    work(files, path)?;
    if recursive && files.stat(path)?.kind == Kind::Directory {
        for name in files.list(path)? {
            change_tree(files, &format!("{path}/{name}"), true, work)?;
        }
    }
    Ok(())
}

fn id_of(name: &str) -> Option<u32> {
    match name {
        "" | "root" => Some(0),
        "www-data" => Some(33),
        number => number.parse().ok(),
    }
}

pub(super) async fn chown(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "chown", arguments, &["R|recursive", "f", "v"]);
    let Some((owner, names)) = options.operands.split_first().filter(|(_, names)| !names.is_empty()) else {
        return missing_operand(context, "chown").await;
    };
    let (user, group) =
        owner.split_once([':', '.']).map_or((owner.as_str(), None), |(user, group)| (user, Some(group)));
    let (Some(uid), Some(gid)) = (id_of(user), group.map_or(Some(0), id_of)) else {
        return context.fail(1, format!("chown: invalid user: ‘{owner}’")).await;
    };
    let recursive = options.has("R");
    each(context, "chown", "changing ownership of", names, |files, path| {
        change_tree(files, path, recursive, &mut |files, path| files.set_owner(path, uid, gid))
    })
    .await
}

/// Parses `10`, `4K`, `1M`, `2G` (powers of 1024).
pub(super) fn size_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let power = match text[digits.len()..].trim_end_matches("iB") {
        "" => 0,
        "K" | "k" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    number.checked_mul(1024_u64.checked_pow(power)?)
}

pub(super) async fn truncate(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "truncate", arguments, &["s|size=", "c|no-create"]);
    let Some(length) = options.value("s").and_then(size_of) else {
        return context
            .fail(1, "truncate: you must specify a ‘--size’ that the lab knows: a number with K, M, G or T")
            .await;
    };
    let (create, mode) = (!options.has("c"), 0o666 & !context.umask);
    each(context, "truncate", "cannot open", &options.operands, |files, path| {
        if !files.exists(path) {
            if !create {
                return Ok(());
            }
            files.create(path, mode)?;
        }
        files.truncate(path, length)
    })
    .await
}

pub(super) async fn mktemp(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "mktemp", arguments, &["d|directory", "p|tmpdir=", "t", "q", "u"]);
    let template = options.operands.first().map_or("tmp.XXXXXXXXXX", String::as_str);
    let marks = template.len() - template.trim_end_matches('X').len();
    if marks < 3 {
        return context.fail(1, format!("mktemp: too few X's in template ‘{template}’")).await;
    }
    let in_tmp = options.operands.is_empty() || options.has("t") || options.has("p");
    let base = if in_tmp {
        format!("{}/", options.value("p").unwrap_or("/tmp").trim_end_matches('/'))
    } else {
        String::new()
    };
    let (directory, only_name) = (options.has("d"), options.has("u"));
    let made = context.node.world.with(|world| {
        use rand::Rng as _;
        let letters: String = (0..marks)
            .map(|_| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[(world.random.next_u32() % 32) as usize]))
            .collect();
        let name = format!("{base}{}{letters}", &template[..template.len() - marks]);
        let path = context.absolute(&name);
        let mut files = NodeFiles::new(world, &context.node.name);
        let done = match (only_name, directory) {
            (true, _) => Ok(()),
            (false, true) => files.create_dir(&path).and_then(|()| files.set_mode(&path, 0o700)),
            (false, false) => files.create_new(&path, 0o600),
        };
        done.map(|()| name.clone()).map_err(|error| (name, error))
    });
    match made {
        Ok(name) => context.line(name).await.map(|()| 0),
        Err((_, error)) => {
            let what = if directory { "directory" } else { "file" };
            context
                .fail(1, format!("mktemp: failed to create {what} via template ‘{base}{template}’: {error}"))
                .await
        }
    }
}

pub(super) async fn real_path(context: &Context, name: &str, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        name,
        arguments,
        &["f|canonicalize", "e|canonicalize-existing", "m|canonicalize-missing", "n|no-newline", "q", "s"]
    );
    if options.operands.is_empty() {
        return missing_operand(context, name).await;
    }
    let plain_link = name == "readlink" && !["f", "e", "m"].iter().any(|option| options.has(option));
    let mut status = 0;
    for operand in &options.operands {
        let path = context.absolute(operand);
        let found = context.node.files(|files| {
            if plain_link {
                return files.read_link(&path);
            }
            match files.real_path(&path) {
                Err(FsError::NotFound) if !options.has("e") => {
                    let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
                    let known =
                        options.has("m") || files.exists(if parent.is_empty() { "/" } else { parent });
                    if known { Ok(path.clone()) } else { Err(FsError::NotFound) }
                }
                other => other,
            }
        });
        match found {
            Ok(text) => context.line(text).await?,
            Err(_) if name == "readlink" => status = 1,
            Err(error) => {
                context.complain(format!("realpath: {operand}: {error}")).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

pub(super) async fn tee(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(context, "tee", arguments, &["a|append"]);
    let append = options.has("a");
    let mut offsets = Vec::new();
    let mut status = 0;
    for operand in &options.operands {
        let path = context.absolute(operand);
        let opened = context.node.files(|files| {
            files.create(&path, 0o666 & !context.umask)?;
            if !append {
                files.truncate(&path, 0)?;
            }
            files.stat(&path).map(|stat| stat.size)
        });
        match opened {
            Ok(offset) => offsets.push((operand, path, offset)),
            Err(error) => {
                context.complain(format!("tee: {operand}: {error}")).await?;
                status = 1;
            }
        }
    }
    while let Some(piece) = context.streams.stdin.read().await {
        for (operand, path, offset) in &mut offsets {
            if let Err(error) = context.node.files(|files| files.write_at(path, *offset, &piece)) {
                context.complain(format!("tee: {operand}: {error}")).await?;
                status = 1;
            }
            *offset += piece.len() as u64;
        }
        context.print(piece).await?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        for (text, old, expect) in [
            ("600", 0o644, Some(0o600)),
            ("u+x", 0o644, Some(0o744)),
            ("go-rwx", 0o755, Some(0o700)),
            ("a=r", 0o777, Some(0o444)),
            ("+w", 0o400, Some(0o622)),
            ("u+q", 0, None),
            ("999", 0, None),
        ] {
            assert_eq!(new_mode(text, old, false), expect, "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expect) in [
            ("10", Some(10)),
            ("4K", Some(4096)),
            ("2GiB", Some(2 << 30)),
            ("x", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(size_of(text), expect, "{text}");
        }
    }
}
