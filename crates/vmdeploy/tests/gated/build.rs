//! `vmdeploy image build` on a stock sshd of this machine, with the lab as the PVE that the image goes to.

use crate::lab_session::RunningLab;
use crate::sshd::{self, Sshd};
use crate::transcript::Session;
use libtest_mimic::Failed;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A lab, a builder, and a folder with a spec and a source.
struct Stage {
    lab: RunningLab,
    builder: Sshd,
    user: Session,
}

/// An empty qcow2 file with a disk of this size: header, reference counts and the table of tables, a cluster each.
// QEMU: docs/interop/qcow2.txt.
fn qcow2(virtual_size: u64) -> Vec<u8> {
    const CLUSTER: u64 = 1 << 16;
    let mut bytes = vec![0; 4 * CLUSTER as usize];
    let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    set(0, b"QFI\xfb");
    set(4, &3_u32.to_be_bytes());
    set(20, &16_u32.to_be_bytes());
    set(24, &virtual_size.to_be_bytes());
    // A table of the second level has 8192 entries of a cluster each.
    set(36, &u32::try_from(virtual_size.div_ceil(CLUSTER * 8192)).expect("it is small").to_be_bytes());
    set(40, &(3 * CLUSTER).to_be_bytes());
    set(48, &CLUSTER.to_be_bytes());
    set(56, &1_u32.to_be_bytes());
    set(96, &4_u32.to_be_bytes());
    set(100, &104_u32.to_be_bytes());
    set(CLUSTER as usize, &(2 * CLUSTER).to_be_bytes());
    (0..4).for_each(|cluster| set(2 * CLUSTER as usize + 2 * cluster, &1_u16.to_be_bytes()));
    bytes
}

impl Stage {
    fn new(command: &str, more: &str) -> Self {
        let (lab, builder) = (RunningLab::start(), Sshd::start(""));
        let mut user = Session::new().with_variables(&lab.variables());
        user.add_variable("BUILD_TOKEN", "correct-horse-battery");
        user.write(
            "spec/site.yaml",
            &format!(
                "version: 1\nproject: site\nimages:\n  debian-13: {{path: /var/lib/vz/import/debian-13.qcow2}}\n  \
                 golden:\n    format: qcow2\n    build:\n      vm: builder\n      source: src\n      \
                 command: {command:?}\n      output: out/*.qcow2\n      env: {{GREETING: \"it's $HOME\"}}\n      \
                 secrets: {{TOKEN: {{env: BUILD_TOKEN}}}}\n{more}vms:\n  builder:\n    vmid: 301\n    node: pve1\n    \
                 agent: true\n    disks: {{scsi0: {{storage: local-lvm, image: debian-13, size: 20GiB}}}}\n    \
                 nics: {{net0: {{bridge: vmbr0, ip: 192.0.2.50/24, gateway: 192.0.2.1}}}}\n    cloud_init: {{user: root}}\n    \
                 ready: {{ip: {{nic: net0, timeout: 2m}}}}\n  web01:\n    vmid: 302\n    node: pve1\n    \
                 disks: {{scsi0: {{storage: local-lvm, image: golden, size: 20GiB}}}}\n"
            ),
        );
        user.write("spec/src/make.sh", "mkdir out && cp disk.bin \"out/$1.qcow2\"\n");
        user.write("spec/src/.git/config", "[credentials]\n");
        std::fs::write(user.path("spec/src/disk.bin"), qcow2(10 << 30)).expect("it can be written");
        let ssh = user.home(".ssh");
        std::fs::create_dir(&ssh).expect("a folder can be made");
        std::fs::copy(builder.path("user"), ssh.join("id_ed25519")).expect("the key is there");
        std::fs::write(ssh.join("known_hosts"), builder.known_line("ed25519")).expect("it can be written");
        Self { lab, builder, user }
    }
    fn place(&self) -> String {
        format!("root@127.0.0.1:{}", self.builder.port)
    }
    fn build(&self, more: &[&str]) -> Command {
        let (place, key) = (self.place(), self.user.home(".ssh/id_ed25519").display().to_string());
        let mut arguments = vec!["image", "build", "golden", "--spec", "spec/site.yaml", "--yes"];
        arguments.extend(["--key", &key]);
        if !more.contains(&"--on-vm") {
            arguments.extend(["--host", &place]);
        }
        arguments.extend(more.iter().filter(|word| **word != "--on-vm"));
        self.user.command(&arguments)
    }
    fn image(&self) -> PathBuf {
        self.user.path("spec/images/golden.qcow2")
    }
    fn record(&self) -> Result<serde_json::Value, Failed> {
        let path = self.user.path("spec/images/golden.qcow2.build.json");
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

fn ended(output: &Output, code: i32) -> Result<String, Failed> {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(code) {
        Ok(text)
    } else {
        Err(format!("{}: {text}", output.status).into())
    }
}

fn holds(condition: bool, what: &str, told: &str) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(format!("it is not so that {what}: {told}").into()) }
}

