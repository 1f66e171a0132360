//! The keys of a VM.

use super::devices::{BIOS, CLOUD_INIT, DISK, NIC, NUMA_NODE, PCI, SERIAL, TPM, USB, VIRTIOFS};
use super::{Kind, Lower, Nullable, Object, field, rules};
use Kind::{Bool, Choice, Duration, Free, Int, List, Map, Number, OneOf, OneOrMany, Only, Size, Text};

const ANY: i64 = i64::MAX;
const MIB: u64 = 1 << 20;

pub(crate) const VM: Object = Object::new(
    "vm",
    "A VM. What is absent is not managed; `null` removes.",
    &[
        field("cluster", Text(&rules::WORD), "its cluster, where the spec has several")
            .default("the only one"),
        field(
            "profile",
            OneOrMany(&Text(&rules::WORD)),
            "profiles that it takes, later ones over earlier ones",
        ),
        field(
            "vmid",
            OneOf(&[Int(100, 999_999_999), Kind::Object(&RANGE)]),
            "its number, or a range that one is drawn from; `plan --pin` writes it to the lock file",
        )
        .means("VMID")
        .default("any free one"),
        field("uuid", Text(&rules::UUID), "the UUID of an adopted guest")
            .means("`smbios1`: `uuid`")
            .default("made of cluster, project and name"),
        field("renamed_from", Text(&rules::GUEST), "the name that it had; its guest is renamed in place")
            .default("none"),
        field(
            "moved_from",
            Kind::Object(&MOVED_FROM),
            "the project or cluster key that it had; its guest moves in place",
        )
        .default("the spec's `moved_from`"),
        field(
            "allow_duplicate",
            OneOrMany(&Choice(&["name", "address"])),
            "what it may share with other VMs: the name of a VM of another project, or a static address",
        )
        .default("none"),
        field("node", Text(&rules::NODE), "short for `placement.node`"),
        field("placement", Kind::Object(&PLACEMENT), "where it is made"),
        field("pool", Text(&rules::POOL), "the pool that it is in").nullable().means("pool member"),
        field("ha", Kind::Object(&HA), "high availability")
            .nullable()
            .means("HA resource, with a group (7, 8) or node-affinity rule (9)"),
        field("description", Text(&rules::DESCRIPTION), "its description, without the ownership marker")
            .nullable()
            .means("`description`"),
        field("tags", List(&Text(&rules::TAG)), "its tags; order and case do not matter")
            .nullable()
            .means("`tags`"),
        field("template", Bool, "whether it is made a template; it is then never started")
            .means("`template`")
            .default("false"),
        field(
            "clone",
            OneOf(&[Choice(&["linked", "full"]), Text(&rules::CLONE_FROM), Kind::Object(&CLONE)]),
            "what it is cloned from; `linked` or `full` alone clone the spec's template of the same image, a name alone makes a full clone",
        ),
        field(
            "after",
            OneOrMany(&Text(&rules::GUEST)),
            "VMs and groups that must be ready before it is created, started, restarted or replaced",
        )
        .default("none"),
        field("protection", Bool, "whether PVE refuses to remove it or its disks").option("protection"),
        field("onboot", Bool, "whether it starts with its node").option("onboot"),
        field("autostart", Bool, "whether it is started again after a crash (not used by PVE)")
            .option("autostart"),
        field("startup", Kind::Object(&STARTUP), "when it starts and stops with its node").nullable(),
        field("reboot", Bool, "whether the guest may reboot; else a reboot ends it").option("reboot"),
        field("cpu", Kind::Object(&CPU), "its processors").nullable(),
        field(
            "numa",
            Map(&rules::NUMA_SLOT, &Kind::Object(&NUMA_NODE), Nullable::Yes),
            "its NUMA nodes by slot, `numa0` to `numa7`",
        )
        .devices("numa"),
        field("memory", Kind::Object(&MEMORY), "its memory").nullable(),
        field("machine", Kind::Object(&MACHINE), "its chipset").nullable(),
        field("bios", Kind::Object(&BIOS), "its firmware"),
        field("tpm", Kind::Object(&TPM), "its TPM").nullable().means("`tpmstate0`"),
        field("ostype", Choice(pve_config::OSTYPES), "what runs in it, so that PVE suits it")
            .option("ostype")
            .default("when made from an image: `l26`"),
        field(
            "scsihw",
            Choice(&["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"]),
            "its SCSI controller",
        )
        .option("scsihw")
        .default("when made: `virtio-scsi-single`"),
        field(
            "disks",
            Map(&rules::DRIVE_SLOT, &Kind::Object(&DISK), Nullable::Yes),
            "its disks and CD drives by slot; `null` detaches",
        )
        .means("`ideN`, `sataN`, `scsiN`, `virtioN`"),
        field(
            "nics",
            Map(&rules::NET_SLOT, &Kind::Object(&NIC), Nullable::Yes),
            "its NICs by slot, `net0` to `net31`",
        )
        .means("`netN`, `ipconfigN`"),
        field("boot", OneOrMany(&Text(&rules::BOOT_SLOT)), "the devices that it boots from, in order")
            .nullable()
            .means("`boot`: `order`")
            .default("when made: the first disk"),
        field("cloud_init", Kind::Object(&CLOUD_INIT), "what the guest is told when it boots"),
        field("agent", Kind::Object(&AGENT), "the QEMU guest agent").nullable(),
        field(
            "serial",
            Map(&rules::SERIAL_SLOT, &SERIAL, Nullable::Yes),
            "its serial ports by slot, `serial0` to `serial3`",
        )
        .devices("serial"),
        field(
            "parallel",
            Map(&rules::PARALLEL_SLOT, &Text(&rules::PARALLEL_PORT), Nullable::Yes),
            "parallel ports of the node by slot; only root@pam may",
        )
        .devices("parallel"),
        field("vga", Kind::Object(&VGA), "its display").nullable(),
        field("audio", Kind::Object(&AUDIO), "its sound").nullable(),
        field("rng", Kind::Object(&RNG), "its random number generator").nullable(),
        field("watchdog", Kind::Object(&WATCHDOG), "its watchdog").nullable(),
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
            "folders of the node by slot, `virtiofs0` to `virtiofs9`",
        )
        .devices("virtiofs"),
        field("smbios", Kind::Object(&SMBIOS), "what its firmware tells of itself").nullable(),
        field(
            "hotplug",
            OneOf(&[Only(false), List(&Choice(&["network", "disk", "cpu", "memory", "usb", "cloudinit"]))]),
            "what may be changed while it runs",
        )
        .option("hotplug")
        .lower(Lower::Join(",")),
        field("tablet", Bool, "whether it has a tablet for a pointer").option("tablet"),
        field("keyboard", Choice(pve_config::KEYBOARDS), "the keyboard of its console").option("keyboard"),
        field("acpi", Bool, "whether it has ACPI").option("acpi"),
        field("kvm", Bool, "whether the processor's virtualisation is used").option("kvm"),
        field("localtime", Bool, "whether its clock has local time").option("localtime"),
        field("startdate", Text(&rules::START_DATE), "what its clock says at a start").option("startdate"),
        field("tdf", Bool, "whether time drift is made up for").option("tdf"),
        field("freeze", Bool, "whether its processors stand still after a start").option("freeze"),
        field("arch", Choice(&["x86_64", "aarch64"]), "its architecture; only root@pam may").option("arch"),
        field("args", Text(&rules::LINE), "arguments for QEMU; only root@pam may").option("args"),
        field(
            "hookscript",
            Text(&rules::VOLUME),
            "a script (content `snippets`) that the node runs; only root@pam may",
        )
        .option("hookscript"),
        field("vmstate_storage", Text(&rules::STORAGE), "where its memory is kept when it is suspended")
            .option("vmstatestorage"),
        field("vmgenid", Text(&rules::UUID), "its generation ID; only root@pam may").option("vmgenid"),
        field("migrate", Kind::Object(&MIGRATE), "how it is migrated").nullable(),
        field("spice", Kind::Object(&SPICE), "extras of SPICE; only root@pam may").nullable(),
        field("ivshmem", Kind::Object(&IVSHMEM), "memory shared with the node; only root@pam may").nullable(),
        field("amd_sev", Kind::Object(&SEV), "AMD's encrypted memory; only root@pam may").nullable(),
        field("intel_tdx", Kind::Object(&TDX), "Intel's trust domains; only root@pam may").nullable(),
        field(
            "raw",
            Map(
                &rules::OPTION,
                &OneOf(&[Text(&rules::LINE), Bool, Number(f64::MIN, f64::MAX)]),
                Nullable::Yes,
            ),
            "any option of PVE by its own name and spelling, checked against what its version knows",
        ),
        field("lifecycle", Kind::Object(&LIFECYCLE), "what it shall be doing and what may be done to it"),
        field("ready", Kind::Object(&READY), "what is waited for after a start"),
        field("inventory", Kind::Object(&INVENTORY), "how inventories show it"),
    ],
);

