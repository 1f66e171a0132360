//! The top of a spec: clusters, images, profiles.

use super::groups::{GROUP, ROLLOUT};
use super::rules;
use super::vm::{MOVED_FROM, VM};
use super::{Field, Kind, Nullable, Object, field};
use Kind::{Bool, Choice, Duration, Int, List, Map, Number, OneOrMany, Size, Text};

pub(crate) const TOP: Object = Object::new(
    "spec",
    "One spec file. All files of a folder form one spec.",
    &[
        field("version", Int(1, 1), "version of the spec format").required(),
        field(
            "project",
            Text(&rules::PROJECT),
            "project that owns the VMs; part of every ownership marker; set it in one file only",
        ),
        field(
            "transport",
            Choice(&["hybrid", "auto", "api", "ssh"]),
            "how steps reach the cluster; `--transport` overrides it",
        )
        .default("hybrid"),
        field(
            "moved_from",
            Kind::Object(&MOVED_FROM),
            "former project or cluster key of all VMs, unless a VM sets its own `moved_from`",
        ),
        field(
            "clusters",
            Map(&rules::WORD, &Kind::Object(&CLUSTER), Nullable::No),
            "clusters and how to connect to them; if absent, the environment defines one cluster named `default`",
        ),
        field("images", Map(&rules::WORD, &Kind::Object(&IMAGE), Nullable::No), "sources for disks"),
        field("defaults", Kind::Object(&VM), "values for every VM that does not set its own"),
        field(
            "profiles",
            Map(&rules::WORD, &Kind::Object(&VM), Nullable::No),
            "values for every VM that names the profile in `profile`",
        ),
        field("vms", Map(&rules::GUEST, &Kind::Object(&VM), Nullable::No), "VMs by name"),
        field(
            "groups",
            Map(&rules::GROUP_NAME, &Kind::Object(&GROUP), Nullable::No),
            "groups of similar VMs by name",
        ),
        field(
            "address_pools",
            Map(&rules::WORD, &Kind::Object(&ADDRESS_POOL), Nullable::No),
            "ranges of addresses that NICs draw from, with `ip: {pool: NAME}`",
        ),
        field(
            "rollout",
            Kind::Object(&ROLLOUT),
            "the rollout of groups that do not say their own, and of all VMs that are in no group",
        )
        .default("one VM at a time"),
    ],
);

pub(crate) const LOCK: Object = Object::new(
    "lock",
    "A lock file: VMIDs that were allocated, committed to git.",
    &[
        field("version", Int(1, 1), "version of the spec format").required(),
        field("project", Text(&rules::PROJECT), "project of the VMIDs").required(),
        field(
            "vmids",
            Map(&rules::WORD, &Map(&rules::GUEST, &Int(100, 999_999_999), Nullable::No), Nullable::No),
            "VMIDs by cluster and VM name",
        ),
        field(
            "addresses",
            Map(
                &rules::WORD,
                &Map(
                    &rules::GUEST,
                    &Map(&rules::NET_SLOT, &Text(&rules::GATEWAY4), Nullable::No),
                    Nullable::No,
                ),
                Nullable::No,
            ),
            "the addresses drawn from pools, by cluster, VM and NIC",
        ),
    ],
);

const ADDRESS_POOL: Object = Object::new(
    "address_pool",
    "IPv4 addresses of one network that NICs draw from.",
    &[
        field("range", Text(&rules::ADDRESS_RANGE), "the first and the last address").required(),
        field("prefix", Int(8, 32), "the prefix length of the network").required(),
        field(
            "gateway",
            Text(&rules::GATEWAY4),
            "the gateway of NICs that do not say their own; never drawn",
        ),
        field("exclude", OneOrMany(&Text(&rules::GATEWAY4)), "addresses of the range that are never drawn")
            .default("none"),
    ],
);

const SECRET_FIELDS: [Field; 3] = [
    field("env", Text(&rules::ENV), "name of an environment variable; `PROXMOX_*` is refused"),
    field(
        "file",
        Text(&rules::PATH),
        "path of a file, relative to the spec's folder; a trailing line break is removed",
    ),
    field(
        "command",
        List(&Text(&rules::LINE)),
        "program and arguments; its standard output is the secret; runs only in `deploy`, with `--allow-commands`",
    ),
];

pub(crate) const SECRET: Object =
    Object::new("secret", "Source of a secret; never the secret itself.", &SECRET_FIELDS)
        .exactly_one(&["env", "file", "command"])
        .secret();

const CLUSTER: Object = Object::new(
    "cluster",
    "A cluster and how to connect to it.",
    &[
        field("endpoints", OneOrMany(&Text(&rules::ENDPOINT)), "API addresses, tried in order")
            .default("from PROXMOX_API_HOST"),
        field("auth", Kind::Object(&AUTH), "credentials for the cluster's API")
            .default("from PROXMOX_API_USER, for PROXMOX_API_HOST only"),
        field("tls", Kind::Object(&TLS), "TLS verification; it cannot be disabled")
            .default("the system's root certificates"),
        field("ssh", Kind::Object(&SSH), "SSH access to the nodes"),
        field("limits", Kind::Object(&LIMITS), "limits on parallel operations and on storage overcommitment"),
        field("node", Text(&rules::NODE), "node for VMs that set none"),
    ],
);

