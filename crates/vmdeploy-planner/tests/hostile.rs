//! Files that are made to hurt: each is answered within 100 MB of memory.
//!
//! Every case is a process of its own (this program again, with the case's name in `HOSTILE_CASE`), which tells the
//! most memory that it has had. The system that tells is Linux; elsewhere the cases are reported as ignored.
//! `cargo test --release -p vmdeploy-planner --test hostile -- --nocapture` prints memory and CPU time.

#![expect(
    clippy::print_stdout,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

use libtest_mimic::{Arguments, Trial};
use std::fmt::Write as _;
use std::process::Command;
use vmdeploy_planner::spec::{LoadOptions, SourceFile, load};

/// The most memory that a case may take, its file and the program itself included.
const MOST: u64 = 100_000_000;
const MIB: usize = 1 << 20;
const CASE: &str = "HOSTILE_CASE";

struct Case {
    name: &'static str,
    text: fn() -> String,
    /// What the first message says; nothing where the file is a spec.
    told: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "aliases of aliases", text: laughs, told: "more than 2000000 values" },
    Case { name: "a fat alias many times", text: fat_alias, told: "16 MiB of text" },
    Case { name: "deep lists", text: || "[".repeat(MIB), told: "64 deep" },
    Case { name: "deep blocks", text: || "- ".repeat(MIB), told: "64 deep" },
    Case { name: "deep keys", text: || "? ".repeat(MIB), told: "64 deep" },
    Case { name: "a long line", text: || format!("project: {}", "x".repeat(15 * MIB)), told: "is missing" },
    Case {
        name: "a long quoted text",
        text: || format!("project: \"{}\"", "\\x41".repeat(3 * MIB)),
        told: "is missing",
    },
    Case {
        name: "a quote that never ends",
        text: || format!("project: '{}", "x\n".repeat(MIB)),
        told: "this is not YAML",
    },
    Case {
        name: "a long block of text",
        text: || format!("project: |\n{}", "  x\n".repeat(MIB)),
        told: "is missing",
    },
    Case { name: "too large", text: || " ".repeat(17 * MIB), told: "larger than 16 MiB" },
    Case { name: "nothing but comments", text: || "#x\n".repeat(MIB), told: "the spec is empty" },
    Case {
        name: "more than two million values",
        text: || format!("vms: [{}]", "0,".repeat(2_000_001)),
        told: "more than 2000000 values",
    },
    Case {
        name: "a million keys",
        text: || keyed(|number| format!("k{number}: 0\n"), 500_000),
        told: "entries are too many",
    },
    Case {
        name: "the same key again and again",
        text: || "version: 1\n".repeat(400_000),
        told: "entries are too many",
    },
    Case {
        name: "many anchors",
        text: || keyed(|number| format!("- &a{number} x\n"), 500_000),
        told: "more than 10000 anchors",
    },
    Case { name: "many merge keys", text: merge_keys, told: "unknown key `<<`" },
    Case { name: "many tags", text: || "- !!str a\n".repeat(20_000), told: "this is a list" },
    Case { name: "too many tags", text: || "- !t a\n".repeat(MIB), told: "more than 50000 `!`" },
    Case { name: "many documents", text: || "---\na: 1\n".repeat(200_000), told: "is missing" },
    Case { name: "zeros", text: || "\0".repeat(MIB), told: "this is not YAML" },
    Case { name: "fat defaults", text: fat_defaults, told: "including profiles and defaults" },
    Case { name: "fat profiles", text: fat_profiles, told: "including profiles and defaults" },
    Case {
        name: "many faults",
        text: || {
            keyed(|number| format!("  v{number}: {{cpu: x, ram: 4}}\n"), 15_000).replacen(
                "  v0",
                "version: 1\nproject: p\nvms:\n  v0",
                1,
            )
        },
        told: "is not",
    },
];

fn keyed(line: impl Fn(usize) -> String, count: usize) -> String {
    (0..count).map(line).collect()
}

fn laughs() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let row = vec![format!("*a{}", level - 1); 10].join(",");
        let _ = writeln!(text, "a{level}: &a{level} [{row}]");
    }
    text
}

fn fat_alias() -> String {
    format!("a: &a {}\nb: [{}]", "x".repeat(MIB), vec!["*a"; 500_000].join(","))
}

fn merge_keys() -> String {
    let vms = keyed(|number| format!("  v{number}: {{<<: *a, cpu: 1}}\n"), 15_000);
    format!("version: 1\nproject: p\ndefaults: &a {{memory: 1GiB}}\nvms:\n{vms}")
}

fn fat_defaults() -> String {
    let vars = keyed(|number| format!("      k{number}: 0\n"), 9_000);
    let vms = keyed(|number| format!("  v{number}: {{}}\n"), 20_000);
    format!("version: 1\nproject: p\ndefaults:\n  inventory:\n    vars:\n{vars}vms:\n{vms}")
}

fn fat_profiles() -> String {
    let tags = vec!["t"; 5_000].join(",");
    let profiles = keyed(|number| format!("  p{number}: {{tags: [{tags}]}}\n"), 20);
    let names = (0..20).map(|number| format!("p{number}")).collect::<Vec<_>>().join(",");
    let vms = keyed(|number| format!("  v{number}: {{profile: [{names}]}}\n"), 5_000);
    format!("version: 1\nproject: p\nprofiles:\n{profiles}vms:\n{vms}")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<u64>().ok()? / 1_000_000)
}

/// Reads the file of one case, and tells the first message, the peak of memory and the CPU time.
fn child(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    let files = [SourceFile::new("hostile.yaml", (case.text)())];
    let before = cpu_ms();
    let told = match load(&files, &LoadOptions::default()) {
        Ok(_) => String::new(),
        Err(faults) => faults.iter().map(|fault| format!("{} / ", fault.message)).take(3).collect(),
    };
    let took = cpu_ms().zip(before).map_or(0, |(after, before)| after - before);
    println!("{} {took} {}", status("VmHWM:").unwrap_or(0), told.escape_debug());
}

fn parent(case: &Case) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).env(CASE, case.name).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts = text.splitn(3, ' ');
    let peak: Option<u64> = parts.next().and_then(|text| text.parse().ok());
    let (Some(peak), Some(took), Some(told)) = (peak, parts.next(), parts.next()) else {
        return Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)));
    };
    println!("{:<32} {:>4} MB {took:>6} ms  {}", case.name, peak / 1_000_000, told.trim());
    if !told.contains(case.told) {
        return Err(format!("`{}` is not in: {told}", case.told));
    }
    if peak > MOST {
        return Err(format!("{} MB were taken", peak / 1_000_000));
    }
    Ok(())
}

fn main() {
    if let Some(name) = std::env::var_os(CASE) {
        return child(&name.to_string_lossy());
    }
    let tells = status("VmHWM:").is_some();
    let trials = CASES.iter().map(|case| {
        let trial = Trial::test(case.name, move || parent(case).map_err(Into::into));
        if tells {
            trial
        } else {
            trial.with_kind("the system does not tell a process's memory").with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
