//! Building something on a host: a work folder, the source unpacked into it, and the build's own command.

use super::{Command, NulByte, quote};

/// Reads the environment from stdin, so that no value is an argument that others on the host could see; then becomes
/// the build's own command, which reads nothing. Nothing of a spec is part of this text.
// `eval "$(cat)"` and not `. /dev/stdin`: sshd may give a socket, which cannot be opened by name.
const SCRIPT: &str = r#"vmdeploy_environment=$(cat) && eval "$vmdeploy_environment" && unset vmdeploy_environment && cd -- "$1" && exec </dev/null sh -c "$2""#;

/// Returns `mkdir -m 700 -- FOLDER`: it fails if the folder exists, so that it cannot have been prepared by another user.
pub fn make_folder(folder: &str) -> Command {
    Command::new("mkdir").args(["-m", "700", "--"]).arg(folder)
}

/// Returns `tar -xof - -C FOLDER`: unpacks an archive from stdin; the files belong to the user who runs it.
pub fn unpack(folder: &str) -> Command {
    Command::new("tar").args(["-x", "-o", "-f", "-", "-C"]).arg(folder)
}

/// Returns the command that runs `command`, shell text of a spec, in `folder`, with the environment that is given on
/// stdin as [`environment`] writes it.
pub fn run(folder: &str, command: &str) -> Command {
    Command::new("sh").args(["-c", SCRIPT, "vmdeploy-build"]).arg(folder).arg(command)
}

/// Returns the text that sets and exports variables in a shell, each value quoted.
///
/// # Errors
/// A value holds a NUL byte, which no variable can.
pub fn environment<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<u8>, NulByte> {
    let mut text = Vec::new();
    for (name, value) in variables {
        text.extend_from_slice(b"export ");
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend(quote(value.as_bytes())?);
        text.push(b'\n');
    }
    Ok(text)
}

/// Returns `find FOLDER -path PATTERN -type f -print0`. In `find`, `*` stands for a `/`, too: the caller looks again.
pub fn find(folder: &str, pattern: &str) -> Command {
    Command::new("find").arg(folder).args(["-path"]).arg(pattern).args(["-type", "f", "-print0"])
}

/// Returns `rm -rf -- FOLDER`.
pub fn remove_folder(folder: &str) -> Command {
    Command::new("rm").args(["-rf", "--"]).arg(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_environment_are_quoted_and_no_arguments() {
        let text = environment([("A", "it's $HOME `id`"), ("B", "x")]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "export A='it'\\''s $HOME `id`'\nexport B=x\n");
        assert_eq!(environment([("A", "a\0b")]), Err(NulByte));
        let command = run("/var/tmp/w", "make image && ls");
        assert!(command.to_string().ends_with("vmdeploy-build /var/tmp/w 'make image && ls'"), "{command}");
    }

    #[test]
    fn folders_cannot_become_options() {
        assert_eq!(make_folder("-p").to_string(), "mkdir -m 700 -- -p");
        assert_eq!(remove_folder("/a b").to_string(), "rm -rf -- '/a b'");
        assert_eq!(unpack("/a").to_string(), "tar -x -o -f - -C /a");
        assert_eq!(
            find("/a", "/a/out/*.qcow2").to_string(),
            "find /a -path '/a/out/*.qcow2' -type f -print0"
        );
    }
}
