//! The devices of a VM: disks, NICs, firmware, cloud-init, passthrough.

use super::{Field, Kind, Lower, Object, field, rules};
use Kind::{Bool, Choice, Int, List, Number, OneOf, OneOrMany, Size, Text};

const ANY: i64 = i64::MAX;
const FORMAT: Kind = Choice(&["raw", "qcow2", "vmdk"]);

pub(crate) const DISK: Object = Object::new("disk", "A disk or CD drive.", &[
    field("storage", Text(&rules::STORAGE), "storage; required for a new disk").means("`file`: storage"),
    field("size", Size(1 << 20, 1 << 50, 1 << 20), "size, in whole MiB; an existing disk is grown, never shrunk").default("the image's size"),
    field("image", Text(&rules::WORD), "image (a key of `images`) to create the disk from").means("`import-from`, or `qm importdisk`"),
    field("volume", Text(&rules::VOLUME), "existing volume to attach").means("`file`"),
    field("iso", OneOf(&[Choice(&["none", "cdrom"]), Text(&rules::VOLUME)]), "makes this a CD drive with an ISO image, empty (`none`), or with the node's physical drive (`cdrom`)").means("`file`, with `media=cdrom`"),
    field("format", FORMAT, "format, on file-based storages").means("`format`").default("the storage's default"),
    field("keep", OneOf(&[Bool, Kind::Object(&KEEP)]), "keep the disk when the VM is destroyed, by handing it to `holder`; without a holder, destroying the VM is refused").default("false"),
    field("role", Text(&rules::WORD), "label that `lifecycle.keep_disks` can refer to"),
    field("cache", Choice(&["none", "writethrough", "writeback", "unsafe", "directsync"]), "cache mode on the node").of_device("cache"),
    field("aio", Choice(&["native", "threads", "io_uring"]), "I/O backend").of_device("aio"),
    field("discard", Bool, "pass discard (TRIM) requests to the storage").of_device("discard").lower(Lower::OnIgnore),
    field("detect_zeroes", Bool, "detect writes of zeroes").of_device("detect_zeroes"),
    field("ssd", Bool, "present the disk as an SSD; not on virtio").of_device("ssd"),
    field("iothread", Bool, "use a dedicated I/O thread; scsi and virtio").of_device("iothread"),
    field("backup", Bool, "include in backups").of_device("backup"),
    field("replicate", Bool, "include in replication").of_device("replicate"),
    field("shared", Bool, "treat the volume as available on all nodes even if the storage is not shared").of_device("shared"),
    field("snapshot", Bool, "discard all writes at shutdown").of_device("snapshot"),
    field("readonly", Bool, "read-only; scsi and virtio").of_device("ro"),
    field("serial", Text(&rules::DISK_SERIAL), "serial number reported to the guest").of_device("serial").lower(Lower::Percent),
    field("wwn", Text(&rules::WWN), "world wide name; not on virtio").of_device("wwn"),
    field("model", Text(&rules::FIELD), "model reported to the guest; ide").of_device("model").lower(Lower::Percent),
    field("vendor", Text(&rules::FIELD), "vendor reported to the guest; scsi").of_device("vendor"),
    field("product", Text(&rules::FIELD), "product reported to the guest; scsi").of_device("product"),
    field("queues", Int(2, 64), "number of queues; scsi").of_device("queues"),
    field("scsiblock", Bool, "pass the node's device through as a SCSI device; scsi").of_device("scsiblock"),
    field("rerror", Choice(&["ignore", "report", "stop"]), "action on a read error").of_device("rerror"),
    field("werror", Choice(&["enospc", "ignore", "report", "stop"]), "action on a write error").of_device("werror"),
    field("throttle", Kind::Object(&THROTTLE), "I/O limits"),
]);

const KEEP: Object = Object::new(
    "keep",
    "How a disk survives the destruction of its VM.",
    &[field("holder", Int(100, 999_999_999), "VMID that takes the disk before its VM is destroyed")
        .required()],
);

