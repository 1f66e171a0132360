//! A stock sshd on a loopback port, with keys and a configuration of its own.

use pve_ssh::{Credential, Host, HostConfig};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells whether a program is on this machine.
pub fn has_program(name: &str) -> bool {
    find(name).is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Returns why no sshd can be used; `None` when one can.
pub fn missing() -> Option<String> {
    for program in ["sshd", "ssh-keygen"] {
        if !has_program(program) {
            return Some(format!("`{program}` is not installed"));
        }
    }
    (output("id", &["-u"]).trim() != "0").then(|| "sshd needs root to be a PVE node's".to_owned())
}

/// Runs a program of this machine and returns its stdout.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// A running sshd. It ends with the value, and its folder with it.
pub struct Sshd {
    pub folder: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Sshd {
    /// Starts an sshd with an ed25519 host key and these extra configuration lines.
    pub fn start(extra: &str) -> Self {
        Self::start_with_host_keys(&["ed25519"], extra)
    }

    /// Starts an sshd with host keys of these types.
    pub fn start_with_host_keys(types: &[&str], extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for kind in types {
            keygen(&["-t", kind, "-f", &path(&folder, &format!("host_{kind}"))]);
        }
        keygen(&["-t", "ed25519", "-f", &path(&folder, "user")]);
        std::fs::copy(folder.path().join("user.pub"), folder.path().join("authorized_keys")).unwrap();
        let mut config = String::from(
            "ListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n\
             AcceptEnv LANG LC_*\nLogLevel VERBOSE\n",
        );
        config.push_str(&format!("AuthorizedKeysFile {}\n", path(&folder, "authorized_keys")));
        for kind in types {
            config.push_str(&format!("HostKey {}\n", path(&folder, &format!("host_{kind}"))));
        }
        config.push_str(&extra.replace("FOLDER", folder.path().to_str().unwrap()));
        config.push('\n');
        std::fs::write(folder.path().join("sshd_config"), config).unwrap();
        let _ = std::fs::create_dir_all("/run/sshd");
        let (child, port) = launch(folder.path(), None);
        Self { folder, port, child }
    }

    /// Returns a path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets a further key in.
    pub fn authorize(&self, public: &Path) {
        let file = self.path("authorized_keys");
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str(&std::fs::read_to_string(public).unwrap());
        std::fs::write(file, text).unwrap();
    }

    /// Returns the host's line for a known hosts file, for the key type.
    pub fn known_line(&self, kind: &str) -> String {
        let public = std::fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap();
        let words: Vec<&str> = public.split_whitespace().collect();
        format!("[127.0.0.1]:{} {} {}\n", self.port, words[0], words[1])
    }

    /// Returns a configuration that knows the host and has the user's key.
    pub fn config(&self) -> HostConfig {
        let known = self.path("known_hosts");
        if !known.exists() {
            std::fs::write(&known, self.known_line("ed25519")).unwrap();
        }
        let mut config = HostConfig::new("127.0.0.1", "root");
        config.port = self.port;
        config.credentials = vec![Credential::key_file(self.path("user"))];
        config.known_hosts.files = vec![known];
        config
    }

    /// Returns the host of [`Sshd::config`].
    pub fn host(&self) -> Host {
        Host::new(self.config())
    }

    /// Returns the process of the listening sshd.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processes that serve connections: the children of the listening sshd, and theirs.
    pub fn sessions(&self) -> Vec<u32> {
        let mut found = children_of(self.pid());
        let mut at = 0;
        while at < found.len() {
            let more = children_of(found[at]).into_iter().filter(|&pid| command_line(pid).contains("sshd"));
            found.extend(more.collect::<Vec<_>>());
            at += 1;
        }
        found
    }

    /// Ends the listening sshd and everything it serves.
    pub fn stop(&mut self) {
        for pid in self.sessions() {
            signal(pid, "KILL");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, on the same port.
    pub fn restart(&mut self) {
        self.stop();
        let (child, _) = launch(self.folder.path(), Some(self.port));
        self.child = child;
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// Makes a key without a passphrase, unless the arguments say so.
pub fn keygen(arguments: &[&str]) {
    let mut all = vec!["-q"];
    if !arguments.contains(&"-N") {
        all.extend(["-N", ""]);
    }
    all.extend(arguments);
    output("ssh-keygen", &all);
}

/// Starts sshd on a port that is free, or on the given one, and waits until it greets.
fn launch(folder: &Path, port: Option<u16>) -> (Child, u16) {
    let sshd = find("sshd").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let number =
            port.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut child = Command::new(&sshd)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .args(["-p", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() {
            if greets(number) {
                return (child, number);
            }
            assert!(Instant::now() < deadline, "sshd does not greet");
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "sshd does not start: {log}");
    }
}

fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
}

/// Sends a signal to a process.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

fn children_of(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Counts the processes whose arguments end with `mark`.
pub fn running(mark: &str) -> usize {
    processes().into_iter().filter(|&pid| command_line(pid).trim_end().ends_with(mark)).count()
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
