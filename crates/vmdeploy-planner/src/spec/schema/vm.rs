//! The keys of a VM.

use super::devices::{BIOS, CLOUD_INIT, DISK, NIC, NUMA_NODE, PCI, SERIAL, TPM, USB, VIRTIOFS};
use super::{Kind, Lower, Nullable, Object, field, rules};
use Kind::{Bool, Choice, Duration, Free, Int, List, Map, Number, OneOf, OneOrMany, Only, Size, Text};

const ANY: i64 = i64::MAX;
const MIB: u64 = 1 << 20;

pub(crate) const VM: Object = Object::new(
    "vm",
    "A VM. Absent keys are not managed; `null` removes a setting.",
    &[
        field("cluster", Text(&rules::WORD), "cluster, if the spec has several").default("the only one"),
        field(
            "profile",
            OneOrMany(&Text(&rules::WORD)),
            "profiles to apply; later ones override earlier ones",
        ),
        field(
            "vmid",
            OneOf(&[Int(100, 999_999_999), Kind::Object(&RANGE)]),
            "VMID, or a range to allocate it from; `plan --pin` writes allocated VMIDs to the lock file",
        )
        .means("VMID")
        .default("any free VMID"),
        field("uuid", Text(&rules::UUID), "UUID of an adopted guest")
            .means("`smbios1`: `uuid`")
            .default("derived from cluster, project and name"),
        field("renamed_from", Text(&rules::GUEST), "former name of the VM; its guest is renamed in place")
            .default("none"),
        field(
            "moved_from",
            Kind::Object(&MOVED_FROM),
            "former project or cluster key; the guest is moved in place",
        )
        .default("the spec's `moved_from`"),
        field(
            "allow_duplicate",
            OneOrMany(&Choice(&["name", "address"])),
            "duplicates to allow: the name of a VM of another project, or a static address",
        )
        .default("none"),
        field("node", Text(&rules::NODE), "short for `placement.node`"),
        field("placement", Kind::Object(&PLACEMENT), "node for a new VM"),
        field("pool", Text(&rules::POOL), "resource pool").nullable().means("pool member"),
        field("ha", Kind::Object(&HA), "high availability")
            .nullable()
            .means("HA resource, with a group (7, 8) or node-affinity rule (9)"),
        field("description", Text(&rules::DESCRIPTION), "notes; the ownership marker is added below them")
            .nullable()
            .means("`description`"),
        field("tags", List(&Text(&rules::TAG)), "tags; order and case do not matter")
            .nullable()
            .means("`tags`"),
        field("template", Bool, "convert to a template; it is then never started")
            .means("`template`")
            .default("false"),
        field(
            "clone",
            OneOf(&[Choice(&["linked", "full"]), Text(&rules::CLONE_FROM), Kind::Object(&CLONE)]),
            "clone source: a VM name makes a full clone of that VM; `linked` or `full` clones the spec's template for the same image",
        ),
        field(
            "after",
            OneOrMany(&Text(&rules::GUEST)),
            "VMs and groups that must be ready before it is created, started, restarted or replaced",
        )
        .default("none"),
        field("protection", Bool, "protect the VM and its disks from removal").option("protection"),
        field("onboot", Bool, "start when the node boots").option("onboot"),
        field("autostart", Bool, "restart after a crash (PVE ignores it)").option("autostart"),
        field("startup", Kind::Object(&STARTUP), "order and delays when the node boots or shuts down")
            .nullable(),
        field("reboot", Bool, "allow reboots; if `false`, the VM stops when the guest reboots")
            .option("reboot"),
        field("cpu", Kind::Object(&CPU), "CPU settings").nullable(),
        field(
            "numa",
            Map(&rules::NUMA_SLOT, &Kind::Object(&NUMA_NODE), Nullable::Yes),
            "NUMA nodes by slot, `numa0` to `numa7`",
        )
        .devices("numa"),
        field("memory", Kind::Object(&MEMORY), "memory settings").nullable(),
        field("machine", Kind::Object(&MACHINE), "machine type (chipset)").nullable(),
        field("bios", Kind::Object(&BIOS), "firmware settings"),
        field("tpm", Kind::Object(&TPM), "TPM device").nullable().means("`tpmstate0`"),
        field("ostype", Choice(pve_config::OSTYPES), "guest operating system")
            .option("ostype")
            .default("new, from an image: `l26`"),
        field(
            "scsihw",
            Choice(&["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"]),
            "SCSI controller",
        )
        .option("scsihw")
        .default("new: `virtio-scsi-single`"),
        field(
            "disks",
            Map(&rules::DRIVE_SLOT, &Kind::Object(&DISK), Nullable::Yes),
            "disks and CD drives by slot; `null` detaches",
        )
        .means("`ideN`, `sataN`, `scsiN`, `virtioN`"),
        field(
            "nics",
            Map(&rules::NET_SLOT, &Kind::Object(&NIC), Nullable::Yes),
            "NICs by slot, `net0` to `net31`",
        )
        .means("`netN`, `ipconfigN`"),
        field("boot", OneOrMany(&Text(&rules::BOOT_SLOT)), "boot devices, in order")
            .nullable()
            .means("`boot`: `order`")
            .default("new: the first disk"),
        field("cloud_init", Kind::Object(&CLOUD_INIT), "cloud-init data"),
        field("agent", Kind::Object(&AGENT), "QEMU guest agent").nullable(),
        field(
            "serial",
            Map(&rules::SERIAL_SLOT, &SERIAL, Nullable::Yes),
            "serial ports by slot, `serial0` to `serial3`",
        )
        .devices("serial"),
        field(
            "parallel",
            Map(&rules::PARALLEL_SLOT, &Text(&rules::PARALLEL_PORT), Nullable::Yes),
            "parallel ports of the node by slot; root@pam only",
        )
        .devices("parallel"),
        field("vga", Kind::Object(&VGA), "display device").nullable(),
        field("audio", Kind::Object(&AUDIO), "audio device").nullable(),
        field("rng", Kind::Object(&RNG), "random number generator").nullable(),
        field("watchdog", Kind::Object(&WATCHDOG), "watchdog device").nullable(),
        field(
            "usb",
            Map(&rules::USB_SLOT, &Kind::Object(&USB), Nullable::Yes),
            "USB devices by slot, `usb0` to `usb13`",
        )
        .devices("usb"),
        field(
            "pci",
            Map(&rules::PCI_SLOT, &Kind::Object(&PCI), Nullable::Yes),
            "PCI devices by slot, `hostpci0` to `hostpci15`",
        )
        .devices("hostpci"),
        field(
            "virtiofs",
            Map(&rules::VIRTIOFS_SLOT, &Kind::Object(&VIRTIOFS), Nullable::Yes),
            "shared folders of the node by slot, `virtiofs0` to `virtiofs9`",
        )
        .devices("virtiofs"),
        field("smbios", Kind::Object(&SMBIOS), "SMBIOS fields").nullable(),
        field(
            "hotplug",
            OneOf(&[Only(false), List(&Choice(&["network", "disk", "cpu", "memory", "usb", "cloudinit"]))]),
            "device types that can be hotplugged",
        )
        .option("hotplug")
        .lower(Lower::Join(",")),
        field("tablet", Bool, "emulate a USB tablet as pointer").option("tablet"),
        field("keyboard", Choice(pve_config::KEYBOARDS), "keyboard layout of the console").option("keyboard"),
        field("acpi", Bool, "enable ACPI").option("acpi"),
        field("kvm", Bool, "use hardware virtualization").option("kvm"),
        field("localtime", Bool, "set the real-time clock to local time").option("localtime"),
        field("startdate", Text(&rules::START_DATE), "start date of the real-time clock").option("startdate"),
        field("tdf", Bool, "compensate for time drift").option("tdf"),
        field("freeze", Bool, "start with the CPUs paused").option("freeze"),
        field("arch", Choice(&["x86_64", "aarch64"]), "CPU architecture; root@pam only").option("arch"),
        field("args", Text(&rules::LINE), "extra QEMU arguments; root@pam only").option("args"),
        field(
            "hookscript",
            Text(&rules::VOLUME),
            "hook script (`snippets` content) that the node runs; root@pam only",
        )
        .option("hookscript"),
        field("vmstate_storage", Text(&rules::STORAGE), "storage for the memory of a hibernated VM")
            .option("vmstatestorage"),
        field("vmgenid", Text(&rules::UUID), "VM generation ID; root@pam only").option("vmgenid"),
        field("migrate", Kind::Object(&MIGRATE), "migration settings").nullable(),
        field("spice", Kind::Object(&SPICE), "SPICE enhancements; root@pam only").nullable(),
        field("ivshmem", Kind::Object(&IVSHMEM), "memory shared with the node; root@pam only").nullable(),
        field("amd_sev", Kind::Object(&SEV), "AMD SEV memory encryption; root@pam only").nullable(),
        field("intel_tdx", Kind::Object(&TDX), "Intel TDX; root@pam only").nullable(),
        field(
            "raw",
            Map(
                &rules::OPTION,
                &OneOf(&[Text(&rules::LINE), Bool, Number(f64::MIN, f64::MAX)]),
                Nullable::Yes,
            ),
            "any other PVE option, with PVE's name and syntax; checked against the PVE version",
        ),
        field("lifecycle", Kind::Object(&LIFECYCLE), "power state, and what vmdeploy may do to the VM"),
        field("ready", Kind::Object(&READY), "conditions to wait for after a start"),
        field("inventory", Kind::Object(&INVENTORY), "inventory entry"),
    ],
);

