//! The devices of a VM: disks, NICs, firmware, cloud-init, passthrough.

use super::{Field, Kind, Lower, Object, field, rules};
use Kind::{Bool, Choice, Int, List, Number, OneOf, OneOrMany, Size, Text};

const ANY: i64 = i64::MAX;
const FORMAT: Kind = Choice(&["raw", "qcow2", "vmdk"]);

pub(crate) const DISK: Object = Object::new("disk", "A disk or CD drive.", &[
    field("storage", Text(&rules::STORAGE), "the storage that it is on; needed for a disk that is made").means("`file`: storage"),
    field("size", Size(1 << 20, 1 << 50, 1 << 20), "its size, in whole MiB; it is grown to that, never shrunk").default("the image's"),
    field("image", Text(&rules::WORD), "the image of `images:` that it is made of").means("`import-from`, or `qm importdisk`"),
    field("volume", Text(&rules::VOLUME), "a volume that exists and is attached").means("`file`"),
    field("iso", OneOf(&[Choice(&["none", "cdrom"]), Text(&rules::VOLUME)]), "makes it a CD drive with this ISO image, with nothing in it (`none`), or the node's own (`cdrom`)").means("`file`, with `media=cdrom`"),
    field("format", FORMAT, "its format on storages of files").means("`format`").default("the storage's"),
    field("keep", OneOf(&[Bool, Kind::Object(&KEEP)]), "whether it survives the destruction of its VM; without a `holder` the destruction is refused").default("false"),
    field("role", Text(&rules::WORD), "a word that `lifecycle.keep_disks` can name"),
    field("cache", Choice(&["none", "writethrough", "writeback", "unsafe", "directsync"]), "the node's cache").of_device("cache"),
    field("aio", Choice(&["native", "threads", "io_uring"]), "how it is read and written").of_device("aio"),
    field("discard", Bool, "whether freed blocks are given back").of_device("discard").lower(Lower::OnIgnore),
    field("detect_zeroes", Bool, "whether zeroes are looked for").of_device("detect_zeroes"),
    field("ssd", Bool, "whether the guest sees an SSD; not on virtio").of_device("ssd"),
    field("iothread", Bool, "whether it has a thread of its own; scsi and virtio").of_device("iothread"),
    field("backup", Bool, "whether backups take it in").of_device("backup"),
    field("replicate", Bool, "whether replication takes it in").of_device("replicate"),
    field("shared", Bool, "whether it is the same on all nodes, whatever the storage says").of_device("shared"),
    field("snapshot", Bool, "whether what is written is thrown away").of_device("snapshot"),
    field("readonly", Bool, "whether it cannot be written; scsi and virtio").of_device("ro"),
    field("serial", Text(&rules::DISK_SERIAL), "the serial number that the guest sees").of_device("serial").lower(Lower::Percent),
    field("wwn", Text(&rules::WWN), "its world wide name; not on virtio").of_device("wwn"),
    field("model", Text(&rules::FIELD), "the model that the guest sees; ide").of_device("model").lower(Lower::Percent),
    field("vendor", Text(&rules::FIELD), "the vendor that the guest sees; scsi").of_device("vendor"),
    field("product", Text(&rules::FIELD), "the product that the guest sees; scsi").of_device("product"),
    field("queues", Int(2, 64), "its queues; scsi").of_device("queues"),
    field("scsiblock", Bool, "whether the node's device is passed through whole; scsi").of_device("scsiblock"),
    field("rerror", Choice(&["ignore", "report", "stop"]), "what follows a failed read").of_device("rerror"),
    field("werror", Choice(&["enospc", "ignore", "report", "stop"]), "what follows a failed write").of_device("werror"),
    field("throttle", Kind::Object(&THROTTLE), "how fast it may be"),
]);

const KEEP: Object = Object::new(
    "keep",
    "How a disk survives its VM.",
    &[field("holder", Int(100, 999_999_999), "the VM that it is handed to before its own is destroyed")
        .required()],
);

