//! Files on a node: configurations, images, the cluster lock.

use super::Command;

/// Returns one command that reads every guest's configuration, of all nodes of the cluster.
///
/// `grep` puts the path before each line, so that no content can be taken for a separator, and finds the files
/// itself, so that no shell needs to expand a pattern (which `sudo` could not). The configurations of
/// containers are among them; [`crate::parse::guest_configs`] tells them apart.
/// Exit status 1 means that there is no guest.
// PVE: /etc/pve/nodes/NODE/qemu-server/VMID.conf and …/lxc/VMID.conf.
pub fn guest_configs() -> Command {
    Command::new("grep").args(["-raH", "--include=*.conf", "", "/etc/pve/nodes"]).only_reads()
}

/// Returns `mkdir -- PATH`: it fails when the directory is there, which is what makes it a lock.
pub fn mkdir(path: &str) -> Command {
    Command::new("mkdir").arg("--").arg(path)
}

/// Returns `mkdir -p -- PATH`.
pub fn mkdir_parents(path: &str) -> Command {
    Command::new("mkdir").args(["-p", "--"]).arg(path)
}

/// Returns `mkdir -p -m 700 -- PATH`: a folder for its owner alone.
pub fn mkdir_private(path: &str) -> Command {
    Command::new("mkdir").args(["-p", "-m", "700", "--"]).arg(path)
}

/// Returns `rmdir -- PATH`.
pub fn rmdir(path: &str) -> Command {
    Command::new("rmdir").arg("--").arg(path)
}

/// Returns `touch -c -- PATH`: renews the time of what is there, and makes nothing.
pub fn touch(path: &str) -> Command {
    Command::new("touch").args(["-c", "--"]).arg(path)
}

/// Returns `stat -c '%s %Y %n' -- PATH`: size in bytes, time of last change, name.
pub fn stat(path: &str) -> Command {
    Command::new("stat").args(["-c", "%s %Y %n", "--"]).arg(path).only_reads()
}

/// Returns `sha256sum -- PATH`, or that of another length: `bits` is 1 (for SHA-1), 256 or 512.
pub fn checksum(bits: u16, path: &str) -> Command {
    Command::new(format!("sha{bits}sum")).arg("--").arg(path).only_reads()
}

/// Returns `ip neighbor show`: the addresses that the node has seen lately, with their MAC addresses.
pub fn neighbors() -> Command {
    Command::new("ip").args(["neighbor", "show"]).only_reads()
}

/// Returns `qemu-img info --output=json PATH`.
pub fn image_info(path: &str) -> Command {
    // A path that begins with `-` or holds a `:` would be read as an option or a protocol.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("./{path}") };
    Command::new("qemu-img").args(["info", "--output=json"]).arg(path).only_reads()
}

/// Returns `test -f PATH`.
pub fn is_file(path: &str) -> Command {
    Command::new("test").args(["-f"]).arg(path).only_reads()
}

/// Returns `cat -- PATH`.
pub fn read(path: &str) -> Command {
    Command::new("cat").arg("--").arg(path).only_reads()
}

/// Returns `mv -f -- FROM TO`.
pub fn rename(from: &str, to: &str) -> Command {
    Command::new("mv").args(["-f", "--"]).arg(from).arg(to)
}

/// Returns `rm -f -- PATH`.
pub fn remove(path: &str) -> Command {
    Command::new("rm").args(["-f", "--"]).arg(path)
}

/// Returns `sync -- PATH`: the file's content is on the disk when it ends.
pub fn sync(path: &str) -> Command {
    Command::new("sync").arg("--").arg(path)
}

/// Returns `ps -e -o args=`: the command line of every process.
pub fn processes() -> Command {
    Command::new("ps").args(["-e", "-o", "args="]).only_reads()
}

/// Returns `hostname`.
pub fn hostname() -> Command {
    Command::new("hostname").only_reads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_become_options() {
        for (command, expect) in [
            (guest_configs(), "grep -raH '--include=*.conf' '' /etc/pve/nodes"),
            (mkdir("/etc/pve/priv/lock/vmdeploy-web"), "mkdir -- /etc/pve/priv/lock/vmdeploy-web"),
            (mkdir_private("/run/x y"), "mkdir -p -m 700 -- '/run/x y'"),
            (rmdir("-p"), "rmdir -- -p"),
            (touch("/x"), "touch -c -- /x"),
            (stat("/a b"), "stat -c '%s %Y %n' -- '/a b'"),
            (checksum(256, "-c"), "sha256sum -- -c"),
            (image_info("-x"), "qemu-img info --output=json ./-x"),
            (rename("/a", "/b"), "mv -f -- /a /b"),
        ] {
            assert_eq!(command.to_string(), expect);
        }
    }
}