const RANGE: Object = Object::new(
    "range",
    "Numbers to draw one from.",
    &[field("range", List(&Int(100, 999_999_999)), "the first and the last, `[200, 299]`").required()],
);

pub(crate) const MOVED_FROM: Object = Object::new(
    "moved_from",
    "The identity that VMs had.",
    &[
        field("project", Text(&rules::PROJECT), "the project that they belonged to").default("the spec's"),
        field("cluster", Text(&rules::WORD), "the name that their cluster had in the spec")
            .default("the cluster's"),
    ],
)
.shorthand("project");

const PLACEMENT: Object = Object::new(
    "placement",
    "Where a VM is made.",
    &[
        field("node", Text(&rules::NODE), "the node that it is made on")
            .default("the cluster's `node`, then PROXMOX_NODE"),
        field("follow_ha", Only(true), "a VM that runs on another node is left there; there is no other way")
            .default("true"),
        field("pool", Text(&rules::POOL), "the same as `pool`").nullable().means("pool member"),
    ],
);

const HA: Object = Object::new(
    "ha",
    "High availability.",
    &[
        field("state", Choice(&["started", "stopped", "disabled", "ignored"]), "what the manager aims at")
            .default("started")
            .means("HA resource: `state`"),
        field("max_restart", Int(0, 10), "how often a start is tried again on its node")
            .means("HA resource: `max_restart`")
            .default("1"),
        field("max_relocate", Int(0, 10), "how often it is tried on other nodes")
            .means("HA resource: `max_relocate`")
            .default("1"),
        field(
            "on_nodes",
            Map(&rules::NODE, &Int(0, 1000), Nullable::No),
            "nodes with their priorities, higher ones first",
        )
        .means("HA group (7, 8) or node-affinity rule (9)"),
        field("strict", Bool, "whether it must not run on other nodes")
            .means("`restricted` (7, 8), `strict` (9)")
            .default("false"),
    ],
)
.shorthand("state");