const RANGE: Object = Object::new(
    "range",
    "A range of VMIDs.",
    &[field("range", List(&Int(100, 999_999_999)), "first and last VMID, such as `[200, 299]`").required()],
);

pub(crate) const MOVED_FROM: Object = Object::new(
    "moved_from",
    "Former identity of VMs.",
    &[
        field("project", Text(&rules::PROJECT), "former project").default("the spec's project"),
        field("cluster", Text(&rules::WORD), "former name of the cluster in the spec")
            .default("the cluster's name"),
    ],
)
.shorthand("project");

const PLACEMENT: Object = Object::new(
    "placement",
    "Where a VM is created.",
    &[
        field("node", Text(&rules::NODE), "node for a new VM")
            .default("the cluster's `node`, then PROXMOX_NODE"),
        field("follow_ha", Only(true), "an existing VM on another node stays there; the only value")
            .default("true"),
        field("pool", Text(&rules::POOL), "same as `pool`").nullable().means("pool member"),
    ],
);

const HA: Object = Object::new(
    "ha",
    "High availability.",
    &[
        field(
            "state",
            Choice(&["started", "stopped", "disabled", "ignored"]),
            "requested state of the HA resource",
        )
        .default("started")
        .means("HA resource: `state`"),
        field("max_restart", Int(0, 10), "start attempts on the same node after a failure")
            .means("HA resource: `max_restart`")
            .default("1"),
        field("max_relocate", Int(0, 10), "relocation attempts to other nodes after a failure")
            .means("HA resource: `max_relocate`")
            .default("1"),
        field(
            "on_nodes",
            Map(&rules::NODE, &Int(0, 1000), Nullable::No),
            "nodes with priorities; higher ones are preferred",
        )
        .means("HA group (7, 8) or node-affinity rule (9)"),
        field("strict", Bool, "run on these nodes only")
            .means("`restricted` (7, 8), `strict` (9)")
            .default("false"),
    ],
)
.shorthand("state");

