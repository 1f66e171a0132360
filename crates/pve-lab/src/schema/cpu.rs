//! The CPU types and flags that a VM may have.
// PVE: qemu-server src/PVE/QemuServer/CPUConfig.pm validate_vm_cpu_conf, CPUFlags.pm

use super::property::Properties;

/// The types of x86-64 that QEMU and PVE have built in.
const MODELS: &str = "486 pentium pentium2 pentium3 coreduo core2duo Conroe Penryn Nehalem Nehalem-IBRS Westmere \
    Westmere-IBRS SandyBridge SandyBridge-IBRS IvyBridge IvyBridge-IBRS Haswell Haswell-IBRS Haswell-noTSX \
    Haswell-noTSX-IBRS Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Skylake-Client \
    Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4 Skylake-Server Skylake-Server-IBRS \
    Skylake-Server-noTSX-IBRS Skylake-Server-v4 Skylake-Server-v5 Cascadelake-Server Cascadelake-Server-v2 \
    Cascadelake-Server-noTSX Cascadelake-Server-v4 Cascadelake-Server-v5 Cooperlake Cooperlake-v2 KnightsMill \
    Icelake-Client Icelake-Client-noTSX Icelake-Server Icelake-Server-noTSX Icelake-Server-v3 Icelake-Server-v4 \
    Icelake-Server-v5 Icelake-Server-v6 Icelake-Server-v7 SapphireRapids SapphireRapids-v2 SapphireRapids-v3 \
    SapphireRapids-v4 GraniteRapids GraniteRapids-v2 GraniteRapids-v3 SierraForest SierraForest-v2 \
    SierraForest-v3 ClearwaterForest athlon phenom Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC \
    EPYC-IBPB EPYC-v3 EPYC-v4 EPYC-v5 EPYC-Rome EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Rome-v5 EPYC-Milan \
    EPYC-Milan-v2 EPYC-Milan-v3 EPYC-Genoa EPYC-Genoa-v2 EPYC-Turin kvm32 kvm64 qemu32 qemu64 max host \
    x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4";

/// The flags that a VM may switch.
const FLAGS: [&str; 13] = [
    "nested-virt",
    "md-clear",
    "pcid",
    "spec-ctrl",
    "ssbd",
    "ibpb",
    "virt-ssbd",
    "amd-ssbd",
    "amd-no-ssb",
    "pdpe1gb",
    "hv-tlbflush",
    "hv-evmcs",
    "aes",
];

/// Verifies what a VM's `cpu` says together. Custom types are not looked up here: they are the cluster's.
///
/// # Errors
/// PVE's text, with a newline at its end.
pub fn check(cpu: &Properties) -> Result<(), String> {
    let Some(model) = cpu.get("cputype") else { return Err("CPU is missing cputype\n".to_owned()) };
    if !model.starts_with("custom-") && !MODELS.split_whitespace().any(|known| known == model) {
        let text = format!("Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)\n");
        return Err(text);
    }
    let allowed = |flag: &str| flag.strip_prefix(['+', '-']).is_some_and(|name| FLAGS.contains(&name));
    if !cpu.get("flags").is_none_or(|flags| flags.split(';').all(allowed)) {
        let mut names = FLAGS;
        names.sort_unstable();
        return Err(format!("VM-specific CPU flags must be a subset of: {}\n", names.join(", ")));
    }
    match cpu.contains_key("reported-model") {
        true => Err("Property 'reported-model' not allowed in VM-specific CPU config.\n".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(pairs: &[(&str, &str)], expect: Result<(), &str>) {
        let cpu = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match (check(&cpu), expect) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(start)) => assert!(text.starts_with(start), "{text}"),
            (found, _) => panic!("{pairs:?}: {found:?}"),
        }
    }

    #[test]
    fn a_cpu_is_of_a_known_type_with_known_flags() {
        check_one(&[("cputype", "x86-64-v2-AES"), ("flags", "+aes;-pcid")], Ok(()));
        check_one(&[("cputype", "custom-mine")], Ok(()));
        check_one(&[("cputype", "x86-64-v2-aes")], Err("Built-in cputype 'x86-64-v2-aes' is not defined"));
        check_one(
            &[("cputype", "host"), ("flags", "+foo")],
            Err("VM-specific CPU flags must be a subset of: aes,"),
        );
        check_one(&[("cputype", "host"), ("reported-model", "kvm64")], Err("Property 'reported-model'"));
        check_one(&[], Err("CPU is missing cputype"));
    }
}