const CLONE: Object = Object::new(
    "clone",
    "What a VM is cloned from.",
    &[
        field(
            "from",
            OneOf(&[Int(100, 999_999_999), Text(&rules::CLONE_FROM)]),
            "a VM of this spec by name, or any guest by VMID",
        )
        .required()
        .means("`clone`: `vmid`"),
        field(
            "mode",
            Choice(&["full", "linked"]),
            "whether disks are copied, or share the template's blocks",
        )
        .default("full")
        .means("`clone`: `full`"),
        field("storage", Text(&rules::STORAGE), "where copied disks go")
            .default("where the source's are")
            .means("`clone`: `storage`"),
        field("format", Choice(&["qcow2", "raw", "vmdk"]), "their format")
            .default("as the source's")
            .means("`clone`: `format`"),
    ],
);

const STARTUP: Object = Object::new(
    "startup",
    "When a VM starts and stops with its node.",
    &[
        field("order", Int(0, 65535), "its place; lower ones start first and stop last")
            .part("startup", "order"),
        field("up", Duration, "the wait before the next one starts")
            .part("startup", "up")
            .lower(Lower::Seconds),
        field("down", Duration, "how long it is given to shut down")
            .part("startup", "down")
            .lower(Lower::Seconds),
    ],
)
.shorthand("order");

