//! Where the battery is run: a lab in this process, or a node that the environment names.

use crate::compare::Likeness;
use crate::transcript::Session;
use libtest_mimic::Failed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;
use vmdeploy::lab_session::LabSession;

/// What the environment says of a node, and of what may be touched there.
#[derive(Debug, Clone)]
pub struct Settings {
    variables: Vec<(String, String)>,
    /// The first VMID of the range.
    pub first: u32,
    /// The last VMID of the range.
    pub last: u32,
    /// A pool that is not there; it is made and removed.
    pub pool: String,
    /// A storage for disks.
    pub storage: String,
    /// Another storage for disks.
    pub other_storage: String,
    /// A storage with `import` content.
    pub images: String,
    /// A bridge.
    pub bridge: String,
}

/// How many VMIDs a battery takes.
pub const VMIDS: u32 = 24;

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn from_environment() -> Result<Self, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let or = |name: &str, usual: &str| set(name).unwrap_or_else(|| usual.to_owned());
        let path = set("VMDEPLOY_REAL_ENV").ok_or("VMDEPLOY_REAL_ENV names no file of PROXMOX_ variables")?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let variables =
            vmdeploy::environment::parse(&text).map_err(|error| format!("cannot read {path}: {error}"))?;
        let range = or("VMDEPLOY_REAL_VMIDS", "9000-9099");
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let range = range.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
        let (first, last) = range
            .filter(|(first, last)| *first >= 100 && *last >= first + VMIDS - 1)
            .ok_or(format!("VMDEPLOY_REAL_VMIDS must be FIRST-LAST with at least {VMIDS} numbers"))?;
        Ok(Self {
            variables,
            first,
            last,
            pool: or("VMDEPLOY_REAL_POOL", "vmdeploy-test"),
            storage: or("VMDEPLOY_REAL_STORAGE", "local-lvm"),
            other_storage: or("VMDEPLOY_REAL_OTHER_STORAGE", "local"),
            images: or("VMDEPLOY_REAL_IMAGES", "local"),
            bridge: or("VMDEPLOY_REAL_BRIDGE", "vmbr0"),
        })
    }
    /// Returns those of a lab.
    fn of_lab(variables: &[(String, String)], likeness: &Likeness) -> Self {
        Self { variables: variables.to_vec(), ..likeness.settings.clone() }
    }
    /// Returns settings without a node.
    pub fn usual() -> Self {
        Self {
            variables: Vec::new(),
            first: 9000,
            last: 9099,
            pool: "vmdeploy-test".to_owned(),
            storage: "local-lvm".to_owned(),
            other_storage: "local".to_owned(),
            images: "local".to_owned(),
            bridge: "vmbr0".to_owned(),
        }
    }
}

/// A lab, with what it runs in.
struct OwnLab {
    runtime: Runtime,
    session: Option<LabSession>,
}

impl Drop for OwnLab {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.runtime.block_on(session.stop());
        }
    }
}

/// A place for batteries.
pub struct Ground {
    /// A folder and the program.
    pub user: Session,
    /// What may be touched.
    pub settings: Settings,
    /// The node.
    pub node: String,
    /// Whether the storage holds files, of which only qcow2 can be linked.
    pub needs_qcow2: bool,
    _lab: Option<OwnLab>,
}

impl Ground {
    /// Starts a lab that is like a node.
    pub fn lab(likeness: &Likeness) -> Result<Self, Failed> {
        let runtime = Runtime::new()?;
        let session = runtime.block_on(LabSession::start(likeness.world(), Vec::new()));
        let session = session.map_err(|failure| failure.render())?;
        let settings = Settings::of_lab(session.variables(), likeness);
        let user = Session::new().with_variables(session.variables());
        let lab = OwnLab { runtime, session: Some(session) };
        Self { user, settings, node: likeness.node.clone(), needs_qcow2: false, _lab: Some(lab) }
            .knowing_storage()
    }
    /// Leads to the node.
    pub fn real(settings: &Settings) -> Result<Self, Failed> {
        let user = Session::new().with_variables(&settings.variables);
        let found = settings.variables.iter().find(|(name, _)| name == "PROXMOX_NODE");
        let node = found.map(|(_, value)| value.clone()).ok_or("PROXMOX_NODE is not set")?;
        Self { user, settings: settings.clone(), node, needs_qcow2: false, _lab: None }.knowing_storage()
    }
    fn knowing_storage(mut self) -> Result<Self, Failed> {
        let storage = self.get(&format!("/storage/{}", self.settings.storage))?;
        self.needs_qcow2 = matches!(storage["type"].as_str(), Some("dir" | "nfs" | "cifs" | "btrfs"));
        Ok(self)
    }
    /// Returns the variables that lead here.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.settings.variables.clone()
    }
    /// Runs the program, which must end well; returns what it printed.
    ///
    /// # Errors
    /// It ends otherwise; all that it said.
    pub fn done(&self, arguments: &[&str]) -> Result<String, Failed> {
        self.ends(arguments, 0)
    }
    /// Runs the program, which must end with this code; returns what it printed.
    pub fn ends(&self, arguments: &[&str], code: i32) -> Result<String, Failed> {
        let output = self.user.output(arguments);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        if output.status.code() == Some(code) {
            return Ok(out);
        }
        let ended = output.status.code();
        Err(format!("`vmdeploy {}` ended with {ended:?}, not {code}:\n{out}\n{said}", arguments.join(" "))
            .into())
    }
    /// Asks the API.
    pub fn get(&self, path: &str) -> Result<Value, Failed> {
        let answer = self.done(&["api", "get", path, "--json"])?;
        Ok(serde_json::from_str(&answer)?)
    }
    /// Tells whether the API has something at a path.
    pub fn has(&self, path: &str) -> bool {
        self.user.output(&["api", "get", path, "--json"]).status.success()
    }
    /// Changes something by the API, and waits for its task.
    pub fn call(&self, verb: &str, path: &str, params: &[&str]) -> Result<String, Failed> {
        self.done(&[&["api", verb, path], params, &["--yes", "--wait"]].concat())
    }
    /// Returns the program as a child that is killed without a warning once `count` steps are through; whether it was
    /// killed before its end.
    pub fn kill_after(&self, count: usize, arguments: &[&str]) -> Result<bool, Failed> {
        use std::io::{BufRead as _, BufReader};
        let mut command: Command = self.user.command(arguments);
        let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut through = 0;
        for line in lines {
            let event: Value = serde_json::from_str(&line?)?;
            through += usize::from(event["event"]["type"] == "step_succeeded");
            if through >= count {
                break;
            }
        }
        let ended = child.try_wait()?.is_some();
        if !ended {
            child.kill()?;
        }
        child.wait()?;
        Ok(!ended)
    }
    /// Returns the guests of the range.
    pub fn guests(&self) -> Result<BTreeMap<u32, Value>, Failed> {
        let all = self.get("/cluster/resources?type=vm").or_else(|_| self.get("/cluster/resources"))?;
        let rows = all.as_array().cloned().unwrap_or_default();
        let guests =
            rows.into_iter().filter_map(|row| Some((u32::try_from(row["vmid"].as_u64()?).ok()?, row)));
        Ok(guests.filter(|(vmid, _)| (self.settings.first..=self.settings.last).contains(vmid)).collect())
    }
}

/// Returns the text, whatever its bytes.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
