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
    /// The host of the API.
    pub const API_HOST: &str = "PROXMOX_API_HOST";
    /// The port of the API.
    pub const API_PORT: &str = "PROXMOX_API_PORT";
    /// The user or token.
    pub const API_USER: &str = "PROXMOX_API_USER";
    /// The password or token secret.
    pub const API_PASSWORD: &str = "PROXMOX_API_PASSWORD";
    /// The one-time password of a user with a second factor.
    pub const API_TOTP: &str = "PROXMOX_API_TOTP";
    /// A file with the CA's certificate.
    pub const API_CA: &str = "PROXMOX_API_CA";
    /// The certificate's fingerprint.
    pub const API_FINGERPRINT: &str = "PROXMOX_API_FINGERPRINT";
    /// The node for VMs that name none.
    pub const NODE: &str = "PROXMOX_NODE";
    /// The SSH user.
    pub const SSH_USER: &str = "PROXMOX_SSH_USER";
    /// The SSH host.
    pub const SSH_HOST: &str = "PROXMOX_SSH_HOST";
    /// The SSH port.
    pub const SSH_PORT: &str = "PROXMOX_SSH_PORT";
    /// The SSH private key.
    pub const SSH_KEY: &str = "PROXMOX_SSH_KEY";
    /// A file with the passphrase of the private key.
    pub const SSH_PASSPHRASE_FILE: &str = "PROXMOX_SSH_PASSPHRASE_FILE";
    /// A command that prints the passphrase of the private key.
    pub const SSH_PASSPHRASE_COMMAND: &str = "PROXMOX_SSH_PASSPHRASE_COMMAND";
    /// The password for SSH.
    pub const SSH_PASSWORD: &str = "PROXMOX_SSH_PASSWORD";
    /// The known host keys.
    pub const SSH_KNOWN_HOSTS: &str = "PROXMOX_SSH_KNOWN_HOSTS";
    /// A jump host.
    pub const SSH_JUMP: &str = "PROXMOX_SSH_JUMP";
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
    setting(n::API_HOST, "Name or address of a PVE node, whose API is used."),
    setting(n::API_PORT, "Port of the API; 8006 where it is not set."),
    setting(n::API_USER, "`user@realm`, or `user@realm!token` for an API token."),
    secret(n::API_PASSWORD, "The user's password, or the token's secret."),
    secret(n::API_TOTP, "One-time password, for a user with a second factor; tokens need none."),
    setting(n::API_CA, "File with the CA certificate that signed the API's; else the system's roots."),
    setting(n::API_FINGERPRINT, "SHA-256 fingerprint of the API's certificate; it then must match."),
    setting(n::NODE, "Node for VMs whose spec names none."),
    setting(n::SSH_USER, "User on the nodes: root, or one who may use sudo; root where it is not set."),
    setting(n::SSH_HOST, "Host for SSH; the API's host where it is not set."),
    setting(n::SSH_PORT, "Port for SSH; 22 where it is not set."),
    setting(n::SSH_KEY, "Private key; else ~/.ssh/id_ed25519, then ~/.ssh/id_rsa, then the agent."),
    setting(n::SSH_PASSPHRASE_FILE, "File whose first line is the key's passphrase; else it is asked for."),
    setting(n::SSH_PASSPHRASE_COMMAND, "Command, without a shell, that prints the key's passphrase."),
    secret(n::SSH_PASSWORD, "Password of the SSH user, for nodes that take no key; tried last."),
    setting(n::SSH_KNOWN_HOSTS, "File with the nodes' host keys; ~/.ssh/known_hosts where it is not set."),
    setting(n::SSH_JUMP, "Jump host, as `[user@]host[:port]`."),
    setting(n::SPEC, "Spec file or folder for commands that are given none."),
    setting(
        n::RUNS,
        "Folder in which plans and journals of runs are kept; .vmdeploy/runs where it is not set.",
    ),
    setting(
        n::GITHUB_URL,
        "Server of the SSH keys that a spec writes as `github:NAME`; else https://github.com.",
    ),
    setting(
        n::GITLAB_URL,
        "Server of the SSH keys that a spec writes as `gitlab:NAME`; else https://gitlab.com.",
    ),
    other(n::CONFIRM_DELETE, "Set to `true`, it confirms `destroy` as `--yes` does."),
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