const THROTTLE: Object = Object::new(
    "throttle",
    "How fast a disk may be. `_max` is the burst, `_max_length` its length in seconds.",
    &[
        mbps("read_mbps", "mbps_rd", "reads, in MB a second"),
        mbps("write_mbps", "mbps_wr", "writes, in MB a second"),
        mbps("mbps", "mbps", "both together, in MB a second"),
        mbps("read_mbps_max", "mbps_rd_max", "a burst of reads, in MB a second"),
        mbps("write_mbps_max", "mbps_wr_max", "a burst of writes, in MB a second"),
        mbps("mbps_max", "mbps_max", "a burst of both, in MB a second"),
        count("read_iops", "iops_rd", "reads a second"),
        count("write_iops", "iops_wr", "writes a second"),
        count("iops", "iops", "both together, a second"),
        count("read_iops_max", "iops_rd_max", "a burst of reads, a second"),
        count("write_iops_max", "iops_wr_max", "a burst of writes, a second"),
        count("iops_max", "iops_max", "a burst of both, a second"),
        count("read_iops_max_length", "iops_rd_max_length", "the length of such a burst, in seconds"),
        count("write_iops_max_length", "iops_wr_max_length", "the length of such a burst, in seconds"),
        count("iops_max_length", "iops_max_length", "the length of such a burst, in seconds"),
        count("read_bps", "bps_rd", "reads, in bytes a second"),
        count("write_bps", "bps_wr", "writes, in bytes a second"),
        count("bps", "bps", "both together, in bytes a second"),
        count("read_bps_max_length", "bps_rd_max_length", "the length of a burst of reads, in seconds"),
        count("write_bps_max_length", "bps_wr_max_length", "the length of a burst of writes, in seconds"),
        count("bps_max_length", "bps_max_length", "the length of a burst, in seconds"),
    ],
);

const fn mbps(key: &'static str, part: &'static str, doc: &'static str) -> Field {
    field(key, Number(0.0, f64::MAX), doc).of_device(part)
}
const fn count(key: &'static str, part: &'static str, doc: &'static str) -> Field {
    field(key, Int(1, ANY), doc).of_device(part)
}

pub(crate) const POOL_ADDRESS: Object = Object::new(
    "pool_address",
    "An address that is drawn from a pool; it stays with the VM.",
    &[field("pool", Text(&rules::WORD), "the pool, one of the spec's `address_pools`").required()],
);

pub(crate) const NIC: Object = Object::new(
    "nic",
    "A NIC, with the addresses that cloud-init gives it.",
    &[
        field("bridge", Text(&rules::BRIDGE), "the bridge or VNet that it is plugged into")
            .of_device("bridge"),
        field("model", Choice(pve_config::NIC_MODELS), "its kind")
            .of_device("model")
            .default("when made: virtio"),
        field("mac", Text(&rules::MAC), "its address; one that PVE drew stays")
            .of_device("macaddr")
            .default("drawn by PVE"),
        field("vlan", Int(1, 4094), "its VLAN").of_device("tag"),
        field(
            "trunks",
            List(&OneOf(&[Int(1, 4094), Text(&rules::VLANS)])),
            "VLANs that are let through tagged",
        )
        .of_device("trunks")
        .lower(Lower::Join(";")),
        field("firewall", Bool, "whether PVE's firewall filters it").of_device("firewall"),
        field("link_down", Bool, "whether its cable is pulled").of_device("link_down"),
        field("mtu", Int(1, 65520), "its MTU, 1 for the bridge's; virtio").of_device("mtu"),
        field("queues", Int(0, 64), "its queues; virtio").of_device("queues"),
        field("rate", Number(0.0, f64::MAX), "how fast it may be, in MB a second").of_device("rate"),
        field("host_tunnel", Text(&rules::FIELD), "the node's tunnel that it uses").of_device("host-tunnel"),
        field(
            "ip",
            OneOf(&[Text(&rules::IP4), Kind::Object(&POOL_ADDRESS)]),
            "`dhcp`, `manual`, an IPv4 address with its prefix length, or `{pool: NAME}` for one of an address pool",
        )
            .nullable()
            .means("`ipconfigN`: `ip`"),
        field("gateway", Text(&rules::GATEWAY4), "the IPv4 gateway").nullable().means("`ipconfigN`: `gw`"),
        field(
            "ip6",
            Text(&rules::IP6),
            "`dhcp`, `auto`, `manual`, or an IPv6 address with its prefix length",
        )
        .nullable()
        .means("`ipconfigN`: `ip6`"),
        field("gateway6", Text(&rules::GATEWAY6), "the IPv6 gateway").nullable().means("`ipconfigN`: `gw6`"),
        field("primary", Bool, "whether inventories take this NIC's address").default("the first NIC"),
    ],
);

pub(crate) const BIOS: Object = Object::new(
    "bios",
    "The firmware.",
    &[
        field("type", Choice(&["seabios", "ovmf"]), "SeaBIOS, or OVMF for UEFI").option("bios"),
        field("efi", Kind::Object(&EFI), "the disk that holds OVMF's settings")
            .nullable()
            .means("`efidisk0`"),
    ],
)
.shorthand("type");