const AUTH: Object = Object::new(
    "auth",
    "Credentials for a cluster's API.",
    &[
        field("token_id", Text(&rules::USER), "API token, `user@realm!name`"),
        field("user", Text(&rules::USER), "user, `user@realm`"),
        field("secret", Kind::Object(&SECRET), "the token's secret or the user's password").required(),
        field("totp", Kind::Object(&SECRET), "TOTP key, for a user with a second factor"),
    ],
)
.exactly_one(&["token_id", "user"]);

const TLS: Object = Object::new(
    "tls",
    "TLS verification of the API.",
    &[
        field(
            "fingerprint",
            Text(&rules::FINGERPRINT),
            "SHA-256 fingerprint of the certificate; if set, the certificate must match it even if a CA signed it",
        ),
        field("ca_file", Text(&rules::PATH), "PEM file with the CA certificate to trust"),
    ],
);

const SSH: Object = Object::new(
    "ssh",
    "SSH access to the nodes. Host keys are always verified.",
    &[
        field("user", Text(&rules::CI_USER), "user on the node").default("root"),
        field("sudo", Bool, "run commands with `sudo -n`").default("false"),
        field("port", Int(1, 65535), "port number").default("22"),
        field("identity", Text(&rules::PATH), "private key file")
            .default("~/.ssh/id_ed25519, then ~/.ssh/id_rsa, then the SSH agent"),
        field("agent", Bool, "use keys of the SSH agent").default("true"),
        field("jump", Text(&rules::JUMP), "jump host, `user@host:port`"),
        field("known_hosts", Text(&rules::PATH), "file with the nodes' host keys")
            .default("~/.ssh/known_hosts"),
        field(
            "nodes",
            Map(&rules::NODE, &Kind::Object(&SSH_NODE), Nullable::No),
            "SSH address of each node, where it differs from the address that the cluster reports",
        ),
    ],
);

const SSH_NODE: Object = Object::new(
    "ssh_node",
    "SSH address of a node.",
    &[
        field("host", Text(&rules::HOST), "host name or address").required(),
        field("port", Int(1, 65535), "port, where it differs from the cluster's"),
    ],
)
.shorthand("host");

const LIMITS: Object = Object::new(
    "limits",
    "Limits on parallel operations and on storage overcommitment.",
    &[
        field("per_node", Int(1, 64), "maximum parallel steps per node and transport").default("4"),
        field("per_storage", Int(1, 64), "maximum parallel copies to one storage").default("2"),
        field("per_source", Int(1, 64), "maximum parallel clones of one source").default("1"),
        field(
            "overcommit",
            Number(0.1, 1000.0),
            "maximum ratio of the total size of all disks on a thin storage (existing and planned) to the storage's size; `1.0` forbids overcommitment",
        )
        .default("no limit; the plan prints a note"),
    ],
);

const IMAGE: Object = Object::new(
    "image",
    "Source for disks.",
    &[
        field(
            "path",
            Text(&rules::NODE_PATH),
            "file on the node (imported by `qm importdisk`; needs SSH or root@pam)",
        ),
        field(
            "volume",
            Text(&rules::VOLUME),
            "existing volume: one with `import` content, or a disk of another VM",
        ),
        field(
            "file",
            Text(&rules::PATH),
            "file on this machine, relative to the spec's folder; vmdeploy uploads it",
        ),
        field("url", Text(&rules::URL), "URL that PVE downloads from; requires `checksum`"),
        field(
            "build",
            Kind::Object(&BUILD),
            "how `vmdeploy image build` builds it in a VM; the result is then uploaded like a `file`",
        ),
        field("checksum", Text(&rules::CHECKSUM), "expected checksum; verified before the image is used"),
        field("format", Choice(&["qcow2", "raw", "vmdk"]), "format of the image")
            .default("from the file name"),
        field(
            "size",
            Size(1, u64::MAX, 1),
            "virtual size of the image; a smaller disk is then refused by `validate`",
        )
        .default("read when planning"),
        field("store", Kind::Object(&STORE), "where the image is stored on the cluster")
            .default("a storage with `import` content"),
        field(
            "template",
            Text(&rules::GUEST),
            "VM of this spec with `template: true` that `clone: linked` and `clone: full` use for this image",
        )
        .default("the only template created from this image"),
    ],
)
.exactly_one(&["path", "volume", "file", "url", "build"]);

const STORE: Object = Object::new(
    "store",
    "Where an image is stored on the cluster.",
    &[
        field("storage", Text(&rules::STORAGE), "name of the storage").required(),
        field("content", Choice(&["import", "iso"]), "content type; PVE before 8.4 needs `iso`")
            .default("import"),
    ],
)
.shorthand("storage");

const BUILD: Object = Object::new(
    "build",
    "How an image is built in a VM.",
    &[
        field("vm", Text(&rules::GUEST), "VM of this spec that runs the build").required(),
        field(
            "source",
            Text(&rules::PATH),
            "folder to send to the builder, without `.git`; relative to the spec's folder",
        ),
        field("command", Text(&rules::LINE), "shell command to run in that folder").required(),
        field(
            "output",
            Text(&rules::PATH),
            "file that the command produces, relative to that folder; a pattern must match exactly one file",
        )
        .required(),
        field("file", Text(&rules::PATH), "local file for the result").default("images/NAME.FORMAT"),
        field(
            "env",
            Map(&rules::ENV, &Text(&rules::LINE), Nullable::No),
            "environment variables of the command",
        ),
        field(
            "secrets",
            Map(&rules::ENV, &Kind::Object(&SECRET), Nullable::No),
            "secret environment variables of the command; never in its arguments or in the log",
        ),
        field("timeout", Duration, "maximum duration of the build").default("1h"),
    ],
);