const CLONE: Object = Object::new(
    "clone",
    "Clone source.",
    &[
        field(
            "from",
            OneOf(&[Int(100, 999_999_999), Text(&rules::CLONE_FROM)]),
            "VM of this spec by name, or any existing VM by VMID",
        )
        .required()
        .means("`clone`: `vmid`"),
        field(
            "mode",
            Choice(&["full", "linked"]),
            "`full` copies the disks, `linked` shares the template's blocks",
        )
        .default("full")
        .means("`clone`: `full`"),
        field("storage", Text(&rules::STORAGE), "storage for copied disks")
            .default("the source's storage")
            .means("`clone`: `storage`"),
        field("format", Choice(&["qcow2", "raw", "vmdk"]), "format of copied disks")
            .default("the source's format")
            .means("`clone`: `format`"),
    ],
);

const STARTUP: Object = Object::new(
    "startup",
    "Order and delays when the node boots or shuts down.",
    &[
        field("order", Int(0, 65535), "position; lower numbers start first and stop last")
            .part("startup", "order"),
        field("up", Duration, "delay before the next VM starts").part("startup", "up").lower(Lower::Seconds),
        field("down", Duration, "maximum time for a shutdown").part("startup", "down").lower(Lower::Seconds),
    ],
)
.shorthand("order");

