//! Every variable that vmdeploy reads, named once; `.env.example` is compared with this list by a test.

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is for, as a sentence.
    pub about: &'static str,
    /// Whether its value must never be seen.
    pub secret: bool,
    /// Whether it belongs into `.env`; the others are given by the system or on the command line.
    pub in_dotenv: bool,
}

/// The names.
pub mod names {
    use super::super::ConnectionVariable;

    /// The host of the API.
    pub const API_HOST: ConnectionVariable = ConnectionVariable("PROXMOX_API_HOST");
    /// The port of the API.
    pub const API_PORT: ConnectionVariable = ConnectionVariable("PROXMOX_API_PORT");
    /// The user or token.
    pub const API_USER: ConnectionVariable = ConnectionVariable("PROXMOX_API_USER");
    /// The password or token secret.
    pub const API_PASSWORD: ConnectionVariable = ConnectionVariable("PROXMOX_API_PASSWORD");
    /// The one-time password of a user with a second factor.
    pub const API_TOTP: ConnectionVariable = ConnectionVariable("PROXMOX_API_TOTP");
    /// A file with the CA's certificate.
    pub const API_CA: ConnectionVariable = ConnectionVariable("PROXMOX_API_CA");
    /// The certificate's fingerprint.
    pub const API_FINGERPRINT: ConnectionVariable = ConnectionVariable("PROXMOX_API_FINGERPRINT");
    /// The node for VMs that name none.
    pub const NODE: &str = "PROXMOX_NODE";
    /// The SSH user.
    pub const SSH_USER: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_USER");
    /// The SSH host.
    pub const SSH_HOST: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_HOST");
    /// The SSH port.
    pub const SSH_PORT: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_PORT");
    /// The SSH private key.
    pub const SSH_KEY: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_KEY");
    /// A file with the passphrase of the private key.
    pub const SSH_PASSPHRASE_FILE: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_PASSPHRASE_FILE");
    /// A command that prints the passphrase of the private key.
    pub const SSH_PASSPHRASE_COMMAND: ConnectionVariable =
        ConnectionVariable("PROXMOX_SSH_PASSPHRASE_COMMAND");
    /// The password for SSH.
    pub const SSH_PASSWORD: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_PASSWORD");
    /// The known host keys.
    pub const SSH_KNOWN_HOSTS: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_KNOWN_HOSTS");
    /// A jump host.
    pub const SSH_JUMP: ConnectionVariable = ConnectionVariable("PROXMOX_SSH_JUMP");
    /// The spec where a command names none.
    pub const SPEC: &str = "VMDEPLOY_SPEC";
    /// Where runs are kept.
    pub const RUNS: &str = "VMDEPLOY_RUNS";
    /// Where the keys of `github:NAME` are fetched.
    pub const GITHUB_URL: &str = "VMDEPLOY_GITHUB_URL";
    /// Where the keys of `gitlab:NAME` are fetched.
    pub const GITLAB_URL: &str = "VMDEPLOY_GITLAB_URL";
    /// The confirmation of `destroy` that scripts of older days set.
    pub const CONFIRM_DELETE: &str = "CONFIRM_DELETE";
    /// The lab's root password, which `vmdeploy lab` writes and nothing reads.
    pub const LAB_ROOT_PASSWORD: &str = "PVE_LAB_ROOT_PASSWORD";
    /// The home folder.
    pub const HOME: &str = "HOME";
    /// The SSH agent's socket.
    pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
}

use names as n;

/// All variables, in the order of `.env.example`.
pub const ALL: &[Variable] = &[
    setting(
        n::API_HOST.name(),
        "Name or address of a PVE node that serves the API; several are separated by commas.",
    ),
    setting(n::API_PORT.name(), "Port of the API [default: 8006]."),
    setting(n::API_USER.name(), "`user@realm`, or `user@realm!token` for an API token."),
    secret(n::API_PASSWORD.name(), "The user's password, or the token's secret."),
    secret(n::API_TOTP.name(), "One-time password, for a user with a second factor; tokens need none."),
    setting(
        n::API_CA.name(),
        "File with the CA certificate of the API [default: the system's root certificates].",
    ),
    setting(n::API_FINGERPRINT.name(), "SHA-256 fingerprint that the API's certificate must have."),
    setting(n::NODE, "Node for VMs whose spec sets none."),
    setting(n::SSH_USER.name(), "User on the nodes: root, or a user with passwordless sudo [default: root]."),
    setting(n::SSH_HOST.name(), "Host for SSH [default: the API's host]."),
    setting(n::SSH_PORT.name(), "Port for SSH [default: 22]."),
    setting(
        n::SSH_KEY.name(),
        "Private key file [default: ~/.ssh/id_ed25519, then ~/.ssh/id_rsa, then the SSH agent].",
    ),
    setting(
        n::SSH_PASSPHRASE_FILE.name(),
        "File whose first line is the key's passphrase [default: ask on the terminal].",
    ),
    setting(n::SSH_PASSPHRASE_COMMAND.name(), "Command, without a shell, that prints the key's passphrase."),
    secret(n::SSH_PASSWORD.name(), "Password of the SSH user, for nodes that accept no key; tried last."),
    setting(n::SSH_KNOWN_HOSTS.name(), "File with the nodes' host keys [default: ~/.ssh/known_hosts]."),
    setting(n::SSH_JUMP.name(), "Jump host, as `[user@]host[:port]`."),
    setting(n::SPEC, "Spec file or folder for commands without a SPEC argument."),
    setting(n::RUNS, "Folder for the plans and journals of runs [default: .vmdeploy/runs]."),
    setting(n::GITHUB_URL, "Server for SSH keys written as `github:NAME` [default: https://github.com]."),
    setting(n::GITLAB_URL, "Server for SSH keys written as `gitlab:NAME` [default: https://gitlab.com]."),
    other(n::CONFIRM_DELETE, "`true` confirms `destroy`, as `--yes` does."),
    Variable { secret: true, ..other(n::LAB_ROOT_PASSWORD, "The lab's root password.") },
    other(n::HOME, "The home folder."),
    other(n::SSH_AUTH_SOCK, "The SSH agent's socket."),
];

const fn setting(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about, secret: false, in_dotenv: true }
}

const fn secret(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about, secret: true, in_dotenv: true }
}

const fn other(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about, secret: false, in_dotenv: false }
}
