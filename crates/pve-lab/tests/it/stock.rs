//! OpenSSH's own programs and curl.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pve_lab::{Lab, LabOptions, WorldSpec};

use crate::{Need, Test};

const SSH: &[Need] = &[Need::Program("ssh")];
const SCP: &[Need] = &[Need::Program("ssh"), Need::Program("scp")];
const SFTP: &[Need] = &[Need::Program("ssh"), Need::Program("sftp")];
const CURL: &[Need] = &[Need::Program("curl")];

pub const TESTS: &[Test] = &[
    Test { name: "ssh_runs_commands_with_both_streams_and_their_status", needs: SSH, run: commands },
    Test { name: "ssh_quoting_arrives_literally", needs: SSH, run: quoting },
    Test { name: "ssh_feeds_standard_input_and_files_come_back", needs: SSH, run: input },
    Test { name: "ssh_can_end_a_command_by_its_number", needs: SSH, run: killing },
    Test { name: "ssh_reaches_nothing_of_the_machine", needs: SSH, run: confined },
    Test { name: "scp_brings_files_there_and_back", needs: SCP, run: scp },
    Test { name: "sftp_lists_renames_and_removes", needs: SFTP, run: sftp },
    Test { name: "faults_befall_commands_over_ssh", needs: SSH, run: faults },
    Test {
        name: "an_import_that_is_ended_midway_leaves_a_volume_that_nothing_names",
        needs: SSH,
        run: half_import,
    },
    Test { name: "a_worker_ends_with_the_command_before_it_but_for_kill", needs: SSH, run: workers },
    Test { name: "a_connection_has_ten_sessions_as_with_openssh", needs: SSH, run: sessions },
    Test { name: "curl_trusts_the_labs_authority", needs: CURL, run: curl },
];

/// A lab with its environment in a temporary folder.
pub struct Ground {
    pub lab: Lab,
    pub folder: tempfile::TempDir,
    pub environment: Vec<(String, String)>,
    runtime: tokio::runtime::Runtime,
}

impl Ground {
    pub fn demo() -> Result<Self, String> {
        Self::new(LabOptions { world: WorldSpec::demo(), ..LabOptions::default() })
    }