const CPU: Object = Object::new(
    "cpu",
    "Processors.",
    &[
        field("cores", Int(1, 1024), "cores per socket").option("cores"),
        field("sockets", Int(1, 4), "sockets").option("sockets"),
        field("vcpus", Int(1, 4096), "number of CPUs plugged in at start").option("vcpus"),
        field("type", Text(&rules::CPU_TYPE), "CPU model: `host`, `x86-64-v2-AES`, `custom-NAME` …")
            .part("cpu", "cputype"),
        field("flags", List(&Text(&rules::CPU_FLAG)), "CPU flags with `+` or `-`")
            .part("cpu", "flags")
            .lower(Lower::Join(";")),
        field("hidden", Bool, "hide KVM from the guest").part("cpu", "hidden"),
        field("hv_vendor_id", Text(&rules::FIELD), "Hyper-V's vendor ID").part("cpu", "hv-vendor-id"),
        field("phys_bits", OneOf(&[Int(8, 64), Choice(&["host"])]), "bits of a physical address of the host")
            .part("cpu", "phys-bits"),
        field("guest_phys_bits", Int(32, 64), "bits of a physical address of the guest")
            .part("cpu", "guest-phys-bits"),
        field("level", Text(&rules::FIELD), "the CPUID level").part("cpu", "level"),
        field("reported_model", Text(&rules::FIELD), "model that a custom CPU type reports")
            .part("cpu", "reported-model"),
        field("limit", Number(0.0, 128.0), "maximum CPU usage, in CPUs; `0` is unlimited").option("cpulimit"),
        field("units", Int(1, 262_144), "CPU weight relative to other VMs").option("cpuunits"),
        field("numa", Bool, "enable NUMA").option("numa"),
        field("affinity", Text(&rules::ID_LIST), "host CPUs to run on; root@pam only").option("affinity"),
    ],
)
.shorthand("cores");

const MEMORY: Object = Object::new(
    "memory",
    "Memory.",
    &[
        field("size", Size(16 * MIB, 1 << 46, MIB), "size, in whole MiB")
            .part("memory", "current")
            .lower(Lower::Mib),
        field(
            "balloon",
            OneOf(&[Only(false), Size(0, 1 << 46, MIB)]),
            "minimum size for ballooning, in whole MiB; `false` disables ballooning",
        )
        .option("balloon")
        .lower(Lower::Mib),
        field("shares", Int(0, 50_000), "weight when the host is short of memory").option("shares"),
        field("hugepages", Choice(&["any", "2", "1024"]), "huge page size in MiB; root@pam only")
            .option("hugepages"),
        field("keep_hugepages", Bool, "keep huge pages after the VM stops; root@pam only")
            .option("keephugepages"),
        field("ksm", Bool, "allow merging of equal pages (KSM)").option("allow-ksm"),
    ],
)
.shorthand("size");

const MACHINE: Object = Object::new(
    "machine",
    "The machine type (chipset).",
    &[
        field("type", Text(&rules::MACHINE), "`pc`, `q35`, `virt`, or a version of one")
            .part("machine", "type"),
        field("viommu", Choice(&["intel", "virtio"]), "vIOMMU type").part("machine", "viommu"),
        field("aw_bits", Int(32, 64), "address width of the vIOMMU").part("machine", "aw-bits"),
        field("s3", Bool, "allow suspend to RAM (S3)").part("machine", "enable-s3"),
        field("s4", Bool, "allow suspend to disk (S4)").part("machine", "enable-s4"),
    ],
)
.shorthand("type");

const AGENT: Object = Object::new(
    "agent",
    "The QEMU guest agent.",
    &[
        field("enabled", Bool, "enable communication with the agent").part("agent", "enabled"),
        field("fstrim_cloned", Bool, "trim disks after a move or clone").part("agent", "fstrim_cloned_disks"),
        field("freeze", Bool, "freeze file systems during a backup").part("agent", "freeze-fs-on-backup"),
        field("type", Choice(&["virtio", "isa"]), "device for communication").part("agent", "type"),
    ],
)
.shorthand("enabled");

