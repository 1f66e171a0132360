//! Faults as data: what goes wrong, where, and at which call.
//!
//! ```
//! let text = "
//! - when: {method: POST, path: /nodes/*/qemu, vmid: 201, nth: 2}
//!   do: {refuse: {status: 500, reason: got lock request timeout}}
//! - when: {command: 'qm disk import *', node: pve1}
//!   do: {cut: {after_ms: 200}}
//! ";
//! assert_eq!(pve_lab::fault::from_yaml(text).unwrap().len(), 2);
//! ```
//!
//! Every fault counts the calls that it matches, for itself, and throws its own dice: one seed gives one history,
//! in whatever order the calls of others come.

use std::time::Duration;

use pve_types::Vmid;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::vfs::glob_matches;
use crate::world::{Guest, GuestKind, World};

/// One fault of a world: which calls it meets, and what it does to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The calls that it meets; every one when nothing is said.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    #[serde(rename = "do")]
    pub effect: Effect,
}

/// Which calls a fault meets. All that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// `api` or `ssh`.
    pub listener: Option<Listener>,
    /// The HTTP method (`POST`) of an API request.
    pub method: Option<String>,
    /// The path of an API request, a pattern with `*`: `/nodes/*/qemu/*/status/start`.
    pub path: Option<String>,
    /// A program over SSH with its arguments, a pattern with `*`: `qm set *`. In a longer command line it is held
    /// against each program, also behind `sudo`, `timeout` and in `sh -c`.
    pub command: Option<String>,
    /// The guest that the call is about.
    pub vmid: Option<Vmid>,
    /// The node of the listener, or of the call.
    pub node: Option<String>,
    /// The type of a task: `qmstart`.
    pub task: Option<String>,
    /// The storage on which a volume is made.
    pub storage: Option<String>,
    /// Only the n-th such call (from 1).
    pub nth: Option<u64>,
    /// Not before the n-th such call.
    pub from: Option<u64>,
    /// At most so many times.
    pub times: Option<u64>,
    /// With this probability (0 to 1).
    pub chance: Option<f64>,
}

/// A way into the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    /// HTTPS.
    Api,
    /// SSH.
    Ssh,
}

/// Before or after the call has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Nothing has happened.
    Before,
    /// It has taken effect, but there is no answer.
    After,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// The call is refused and does nothing: an HTTP status and reason, or a text on stderr and an exit status.
    Refuse {
        /// The HTTP status (500; 595 and 596 are a node that cannot be reached).
        #[serde(default = "default_status")]
        status: u16,
        /// The reason phrase, or the text on stderr.
        reason: String,
        /// The exit status of a command.
        #[serde(default = "default_exit")]
        exit: i32,
        /// Before anything is done, or after all of it: then it is done, and the answer is an error.
        #[serde(default = "before")]
        at: Moment,
    },
    /// The server cannot start the call's worker: `got no worker upid - start worker failed`. Nothing is done, but that
    /// a creation leaves its empty configuration with the lock `create`.
    // PVE: pve-common src/PVE/RESTEnvironment.pm fork_worker; qemu-server src/PVE/API2/Qemu.pm create_vm.
    WorkerNotStarted,
    /// The API's daemons restart: requests find no server for this long.
    Restart {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is dropped without an answer.
    Drop(Moment),
    /// The call takes so much longer.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The guest's lock is held: `can't lock file … - got timeout`.
    LockTimeout,
    /// The task fails with this text.
    FailTask {
        /// The error's text.
        text: String,
        /// Before its work, or after all of it (then it has taken effect).
        #[serde(default = "before")]
        at: Moment,
    },
    /// The storage has no room for the new volume.
    StorageFull,
    /// The SSH connection is dropped; the command continues, and its end is not reported.
    Cut {
        /// Milliseconds after the command began.
        #[serde(default)]
        after_ms: u64,
    },
    /// The guest's agent never answers.
    NoAgent,
}

fn default_status() -> u16 {
    500
}

fn default_exit() -> i32 {
    255
}

fn before() -> Moment {
    Moment::Before
}

/// Why a file of faults is not one.
#[derive(Debug, thiserror::Error)]
#[error("the faults are not readable")]
pub struct FaultsError(#[from] serde_yaml::Error);

/// Reads a list of faults from YAML; unknown keys are refused.
///
/// # Errors
/// It is not YAML, or not a list of faults.
pub fn from_yaml(text: &str) -> Result<Vec<Fault>, FaultsError> {
    Ok(serde_yaml::from_str(text)?)
}

/// A call, as faults look at it.
#[derive(Debug, Clone, Default)]
pub struct Call<'a> {
    /// The listener, if any.
    pub listener: Option<Listener>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// The path without format.
    pub path: Option<&'a str>,
    /// The command line.
    pub command: Option<&'a str>,
    /// The guest.
    pub vmid: Option<Vmid>,
    /// The node.
    pub node: Option<&'a str>,
    /// The task's type.
    pub task: Option<&'a str>,
    /// The storage.
    pub storage: Option<&'a str>,
}