pub(crate) const EFI: Object = Object::new(
    "efi",
    "The disk that holds OVMF's settings.",
    &[
        field("storage", Text(&rules::STORAGE), "the storage that it is on")
            .required()
            .means("`efidisk0`: storage"),
        field("format", FORMAT, "its format on storages of files").default("the storage's"),
        field("type", Choice(&["2m", "4m"]), "its layout; only said when it is made")
            .of_device("efitype")
            .default("when made: 4m"),
        field("secure_boot_keys", Bool, "whether it is made with the keys of secure boot")
            .of_device("pre-enrolled-keys"),
        field("ms_cert", Choice(&["2011", "2023", "2023w", "2023k"]), "which of Microsoft's certificates")
            .of_device("ms-cert"),
    ],
)
.shorthand("storage");

pub(crate) const TPM: Object = Object::new(
    "tpm",
    "The TPM.",
    &[
        field("storage", Text(&rules::STORAGE), "the storage that its state is on")
            .required()
            .means("`tpmstate0`: storage"),
        field("version", Choice(&["v1.2", "v2.0"]), "its version; only said when it is made")
            .of_device("version")
            .default("when made: v2.0"),
    ],
)
.shorthand("storage");

pub(crate) const SERIAL: Kind = Text(&rules::SERIAL_PORT);

pub(crate) const NUMA_NODE: Object = Object::new(
    "numa_node",
    "A NUMA node.",
    &[
        field("cpus", Text(&rules::ID_LIST), "its CPUs, `0-3;8`").required().of_device("cpus"),
        field("memory", Size(1 << 20, 1 << 46, 1 << 20), "its memory, in whole MiB")
            .of_device("memory")
            .lower(Lower::Mib),
        field("host_nodes", Text(&rules::ID_LIST), "the node's NUMA nodes that it is on")
            .of_device("hostnodes"),
        field("policy", Choice(&["preferred", "bind", "interleave"]), "how strictly").of_device("policy"),
    ],
);

pub(crate) const USB: Object = Object::new(
    "usb",
    "A USB device of the node.",
    &[
        field("mapping", Text(&rules::MAPPING), "its name in the datacentre's resource mappings")
            .of_device("mapping"),
        field(
            "host",
            Text(&rules::USB_HOST),
            "itself: `VENDOR:PRODUCT`, `BUS-PORT` (only root@pam may), or `spice`",
        )
        .of_device("host"),
        field("usb3", Bool, "whether it is plugged in as USB 3").of_device("usb3"),
    ],
)
.shorthand("mapping")
.exactly_one(&["mapping", "host"]);

pub(crate) const PCI: Object = Object::new(
    "pci",
    "A PCI device of the node.",
    &[
        field("mapping", Text(&rules::MAPPING), "its name in the datacentre's resource mappings")
            .of_device("mapping"),
        field("host", Text(&rules::PCI_HOST), "its address; only root@pam may").of_device("host"),
        field("pcie", Bool, "whether it is plugged in as PCI express; needs `machine: q35`")
            .of_device("pcie"),
        field("rombar", Bool, "whether the guest sees its ROM").of_device("rombar"),
        field("romfile", Text(&rules::FIELD), "a ROM of the node's `/usr/share/kvm`").of_device("romfile"),
        field("primary_gpu", Bool, "whether it is the guest's display").of_device("x-vga"),
        field("mdev", Text(&rules::FIELD), "the kind of mediated device").of_device("mdev"),
        field("legacy_igd", Bool, "whether it is an Intel GPU passed through the old way")
            .of_device("legacy-igd"),
        field("driver", Choice(&["vfio", "keep"]), "the node's driver").of_device("driver"),
        field("vendor_id", Text(&rules::PCI_ID), "the vendor ID that the guest sees").of_device("vendor-id"),
        field("device_id", Text(&rules::PCI_ID), "the device ID that the guest sees").of_device("device-id"),
        field("sub_vendor_id", Text(&rules::PCI_ID), "the subsystem's vendor ID that the guest sees")
            .of_device("sub-vendor-id"),
        field("sub_device_id", Text(&rules::PCI_ID), "the subsystem's device ID that the guest sees")
            .of_device("sub-device-id"),
    ],
)
.shorthand("mapping")
.exactly_one(&["mapping", "host"]);