const THROTTLE: Object = Object::new(
    "throttle",
    "I/O limits of a disk. `_max` is the burst limit, `_max_length` the maximum duration of a burst in seconds.",
    &[
        mbps("read_mbps", "mbps_rd", "read limit, MB/s"),
        mbps("write_mbps", "mbps_wr", "write limit, MB/s"),
        mbps("mbps", "mbps", "total limit, MB/s"),
        mbps("read_mbps_max", "mbps_rd_max", "read burst limit, MB/s"),
        mbps("write_mbps_max", "mbps_wr_max", "write burst limit, MB/s"),
        mbps("mbps_max", "mbps_max", "total burst limit, MB/s"),
        count("read_iops", "iops_rd", "read limit, operations/s"),
        count("write_iops", "iops_wr", "write limit, operations/s"),
        count("iops", "iops", "total limit, operations/s"),
        count("read_iops_max", "iops_rd_max", "read burst limit, operations/s"),
        count("write_iops_max", "iops_wr_max", "write burst limit, operations/s"),
        count("iops_max", "iops_max", "total burst limit, operations/s"),
        count("read_iops_max_length", "iops_rd_max_length", "maximum duration of such a burst, in seconds"),
        count("write_iops_max_length", "iops_wr_max_length", "maximum duration of such a burst, in seconds"),
        count("iops_max_length", "iops_max_length", "maximum duration of such a burst, in seconds"),
        count("read_bps", "bps_rd", "read limit, bytes/s"),
        count("write_bps", "bps_wr", "write limit, bytes/s"),
        count("bps", "bps", "total limit, bytes/s"),
        count("read_bps_max_length", "bps_rd_max_length", "maximum duration of a read burst, in seconds"),
        count("write_bps_max_length", "bps_wr_max_length", "maximum duration of a write burst, in seconds"),
        count("bps_max_length", "bps_max_length", "maximum duration of a burst, in seconds"),
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
    "A NIC, with the addresses that cloud-init configures.",
    &[
        field("bridge", Text(&rules::BRIDGE), "bridge or VNet").of_device("bridge"),
        field("model", Choice(pve_config::NIC_MODELS), "device model")
            .of_device("model")
            .default("new: virtio"),
        field("mac", Text(&rules::MAC), "MAC address; if absent, the one that PVE generated is kept")
            .of_device("macaddr")
            .default("generated by PVE"),
        field("vlan", Int(1, 4094), "VLAN tag").of_device("tag"),
        field("trunks", List(&OneOf(&[Int(1, 4094), Text(&rules::VLANS)])), "tagged VLANs that may pass")
            .of_device("trunks")
            .lower(Lower::Join(";")),
        field("firewall", Bool, "enable PVE's firewall for this NIC").of_device("firewall"),
        field("link_down", Bool, "disconnect the link").of_device("link_down"),
        field("mtu", Int(1, 65520), "MTU; `1` uses the bridge's MTU; virtio").of_device("mtu"),
        field("queues", Int(0, 64), "number of queues; virtio").of_device("queues"),
        field("rate", Number(0.0, f64::MAX), "rate limit, MB/s").of_device("rate"),
        field("host_tunnel", Text(&rules::FIELD), "tunnel of the node to use").of_device("host-tunnel"),
        field(
            "ip",
            OneOf(&[Text(&rules::IP4), Kind::Object(&POOL_ADDRESS)]),
            "`dhcp`, `manual`, an IPv4 address with its prefix length, or `{pool: NAME}` for a free address of a pool",
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
        field("primary", Bool, "use this NIC's address in inventories").default("the first NIC"),
    ],
);

pub(crate) const BIOS: Object = Object::new(
    "bios",
    "The firmware.",
    &[
        field("type", Choice(&["seabios", "ovmf"]), "SeaBIOS, or OVMF for UEFI").option("bios"),
        field("efi", Kind::Object(&EFI), "disk for OVMF's variables").nullable().means("`efidisk0`"),
    ],
)
.shorthand("type");

pub(crate) const EFI: Object = Object::new(
    "efi",
    "The disk for OVMF's variables.",
    &[
        field("storage", Text(&rules::STORAGE), "name of the storage")
            .required()
            .means("`efidisk0`: storage"),
        field("format", FORMAT, "format, on file-based storages").default("the storage's default"),
        field("type", Choice(&["2m", "4m"]), "layout; fixed at creation")
            .of_device("efitype")
            .default("new: 4m"),
        field("secure_boot_keys", Bool, "enroll the secure boot keys at creation")
            .of_device("pre-enrolled-keys"),
        field("ms_cert", Choice(&["2011", "2023", "2023w", "2023k"]), "Microsoft certificates to enroll")
            .of_device("ms-cert"),
    ],
)
.shorthand("storage");

pub(crate) const TPM: Object = Object::new(
    "tpm",
    "The TPM.",
    &[
        field("storage", Text(&rules::STORAGE), "storage of the TPM state")
            .required()
            .means("`tpmstate0`: storage"),
        field("version", Choice(&["v1.2", "v2.0"]), "version; fixed at creation")
            .of_device("version")
            .default("new: v2.0"),
    ],
)
.shorthand("storage");

pub(crate) const SERIAL: Kind = Text(&rules::SERIAL_PORT);

pub(crate) const NUMA_NODE: Object = Object::new(
    "numa_node",
    "A NUMA node.",
    &[
        field("cpus", Text(&rules::ID_LIST), "its CPUs, `0-3;8`").required().of_device("cpus"),
        field("memory", Size(1 << 20, 1 << 46, 1 << 20), "memory, in whole MiB")
            .of_device("memory")
            .lower(Lower::Mib),
        field("host_nodes", Text(&rules::ID_LIST), "NUMA nodes of the host to use").of_device("hostnodes"),
        field("policy", Choice(&["preferred", "bind", "interleave"]), "NUMA policy").of_device("policy"),
    ],
);

pub(crate) const USB: Object = Object::new(
    "usb",
    "A USB device of the node, passed to the guest.",
    &[
        field("mapping", Text(&rules::MAPPING), "name of the resource mapping in the datacenter")
            .of_device("mapping"),
        field("host", Text(&rules::USB_HOST), "`VENDOR:PRODUCT`, `BUS-PORT` (root@pam only), or `spice`")
            .of_device("host"),
        field("usb3", Bool, "attach as USB 3").of_device("usb3"),
    ],
)
.shorthand("mapping")
.exactly_one(&["mapping", "host"]);

pub(crate) const PCI: Object = Object::new(
    "pci",
    "A PCI device of the node, passed to the guest.",
    &[
        field("mapping", Text(&rules::MAPPING), "name of the resource mapping in the datacenter")
            .of_device("mapping"),
        field("host", Text(&rules::PCI_HOST), "PCI address; root@pam only").of_device("host"),
        field("pcie", Bool, "attach as PCI Express; requires `machine: q35`").of_device("pcie"),
        field("rombar", Bool, "show the device's ROM to the guest").of_device("rombar"),
        field("romfile", Text(&rules::FIELD), "ROM file in `/usr/share/kvm` on the node")
            .of_device("romfile"),
        field("primary_gpu", Bool, "use as the guest's primary display").of_device("x-vga"),
        field("mdev", Text(&rules::FIELD), "type of mediated device").of_device("mdev"),
        field("legacy_igd", Bool, "use legacy IGD passthrough (Intel GPU)").of_device("legacy-igd"),
        field("driver", Choice(&["vfio", "keep"]), "driver on the node").of_device("driver"),
        field("vendor_id", Text(&rules::PCI_ID), "vendor ID reported to the guest").of_device("vendor-id"),
        field("device_id", Text(&rules::PCI_ID), "device ID reported to the guest").of_device("device-id"),
        field("sub_vendor_id", Text(&rules::PCI_ID), "subsystem vendor ID reported to the guest")
            .of_device("sub-vendor-id"),
        field("sub_device_id", Text(&rules::PCI_ID), "subsystem device ID reported to the guest")
            .of_device("sub-device-id"),
    ],
)
.shorthand("mapping")
.exactly_one(&["mapping", "host"]);

pub(crate) const VIRTIOFS: Object = Object::new(
    "virtiofs",
    "A folder of the node, shared with the guest by virtiofs.",
    &[
        field("mapping", Text(&rules::MAPPING), "name of the directory mapping in the datacenter")
            .required()
            .of_device("dirid"),
        field("cache", Choice(&["auto", "always", "metadata", "never"]), "cache mode of the guest")
            .of_device("cache"),
        field("direct_io", Bool, "allow direct I/O").of_device("direct-io"),
        field("expose_acl", Bool, "expose POSIX ACLs").of_device("expose-acl"),
        field("expose_xattr", Bool, "expose extended attributes").of_device("expose-xattr"),
    ],
)
.shorthand("mapping");

pub(crate) const CLOUD_INIT: Object = Object::new("cloud_init", "Cloud-init data for the guest.", &[
    field("slot", Text(&rules::DRIVE_SLOT), "slot of the cloud-init drive").default("new: `ide2`; `scsi30` with q35 or OVMF"),
    field("storage", Text(&rules::STORAGE), "storage of the cloud-init drive").default("the boot disk's storage"),
    field("format", FORMAT, "format of the drive, on file-based storages").default("the storage's default"),
    field("type", Choice(&["nocloud", "configdrive2", "opennebula"]), "data source format").option("citype"),
    field("user", Text(&rules::CI_USER), "user to create").option("ciuser"),
    field("password", Kind::Object(&PASSWORD), "password of that user; set at creation and by `--set-passwords`, never compared").means("`cipassword`, as a `$6$` hash"),
    field("ssh_keys", List(&OneOf(&[Text(&rules::KEY_SOURCE), Kind::Object(&KEY_FILE)])), "public keys of that user: `ssh-…`, `{file: PATH}` (read when planning), or `github:NAME` (fetched in `deploy`)").nullable().means("`sshkeys`"),
    field("dns", Kind::Object(&DNS), "name servers"),
    field("upgrade", Bool, "upgrade packages at first boot").option("ciupgrade"),
    field("user_data", SNIPPET, "custom user data; replaces PVE's").nullable().means("`cicustom`: `user`"),
    field("network_data", SNIPPET, "custom network data").nullable().means("`cicustom`: `network`"),
    field("vendor_data", SNIPPET, "custom vendor data; used in addition to PVE's user data").nullable().means("`cicustom`: `vendor`"),
    field("meta_data", SNIPPET, "custom metadata").nullable().means("`cicustom`: `meta`"),
    field("snippets", Text(&rules::STORAGE), "storage with `snippets` content for the custom data files, which are written by SFTP").default("`local`"),
    field("delivery", Choice(&["auto", "snippet"]), "how the custom data files get to the node").default("auto"),
]);

const SNIPPET: Kind = OneOf(&[Text(&rules::PATH), Kind::Object(&SNIPPET_SOURCE)]);

const SNIPPET_SOURCE: Object = Object::new(
    "snippet",
    "Source of custom cloud-init data; a plain string is a file.",
    &[
        field("file", Text(&rules::PATH), "file on this machine, relative to the spec's folder"),
        field("volume", Text(&rules::VOLUME), "existing volume with `snippets` content"),
    ],
)
.exactly_one(&["file", "volume"]);

const KEY_FILE: Object = Object::new(
    "key_file",
    "A file of public keys.",
    &[field("file", Text(&rules::PATH), "path; `~` is the home folder").required()],
);

const PASSWORD: Object = Object::new(
    "password",
    "Source of a password; never the password itself.",
    &[
        field("env", Text(&rules::ENV), "name of an environment variable; `PROXMOX_*` is refused"),
        field("file", Text(&rules::PATH), "path of a file, relative to the spec's folder; a trailing line break is removed"),
        field(
            "command",
            List(&Text(&rules::LINE)),
            "program and arguments; its standard output is the secret; runs only in `deploy`, with `--allow-commands`",
        ),
        field("clear", Bool, "send the password unhashed, for Windows guests; requires the API")
            .default("false"),
    ],
)
.exactly_one(&["env", "file", "command"])
.secret();

const DNS: Object = Object::new(
    "dns",
    "Name servers.",
    &[
        field("servers", OneOrMany(&Text(&rules::ADDRESS)), "addresses of the name servers")
            .option("nameserver")
            .lower(Lower::Join(" ")),
        field("search", OneOrMany(&Text(&rules::DOMAIN)), "search domains")
            .option("searchdomain")
            .lower(Lower::Join(" ")),
    ],
);