impl When {
    fn meets(&self, call: &Call<'_>) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let like = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| glob_matches(wanted, is)))
        };
        self.listener.is_none_or(|listener| call.listener == Some(listener))
            && self
                .method
                .as_deref()
                .is_none_or(|wanted| call.method.is_some_and(|method| method.eq_ignore_ascii_case(wanted)))
            && like(&self.path, call.path)
            && like(&self.command, call.command)
            && self.vmid.is_none_or(|vmid| call.vmid == Some(vmid))
            && same(&self.node, call.node)
            && same(&self.task, call.task)
            && same(&self.storage, call.storage)
    }
}

struct Armed {
    fault: Fault,
    seen: u64,
    done: u64,
    dice: StdRng,
}

/// The faults of a world, with what each has seen so far.
#[derive(Default)]
pub struct Faults {
    armed: Vec<Armed>,
    seed: u64,
    /// Until when the API's daemons are away, in microseconds.
    restarts_until: u64,
}

impl Faults {
    /// Arms these faults; `seed` is that of the lab.
    pub fn new(faults: impl IntoIterator<Item = Fault>, seed: u64) -> Self {
        let mut all = Self { armed: Vec::new(), seed, restarts_until: 0 };
        faults.into_iter().for_each(|fault| all.add(fault));
        all
    }

    /// Arms one more.
    pub fn add(&mut self, fault: Fault) {
        let number = self.armed.len() as u64;
        let dice =
            StdRng::seed_from_u64(self.seed ^ number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        self.armed.push(Armed { fault, seen: 0, done: 0, dice });
    }

    /// Disarms all.
    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// How many calls have met a fault so far, all faults together.
    pub fn struck(&self) -> u64 {
        self.armed.iter().map(|armed| armed.done).sum()
    }

    /// Returns what happens to a call, among the effects that `wanted` can have at this place. Only faults with such
    /// an effect count it.
    pub fn strike(&mut self, call: &Call<'_>, wanted: impl Fn(&Effect) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for armed in
            self.armed.iter_mut().filter(|armed| wanted(&armed.fault.effect) && armed.fault.when.meets(call))
        {
            armed.seen += 1;
            let when = &armed.fault.when;
            let is_due = when.nth.is_none_or(|nth| armed.seen == nth)
                && when.from.is_none_or(|from| armed.seen >= from)
                && when.times.is_none_or(|times| armed.done < times);
            let is_thrown = when.chance.is_none_or(|chance| armed.dice.random::<f64>() < chance);
            if is_due && is_thrown {
                armed.done += 1;
                effects.push(armed.fault.effect.clone());
            }
        }
        effects
    }
}

/// What befalls one request or command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Blow {
    /// It waits this long first.
    pub delay: Duration,
    /// It is refused with this status, text and exit status, before or after it is done.
    pub refusal: Option<(u16, String, i32, Moment)>,
    /// Its connection is dropped.
    pub drop: Option<Moment>,
}

/// What befalls a request or a program, before anything of it is done.
pub fn blow(world: &mut World, call: &Call<'_>) -> Blow {
    let mut blow = Blow::default();
    if world.faults.is_empty() {
        return blow;
    }
    let here = |effect: &Effect| {
        matches!(
            effect,
            Effect::Refuse { .. }
                | Effect::Drop(_)
                | Effect::Slow { .. }
                | Effect::LockTimeout
                | Effect::WorkerNotStarted
                | Effect::Restart { .. }
        )
    };
    if call.listener == Some(Listener::Api) && world.faults.restarts_until > world.now() {
        return Blow { drop: Some(Moment::Before), ..blow };
    }
    for effect in world.faults.strike(call, here) {
        match effect {
            Effect::Slow { ms } => blow.delay += Duration::from_millis(ms),
            Effect::Refuse { status, reason, exit, at } => blow.refusal = Some((status, reason, exit, at)),
            Effect::WorkerNotStarted => {
                leave_unbegun(world, call);
                let text = "got no worker upid - start worker failed".to_owned();
                blow.refusal = Some((500, text, 255, Moment::Before));
            }
            Effect::Restart { ms } => {
                world.faults.restarts_until = world.now() + ms * 1000;
                blow.drop = Some(Moment::Before);
            }
            Effect::LockTimeout => {
                let vmid = call.vmid.map(|vmid| vmid.to_string()).unwrap_or_default();
                blow.refusal = Some((
                    500,
                    format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"),
                    255,
                    Moment::Before,
                ));
            }
            Effect::Drop(moment) => blow.drop = Some(moment),
            _ => {}
        }
    }
    blow
}