const CPU: Object = Object::new(
    "cpu",
    "Processors.",
    &[
        field("cores", Int(1, 1024), "cores a socket").option("cores"),
        field("sockets", Int(1, 4), "sockets").option("sockets"),
        field("vcpus", Int(1, 4096), "how many of them are plugged in at a start").option("vcpus"),
        field(
            "type",
            Text(&rules::CPU_TYPE),
            "what the guest sees: `host`, `x86-64-v2-AES`, `custom-NAME` …",
        )
        .part("cpu", "cputype"),
        field("flags", List(&Text(&rules::CPU_FLAG)), "flags with `+` or `-`")
            .part("cpu", "flags")
            .lower(Lower::Join(";")),
        field("hidden", Bool, "whether the guest is kept from seeing KVM").part("cpu", "hidden"),
        field("hv_vendor_id", Text(&rules::FIELD), "Hyper-V's vendor ID").part("cpu", "hv-vendor-id"),
        field("phys_bits", OneOf(&[Int(8, 64), Choice(&["host"])]), "bits of a physical address")
            .part("cpu", "phys-bits"),
        field("guest_phys_bits", Int(32, 64), "bits of a physical address that the guest uses")
            .part("cpu", "guest-phys-bits"),
        field("level", Text(&rules::FIELD), "the CPUID level").part("cpu", "level"),
        field("reported_model", Text(&rules::FIELD), "the model that a custom type reports")
            .part("cpu", "reported-model"),
        field("limit", Number(0.0, 128.0), "how many CPUs it may use up; 0 is no limit").option("cpulimit"),
        field("units", Int(1, 262_144), "its weight against others").option("cpuunits"),
        field("numa", Bool, "whether it has NUMA nodes").option("numa"),
        field("affinity", Text(&rules::ID_LIST), "the node's CPUs that it runs on; only root@pam may")
            .option("affinity"),
    ],
)
.shorthand("cores");

const MEMORY: Object = Object::new(
    "memory",
    "Memory.",
    &[
        field("size", Size(16 * MIB, 1 << 46, MIB), "how much, in whole MiB")
            .part("memory", "current")
            .lower(Lower::Mib),
        field(
            "balloon",
            OneOf(&[Only(false), Size(0, 1 << 46, MIB)]),
            "what it can be shrunk to, in whole MiB; `false` removes the balloon",
        )
        .option("balloon")
        .lower(Lower::Mib),
        field("shares", Int(0, 50_000), "its weight when memory is short").option("shares"),
        field("hugepages", Choice(&["any", "2", "1024"]), "huge pages of so many MiB; only root@pam may")
            .option("hugepages"),
        field("keep_hugepages", Bool, "whether they stay after a stop; only root@pam may")
            .option("keephugepages"),
        field("ksm", Bool, "whether equal pages may be shared").option("allow-ksm"),
    ],
)
.shorthand("size");

const MACHINE: Object = Object::new(
    "machine",
    "The chipset.",
    &[
        field("type", Text(&rules::MACHINE), "`pc`, `q35`, `virt`, or a version of one")
            .part("machine", "type"),
        field("viommu", Choice(&["intel", "virtio"]), "its IOMMU").part("machine", "viommu"),
        field("aw_bits", Int(32, 64), "the IOMMU's address width").part("machine", "aw-bits"),
        field("s3", Bool, "whether it can sleep").part("machine", "enable-s3"),
        field("s4", Bool, "whether it can hibernate").part("machine", "enable-s4"),
    ],
)
.shorthand("type");