pub(crate) const VIRTIOFS: Object = Object::new(
    "virtiofs",
    "A folder of the node.",
    &[
        field("mapping", Text(&rules::MAPPING), "its name in the datacentre's folder mappings")
            .required()
            .of_device("dirid"),
        field("cache", Choice(&["auto", "always", "metadata", "never"]), "what the guest caches")
            .of_device("cache"),
        field("direct_io", Bool, "whether direct I/O is passed on").of_device("direct-io"),
        field("expose_acl", Bool, "whether the guest sees ACLs").of_device("expose-acl"),
        field("expose_xattr", Bool, "whether the guest sees extended attributes").of_device("expose-xattr"),
    ],
)
.shorthand("mapping");

pub(crate) const CLOUD_INIT: Object = Object::new("cloud_init", "What the guest is told when it boots.", &[
    field("slot", Text(&rules::DRIVE_SLOT), "the slot of its drive").default("when made: `ide2`; `scsi30` with q35 or OVMF"),
    field("storage", Text(&rules::STORAGE), "the storage of its drive").default("the boot disk's"),
    field("format", FORMAT, "the drive's format on storages of files").default("the storage's"),
    field("type", Choice(&["nocloud", "configdrive2", "opennebula"]), "how the data is laid out").option("citype"),
    field("user", Text(&rules::CI_USER), "the user that is made").option("ciuser"),
    field("password", Kind::Object(&PASSWORD), "that user's password; set when the VM is made and with `--set-passwords`, never compared").means("`cipassword`, as a `$6$` hash"),
    field("ssh_keys", List(&OneOf(&[Text(&rules::KEY_SOURCE), Kind::Object(&KEY_FILE)])), "that user's public keys: `ssh-…`, `github:NAME` (fetched in `deploy`), or `{file: PATH}` (read when planning)").nullable().means("`sshkeys`"),
    field("dns", Kind::Object(&DNS), "name servers"),
    field("upgrade", Bool, "whether packages are upgraded at the first boot").option("ciupgrade"),
    field("user_data", SNIPPET, "user data of one's own in place of PVE's").nullable().means("`cicustom`: `user`"),
    field("network_data", SNIPPET, "network data of one's own").nullable().means("`cicustom`: `network`"),
    field("vendor_data", SNIPPET, "vendor data, beside PVE's user data").nullable().means("`cicustom`: `vendor`"),
    field("meta_data", SNIPPET, "metadata of one's own").nullable().means("`cicustom`: `meta`"),
    field("snippets", Text(&rules::STORAGE), "the storage (content `snippets`) that such files are written to, by SFTP").default("`local`"),
    field("delivery", Choice(&["auto", "snippet"]), "how such files get to the node").default("auto"),
]);

const SNIPPET: Kind = OneOf(&[Text(&rules::PATH), Kind::Object(&SNIPPET_SOURCE)]);

const SNIPPET_SOURCE: Object = Object::new(
    "snippet",
    "Where data of one's own comes from; a text alone is a file.",
    &[
        field("file", Text(&rules::PATH), "a file on this machine, relative to the spec's folder"),
        field("volume", Text(&rules::VOLUME), "a volume (content `snippets`) that PVE has"),
    ],
)
.exactly_one(&["file", "volume"]);

const KEY_FILE: Object = Object::new(
    "key_file",
    "A file of public keys.",
    &[field("file", Text(&rules::PATH), "its path; `~` is the home folder").required()],
);

const PASSWORD: Object = Object::new(
    "password",
    "Where a password comes from; never the password itself.",
    &[
        field("env", Text(&rules::ENV), "an environment variable; not `PROXMOX_*`"),
        field("file", Text(&rules::PATH), "a file, relative to the spec's folder; without its last line end"),
        field(
            "command",
            List(&Text(&rules::LINE)),
            "what a command prints; runs only in `deploy`, with `--allow-commands`",
        ),
        field("clear", Bool, "whether the guest needs it in clear (Windows); then it goes by API only")
            .default("false"),
    ],
)
.exactly_one(&["env", "file", "command"])
.secret();

const DNS: Object = Object::new(
    "dns",
    "Name servers.",
    &[
        field("servers", OneOrMany(&Text(&rules::ADDRESS)), "their addresses")
            .option("nameserver")
            .lower(Lower::Join(" ")),
        field("search", OneOrMany(&Text(&rules::DOMAIN)), "domains that short names are looked up in")
            .option("searchdomain")
            .lower(Lower::Join(" ")),
    ],
);