/// Leaves the configuration that a creation writes before its worker is started.
fn leave_unbegun(world: &mut World, call: &Call<'_>) {
    let by_api = call.method == Some("POST")
        && call.path.is_some_and(|path| glob_matches("/nodes/*/qemu", path) && path.ends_with("/qemu"));
    let by_command = call.command.is_some_and(|line| line.starts_with("qm create "));
    let (Some(vmid), Some(node)) = (call.vmid, call.node) else { return };
    if (by_api || by_command) && !world.guests.contains_key(&vmid) {
        let locked = [("lock".to_owned(), "create".to_owned())].into();
        let guest = Guest::new(vmid, GuestKind::Qemu, node, locked, world.now_seconds());
        world.guests.insert(vmid, guest);
    }
}

/// The faults of a loaded node: everything transient that PVE is known to say, each befalling this share of the calls
/// that it can befall. With `unbegun`, creations may leave an empty, locked configuration, which only root can remove.
///
/// # Panics
/// Never: the text is its own.
pub fn loaded_node(chance: f64, unbegun: bool) -> Vec<Fault> {
    let fault =
        |when: &str, effect: &str| format!("- {{when: {{{when}, chance: {chance}}}, do: {effect}}}\n");
    let refuse =
        |status: u16, reason: &str| format!("{{refuse: {{status: {status}, reason: \"{reason}\"}}}}");
    let qmp = "VM 1 qmp command 'query-status' failed - got timeout";
    let wrong = "got wrong command id '4711:3' (expected 4711:4)";
    let mut text = String::new();
    for (status, reason) in [
        (429, "Too Many Requests"),
        (503, "Service Unavailable"),
        (595, "Connection refused"),
        (596, "Broken pipe"),
        (599, "Too many redirections"),
    ] {
        text += &fault("listener: api", &refuse(status, reason));
    }
    text += &fault("listener: api", "{drop: before}");
    text += &fault("listener: api", "{drop: after}");
    text += &fault(
        "listener: api, method: GET, path: '/nodes/*/qemu/*/config'",
        &refuse(500, "ipcc_send_rec[2] failed: Connection refused"),
    );
    for path in ["/nodes/*/qemu/*/status/*", "/nodes/*/qemu/*/resize", "/nodes/*/qemu/*/clone"] {
        text += &fault(&format!("listener: api, method: POST, path: '{path}'"), "worker-not-started");
    }
    text += &fault("listener: api, method: PUT, path: '/nodes/*/qemu/*/config'", "lock-timeout");
    let late = format!("{{refuse: {{reason: \"{qmp}\", at: after}}}}");
    text += &fault("listener: api, method: PUT, path: '/nodes/*/qemu/*/config'", &late);
    let storage = refuse(500, "cfs-lock 'storage-local-lvm' error: got lock request timeout");
    text += &fault("listener: api, method: POST, path: '/nodes/*/qemu/*/config'", &storage);
    text += &fault("task: qmstart", &format!("{{fail-task: {{text: \"{wrong}\", at: after}}}}"));
    text +=
        &fault("task: qmstart", "{fail-task: {text: 'unable to find free port (61000-61999)', at: before}}");
    text += &fault(
        "task: qmcreate",
        "{fail-task: {text: \"cfs-lock 'storage-local-lvm' error: got lock request timeout\"}}",
    );
    for command in ["qm set *", "qm importdisk *", "qm disk *", "qm start *"] {
        text += &fault(&format!("command: '{command}'"), "lock-timeout");
    }
    text += &fault("command: 'qm start *'", "worker-not-started");
    text += &fault("command: 'pvesh get *'", &refuse(500, "ipcc_send_rec[1] failed: Connection refused"));
    text += &fault("listener: ssh", "{drop: before}");
    text += &fault("listener: ssh", "{cut: {after_ms: 5}}");
    if unbegun {
        text += &fault("listener: api, method: POST, path: '/nodes/*/qemu'", "worker-not-started");
        text += &fault("command: 'qm create *'", "worker-not-started");
    }
    text +=
        &format!("- {{when: {{listener: api, chance: {}}}, do: {{restart: {{ms: 300}}}}}}\n", chance / 50.0);
    from_yaml(&text).unwrap_or_default()
}

/// The guest and the node that an API path names.
pub fn subjects(path: &str) -> (Option<Vmid>, Option<&str>) {
    let parts: Vec<&str> = path.split('/').collect();
    let after =
        |word: &str| parts.iter().position(|part| *part == word).and_then(|at| parts.get(at + 1)).copied();
    let vmid = after("qemu").or_else(|| after("lxc")).and_then(|text| text.parse().ok());
    (vmid, after("nodes"))
}