    pub fn new(options: LabOptions) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(text)?;
        let lab = runtime.block_on(Lab::start(options)).map_err(text)?;
        let folder = tempfile::tempdir().map_err(text)?;
        let environment = lab.write_environment(folder.path()).map_err(text)?;
        Ok(Self { lab, folder, environment, runtime })
    }

    pub fn value(&self, name: &str) -> &str {
        self.environment.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, port: &str) -> Vec<String> {
        let plain = [
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
        ];
        let mut all: Vec<String> = plain.map(str::to_owned).to_vec();
        all.extend(["-o".into(), format!("UserKnownHostsFile={}", self.value("PROXMOX_SSH_KNOWN_HOSTS"))]);
        all.extend([
            "-i".into(),
            self.value("PROXMOX_SSH_KEY").to_owned(),
            port.into(),
            self.value("PROXMOX_SSH_PORT").to_owned(),
        ]);
        all
    }

    /// Runs a command line by `ssh`.
    pub fn ssh(&self, line: &str) -> Result<Output, String> {
        self.ssh_with(line, b"")
    }

    /// Runs a command line by `ssh` with these bytes on standard input.
    pub fn ssh_with(&self, line: &str, input: &[u8]) -> Result<Output, String> {
        let mut command = Command::new("ssh");
        command.args(self.options("-p")).args(["root@127.0.0.1", line]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(text)?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        let input = input.to_vec();
        let writing = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().map_err(text)?;
        writing.join().map_err(|_| "the writer failed")?;
        Ok(output)
    }

    /// Checks status, stdout and stderr of a command line.
    pub fn expect(&self, line: &str, status: i32, stdout: &str, stderr: &str) -> Result<(), String> {
        let output = self.ssh(line)?;
        let got = (output.status.code(), show(&output.stdout), show(&output.stderr));
        let want = (Some(status), stdout.to_owned(), stderr.to_owned());
        if got == want { Ok(()) } else { Err(format!("`{line}`:\n got {got:?}\nwant {want:?}")) }
    }

    /// Waits until a command line succeeds.
    fn await_success(&self, line: &str) -> Result<(), String> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::time::Instant::now() < deadline {
            if self.ssh(line)?.status.success() {
                return Ok(());
            }
        }
        Err(format!("`{line}` never succeeded"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = &self.runtime;
    }
}

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn commands() -> Result<(), String> {
    let ground = Ground::demo()?;
    ground.expect("hostname", 0, "pve1\n", "")?;
    ground.expect("whoami; id -u; exit 7", 7, "root\n0\n", "")?;
    ground.expect("cat /nope 2>&1 || echo $?", 0, "cat: /nope: No such file or directory\n1\n", "")?;
    ground.expect("cat /nope", 1, "", "cat: /nope: No such file or directory\n")?;
    ground.expect("nosuchcommand", 127, "", "bash: line 1: nosuchcommand: command not found\n")?;
    ground.expect("echo out; echo err >&2; false", 1, "out\n", "err\n")?;
    ground.expect("test -d /etc/pve && ls /etc/pve/nodes", 0, "pve1\n", "")?;
    ground.expect("echo '\n' | wc -l; ( exit 3 ); echo $?", 0, "2\n3\n", "")?;
    ground.expect("timeout 0.1 sleep 60", 124, "", "")?;
    ground.expect("sudo -n -- sh -c 'echo \"$1\"' x 'a b'", 0, "a b\n", "")?;
    ground.expect(
        "for i in 1 2; do echo $i; done > /tmp/l; while read -r x; do echo \"<$x>\"; done < /tmp/l",
        0,
        "<1>\n<2>\n",
        "",
    )?;
    ground.expect("sleep 0.05 & wait $!; echo done", 0, "done\n", "")?;
    ground.expect(
        "mkdir /tmp/a && mkdir /tmp/a",
        1,
        "",
        "mkdir: cannot create directory '/tmp/a': File exists\n",
    )?;
    ground.expect(
        "qemu-img info --output json /var/lib/vz/import/tiny.qcow2 | grep -c '\"virtual-size\": 167772160'",
        0,
        "1\n",
        "",
    )
}

fn quoting() -> Result<(), String> {
    let ground = Ground::demo()?;
    ground.expect(
        "printf '%s|' 'a b' \"c'd\" '$HOME' 'e;f' '$(reboot)' '`id`'",
        0,
        "a b|c'd|$HOME|e;f|$(reboot)|`id`|",
        "",
    )?;
    let name = "a'b\"c;d $(x) `y`\n*z";
    let quoted = format!("'{}'", name.replace('\'', "'\\''"));
    ground.expect(
        &format!("touch -- /tmp/{quoted} && ls /tmp && cat /tmp/{quoted} && rm /tmp/{quoted} && ls /tmp"),
        0,
        &format!("{name}\n"),
        "",
    )
}

fn input() -> Result<(), String> {
    let ground = Ground::demo()?;
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let output = ground.ssh_with("cat > /var/tmp/data && stat -c %s /var/tmp/data", &data)?;
    if show(&output.stdout) != "3000000\n" {
        return Err(format!("{output:?}"));
    }
    if ground.ssh("cat /var/tmp/data")?.stdout != data {
        return Err("the bytes came back changed".into());
    }
    // A command that does not read must not hang the writer.
    let output = ground.ssh_with("exit 3", &data)?;
    if output.status.code() == Some(3) { Ok(()) } else { Err(format!("{output:?}")) }
}

fn killing() -> Result<(), String> {
    let ground = Ground::demo()?;
    let key = ground.options("-p");
    let mut command = Command::new("ssh");
    command.args(key).args(["root@127.0.0.1", "echo $$ > /tmp/pid; exec sleep 600"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(text)?;
    ground.await_success("test -s /tmp/pid")?;
    ground.expect("kill -0 $(cat /tmp/pid) && kill -TERM $(cat /tmp/pid)", 0, "", "")?;
    let status = child.wait().map_err(text)?;
    // ssh gives 255 for a command that a signal ended.
    if status.code() != Some(255) {
        return Err(format!("{status:?}"));
    }
    ground.await_success("! kill -0 $(cat /tmp/pid) 2>/dev/null")
}

fn confined() -> Result<(), String> {
    let ground = Ground::demo()?;
    let marker = ground.path("marker");
    let path = marker.display();
    for line in [
        format!("touch {path}"),
        format!("sh -c 'echo x > {path}'"),
        format!("python3 -c 'open(\"{path}\",\"w\")'"),
        format!("/bin/touch {path}"),
    ] {
        ground.ssh(&line)?;
    }
    ground.expect(
        &format!("cat {}", ground.value("PROXMOX_SSH_KEY")),
        1,
        "",
        &format!("cat: {}: No such file or directory\n", ground.value("PROXMOX_SSH_KEY")),
    )?;
    if marker.exists() { Err("a command reached the machine".into()) } else { Ok(()) }
}

fn run(program: &str, arguments: &[String]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(text)?;
    if output.status.success() {
        Ok(show(&output.stdout))
    } else {
        Err(format!("{program}: {}", show(&output.stderr)))
    }
}

fn same(left: &Path, right: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read(path).map_err(text);
    if read(left)? == read(right)? { Ok(()) } else { Err("the file came back changed".into()) }
}

fn scp() -> Result<(), String> {
    let ground = Ground::demo()?;
    let (here, back) = (ground.path("image.raw"), ground.path("back.raw"));
    let data: Vec<u8> = (0..5_000_000_u32).map(|n| (n * 13 % 255) as u8).collect();
    std::fs::write(&here, &data).map_err(text)?;
    for old in [false, true] {
        // The old protocol needs a program `scp` on the node, which the lab does not have.
        let mut there = ground.options("-P");
        if old {
            there.push("-s".into());
        }
        let mut again = there.clone();
        there.extend([
            "-p".into(),
            here.display().to_string(),
            "root@127.0.0.1:/var/lib/vz/import/image.raw".into(),
        ]);
        run("scp", &there)?;
        again.extend(["root@127.0.0.1:/var/lib/vz/import/image.raw".into(), back.display().to_string()]);
        run("scp", &again)?;
        same(&here, &back)?;
    }
    let local = run("sha256sum", &[here.display().to_string()])?;
    let remote = show(&ground.ssh("sha256sum /var/lib/vz/import/image.raw")?.stdout);
    if local.split(' ').next() == remote.split(' ').next() {
        Ok(())
    } else {
        Err(format!("{local} {remote}"))
    }
}

fn sftp() -> Result<(), String> {
    let ground = Ground::demo()?;
    let batch = ground.path("batch");
    let local = ground.path("local.yaml");
    std::fs::write(&local, "#cloud-config\n").map_err(text)?;
    let script = format!(
        "mkdir /tmp/x\nput {local} /tmp/x/part\nrename /tmp/x/part /tmp/x/user.yaml\nchmod 600 /tmp/x/user.yaml\nls -l /tmp/x\ndf /var/tmp\n-rm /tmp/x/none\nget /tmp/x/user.yaml {local}.back\nrm /tmp/x/user.yaml\nrmdir /tmp/x\n-ls /tmp/x\n",
        local = local.display()
    );
    std::fs::write(&batch, script).map_err(text)?;
    let mut arguments = ground.options("-P");
    arguments.extend(["-b".into(), batch.display().to_string(), "root@127.0.0.1".into()]);
    let out = run("sftp", &arguments)?;
    if !out.contains("-rw-------") || !out.contains("user.yaml") {
        return Err(out);
    }
    same(&local, &PathBuf::from(format!("{}.back", local.display())))
}

fn curl() -> Result<(), String> {
    let ground = Ground::demo()?;
    let url = format!("https://127.0.0.1:{}/api2/json/version", ground.value("PROXMOX_API_PORT"));
    let (id, secret) = ground.lab.token().ok_or("no token")?;
    let header = format!("Authorization: PVEAPIToken={id}={secret}");
    let arguments =
        ["-sS", "--fail", "--cacert", ground.value("PROXMOX_API_CA"), "-H", &header, &url].map(str::to_owned);
    let out = run("curl", &arguments)?;
    if out.contains("\"version\"") { Ok(()) } else { Err(out) }
}

const FAULTS: &str = "
- when: {command: 'qm set *', nth: 1}
  do: lock-timeout
- when: {command: 'qm set *', nth: 2}
  do: {refuse: {reason: 'cluster not ready - no quorum?', exit: 255}}
- when: {command: 'qm create *', vmid: 401}
  do: {drop: after}
- when: {command: 'qm create *', vmid: 402}
  do: {drop: before}
- when: {command: 'sleep *'}
  do: {cut: {after_ms: 50}}
- when: {task: qmstart, times: 1}
  do: {fail-task: {text: 'start failed: QEMU exited with code 1'}}
";

fn faults() -> Result<(), String> {
    let faults = pve_lab::fault::from_yaml(FAULTS).map_err(text)?;
    let ground = Ground::new(LabOptions { world: WorldSpec::demo(), faults, seed: 1 })?;
    ground.expect("qm create 400 --name a", 0, "", "")?;
    ground.expect(
        "qm set 400 --cores 2",
        255,
        "",
        "can't lock file '/var/lock/qemu-server/lock-400.conf' - got timeout\n",
    )?;
    ground.expect("qm set 400 --cores 2", 255, "", "cluster not ready - no quorum?\n")?;
    ground.expect("qm set 400 --cores 2", 0, "update VM 400: -cores 2\n", "")?;
    for (line, is_made) in [("qm create 401 --name b", true), ("qm create 402 --name c", false)] {
        if ground.ssh(line)?.status.code() != Some(255) {
            return Err(format!("`{line}` was not cut off"));
        }
        let vmid = &line[10..13];
        ground.expect(&format!("test -f /etc/pve/qemu-server/{vmid}.conf"), i32::from(!is_made), "", "")?;
    }
    // The line is cut, and the command runs on.
    let cut = ground.ssh("sleep 0.5; touch /tmp/went-on")?;
    if cut.status.code() != Some(255) {
        return Err(format!("{cut:?}"));
    }
    ground.await_success("test -f /tmp/went-on")?;
    ground.expect("qm start 400", 255, "", "start failed: QEMU exited with code 1\n")?;
    ground.expect("qm start 400 && qm status 400", 0, "status: running\n", "")
}

fn sessions() -> Result<(), String> {
    let ground = Ground::demo()?;
    let socket = format!("ControlPath={}", ground.path("control").display());
    let mut master = Command::new("ssh");
    master.args(ground.options("-p")).args([
        "-o",
        &socket,
        "-o",
        "ControlMaster=yes",
        "root@127.0.0.1",
        "sleep 600",
    ]);
    let mut master =
        master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(text)?;
    ground.await_success("ps | grep -q ' sleep 600$'")?;
    let session = |line: &str| {
        let mut command = Command::new("ssh");
        command.args([
            "-F",
            "/dev/null",
            "-o",
            &socket,
            "-o",
            "ControlMaster=no",
            "-o",
            "BatchMode=yes",
            "-o",
            "ProxyCommand=false",
        ]);
        command
            .args(["root@127.0.0.1", line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().map_err(text)
    };
    let mut others = (0..9).map(|_| session("sleep 600")).collect::<Result<Vec<_>, _>>()?;
    ground.await_success("test $(ps | grep -c ' sleep 600$') = 10")?;
    let eleventh = session("true")?.wait_with_output().map_err(text)?;
    ground.ssh("kill $(ps | grep ' sleep 600$' | cut -d ' ' -f 3)")?;
    for child in others.iter_mut().chain([&mut master]) {
        let _ = child.kill();
        let _ = child.wait();
    }
    if eleventh.status.success() { Err("the eleventh session was opened".into()) } else { Ok(()) }
}

fn slow() -> Result<Ground, String> {
    let mut world = WorldSpec::demo();
    world.delays.copy_ms_per_100_mib = 60_000;
    world.delays.start_ms = 5000;
    Ground::new(LabOptions { world, ..LabOptions::default() })
}

fn half_import() -> Result<(), String> {
    let ground = slow()?;
    ground.expect("qm create 100 --name a", 0, "", "")?;
    let ended = ground.ssh("timeout 0.5 qm importdisk 100 /var/lib/vz/import/tiny.qcow2 local-lvm")?;
    if ended.status.code() != Some(124) {
        return Err(format!("{ended:?}"));
    }
    ground.expect("qm config 100 | grep -c unused", 1, "0\n", "")?;
    ground.expect("pvesm list local-lvm | grep -c vm-100-disk-0", 0, "1\n", "")
}

fn workers() -> Result<(), String> {
    let ground = slow()?;
    ground.expect("qm create 100 --name a", 0, "", "")?;
    ground.expect("timeout 0.3 qm start 100", 124, "", "interrupted by signal\n")?;
    ground.expect("qm status 100", 0, "status: stopped\n", "")?;
    ground.expect("(exec qm start 100) & until grep -q qmstart /var/log/pve/tasks/active; do sleep 0.02; done; kill -9 $!; wait $!; echo $?", 0, "137\n", "")?;
    ground.await_success("qm status 100 | grep -q running")
}
