//! Which programs there are.

use super::{Context, Exit, digest, files, listing, printf, pve, system, test_command, text, wrappers};

/// Programs of an ordinary node that the lab does not have; said so instead of `command not found`.
const NOT_MODELLED: [&str; 46] = [
    "apt",
    "apt-get",
    "at",
    "awk",
    "bzip2",
    "chgrp",
    "crontab",
    "curl",
    "dd",
    "dpkg",
    "find",
    "gawk",
    "gpg",
    "gunzip",
    "gzip",
    "journalctl",
    "less",
    "ln",
    "lvs",
    "md5sum",
    "mount",
    "nc",
    "nohup",
    "openssl",
    "pct-create",
    "perl",
    "ping",
    "pvs",
    "python3",
    "qemu-nbd",
    "rsync",
    "scp",
    "sed",
    "ssh",
    "ssh-keygen",
    "systemctl",
    "tar",
    "umount",
    "unzip",
    "vgs",
    "vi",
    "virt-customize",
    "wget",
    "xargs",
    "xz",
    "zstd",
];

/// Returns where a program lies, as `command -v` prints it.
pub(crate) fn path_of(name: &str) -> Option<String> {
    let plain = name.rsplit('/').next().unwrap_or(name);
    let directory = directory_of(plain)?;
    let path = format!("{directory}/{plain}");
    let usr_merged = path.strip_prefix("/usr").unwrap_or(&path);
    (!name.contains('/') || name == path || name == usr_merged).then_some(path)
}

fn directory_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "cat" | "mkdir" | "rm" | "rmdir" | "mv" | "cp" | "ls" | "touch" | "stat" | "readlink"
        | "realpath" | "mktemp" | "chmod" | "chown" | "truncate" | "tee" | "du" | "df" | "sync"
        | "sha1sum" | "sha256sum" | "sha384sum" | "sha512sum" | "test" | "[" | "echo" | "printf" | "head"
        | "tail" | "wc" | "grep" | "cut" | "sort" | "tr" | "basename" | "dirname" | "seq" | "hostname"
        | "whoami" | "id" | "uname" | "date" | "sleep" | "nproc" | "env" | "printenv" | "timeout"
        | "setsid" | "nice" | "ionice" | "sh" | "bash" | "dash" | "sudo" | "true" | "false" | "pwd"
        | "kill" | "ps" | "uptime" | "qemu-img" | "pvesh" | "pveversion" => "/usr/bin",
        "ip" | "qm" | "pvesm" | "pveum" | "pct" | "ha-manager" => "/usr/sbin",
        _ => return None,
    })
}

/// Tells whether a program deals with signals itself: wrappers, and what waits for a worker. An import of a disk has
/// no worker; a signal ends it where it is.
pub(super) fn handles_signals(arguments: &[String]) -> bool {
    let word = |index: usize| arguments.get(index).map_or("", String::as_str);
    match word(0).rsplit('/').next().unwrap_or_default() {
        "qm" => !(word(1) == "importdisk" || (word(1) == "disk" && word(2).starts_with("im"))),
        name => matches!(
            name,
            "pvesh"
                | "pvesm"
                | "timeout"
                | "sudo"
                | "env"
                | "setsid"
                | "nice"
                | "ionice"
                | "sh"
                | "bash"
                | "dash"
        ),
    }
}

/// Runs a program by its name.
pub(super) async fn run(context: &Context, arguments: &[String]) -> Exit {
    let Some((called, rest)) = arguments.split_first() else { return Ok(0) };
    let name = called.rsplit('/').next().unwrap_or(called);
    if path_of(called).is_none() {
        return not_found(context, called, name).await;
    }
    match name {
        "cat" => files::cat(context, rest).await,
        "mkdir" => files::mkdir(context, rest).await,
        "rm" => files::rm(context, rest).await,
        "rmdir" => files::rmdir(context, rest).await,
        "mv" => files::mv(context, rest).await,
        "cp" => files::cp(context, rest).await,
        "touch" => files::touch(context, rest).await,
        "chmod" => files::chmod(context, rest).await,
        "chown" => files::chown(context, rest).await,
        "truncate" => files::truncate(context, rest).await,
        "mktemp" => files::mktemp(context, rest).await,
        "readlink" | "realpath" => files::real_path(context, name, rest).await,
        "tee" => files::tee(context, rest).await,
        "ls" => listing::ls(context, rest).await,
        "stat" => listing::stat(context, rest).await,
        "df" => listing::df(context, rest).await,
        "du" => listing::du(context, rest).await,
        "sha1sum" | "sha256sum" | "sha384sum" | "sha512sum" => digest::sum(context, name, rest).await,
        "test" | "[" => test_command::test(context, name, rest).await,
        "echo" => printf::echo(context, rest).await,
        "printf" => printf::printf(context, rest).await,
        "head" | "tail" => text::head_or_tail(context, name, rest).await,
        "wc" => text::wc(context, rest).await,
        "grep" => text::grep(context, rest).await,
        "cut" => text::cut(context, rest).await,
        "sort" => text::sort(context, rest).await,
        "tr" => text::tr(context, rest).await,
        "basename" => text::basename(context, rest).await,
        "dirname" => text::dirname(context, rest).await,
        "seq" => text::seq(context, rest).await,
        "true" | "sync" => Ok(0),
        "false" => Ok(1),
        "pwd" => context.line(&context.directory).await.map(|()| 0),
        "hostname" => system::hostname(context, rest).await,
        "whoami" => context.line("root").await.map(|()| 0),
        "id" => system::id(context, rest).await,
        "uname" => system::uname(context, rest).await,
        "date" => system::date(context, rest).await,
        "sleep" => system::sleep(context, rest).await,
        "nproc" => system::nproc(context).await,
        "uptime" => system::uptime(context).await,
        "kill" => system::kill(context, rest).await,
        "ps" => system::ps(context).await,
        "ip" => system::ip(context, rest).await,
        "env" | "printenv" => wrappers::env(context, name, rest).await,
        "timeout" => wrappers::timeout(context, rest).await,
        "setsid" | "nice" | "ionice" => wrappers::pass_on(context, name, rest).await,
        "sh" | "bash" | "dash" => wrappers::shell(context, name, rest).await,
        "sudo" => wrappers::sudo(context, rest).await,
        "qemu-img" => pve::qemu_img(context, rest).await,
        _ => pve::run(context, name, rest).await,
    }
}

async fn not_found(context: &Context, called: &str, name: &str) -> Exit {
    if NOT_MODELLED.contains(&name) {
        return context
            .fail(127, format!("bash: line 1: {called}: the lab does not have this program"))
            .await;
    }
    let is_path = called.contains('/');
    let text = if is_path { "No such file or directory" } else { "command not found" };
    if is_path && context.node.files(|files| files.exists(&context.absolute(called))) {
        return context.fail(126, format!("bash: line 1: {called}: the lab runs no files")).await;
    }
    context.fail(127, format!("bash: line 1: {called}: {text}")).await
}