/// What befalls an API request; `vmid` is its parameter of that name, for calls that have none in their path.
pub fn of_request(world: &mut World, method: &str, path: &str, vmid: Option<Vmid>, node: &str) -> Blow {
    let (in_path, on_node) = subjects(path);
    let call = Call {
        listener: Some(Listener::Api),
        method: Some(method),
        path: Some(path),
        vmid: in_path.or(vmid),
        node: on_node.or(Some(node)),
        ..Call::default()
    };
    blow(world, &call)
}

/// How a task that begins now is going to fail: when, and with which text.
pub fn of_task(world: &mut World, kind: &str, id: &str, node: &str) -> Option<(Moment, String)> {
    if world.faults.is_empty() {
        return None;
    }
    let call = Call { task: Some(kind), vmid: id.parse().ok(), node: Some(node), ..Call::default() };
    let effects = world.faults.strike(&call, |effect| matches!(effect, Effect::FailTask { .. }));
    effects.into_iter().find_map(|effect| match effect {
        Effect::FailTask { text, at } => Some((at, text)),
        _ => None,
    })
}

/// Tells whether the storage has no room for the volume that is about to be made for a guest.
pub fn storage_is_full(world: &mut World, storage: &str, vmid: Option<Vmid>, node: &str) -> bool {
    let call = Call { storage: Some(storage), vmid, node: Some(node), ..Call::default() };
    !world.faults.is_empty()
        && !world.faults.strike(&call, |effect| *effect == Effect::StorageFull).is_empty()
}

/// Tells whether the agent of a guest that is being started never comes.
pub fn agent_never_comes(world: &mut World, vmid: Vmid, node: &str) -> bool {
    let call = Call { vmid: Some(vmid), node: Some(node), ..Call::default() };
    !world.faults.is_empty() && !world.faults.strike(&call, |effect| *effect == Effect::NoAgent).is_empty()
}

/// What befalls a program over SSH: as [`blow`], and how long after its begin the connection is cut.
pub(crate) fn of_program(world: &mut World, node: &str, line: &str) -> (Blow, Option<Duration>) {
    if world.faults.is_empty() {
        return (Blow::default(), None);
    }
    let vmid = line.split_whitespace().find_map(|word| word.parse().ok());
    let call = Call {
        listener: Some(Listener::Ssh),
        command: Some(line),
        vmid,
        node: Some(node),
        ..Call::default()
    };
    let cuts = world.faults.strike(&call, |effect| matches!(effect, Effect::Cut { .. }));
    let cut = cuts.into_iter().find_map(|effect| match effect {
        Effect::Cut { after_ms } => Some(Duration::from_millis(after_ms)),
        _ => None,
    });
    (blow(world, &call), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(fault: &str, calls: &[Call<'_>]) -> Vec<bool> {
        let mut faults = Faults::new(from_yaml(&format!("- {fault}")).unwrap(), 7);
        calls.iter().map(|call| !faults.strike(call, |_| true).is_empty()).collect()
    }

    fn request<'a>(method: &'a str, path: &'a str) -> Call<'a> {
        Call {
            listener: Some(Listener::Api),
            method: Some(method),
            path: Some(path),
            vmid: subjects(path).0,
            ..Call::default()
        }
    }

    #[test]
    fn a_fault_meets_the_calls_that_it_names_and_counts_them() {
        let start = request("POST", "/nodes/pve1/qemu/100/status/start");
        let other = request("GET", "/nodes/pve1/qemu/100/config");
        let calls = [start.clone(), other, start.clone(), start];
        assert_eq!(
            strikes("{when: {path: '*/status/start', nth: 2}, do: lock-timeout}", &calls),
            [false, false, true, false]
        );
        assert_eq!(
            strikes("{when: {method: post, from: 2}, do: lock-timeout}", &calls),
            [false, false, true, true]
        );
        assert_eq!(
            strikes("{when: {vmid: 100, times: 2}, do: {slow: {ms: 5}}}", &calls),
            [true, true, false, false]
        );
        assert_eq!(strikes("{when: {listener: ssh}, do: {drop: after}}", &calls), [false; 4]);
    }

    #[test]
    fn one_seed_gives_one_history() {
        let calls = vec![request("GET", "/version"); 200];
        let first = strikes("{when: {chance: 0.3}, do: {drop: before}}", &calls);
        assert_eq!(first, strikes("{when: {chance: 0.3}, do: {drop: before}}", &calls));
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((30..90).contains(&struck), "{struck}");
    }

    #[test]
    fn a_loaded_node_has_every_fault_of_the_list() {
        assert_eq!(loaded_node(0.05, true).len(), loaded_node(0.05, false).len() + 2);
        assert!(loaded_node(0.05, false).len() > 20);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(from_yaml("- {when: {frob: 1}, do: no-agent}").is_err());
        assert!(from_yaml("- {do: explode}").is_err());
    }
}