const AGENT: Object = Object::new(
    "agent",
    "The QEMU guest agent.",
    &[
        field("enabled", Bool, "whether PVE talks to it").part("agent", "enabled"),
        field("fstrim_cloned", Bool, "whether it trims disks after a move or clone")
            .part("agent", "fstrim_cloned_disks"),
        field("freeze", Bool, "whether it freezes file systems for a backup")
            .part("agent", "freeze-fs-on-backup"),
        field("type", Choice(&["virtio", "isa"]), "how it is reached").part("agent", "type"),
    ],
)
.shorthand("enabled");

const VGA: Object = Object::new(
    "vga",
    "The display.",
    &[
        field("type", Choice(pve_config::VGA_TYPES), "its kind").part("vga", "type"),
        field("memory", Size(4 * MIB, 512 * MIB, MIB), "its memory, in whole MiB")
            .part("vga", "memory")
            .lower(Lower::Mib),
        field("clipboard", Choice(&["vnc"]), "whose clipboard is shared").part("vga", "clipboard"),
    ],
)
.shorthand("type");

const AUDIO: Object = Object::new(
    "audio",
    "Sound.",
    &[
        field("device", Choice(&["ich9-intel-hda", "intel-hda", "AC97"]), "its kind")
            .part("audio0", "device"),
        field("driver", Choice(&["spice", "none"]), "where it goes").part("audio0", "driver"),
    ],
)
.shorthand("device");

const RNG: Object = Object::new(
    "rng",
    "The random number generator.",
    &[
        field("source", Choice(&["urandom", "random", "hwrng"]), "the node's device below `/dev`")
            .part("rng0", "source")
            .lower(Lower::Prefix("/dev/")),
        field("max_bytes", Int(0, ANY), "bytes a period; 0 is no limit").part("rng0", "max_bytes"),
        field("period", Int(1, ANY), "the period in milliseconds").part("rng0", "period"),
    ],
)
.shorthand("source");

