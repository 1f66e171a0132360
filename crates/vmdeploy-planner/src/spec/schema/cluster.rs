//! The top of a spec: clusters, images, profiles.

use super::groups::{GROUP, ROLLOUT};
use super::rules;
use super::vm::{MOVED_FROM, VM};
use super::{Field, Kind, Nullable, Object, field};
use Kind::{Bool, Choice, Duration, Int, List, Map, Number, OneOrMany, Size, Text};

pub(crate) const TOP: Object = Object::new(
    "spec",
    "One file of a spec; the files of a folder are read as one.",
    &[
        field("version", Int(1, 1), "the version of this language").required(),
        field(
            "project",
            Text(&rules::PROJECT),
            "what the VMs belong to; part of every VM's ownership marker; said once",
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
            "the project or cluster key that all VMs had which do not say their own",
        ),
        field(
            "clusters",
            Map(&rules::WORD, &Kind::Object(&CLUSTER), Nullable::No),
            "the clusters and how they are reached; without any, the environment says it (cluster `default`)",
        ),
        field("images", Map(&rules::WORD, &Kind::Object(&IMAGE), Nullable::No), "what disks are made from"),
        field("defaults", Kind::Object(&VM), "what holds for every VM that does not say otherwise"),
        field(
            "profiles",
            Map(&rules::WORD, &Kind::Object(&VM), Nullable::No),
            "what VMs with this `profile` have in common",
        ),
        field("vms", Map(&rules::GUEST, &Kind::Object(&VM), Nullable::No), "the VMs by name"),
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
    "A lock file: the numbers that were drawn, kept in git.",
    &[
        field("version", Int(1, 1), "the version of this language").required(),
        field("project", Text(&rules::PROJECT), "the project that it belongs to").required(),
        field(
            "vmids",
            Map(&rules::WORD, &Map(&rules::GUEST, &Int(100, 999_999_999), Nullable::No), Nullable::No),
            "the numbers by cluster and VM",
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
    field("env", Text(&rules::ENV), "an environment variable; not `PROXMOX_*`"),
    field("file", Text(&rules::PATH), "a file, relative to the spec's folder; without its last line end"),
    field(
        "command",
        List(&Text(&rules::LINE)),
        "what a command prints; runs only in `deploy`, with `--allow-commands`",
    ),
];

pub(crate) const SECRET: Object =
    Object::new("secret", "Where a secret comes from; never the secret itself.", &SECRET_FIELDS)
        .exactly_one(&["env", "file", "command"])
        .secret();

const CLUSTER: Object = Object::new(
    "cluster",
    "A cluster and how it is reached.",
    &[
        field("endpoints", OneOrMany(&Text(&rules::ENDPOINT)), "its API addresses, tried in order")
            .default("from PROXMOX_API_HOST"),
        field("auth", Kind::Object(&AUTH), "who we are there")
            .default("from PROXMOX_API_USER, for PROXMOX_API_HOST only"),
        field("tls", Kind::Object(&TLS), "how its certificate is verified; never not at all")
            .default("system trust"),
        field("ssh", Kind::Object(&SSH), "how its nodes are reached by SSH"),
        field("limits", Kind::Object(&LIMITS), "how much is done at once"),
        field("node", Text(&rules::NODE), "the node for VMs that name none"),
    ],
);

const AUTH: Object = Object::new(
    "auth",
    "Credentials for a cluster's API.",
    &[
        field("token_id", Text(&rules::USER), "a token: `user@realm!name`"),
        field("user", Text(&rules::USER), "a user: `user@realm`"),
        field("secret", Kind::Object(&SECRET), "the token's secret or the user's password").required(),
        field("totp", Kind::Object(&SECRET), "the TOTP key of a user who needs a second factor"),
    ],
)
.exactly_one(&["token_id", "user"]);

const TLS: Object = Object::new(
    "tls",
    "How a certificate is verified.",
    &[
        field(
            "fingerprint",
            Text(&rules::FINGERPRINT),
            "the SHA-256 that the certificate must have, whatever else is set",
        ),
        field("ca_file", Text(&rules::PATH), "a file with the certificate of the authority that is trusted"),
    ],
);

const SSH: Object = Object::new(
    "ssh",
    "How nodes are reached by SSH; host keys are always verified.",
    &[
        field("user", Text(&rules::CI_USER), "the user on the node").default("root"),
        field("sudo", Bool, "whether commands go through `sudo -n`").default("false"),
        field("port", Int(1, 65535), "the port").default("22"),
        field("identity", Text(&rules::PATH), "the private key's file")
            .default("~/.ssh/id_ed25519, then id_rsa, then the agent"),
        field("agent", Bool, "whether the SSH agent is asked").default("true"),
        field("jump", Text(&rules::JUMP), "a host to go through, `user@host:port`"),
        field("known_hosts", Text(&rules::PATH), "the file of known host keys").default("~/.ssh/known_hosts"),
        field(
            "nodes",
            Map(&rules::NODE, &Kind::Object(&SSH_NODE), Nullable::No),
            "where a node answers, if not at its name",
        ),
    ],
);

const SSH_NODE: Object = Object::new(
    "ssh_node",
    "Where a node answers by SSH.",
    &[
        field("host", Text(&rules::HOST), "host name or address").required(),
        field("port", Int(1, 65535), "the port, if not the cluster's"),
    ],
)
.shorthand("host");

const LIMITS: Object = Object::new(
    "limits",
    "How much is done at once.",
    &[
        field("per_node", Int(1, 64), "steps at once on one node, by each transport").default("4"),
        field("per_storage", Int(1, 64), "copies at once to one storage").default("2"),
        field("per_source", Int(1, 64), "clones at once of one source").default("1"),
        field(
            "overcommit",
            Number(0.1, 1000.0),
            "how much larger than a thin storage its disks may be, what it holds and what a plan adds together; `1.0` is not larger",
        )
        .default("no limit; a plan warns"),
    ],
);

const IMAGE: Object = Object::new(
    "image",
    "What disks are made from; from exactly one place.",
    &[
        field("path", Text(&rules::NODE_PATH), "a file on the node (`qm importdisk`; needs SSH or root@pam)"),
        field(
            "volume",
            Text(&rules::VOLUME),
            "a volume that PVE has: `import` content, or another VM's disk",
        ),
        field(
            "file",
            Text(&rules::PATH),
            "a file on this machine, relative to the spec's folder; it is uploaded",
        ),
        field("url", Text(&rules::URL), "where PVE downloads it from; needs `checksum`"),
        field(
            "build",
            Kind::Object(&BUILD),
            "how `image build` makes it in a VM; then it is used like `file`",
        ),
        field("checksum", Text(&rules::CHECKSUM), "verified before the image is used"),
        field("format", Choice(&["qcow2", "raw", "vmdk"]), "the image's format").default("from its name"),
        field(
            "size",
            Size(1, u64::MAX, 1),
            "the size of the disk in it, so that a smaller disk is refused early",
        )
        .default("asked for when planning"),
        field("store", Kind::Object(&STORE), "where it is placed").default("a storage with content `import`"),
        field(
            "template",
            Text(&rules::GUEST),
            "the VM of this spec with `template: true` that `clone: linked` clones",
        )
        .default("the only template made of this image"),
    ],
)
.exactly_one(&["path", "volume", "file", "url", "build"]);

const STORE: Object = Object::new(
    "store",
    "Where an image is placed.",
    &[
        field("storage", Text(&rules::STORAGE), "the storage").required(),
        field("content", Choice(&["import", "iso"]), "as what; `iso` for PVE before 8.4").default("import"),
    ],
)
.shorthand("storage");

const BUILD: Object = Object::new(
    "build",
    "How an image is made in a VM.",
    &[
        field("vm", Text(&rules::GUEST), "the VM of this spec that builds").required(),
        field(
            "source",
            Text(&rules::PATH),
            "the folder that is sent there, without `.git`; relative to the spec's folder",
        ),
        field("command", Text(&rules::LINE), "what is run there, in that folder").required(),
        field(
            "output",
            Text(&rules::PATH),
            "the file that it makes there, relative to that folder; a pattern with one match is allowed",
        )
        .required(),
        field("file", Text(&rules::PATH), "the file that it becomes here").default("images/NAME.FORMAT"),
        field("env", Map(&rules::ENV, &Text(&rules::LINE), Nullable::No), "environment of the command"),
        field(
            "secrets",
            Map(&rules::ENV, &Kind::Object(&SECRET), Nullable::No),
            "environment of the command that nobody may see; never an argument, never in the log",
        ),
        field("timeout", Duration, "how long it may take").default("1h"),
    ],
);
