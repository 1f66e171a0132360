//! The table itself, ordered by name.

use super::{Field, Key, Shape};
use Shape::{
    Address, Bool, Choice, Folded, Integer, Lines, Mac, Number, NumberSet, PciAddresses, Percent, Properties,
    Secret, Size, Text, Volume, WordList, WordSet,
};

const ANY: i64 = i64::MAX;
const UP: f64 = f64::MAX;

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, count: 0, shape, default: None, since: (7, 4), only_root: false, generated: false }
}
impl Key {
    const fn is(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
    const fn numbered(mut self, count: u16) -> Self {
        self.count = count;
        self
    }
    const fn since(mut self, major: u32, minor: u32) -> Self {
        self.since = (major, minor);
        self
    }
    const fn root(mut self) -> Self {
        self.only_root = true;
        self
    }
    const fn generated(mut self) -> Self {
        self.generated = true;
        self
    }
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        default: None,
        is_default: false,
        aliases: &[],
        filled_in: false,
        since: (7, 4),
        until: None,
    }
}
impl Field {
    const fn is(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
    const fn first(mut self) -> Self {
        self.is_default = true;
        self
    }
    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
    const fn filled(mut self) -> Self {
        self.filled_in = true;
        self
    }
    const fn since(mut self, major: u32, minor: u32) -> Self {
        self.since = (major, minor);
        self
    }
    const fn until(mut self, major: u32, minor: u32) -> Self {
        self.until = Some((major, minor));
        self
    }
}

const AIO: &[&str] = &["native", "threads", "io_uring"];
const CACHE: &[&str] = &["none", "writethrough", "writeback", "unsafe", "directsync"];
const FORMAT: &[&str] = &["raw", "qcow", "qed", "qcow2", "vmdk", "cloop"];

const FILE: Field = field("file", Volume).first().alias(&["volume"]);
const IMPORT: Field = field("import-from", Text);
const FORMAT_FIELD: Field = field("format", Choice(FORMAT)).filled();
const SIZE: Field = field("size", Size).filled();

/// The fields that every drive takes.
macro_rules! drive {
    ($($more:expr),*) => {
        Properties(&[
            FILE, IMPORT, FORMAT_FIELD, SIZE,
            field("media", Choice(&["cdrom", "disk"])).is("disk"),
            field("cache", Choice(CACHE)).is("none"),
            field("aio", Choice(AIO)),
            field("discard", Choice(&["ignore", "on"])).is("ignore"),
            field("detect_zeroes", Bool).is("1"),
            field("backup", Bool).is("1"),
            field("replicate", Bool).is("1"),
            field("shared", Bool).is("0"),
            field("snapshot", Bool).is("0"),
            field("serial", Percent),
            field("rerror", Choice(&["ignore", "report", "stop"])),
            field("werror", Choice(&["enospc", "ignore", "report", "stop"])),
            field("bps", Integer(0, ANY)), field("bps_rd", Integer(0, ANY)), field("bps_wr", Integer(0, ANY)),
            field("bps_max_length", Integer(1, ANY)),
            field("bps_rd_max_length", Integer(1, ANY)).alias(&["bps_rd_length"]),
            field("bps_wr_max_length", Integer(1, ANY)).alias(&["bps_wr_length"]),
            field("iops", Integer(0, ANY)), field("iops_rd", Integer(0, ANY)), field("iops_wr", Integer(0, ANY)),
            field("iops_max", Integer(0, ANY)), field("iops_rd_max", Integer(0, ANY)), field("iops_wr_max", Integer(0, ANY)),
            field("iops_max_length", Integer(1, ANY)),
            field("iops_rd_max_length", Integer(1, ANY)).alias(&["iops_rd_length"]),
            field("iops_wr_max_length", Integer(1, ANY)).alias(&["iops_wr_length"]),
            field("mbps", Number(0.0, UP)), field("mbps_rd", Number(0.0, UP)), field("mbps_wr", Number(0.0, UP)),
            field("mbps_max", Number(0.0, UP)), field("mbps_rd_max", Number(0.0, UP)), field("mbps_wr_max", Number(0.0, UP)),
            field("cyls", Integer(0, ANY)).until(9, 0), field("heads", Integer(0, ANY)).until(9, 0),
            field("secs", Integer(0, ANY)).until(9, 0),
            field("trans", Choice(&["none", "lba", "auto"])).until(9, 0),
            $($more),*
        ])
    };
}

const SSD: Field = field("ssd", Bool).is("0");
const WWN: Field = field("wwn", Folded);
const IOTHREAD: Field = field("iothread", Bool).is("0");
const RO: Field = field("ro", Bool).is("0");
const MODEL: Field = field("model", Percent);

const IDE: Shape = drive!(SSD, WWN, MODEL);
const SATA: Shape = drive!(SSD, WWN);
const SCSI: Shape = drive!(
    SSD,
    WWN,
    IOTHREAD,
    RO,
    field("queues", Integer(2, ANY)),
    field("product", Text),
    field("vendor", Text),
    field("scsiblock", Bool).is("0")
);
const VIRTIO: Shape = drive!(IOTHREAD, RO);

/// The models of NICs that PVE knows, the one that it recommends first.
pub const NIC_MODELS: &[&str] = &[
    "virtio",
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "vmxnet3",
];

const NET: Shape = Properties(&[
    field("model", Choice(NIC_MODELS)).first(),
    field("macaddr", Mac).filled(),
    field("bridge", Text),
    field("firewall", Bool).is("0"),
    field("link_down", Bool).is("0"),
    field("mtu", Integer(1, 65520)),
    field("queues", Integer(0, 64)).is("0"),
    field("rate", Number(0.0, UP)).is("0"),
    field("tag", Integer(1, 4094)),
    field("trunks", NumberSet),
    field("host-tunnel", Text).since(9, 2),
]);

const CPU: Shape = Properties(&[
    field("cputype", Text).first().is("kvm64"),
    field("flags", WordSet),
    field("hidden", Bool).is("0"),
    field("hv-vendor-id", Text),
    field("phys-bits", Text),
    field("guest-phys-bits", Integer(32, 64)).since(9, 0),
    field("level", Text).since(9, 0),
    field("reported-model", Text).is("kvm64"),
]);

const AGENT: Shape = Properties(&[
    field("enabled", Bool).first().is("0"),
    field("fstrim_cloned_disks", Bool).is("0"),
    field("freeze-fs-on-backup", Bool).is("1").alias(&["freeze-fs", "guest-fsfreeze"]).since(8, 0),
    field("type", Choice(&["virtio", "isa"])).is("virtio"),
]);

const HOSTPCI: Shape = Properties(&[
    field("host", PciAddresses).first(),
    field("mapping", Text).since(8, 0),
    field("pcie", Bool).is("0"),
    field("rombar", Bool).is("1"),
    field("romfile", Text),
    field("x-vga", Bool).is("0"),
    field("mdev", Text),
    field("legacy-igd", Bool).is("0"),
    field("driver", Choice(&["vfio", "keep"])).is("vfio").since(9, 0),
    field("vendor-id", Folded),
    field("device-id", Folded),
    field("sub-vendor-id", Folded),
    field("sub-device-id", Folded),
]);

const MACHINE: Shape = Properties(&[
    field("type", Text).first().is("pc"),
    field("viommu", Choice(&["intel", "virtio"])).since(8, 0),
    field("aw-bits", Integer(32, 64)).since(9, 0),
    field("enable-s3", Bool).since(8, 4),
    field("enable-s4", Bool).since(8, 4),
]);

/// The kinds of displays that PVE knows.
pub const VGA_TYPES: &[&str] = &[
    "cirrus",
    "qxl",
    "qxl2",
    "qxl3",
    "qxl4",
    "none",
    "serial0",
    "serial1",
    "serial2",
    "serial3",
    "std",
    "virtio",
    "virtio-gl",
    "vmware",
];
const SERIAL: Shape = Text;
/// The keyboards that a console may have.
pub const KEYBOARDS: &[&str] = &[
    "de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "hu", "is", "it",
    "ja", "lt", "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr",
];
/// The operating systems that PVE suits a guest to.
pub const OSTYPES: &[&str] = &[
    "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26",
    "solaris",
];
const LOCKS: &[&str] = &[
    "backup",
    "clone",
    "create",
    "migrate",
    "rollback",
    "snapshot",
    "snapshot-delete",
    "suspending",
    "suspended",
];

pub(super) const KEYS: &[Key] = &[
    key("acpi", Bool).is("1"),
    key("affinity", NumberSet).root(),
    key("agent", AGENT),
    key("allow-ksm", Bool).is("1").since(9, 0),
    key(
        "amd-sev",
        Properties(&[
            field("type", Text).first(),
            field("allow-smt", Bool).is("1"),
            field("kernel-hashes", Bool).is("0"),
            field("no-debug", Bool).is("0"),
            field("no-key-sharing", Bool).is("0"),
        ]),
    )
    .root(),
    key("arch", Choice(&["x86_64", "aarch64"])).root(),
    key("args", Text).root(),
    key(
        "audio0",
        Properties(&[
            field("device", Choice(&["ich9-intel-hda", "intel-hda", "AC97"])),
            field("driver", Choice(&["spice", "none"])).is("spice"),
        ]),
    ),
    key("autostart", Bool).is("0"),
    key("balloon", Integer(0, ANY)),
    key("bios", Choice(&["seabios", "ovmf"])).is("seabios"),
    key("boot", Properties(&[field("legacy", Text).first(), field("order", Text)])),
    key("bootdisk", Text),
    key(
        "cicustom",
        Properties(&[
            field("meta", Volume),
            field("network", Volume),
            field("user", Volume),
            field("vendor", Volume),
        ]),
    ),
    key("cipassword", Secret),
    key("citype", Choice(&["configdrive2", "nocloud", "opennebula"])),
    key("ciupgrade", Bool).is("1").since(8, 0),
    key("ciuser", Text),
    key("cores", Integer(1, ANY)).is("1"),
    key("cpu", CPU),
    key("cpulimit", Number(0.0, 128.0)).is("0"),
    key("cpuunits", Integer(1, 262_144)),
    key("description", Lines),
    key(
        "efidisk",
        Properties(&[
            FILE,
            IMPORT,
            FORMAT_FIELD,
            SIZE,
            field("efitype", Choice(&["2m", "4m"])).is("2m"),
            field("pre-enrolled-keys", Bool).is("0"),
            field("ms-cert", Choice(&["2011", "2023", "2023w", "2023k"])).is("2011").since(8, 4),
        ]),
    )
    .numbered(1),
    key("freeze", Bool).is("0"),
    key("hookscript", Volume).root(),
    key("hostpci", HOSTPCI).numbered(16),
    key("hotplug", WordSet).is("network,disk,usb"),
    key("hugepages", Choice(&["any", "2", "1024"])).root(),
    key("ide", IDE).numbered(4),
    key(
        "intel-tdx",
        Properties(&[
            field("type", Text).first(),
            field("attestation", Bool).is("1"),
            field("vsock-cid", Integer(2, ANY)),
            field("vsock-port", Integer(0, ANY)),
        ]),
    )
    .since(9, 0)
    .root(),
    key(
        "ipconfig",
        Properties(&[
            field("gw", Address),
            field("gw6", Address),
            field("ip", Address),
            field("ip6", Address),
        ]),
    )
    .numbered(32),
    key("ivshmem", Properties(&[field("size", Integer(1, ANY)), field("name", Text)])).root(),
    key("keephugepages", Bool).is("0").root(),
    key("keyboard", Choice(KEYBOARDS)),
    key("kvm", Bool).is("1"),
    key("localtime", Bool),
    key("lock", Choice(LOCKS)).root(),
    key("machine", MACHINE),
    key("memory", Properties(&[field("current", Integer(16, ANY)).first().is("512")])),
    key("meta", Text).generated(),
    key("migrate_downtime", Number(0.0, UP)).is("0.1"),
    key("migrate_speed", Integer(0, ANY)).is("0"),
    key("name", Folded),
    key("nameserver", WordList),
    key("net", NET).numbered(32),
    key("numa", Bool).is("0"),
    key(
        "numa",
        Properties(&[
            field("cpus", NumberSet),
            field("hostnodes", NumberSet),
            field("memory", Number(0.0, UP)),
            field("policy", Choice(&["preferred", "bind", "interleave"])),
        ]),
    )
    .numbered(8),
    key("onboot", Bool).is("0"),
    key("ostype", Choice(OSTYPES)).is("other"),
    key("parallel", Text).numbered(3).root(),
    key("protection", Bool).is("0"),
    key("reboot", Bool).is("1"),
    key(
        "rng0",
        Properties(&[
            field("source", Choice(&["/dev/urandom", "/dev/random", "/dev/hwrng"])).first(),
            field("max_bytes", Integer(0, ANY)).is("1024"),
            field("period", Integer(0, ANY)).is("1000"),
        ]),
    ),
    key("sata", SATA).numbered(6),
    key("scsi", SCSI).numbered(31),
    key(
        "scsihw",
        Choice(&["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"]),
    )
    .is("lsi"),
    key("searchdomain", WordList),
    key("serial", SERIAL).numbered(4),
    key("shares", Integer(0, 50_000)).is("1000"),
    key(
        "smbios1",
        Properties(&[
            field("uuid", Folded).filled(),
            field("base64", Bool).is("0"),
            field("family", Text),
            field("manufacturer", Text),
            field("product", Text),
            field("serial", Text),
            field("sku", Text),
            field("version", Text),
        ]),
    )
    .generated(),
    key("smp", Integer(1, ANY)).is("1"),
    key("sockets", Integer(1, ANY)).is("1"),
    key(
        "spice_enhancements",
        Properties(&[
            field("foldersharing", Bool).is("0"),
            field("videostreaming", Choice(&["off", "all", "filter"])).is("off"),
        ]),
    )
    .root(),
    key("sshkeys", Percent),
    key("startdate", Text).is("now"),
    key(
        "startup",
        Properties(&[
            field("order", Integer(0, ANY)).first(),
            field("up", Integer(0, ANY)),
            field("down", Integer(0, ANY)),
        ]),
    ),
    key("tablet", Bool).is("1"),
    key("tags", WordSet),
    key("tdf", Bool).is("0"),
    key("template", Bool).is("0"),
    key(
        "tpmstate",
        Properties(&[
            FILE,
            IMPORT,
            field("format", Choice(&["raw", "qcow2", "vmdk"])).filled().since(9, 0),
            SIZE,
            field("version", Choice(&["v1.2", "v2.0"])).is("v1.2"),
        ]),
    )
    .numbered(1),
    key("unused", Properties(&[FILE])).numbered(256),
    key(
        "usb",
        Properties(&[
            field("host", Folded).first(),
            field("mapping", Text).since(8, 0),
            field("usb3", Bool).is("0"),
        ]),
    )
    .numbered(14),
    key("vcpus", Integer(1, ANY)),
    key(
        "vga",
        Properties(&[
            field("type", Choice(VGA_TYPES)).first().is("std"),
            field("memory", Integer(4, 512)),
            field("clipboard", Choice(&["vnc"])).since(8, 0),
        ]),
    ),
    key("virtio", VIRTIO).numbered(16),
    key(
        "virtiofs",
        Properties(&[
            field("dirid", Text).first(),
            field("cache", Choice(&["auto", "always", "metadata", "never"])).is("auto"),
            field("direct-io", Bool).is("0"),
            field("expose-acl", Bool).is("0"),
            field("expose-xattr", Bool).is("0"),
        ]),
    )
    .numbered(10)
    .since(8, 4),
    key("vmgenid", Folded).root().generated(),
    key("vmstatestorage", Text),
    key(
        "watchdog",
        Properties(&[
            field("model", Choice(&["i6300esb", "ib700"])).first().is("i6300esb"),
            field("action", Choice(&["reset", "shutdown", "poweroff", "pause", "debug", "none"])),
        ]),
    ),
];