const WATCHDOG: Object = Object::new(
    "watchdog",
    "The watchdog.",
    &[
        field("model", Choice(&["i6300esb", "ib700"]), "its kind").part("watchdog", "model"),
        field(
            "action",
            Choice(&["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
            "what it does when the guest hangs",
        )
        .part("watchdog", "action"),
    ],
)
.shorthand("model");

pub(crate) const SMBIOS: Object = Object::new(
    "smbios",
    "What the firmware tells of itself; the UUID is ours to write.",
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
    "How a VM is migrated.",
    &[
        field("downtime", Number(0.0, f64::MAX), "how long it may stand still, in seconds")
            .option("migrate_downtime"),
        field("speed", Int(0, ANY), "how fast, in MB a second; 0 is no limit").option("migrate_speed"),
    ],
);

const SPICE: Object = Object::new(
    "spice",
    "Extras of SPICE.",
    &[
        field("foldersharing", Bool, "whether folders can be shared")
            .part("spice_enhancements", "foldersharing"),
        field("videostreaming", Choice(&["off", "all", "filter"]), "what is streamed as video")
            .part("spice_enhancements", "videostreaming"),
    ],
);

const IVSHMEM: Object = Object::new(
    "ivshmem",
    "Memory shared with the node.",
    &[
        field("size", Size(MIB, 1 << 40, MIB), "how much, in whole MiB")
            .part("ivshmem", "size")
            .lower(Lower::Mib),
        field("name", Text(&rules::HEX_NAME), "its name on the node").part("ivshmem", "name"),
    ],
)
.shorthand("size");

const SEV: Object = Object::new(
    "amd_sev",
    "AMD's encrypted memory.",
    &[
        field("type", Choice(&["std", "es", "snp"]), "its generation").part("amd-sev", "type"),
        field("allow_smt", Bool, "whether sibling threads are allowed").part("amd-sev", "allow-smt"),
        field("kernel_hashes", Bool, "whether kernel hashes are added").part("amd-sev", "kernel-hashes"),
        field("no_debug", Bool, "whether debugging is refused").part("amd-sev", "no-debug"),
        field("no_key_sharing", Bool, "whether keys are not shared").part("amd-sev", "no-key-sharing"),
    ],
)
.shorthand("type");

const TDX: Object = Object::new(
    "intel_tdx",
    "Intel's trust domains.",
    &[
        field("type", Choice(&["tdx"]), "its generation").part("intel-tdx", "type"),
        field("attestation", Bool, "whether it can be attested").part("intel-tdx", "attestation"),
        field("vsock_cid", Int(2, ANY), "the attestation service's CID").part("intel-tdx", "vsock-cid"),
        field("vsock_port", Int(0, ANY), "the attestation service's port").part("intel-tdx", "vsock-port"),
    ],
)
.shorthand("type");

const LIFECYCLE: Object = Object::new(
    "lifecycle",
    "What a VM shall be doing and what may be done to it.",
    &[
        field(
            "state",
            Choice(&["running", "stopped", "unmanaged"]),
            "what it shall be doing; a new VM is started unless this says otherwise",
        )
        .default("when made: running; later: unmanaged"),
        field(
            "restart",
            Choice(&["never", "if-needed"]),
            "whether a change that needs it may restart the VM",
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
            "roles of disks that survive its destruction, like `keep` on each",
        )
        .default("none"),
        field(
            "ignore",
            List(&Text(&rules::SPEC_PATH)),
            "keys whose differences are not looked at after it was made",
        )
        .default("none"),
        field("shutdown_timeout", Duration, "how long a shutdown is given").default("3m"),
        field("force_stop", Bool, "whether a guest that does not shut down in time is stopped")
            .default("false"),
        field("on_failure", Choice(&["rollback", "keep"]), "what happens to the VM when a step fails")
            .default(
                "a failed creation is rolled back; a change, or a VM that is not ready in time, is kept",
            ),
    ],
);

const READY: Object = Object::new(
    "ready",
    "What is waited for after a start.",
    &[
        field("agent", Duration, "until the agent answers, at most so long"),
        field("ip", Kind::Object(&READY_IP), "until the agent tells an address"),
        field("cloud_init", Duration, "until cloud-init is done, at most so long"),
        field(
            "tcp",
            OneOf(&[
                Int(1, 65535),
                Kind::Object(&READY_TCP),
                List(&OneOf(&[Int(1, 65535), Kind::Object(&READY_TCP)])),
            ]),
            "until a port answers; needs an address",
        ),
        field(
            "command",
            OneOf(&[List(&Text(&rules::LINE)), Kind::Object(&READY_COMMAND)]),
            "until a command on this machine succeeds; needs `--allow-commands`",
        ),
    ],
);

const READY_IP: Object = Object::new(
    "ready_ip",
    "Waiting for an address.",
    &[
        field("nic", Text(&rules::NET_SLOT), "of this NIC").default("the primary NIC, or any"),
        field("family", OneOf(&[Int(4, 4), Int(6, 6), Choice(&["any"])]), "of this family").default("4"),
        field("within", Text(&rules::NETWORK), "within this network").default("any"),
        field("timeout", Duration, "at most so long").default("5m"),
    ],
)
.shorthand("timeout");

const READY_TCP: Object = Object::new(
    "ready_tcp",
    "Waiting for a port.",
    &[
        field("port", Int(1, 65535), "the port").required(),
        field("timeout", Duration, "at most so long").default("5m"),
    ],
);

const READY_COMMAND: Object = Object::new(
    "ready_command",
    "Waiting for a command.",
    &[
        field("argv", List(&Text(&rules::LINE)), "program and arguments").required(),
        field("timeout", Duration, "at most so long").default("5m"),
    ],
);

const INVENTORY: Object = Object::new(
    "inventory",
    "How inventories show a VM.",
    &[
        field("groups", List(&Text(&rules::GROUP)), "its groups").default("none"),
        field("user", Text(&rules::CI_USER), "the user to log in with").default("cloud-init's"),
        field("host", Text(&rules::ADDRESS), "its address, where it shall not be found out")
            .default("found out"),
        field("vars", Map(&rules::GROUP, &Free, Nullable::No), "its variables").default("none"),
    ],
);
