//! The CPU models and flags that PVE knows.
// PVE: qemu-server src/PVE/QemuServer/CPUConfig.pm validate_vm_cpu_conf and its tables, src/PVE/QemuServer/CPUFlags.pm.

use crate::options::Cpu;

/// The models that some version of PVE has built in.
const MODELS: &[&str] = &[
    "486",
    "a64fx",
    "athlon",
    "Broadwell",
    "Broadwell-IBRS",
    "Broadwell-noTSX",
    "Broadwell-noTSX-IBRS",
    "Cascadelake-Server",
    "Cascadelake-Server-noTSX",
    "Cascadelake-Server-v2",
    "Cascadelake-Server-v4",
    "Cascadelake-Server-v5",
    "ClearwaterForest",
    "Conroe",
    "Cooperlake",
    "Cooperlake-v2",
    "core2duo",
    "coreduo",
    "cortex-a35",
    "cortex-a53",
    "cortex-a55",
    "cortex-a57",
    "cortex-a710",
    "cortex-a72",
    "cortex-a76",
    "EPYC",
    "EPYC-Genoa",
    "EPYC-Genoa-v2",
    "EPYC-IBPB",
    "EPYC-Milan",
    "EPYC-Milan-v2",
    "EPYC-Milan-v3",
    "EPYC-Rome",
    "EPYC-Rome-v2",
    "EPYC-Rome-v3",
    "EPYC-Rome-v4",
    "EPYC-Rome-v5",
    "EPYC-Turin",
    "EPYC-v3",
    "EPYC-v4",
    "EPYC-v5",
    "GraniteRapids",
    "GraniteRapids-v2",
    "GraniteRapids-v3",
    "Haswell",
    "Haswell-IBRS",
    "Haswell-noTSX",
    "Haswell-noTSX-IBRS",
    "host",
    "Icelake-Client",
    "Icelake-Client-noTSX",
    "Icelake-Server",
    "Icelake-Server-noTSX",
    "Icelake-Server-v3",
    "Icelake-Server-v4",
    "Icelake-Server-v5",
    "Icelake-Server-v6",
    "Icelake-Server-v7",
    "IvyBridge",
    "IvyBridge-IBRS",
    "KnightsMill",
    "kvm32",
    "kvm64",
    "max",
    "Nehalem",
    "Nehalem-IBRS",
    "neoverse-n1",
    "neoverse-n2",
    "neoverse-v1",
    "Opteron_G1",
    "Opteron_G2",
    "Opteron_G3",
    "Opteron_G4",
    "Opteron_G5",
    "Penryn",
    "pentium",
    "pentium2",
    "pentium3",
    "phenom",
    "qemu32",
    "qemu64",
    "SandyBridge",
    "SandyBridge-IBRS",
    "SapphireRapids",
    "SapphireRapids-v2",
    "SapphireRapids-v3",
    "SapphireRapids-v4",
    "SierraForest",
    "SierraForest-v2",
    "SierraForest-v3",
    "Skylake-Client",
    "Skylake-Client-IBRS",
    "Skylake-Client-noTSX-IBRS",
    "Skylake-Client-v4",
    "Skylake-Server",
    "Skylake-Server-IBRS",
    "Skylake-Server-noTSX-IBRS",
    "Skylake-Server-v4",
    "Skylake-Server-v5",
    "Westmere",
    "Westmere-IBRS",
    "x86-64-v2",
    "x86-64-v2-AES",
    "x86-64-v3",
    "x86-64-v4",
];

/// The models whose CPU has 32 bits.
const MODELS_32_BIT: &[&str] =
    &["486", "pentium", "pentium2", "pentium3", "coreduo", "athlon", "kvm32", "qemu32"];

/// The flags that a VM's own `cpu` may have.
const FLAGS: &[&str] = &[
    "aes",
    "amd-no-ssb",
    "amd-ssbd",
    "hv-evmcs",
    "hv-tlbflush",
    "ibpb",
    "md-clear",
    "nested-virt",
    "pcid",
    "pdpe1gb",
    "spec-ctrl",
    "ssbd",
    "virt-ssbd",
];

/// Tells whether some version of PVE has this CPU model built in; the names are case-sensitive.
pub fn is_builtin_cpu(model: &str) -> bool {
    MODELS.contains(&model)
}

/// Returns the flags that a VM's own `cpu` may have, without their sign.
pub fn cpu_flags() -> &'static [&'static str] {
    FLAGS
}

pub(super) fn is_32_bit(model: &str) -> bool {
    MODELS_32_BIT.contains(&model)
}

/// Returns what PVE refuses in a VM's `cpu`, each with what to write instead.
pub(super) fn faults(cpu: &Cpu) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let model = cpu.cputype.as_str();
    if cpu.custom_model().is_none() && !is_builtin_cpu(model) {
        let like = MODELS.iter().find(|known| known.eq_ignore_ascii_case(model));
        let hint = match like {
            Some(known) => format!("did you mean `{known}`? Models are case-sensitive"),
            None => {
                "use `x86-64-v2-AES`, `host` or another model of PVE, or `custom-NAME` for a custom model"
                    .to_owned()
            }
        };
        faults.push((format!("PVE has no CPU model `{}`", model.escape_debug()), hint));
    }
    let is_known = |flag: &&String| flag.strip_prefix(['+', '-']).is_some_and(|name| FLAGS.contains(&name));
    let unknown: Vec<String> = cpu
        .flags
        .iter()
        .filter(|flag| !is_known(flag))
        .map(|flag| format!("`{}`", flag.escape_debug()))
        .collect();
    if !unknown.is_empty() {
        let message = format!("these CPU flags are not allowed: {}", unknown.join(", "));
        let hint = format!(
            "use `+` or `-` and one of {}; other flags need a custom model, or `type: host`",
            FLAGS.join(", ")
        );
        faults.push((message, hint));
    }
    faults
}