/// Returns the build folders that are left on this machine by a build of this name.
fn left(mark: &Path) -> bool {
    let Ok(work) = std::fs::read_to_string(mark) else { return false };
    Path::new(work.trim()).exists()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("it never came true that {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The image comes back whole, goes to the node, is verified there, and the record says of what it was made.
pub fn built_and_placed() -> Result<(), Failed> {
    let marks = tempfile::tempdir()?;
    let mark = marks.path().join("work");
    let command = format!(
        "echo $GREETING; echo token ${{#TOKEN}}; test ! -e .git; pwd > {}; env > {}; sh make.sh golden",
        mark.display(),
        marks.path().join("env").display()
    );
    let stage = Stage::new(&command, "");
    let told = ended(
        &stage
            .build(&["--push", "--to-path", "/var/lib/vz/import/golden.qcow2", "--node", "pve1"])
            .output()?,
        0,
    )?;
    holds(
        told.contains("  | it's $HOME\n") && told.contains("  | token 21\n"),
        "the log is streamed",
        &told,
    )?;
    holds(!told.contains("correct-horse"), "no secret is shown", &told)?;
    holds(std::fs::read(stage.image())? == qcow2(10 << 30), "the image is whole", &told)?;
    holds(
        told.contains("qemu-img on pve1: qcow2, a disk of 10 GiB")
            || told.contains("qemu-img on pve1: qcow2, a disk of 10GiB"),
        "the node looked at it",
        &told,
    )?;
    let record = stage.record()?;
    let places = record["placed"].as_array().map_or(0, Vec::len);
    holds(
        places == 2 && record["source_sha256"].as_str().is_some_and(|sum| sum.len() == 64),
        "it is recorded",
        &record.to_string(),
    )?;
    holds(!record.to_string().contains("correct-horse"), "no secret is recorded", &record.to_string())?;
    holds(!left(&mark), "the build's folder is gone", &told)?;
    let environment = std::fs::read_to_string(marks.path().join("env"))?;
    holds(environment.contains("TOKEN=correct-horse-battery"), "the build has its secret", &environment)?;
    // A second build of the same source is not needed, and one of another source is.
    let again = ended(&stage.build(&["--if-changed"]).output()?, 0)?;
    holds(again.contains("is up to date"), "nothing is built twice", &again)?;
    stage.user.write("spec/src/new", "x");
    let changed = ended(&stage.build(&["--if-changed", "--json"]).output()?, 0)?;
    holds(changed.contains("\"format_version\":1"), "the record is printed", &changed)
}

/// The builder is deployed by the planner, and found by the address that it has.
pub fn built_in_a_vm() -> Result<(), Failed> {
    let stage = Stage::new("sh make.sh golden", "");
    // What the lab calls a guest has no sshd: its address leads to the one of this test.
    known_to(&stage.user, &stage.builder, "192.0.2.50")?;
    let told = ended(&stage.build(&["--on-vm"]).output()?, 0)?;
    holds(told.contains("builder"), "the builder is deployed", &told)?;
    holds(stage.record()?["vm"] == "builder", "the record names it", &told)?;
    let status = stage.user.output(&["status", "spec/site.yaml", "--json"]);
    holds(String::from_utf8_lossy(&status.stdout).contains("\"running\""), "it runs", &ended(&status, 0)?)
}

/// Runs a target of the repository's Makefile in the user's folder.
fn make(user: &Session, target: &str, more: &[&str]) -> Result<Output, Failed> {
    let program = user.command(&[]);
    let run = format!("RUN={}", program.get_program().display());
    let mut make = Command::new("make");
    make.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    make.current_dir(program.get_current_dir().ok_or("it has a folder")?).stdin(Stdio::null());
    make.args(["--no-print-directory", "--file"]).arg(crate::root().join("Makefile"));
    Ok(make.args([run.as_str(), target]).args(more).output()?)
}

/// The builder's targets of the Makefile, one after the other, with the spec that is shipped and a build of its own.
pub fn by_make() -> Result<(), Failed> {
    let (lab, builder) = (RunningLab::start(), Sshd::start(""));
    let mut user = Session::new().with_variables(&lab.variables());
    let shipped = |name: &str| std::fs::read_to_string(crate::root().join("deployments").join(name));
    // The sshd of this test lets in root alone.
    user.write("deployments/builder.yaml", &shipped("builder.yaml")?.replace("user: builder", "user: root"));
    user.write("deployments/demo.pub", &shipped("demo.pub")?);
    let build = "set -eu\ntest \"$LOCALE\" = en_GB.UTF-8\nmkdir out\ncp disk.bin out/custom.qcow2\n";
    user.write("deployments/builder/build.sh", build);
    std::fs::write(user.path("deployments/builder/disk.bin"), qcow2(10 << 30))?;
    known_to(&user, &builder, "192.0.2.*")?;
    let status = |user: &Session| -> Result<String, Failed> {
        let status = user.output(&["status", "deployments/builder.yaml", "--json"]);
        ended(&status, 0)
    };
    let told = ended(&make(&user, "deploy-build-vm", &["ARGS=--yes"])?, 0)?;
    holds(status(&user)?.contains("\"running\""), "the builder runs", &told)?;
    let told = ended(&make(&user, "build-image-remote", &["ARGS=--yes"])?, 0)?;
    holds(told.contains("qemu-img on pve1: qcow2, a disk of 10"), "the node looked at it", &told)?;
    let image = std::fs::read(user.path("deployments/images/custom.qcow2"))?;
    holds(image == qcow2(10 << 30), "the image is whole", &told)?;
    let record = std::fs::read(user.path("deployments/images/custom.qcow2.build.json"))?;
    let record: serde_json::Value = serde_json::from_slice(&record)?;
    holds(
        record["vm"] == "builder" && record["placed"].as_array().is_some_and(|places| places.len() == 1),
        "it is recorded",
        &record.to_string(),
    )?;
    let volume = record["placed"][0]["location"].as_str().unwrap_or_default().to_owned();
    let listed = user.output(&["api", "get", "/nodes/pve1/storage/local/content", "content=import"]);
    holds(ended(&listed, 0)?.contains(&volume), "PVE has it", &volume)?;
    // There is no terminal here, so nothing is removed without `--yes`.
    let refused = make(&user, "remove-build-vm", &[])?;
    holds(
        !refused.status.success() && status(&user)?.contains("\"running\""),
        "nothing is removed unasked",
        "",
    )?;
    user.add_variable("CONFIRM_DELETE", "true");
    let told = ended(&make(&user, "remove-build-vm", &[])?, 0)?;
    holds(status(&user)?.contains("\"absent\""), "the builder is gone", &told)
}

/// Lets `ssh` find the stock sshd under these names, and know it.
fn known_to(user: &Session, builder: &Sshd, names: &str) -> Result<(), Failed> {
    let ssh = user.home(".ssh");
    std::fs::create_dir_all(&ssh)?;
    std::fs::copy(builder.path("user"), ssh.join("id_ed25519"))?;
    std::fs::write(ssh.join("known_hosts"), builder.known_line("ed25519"))?;
    let config = format!(
        "Host {names}\n  HostName 127.0.0.1\n  Port {}\n  User root\n  UserKnownHostsFile {}\n",
        builder.port,
        ssh.join("known_hosts").display()
    );
    Ok(std::fs::write(ssh.join("config"), config)?)
}

/// A builder that only another host reaches: named on the command line, or by `ProxyJump` of `~/.ssh/config`.
pub fn through_a_jump_host() -> Result<(), Failed> {
    let stage = Stage::new("sh make.sh golden", "");
    let mut bastion = Sshd::start("");
    bastion.authorize(&stage.builder.path("user.pub"));
    let known = stage.user.home(".ssh/known_hosts");
    std::fs::write(
        &known,
        format!("{}{}", stage.builder.known_line("ed25519"), bastion.known_line("ed25519")),
    )?;
    let jump = format!("root@127.0.0.1:{}", bastion.port);
    let told = ended(&stage.build(&["--jump", &jump]).output()?, 0)?;
    holds(std::fs::read(stage.image())? == qcow2(10 << 30), "the image is whole", &told)?;
    holds(passed(&bastion)? == 1, "it went through the other host", &told)?;
    let config = format!(
        "Host far\n  HostName 127.0.0.1\n  Port {}\n  User root\n  ProxyJump {jump}\n",
        stage.builder.port
    );
    std::fs::write(stage.user.home(".ssh/config"), config)?;
    std::fs::remove_file(stage.image())?;
    let key = stage.user.home(".ssh/id_ed25519").display().to_string();
    let by_config =
        ["image", "build", "golden", "--spec", "spec/site.yaml", "--yes", "--host", "far", "--key", &key];
    let told = ended(&stage.user.output(&by_config), 0)?;
    holds(std::fs::read(stage.image())? == qcow2(10 << 30), "the image is whole", &told)?;
    holds(passed(&bastion)? == 2, "it went through the other host", &told)?;
    // Without that host there is no way, and none around it is taken.
    bastion.stop();
    let told = ended(&stage.build(&["--jump", &jump]).output()?, 4)?;
    holds(told.contains(&format!("127.0.0.1:{}", bastion.port)), "the host is named", &told)
}

/// Returns how many log-ins the host took.
fn passed(bastion: &Sshd) -> Result<usize, Failed> {
    Ok(std::fs::read_to_string(bastion.path("log"))?.matches("Accepted publickey").count())
}

/// A failed build leaves only the log.
pub fn failing() -> Result<(), Failed> {
    let marks = tempfile::tempdir()?;
    let mark = marks.path().join("work");
    let stage = Stage::new(&format!("pwd > {}; echo no disk here; exit 3", mark.display()), "");
    let told = ended(&stage.build(&[]).output()?, 5)?;
    holds(told.contains("ended with exit status 3"), "it says so", &told)?;
    holds(!stage.image().exists() && !left(&mark), "nothing is left", &told)?;
    let log = std::fs::read_to_string(stage.user.path("spec/images/golden.qcow2.build.log"))?;
    holds(log == "no disk here\n", "the log is kept", &log)?;
    // Without a builder's address and without a terminal nothing is run.
    let refused = stage.user.output(&["image", "build", "golden", "--spec", "spec/site.yaml"]);
    holds(ended(&refused, 2)?.contains("no terminal to confirm it on"), "there was no question", "")?;
    let plan = stage.user.output(&["plan", "spec/site.yaml"]);
    holds(ended(&plan, 4)?.contains("`golden` has not been built yet"), "the plan says what is missing", "")
}

/// A build that takes too long is ended on the builder.
pub fn too_slow() -> Result<(), Failed> {
    let marks = tempfile::tempdir()?;
    let mark = marks.path().join("work");
    let seconds = format!("9{}.5", std::process::id());
    let stage = Stage::new(&format!("pwd > {}; exec sleep {seconds}", mark.display()), "      timeout: 1s\n");
    let told = ended(&stage.build(&[]).output()?, 5)?;
    holds(told.contains("took longer than its `timeout:` of 1 s; it was stopped"), "it says so", &told)?;
    holds(sshd::running(&seconds) == 0 && !left(&mark), "nothing runs any more", &told)
}

/// The program as a child; killed where the test gives up.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C ends what runs on the builder, and says so.
pub fn interrupted() -> Result<(), Failed> {
    let marks = tempfile::tempdir()?;
    let mark = marks.path().join("work");
    // Numbers of seconds that no other process sleeps.
    let (aside, main) = (format!("9{}.25", std::process::id()), format!("9{}.75", std::process::id()));
    let command = format!("pwd > {}; echo begun; sleep {aside} & exec sleep {main}", mark.display());
    let stage = Stage::new(&command, "");
    let mut child = Running(stage.build(&[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?);
    let mut lines = BufReader::new(child.0.stderr.take().ok_or("it is piped")?);
    let mut told = String::new();
    while !told.contains("| begun") {
        if lines.read_line(&mut told)? == 0 {
            return Err(format!("it ended: {told}").into());
        }
    }
    eventually("both sleep", || sshd::running(&aside) > 0 && sshd::running(&main) > 0)?;
    sshd::signal(child.0.id(), "INT");
    std::io::Read::read_to_string(&mut lines, &mut told)?;
    let status = child.0.wait()?;
    holds(status.code() == Some(8), "it was interrupted", &format!("{status}: {told}"))?;
    holds(told.contains("the build was aborted; it was stopped on"), "it says so", &told)?;
    holds(!left(&mark), "its folder is gone", &told)?;
    eventually("nothing sleeps any more", || sshd::running(&aside) == 0 && sshd::running(&main) == 0)
}

/// Nothing is sent to a host with an unknown key, and a folder outside the spec's is not sent.
pub fn not_trusted() -> Result<(), Failed> {
    let stage = Stage::new("sh make.sh golden", "");
    std::fs::write(stage.user.home(".ssh/known_hosts"), "")?;
    let told = ended(&stage.build(&[]).output()?, 7)?;
    holds(told.contains("--trust-on-first-use"), "the way out is said", &told)?;
    let spec = std::fs::read_to_string(stage.user.path("spec/site.yaml"))?;
    stage.user.write("spec/site.yaml", &spec.replace("source: src", "source: ~/.ssh"));
    let told = ended(&stage.build(&[]).output()?, 2)?;
    holds(told.contains("is outside the spec's folder"), "it is refused", &told)?;
    // The lab was of no use to this test but to give the variables.
    holds(!stage.lab.variables().is_empty(), "the lab runs", "")
}
