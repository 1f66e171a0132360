//! The passphrase prompt, on a terminal.

use crate::lab_session::RunningLab;
use libtest_mimic::Failed;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// `vmdeploy` at a terminal of its own, which this test holds the other end of.
struct AtTerminal {
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl AtTerminal {
    /// Asks the lab for its state, with a key whose passphrase is `open sesame`.
    fn start(lab: &RunningLab) -> Result<Self, Failed> {
        let key = lab.session.path("encrypted");
        if !key.exists() {
            std::fs::copy(lab.variable("PROXMOX_SSH_KEY"), &key)?;
            let keygen = Command::new("ssh-keygen")
                .args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"])
                .arg(&key)
                .output()?;
            assert!(keygen.status.success(), "{}", String::from_utf8_lossy(&keygen.stderr));
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let end = || std::fs::OpenOptions::new().read(true).write(true).open(&name);
        let program = lab.session.command(&["doctor"]);
        // setsid makes the terminal that of the program's own session; it becomes the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program()).args(program.get_args());
        command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(lab.variables()).env("PROXMOX_SSH_KEY", &key).env("TERM", "xterm");
        command.current_dir(lab.session.path("")).stdin(end()?).stdout(end()?).stderr(end()?);
        let child = command.spawn()?;
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, showing) = (master.try_clone()?, Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error when the other end is closed.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                showing.lock().expect("no panic").extend_from_slice(&bytes[..count]);
            }
        });
        Ok(Self { master, shown, child })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// Waits until the terminal shows the text `count` times.
    fn wait_for(&mut self, text: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.text().matches(text).count() < count {
            assert!(Instant::now() < deadline, "`{text}` is not shown: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn type_in(&mut self, keys: &str) -> Result<(), Failed> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Tells whether the terminal shows what is typed and makes a signal of Ctrl-C.
    fn is_sane(&self) -> Result<bool, Failed> {
        let modes = tcgetattr(&self.master)?.local_modes;
        Ok(modes.contains(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON))
    }

    fn end(&mut self) -> Result<ExitStatus, Failed> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PROMPT: &str = "passphrase for the key `";

/// A wrong passphrase is asked for again, and neither is shown.
pub fn retry() -> Result<(), Failed> {
    let lab = RunningLab::start();
    let mut terminal = AtTerminal::start(&lab)?;
    terminal.wait_for(PROMPT, 1);
    assert!(!terminal.is_sane()?, "what is typed is hidden before the prompt is shown");
    terminal.type_in("open barley\r")?;
    terminal.wait_for("wrong passphrase; passphrase for the key `", 1);
    terminal.type_in("open barlex\x15open sesamx\x7fe\r")?;
    let status = terminal.end()?;
    let text = terminal.text();
    assert!(status.success(), "{status}: {text}");
    assert!(terminal.is_sane()?);
    for secret in ["barle", "sesam"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(text.matches(PROMPT).count(), 2, "{text}");
    Ok(())
}

/// Ctrl-C at the prompt ends the program, and the terminal is as it was.
pub fn interrupt() -> Result<(), Failed> {
    let lab = RunningLab::start();
    let mut terminal = AtTerminal::start(&lab)?;
    terminal.wait_for(PROMPT, 1);
    terminal.type_in("open ses\x03")?;
    let status = terminal.end()?;
    assert!(!status.success(), "{}", terminal.text());
    assert!(terminal.is_sane()?);
    assert!(!terminal.text().contains("open ses"), "{}", terminal.text());
    Ok(())
}
