//! A container that is a node: Debian's own sshd, reached at its own address.

use pve_ssh::{Command, Credential, Host, HostConfig};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testcontainers::core::{ExecCommand, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

/// The image that `make test-images` builds.
const IMAGE: (&str, &str) = ("vmdeploy-test-node", "2");

/// How long a command of a test may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns why there can be no container; `None` when there can.
pub fn missing() -> Option<String> {
    if std::process::Command::new("ssh-keygen").arg("-?").output().is_err() {
        return Some("`ssh-keygen` is not installed".to_owned());
    }
    let socket = "/var/run/docker.sock";
    let Ok(answer) = ask_engine(socket, &format!("/images/{}:{}/json", IMAGE.0, IMAGE.1)) else {
        return Some(format!("no container engine answers at {socket}"));
    };
    let there = answer.split_whitespace().nth(1) == Some("200");
    (!there).then(|| format!("the image {}:{} is not there; run `make test-images`", IMAGE.0, IMAGE.1))
}

fn ask_engine(socket: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Starts sshd, which goes to the background before it listens, and waits until it does.
const START_SSHD: &str = "/usr/sbin/sshd -E /var/log/sshd.log; \
    until ss -Hltn 'sport = :22' | grep -q :22; do sleep 0.05; done";

/// A running container. It is removed with the value.
pub struct Node {
    container: ContainerAsync<GenericImage>,
    pub folder: tempfile::TempDir,
    pub address: IpAddr,
}

impl Node {
    /// Starts a container with these lines for sshd, after these commands of a shell, which becomes its first
    /// process: one that buries the dead, as that of a real node does.
    pub async fn start(sshd_config: &str, setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        keygen(&["-t", "ed25519", "-f", folder.path().join("user").to_str().unwrap()]);
        let public = std::fs::read(folder.path().join("user.pub")).unwrap();
        let script = format!(
            "set -e; mkdir -p /run/sshd /etc/pve/priv/lock /var/lib/vz/template/iso; ssh-keygen -A >/dev/null; {setup}\n\
             {START_SSHD}; echo node is ready; sleep 100000 & wait"
        );
        let container = GenericImage::new(IMAGE.0, IMAGE.1)
            .with_wait_for(WaitFor::message_on_stdout("node is ready"))
            .with_cmd(["sh".to_owned(), "-c".to_owned(), script])
            .with_copy_to("/root/.ssh/authorized_keys", public)
            .with_copy_to("/etc/ssh/sshd_config.d/test.conf", format!("{sshd_config}\n").into_bytes())
            .with_cap_add("NET_ADMIN")
            .start()
            .await
            .unwrap();
        let mut node = Self { container, folder, address: IpAddr::from([0, 0, 0, 0]) };
        // `2: eth0    inet 172.17.0.2/16 brd …`
        let shown = node.sh("ip -4 -o address show eth0").await;
        let address = shown.split_whitespace().nth(3).and_then(|text| text.split('/').next()).unwrap();
        node.address = address.parse().unwrap();
        let address = node.address;
        let key = node.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").await;
        let words: Vec<&str> = key.split_whitespace().collect();
        std::fs::write(node.path("known_hosts"), format!("{address} {} {}\n", words[0], words[1])).unwrap();
        node
    }

    /// Returns a path of this machine that ends with the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a shell's script in the container, past sshd, and returns what it printed.
    pub async fn sh(&self, script: &str) -> String {
        let mut run = self.container.exec(ExecCommand::new(["sh", "-c", script])).await.unwrap();
        let stdout = run.stdout_to_vec().await.unwrap();
        let stderr = run.stderr_to_vec().await.unwrap();
        let status = run.exit_code().await.unwrap();
        assert_eq!(status, Some(0), "{script}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Returns a configuration that knows the node and has root's key.
    pub fn config(&self) -> HostConfig {
        let mut config = HostConfig::new(self.address.to_string(), "root");
        config.credentials = vec![Credential::key_file(self.path("user"))];
        config.known_hosts.files = vec![self.path("known_hosts")];
        config
    }

    /// Returns the host of [`Node::config`].
    pub fn host(&self) -> Host {
        Host::new(self.config())
    }

    /// Ends sshd and everything that it serves.
    pub async fn stop_sshd(&self) {
        self.sh("for p in $(grep -lx sshd /proc/[0-9]*/comm | cut -d/ -f3); do kill -KILL $p 2>/dev/null; done; exit 0")
            .await;
    }

    /// Starts sshd.
    pub async fn start_sshd(&self) {
        self.sh(START_SSHD).await;
    }

    /// Takes the container's network away.
    pub async fn cut_network(&self) {
        self.sh("ip -4 route show default > /run/route; ip link set eth0 down").await;
        eventually("the network is cut", async || !self.is_reachable().await).await;
    }

    /// Gives it back.
    pub async fn heal_network(&self) {
        self.sh("ip link set eth0 up; ip route replace $(cat /run/route)").await;
        eventually("the network is back", async || self.is_reachable().await).await;
    }

    async fn is_reachable(&self) -> bool {
        let connect = tokio::net::TcpStream::connect((self.address, 22));
        matches!(tokio::time::timeout(Duration::from_secs(1), connect).await, Ok(Ok(_)))
    }

    /// Tells whether a process whose arguments hold `mark` runs in the container. Shells do not count, as this
    /// question is one.
    pub async fn runs(&self, mark: &str) -> bool {
        let script = format!(
            "for f in /proc/[0-9]*/cmdline; do c=$(tr '\\0' ' ' <$f 2>/dev/null) || continue; \
             case $c in *sh\\ -c*) ;; *{mark}*) echo found; break;; esac; done; exit 0"
        );
        self.sh(&script).await.contains("found")
    }
}

/// Makes a key without a passphrase, unless the arguments say so.
pub fn keygen(arguments: &[&str]) {
    let mut all = vec!["-q"];
    if !arguments.contains(&"-N") && !arguments.contains(&"-s") {
        all.extend(["-N", ""]);
    }
    all.extend(arguments);
    let run = std::process::Command::new("ssh-keygen").args(&all).output().unwrap();
    assert!(run.status.success(), "{all:?}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Runs a command and returns its stdout.
pub async fn run(host: &Host, command: &[&str]) -> String {
    let command = Command::new(command[0]).args(&command[1..]);
    match host.run_to_success(&command, LIMIT).await {
        Ok(output) => output.stdout,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until an async condition holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes a file of `size` bytes that repeat nowhere.
pub fn big_file(path: &Path, size: usize) {
    let mut state = 88_172_645_463_325_252u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    std::fs::write(path, bytes).unwrap();
}