const VGA: Object = Object::new(
    "vga",
    "The display.",
    &[
        field("type", Choice(pve_config::VGA_TYPES), "device model").part("vga", "type"),
        field("memory", Size(4 * MIB, 512 * MIB, MIB), "memory, in whole MiB")
            .part("vga", "memory")
            .lower(Lower::Mib),
        field("clipboard", Choice(&["vnc"]), "clipboard type").part("vga", "clipboard"),
    ],
)
.shorthand("type");

const AUDIO: Object = Object::new(
    "audio",
    "Sound.",
    &[
        field("device", Choice(&["ich9-intel-hda", "intel-hda", "AC97"]), "device model")
            .part("audio0", "device"),
        field("driver", Choice(&["spice", "none"]), "backend driver").part("audio0", "driver"),
    ],
)
.shorthand("device");

const RNG: Object = Object::new(
    "rng",
    "The random number generator.",
    &[
        field("source", Choice(&["urandom", "random", "hwrng"]), "source device on the node")
            .part("rng0", "source")
            .lower(Lower::Prefix("/dev/")),
        field("max_bytes", Int(0, ANY), "bytes per period; `0` is unlimited").part("rng0", "max_bytes"),
        field("period", Int(1, ANY), "period in milliseconds").part("rng0", "period"),
    ],
)
.shorthand("source");

const WATCHDOG: Object = Object::new(
    "watchdog",
    "The watchdog.",
    &[
        field("model", Choice(&["i6300esb", "ib700"]), "device model").part("watchdog", "model"),
        field(
            "action",
            Choice(&["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
            "action when the guest hangs",
        )
        .part("watchdog", "action"),
    ],
)
.shorthand("model");

pub(crate) const SMBIOS: Object = Object::new(
    "smbios",
    "SMBIOS fields. vmdeploy sets the UUID.",
    &[
        field("manufacturer", Text(&rules::LINE), "manufacturer")
            .part("smbios1", "manufacturer")
            .lower(Lower::Base64),
        field("product", Text(&rules::LINE), "product").part("smbios1", "product").lower(Lower::Base64),
        field("version", Text(&rules::LINE), "version").part("smbios1", "version").lower(Lower::Base64),
        field("serial", Text(&rules::LINE), "serial number").part("smbios1", "serial").lower(Lower::Base64),
        field("sku", Text(&rules::LINE), "SKU").part("smbios1", "sku").lower(Lower::Base64),
        field("family", Text(&rules::LINE), "family").part("smbios1", "family").lower(Lower::Base64),
    ],
);

const MIGRATE: Object = Object::new(
    "migrate",
    "Migration settings.",
    &[
        field("downtime", Number(0.0, f64::MAX), "maximum downtime, in seconds").option("migrate_downtime"),
        field("speed", Int(0, ANY), "rate limit, MB/s; `0` is unlimited").option("migrate_speed"),
    ],
);

const SPICE: Object = Object::new(
    "spice",
    "SPICE enhancements.",
    &[
        field("foldersharing", Bool, "enable folder sharing").part("spice_enhancements", "foldersharing"),
        field("videostreaming", Choice(&["off", "all", "filter"]), "video streaming mode")
            .part("spice_enhancements", "videostreaming"),
    ],
);

const IVSHMEM: Object = Object::new(
    "ivshmem",
    "Memory shared with the node (ivshmem).",
    &[
        field("size", Size(MIB, 1 << 40, MIB), "size, in whole MiB")
            .part("ivshmem", "size")
            .lower(Lower::Mib),
        field("name", Text(&rules::HEX_NAME), "name on the node").part("ivshmem", "name"),
    ],
)
.shorthand("size");

const SEV: Object = Object::new(
    "amd_sev",
    "AMD SEV memory encryption.",
    &[
        field("type", Choice(&["std", "es", "snp"]), "generation").part("amd-sev", "type"),
        field("allow_smt", Bool, "allow SMT").part("amd-sev", "allow-smt"),
        field("kernel_hashes", Bool, "add kernel hashes to the measurement").part("amd-sev", "kernel-hashes"),
        field("no_debug", Bool, "forbid debugging").part("amd-sev", "no-debug"),
        field("no_key_sharing", Bool, "forbid key sharing").part("amd-sev", "no-key-sharing"),
    ],
)
.shorthand("type");

const TDX: Object = Object::new(
    "intel_tdx",
    "Intel TDX.",
    &[
        field("type", Choice(&["tdx"]), "generation").part("intel-tdx", "type"),
        field("attestation", Bool, "enable attestation").part("intel-tdx", "attestation"),
        field("vsock_cid", Int(2, ANY), "CID of the attestation service").part("intel-tdx", "vsock-cid"),
        field("vsock_port", Int(0, ANY), "port of the attestation service").part("intel-tdx", "vsock-port"),
    ],
)
.shorthand("type");

const LIFECYCLE: Object = Object::new(
    "lifecycle",
    "Power state of a VM, and what vmdeploy may do to it.",
    &[
        field(
            "state",
            Choice(&["running", "stopped", "unmanaged"]),
            "desired power state; a new VM is started unless this is `stopped`",
        )
        .default("new: running; existing: not managed"),
        field(
            "restart",
            Choice(&["never", "if-needed"]),
            "whether a change that requires a restart may restart the VM",
        )
        .default("never"),
        field(
            "replace",
            Choice(&["never", "on-image-change", "if-needed"]),
            "whether the VM may be destroyed and remade: when an image that it was made from has changed, or for that and \
             every other change that cannot be made in place",
        )
        .default("never"),
        field(
            "keep_disks",
            List(&Text(&rules::WORD)),
            "roles of disks to keep when the VM is destroyed, as with `keep` on each disk",
        )
        .default("none"),
        field("ignore", List(&Text(&rules::SPEC_PATH)), "keys to ignore once the VM exists").default("none"),
        field("shutdown_timeout", Duration, "maximum time for a shutdown").default("3m"),
        field("force_stop", Bool, "stop a guest that does not shut down in time").default("false"),
        field("on_failure", Choice(&["rollback", "keep"]), "what to do with the VM when a step fails")
            .default(
                "a failed creation is rolled back; a changed VM, or one that is not ready in time, is kept",
            ),
    ],
);

const READY: Object = Object::new(
    "ready",
    "Conditions to wait for after a start.",
    &[
        field("agent", Duration, "maximum time to wait for the guest agent"),
        field("ip", Kind::Object(&READY_IP), "wait until the guest agent reports an address"),
        field("cloud_init", Duration, "maximum time to wait for cloud-init to finish"),
        field(
            "tcp",
            OneOf(&[
                Int(1, 65535),
                Kind::Object(&READY_TCP),
                List(&OneOf(&[Int(1, 65535), Kind::Object(&READY_TCP)])),
            ]),
            "wait until a TCP port accepts connections; requires an address",
        ),
        field(
            "command",
            OneOf(&[List(&Text(&rules::LINE)), Kind::Object(&READY_COMMAND)]),
            "wait until a command on this machine succeeds; requires `--allow-commands`",
        ),
    ],
);

const READY_IP: Object = Object::new(
    "ready_ip",
    "Wait for an address.",
    &[
        field("nic", Text(&rules::NET_SLOT), "NIC that must have the address")
            .default("the primary NIC, or any"),
        field("family", OneOf(&[Int(4, 4), Int(6, 6), Choice(&["any"])]), "address family").default("4"),
        field("within", Text(&rules::NETWORK), "network that must contain the address").default("any"),
        field("timeout", Duration, "maximum time to wait").default("5m"),
    ],
)
.shorthand("timeout");

const READY_TCP: Object = Object::new(
    "ready_tcp",
    "Wait for a TCP port.",
    &[
        field("port", Int(1, 65535), "port number").required(),
        field("timeout", Duration, "maximum time to wait").default("5m"),
    ],
);

const READY_COMMAND: Object = Object::new(
    "ready_command",
    "Wait for a command.",
    &[
        field("argv", List(&Text(&rules::LINE)), "program and arguments").required(),
        field("timeout", Duration, "maximum time to wait").default("5m"),
    ],
);

const INVENTORY: Object = Object::new(
    "inventory",
    "Inventory entry of a VM.",
    &[
        field("groups", List(&Text(&rules::GROUP)), "inventory groups").default("none"),
        field("user", Text(&rules::CI_USER), "user to log in as").default("cloud-init's"),
        field("host", Text(&rules::ADDRESS), "address; overrides address discovery").default("discovered"),
        field("vars", Map(&rules::GROUP, &Free, Nullable::No), "variables").default("none"),
    ],
);
