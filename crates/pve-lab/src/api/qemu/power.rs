//! Starting, stopping, and what lies between.

use std::time::Duration;

use pve_types::Vmid;
use serde_json::{Value, json};

use super::allowed::Asker;
use super::config::{check_lock, guest};
use crate::api::{Call, Methods, Refusal};
use crate::world::{Config, Next, Power, Stage, TaskKey, Worker, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/nodes/{node}/qemu/{vmid}/status", index),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/start", start),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/stop", stop),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/shutdown", shutdown),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/reboot", reboot),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/reset", reset),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/suspend", suspend),
    ("POST", "/nodes/{node}/qemu/{vmid}/status/resume", resume),
    ("PUT", "/nodes/{node}/qemu/{vmid}/sendkey", sendkey),
];

fn index(_: &mut Call<'_>) -> Result<Value, Refusal> {
    let names = ["current", "start", "stop", "reset", "shutdown", "suspend", "reboot"];
    Ok(names.iter().map(|name| json!({ "subdir": name })).collect())
}

fn sendkey(call: &mut Call<'_>) -> Result<Value, Refusal> {
    running(call.world, &call.node(), call.vmid()?)?;
    Ok(Value::Null)
}

fn root_only_skiplock(call: &Call<'_>) -> Result<(), Refusal> {
    match call.flag("skiplock") && !call.caller.is_root() {
        true => Err(Refusal::parameter("skiplock", "Only root may use this option.")),
        false => Ok(()),
    }
}

/// A worker on a VM that holds its lock.
pub fn worker(kind: &'static str, asker: &Asker, stages: Vec<Stage>) -> Worker {
    Worker {
        node: asker.node.clone(),
        kind,
        id: asker.vmid.to_string(),
        owner: asker.auth_id.clone(),
        lock: Some((asker.vmid, Duration::from_secs(10))),
        stages,
        on_failure: None,
        error_prefix: String::new(),
    }
}

/// Who asks for what on which VM.
pub fn asker(call: &Call<'_>) -> Result<Asker, Refusal> {
    let auth_id = call.caller.auth_id().to_owned();
    Ok(Asker { auth_id, node: call.node(), vmid: call.vmid()?, pool: None })
}

fn text(refusal: Refusal) -> String {
    refusal.full_text()
}

/// The VM, for what needs a running one.
fn running(world: &World, node: &str, vmid: Vmid) -> Result<(), Refusal> {
    let here = world.guests.get(&vmid).filter(|guest| guest.node == node);
    let missing =
        || Refusal::died(format!("unable to find configuration file for VM {vmid} on node '{node}'"));
    match here.ok_or_else(missing)?.is_running() {
        true => Ok(()),
        false => Err(Refusal::died(format!("VM {vmid} not running"))),
    }
}

// PVE: qemu-server src/PVE/API2/Qemu.pm vm_start: what is wrong is found by the worker.
fn start(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    for option in
        ["stateuri", "targetstorage", "migratedfrom", "migration_type", "migration_network", "force-cpu"]
    {
        if call.is_given(option) && !call.caller.is_root() {
            return Err(Refusal::parameter(option, "Only root may use this option."));
        }
    }
    let asker = asker(call)?;
    if crate::api::cluster::is_ha_managed(call.world, asker.vmid) && !call.caller.is_command {
        return Ok(crate::api::cluster::ha_request(call.world, &asker, "hastart", "started").into());
    }
    Ok(start_task(call.world, &asker, call.flag("skiplock")).into())
}

fn start_task(world: &mut World, asker: &Asker, skiplock: bool) -> String {
    let takes = Duration::from_millis(world.delays.start_ms);
    let (first, second) = (asker.clone(), asker.clone());
    let stages = vec![
        Stage::now(move |world, key| before_start(world, key, &first, skiplock)),
        Stage::new(takes, move |world, _| switch_on(world, &second)),
    ];
    let worker = worker("qmstart", asker, stages);
    world.start_worker(worker)
}

/// Starts the VM by a task of its own, as `start=1` of a creation does.
pub fn start_in_background(world: &mut World, asker: &Asker) {
    start_task(world, asker, false);
}

fn before_start(world: &mut World, key: TaskKey, asker: &Asker, skiplock: bool) -> Result<(), String> {
    let (node, vmid) = (asker.node.as_str(), asker.vmid);
    let guest = guest(world, node, vmid).map_err(text)?;
    if guest.is_template() {
        return Err("you can't start a vm if it's a template".to_owned());
    }
    if !skiplock {
        check_lock(guest).map_err(text)?;
    }
    if guest.is_running() {
        return Err(format!("VM {vmid} already running"));
    }
    let mut output = Vec::new();
    super::update::put_in_force(world, asker, &mut output).map_err(text)?;
    check_devices(world, node, vmid)?;
    super::settings::check_memory(&self::guest(world, node, vmid).map_err(text)?.config)?;
    super::cloudinit::check_snippets(world, node, vmid)?;
    super::cloudinit::generate(world, node, vmid, &mut output);
    world.log_lines(key, output);
    Ok(())
}

/// What QEMU and the network scripts find missing.
fn check_devices(world: &World, node: &str, vmid: Vmid) -> Result<(), String> {
    let guest = guest(world, node, vmid).map_err(text)?;
    for drive in super::drive::drives(world.version, &guest.config) {
        if drive.storage().is_some() {
            let storage = drive.storage().unwrap_or_default();
            world.active_storage(storage, node)?;
            world.volume(node, drive.file())?;
        }
    }
    for value in guest.config.iter().filter(|(option, _)| super::settings::is_net(option)).map(|(_, net)| net)
    {
        let net = super::nets::parse(world.version, value).unwrap_or_default();
        if let Some(bridge) = net.get("bridge").filter(|bridge| !world.has_bridge(node, bridge)) {
            return Err(format!("bridge '{bridge}' does not exist"));
        }
    }
    check_mappings(world, node, &guest.config)?;
    if guest
        .config
        .get("memory")
        .and_then(|text| text.trim_start_matches("current=").parse::<u64>().ok())
        .unwrap_or(512)
        << 20
        > world.nodes.get(node).map_or(u64::MAX, |node| node.spec.memory.get())
    {
        return Err("start failed: QEMU exited with code 1".to_owned());
    }
    Ok(())
}

/// Devices and folders are found on the node by their mapping.
// PVE: qemu-server src/PVE/QemuServer/PCI.pm and USB.pm: `device mapping not found for`; Virtiofs.pm.
fn check_mappings(world: &World, node: &str, config: &Config) -> Result<(), String> {
    let maps = |file: &str, name: &str| {
        let map =
            world.sections.get(file).and_then(|all| all.get(name)).and_then(|options| options.get("map"));
        map.is_some_and(|map| map.contains(&format!("node={node}")))
    };
    for (option, value) in config {
        let (file, what, key) = match option.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "hostpci" => ("mapping/pci", "PCI device", "mapping="),
            "usb" => ("mapping/usb", "USB device", "mapping="),
            "virtiofs" => ("mapping/dir", "directory", "dirid="),
            _ => continue,
        };
        let plain = value.split(',').next().filter(|first| file == "mapping/dir" && !first.contains('='));
        let named = value.split(',').find_map(|part| part.strip_prefix(key)).or(plain);
        if let Some(name) = named.filter(|name| !maps(file, name)) {
            return Err(format!("{what} mapping not found for '{name}'"));
        }
    }
    Ok(())
}

fn switch_on(world: &mut World, asker: &Asker) -> Result<(), String> {
    let since = world.now();
    // Each start is another process.
    world.touch();
    let pid = 2000 + u32::try_from(world.revision() % 4_000_000).unwrap_or(0);
    let guest = super::config::guest_mut(world, &asker.node, asker.vmid).map_err(text)?;
    guest.power = Power::Running { pid, since, paused: false };
    crate::guest::started(world, asker.vmid);
    world.touch();
    Ok(())
}

/// Switches the VM off at once, and puts what was pending in force.
pub fn switch_off(world: &mut World, vmid: Vmid) {
    let Some(guest) = world.guests.get_mut(&vmid) else { return };
    guest.power = Power::Stopped;
    let node = guest.node.clone();
    crate::guest::stopped(world, vmid);
    let asker = Asker { auth_id: "root@pam".to_owned(), node, vmid, pool: None };
    let _ = super::update::put_in_force(world, &asker, &mut Vec::new());
    world.touch();
}

fn stop(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    let asker = asker(call)?;
    if call.flag("overrule-shutdown") {
        overrule_shutdowns(call.world, asker.vmid);
    }
    if crate::api::cluster::is_ha_managed(call.world, asker.vmid) && !call.caller.is_command {
        return Ok(crate::api::cluster::ha_request(call.world, &asker, "hastop", "stopped").into());
    }
    let (skiplock, takes) = (call.flag("skiplock"), Duration::from_millis(call.world.delays.stop_ms));
    let (node, vmid) = (asker.node.clone(), asker.vmid);
    let check = Stage {
        takes: Duration::ZERO,
        work: Box::new(move |world, _| {
            let found = world.guests.get(&vmid).filter(|guest| guest.node == node);
            let missing = || format!("unable to find configuration file for VM {vmid} on node '{node}'");
            let guest = found.ok_or_else(missing)?;
            if !guest.is_running() {
                return Ok(Next::Go);
            }
            if !skiplock {
                check_lock(guest).map_err(text)?;
            }
            Ok(Next::Then(vec![Stage::new(takes, move |world, _| {
                switch_off(world, vmid);
                Ok(())
            })]))
        }),
    };
    let worker = worker("qmstop", &asker, vec![check]);
    Ok(call.world.start_worker(worker).into())
}

fn overrule_shutdowns(world: &mut World, vmid: Vmid) {
    let id = vmid.to_string();
    let is_shutdown = |task: &&crate::world::Task| {
        task.kind == "qmshutdown" && task.id == id && task.exit_status().is_none()
    };
    let upids: Vec<String> =
        world.tasks.newest_first().filter(is_shutdown).map(|task| task.upid.clone()).collect();
    for key in upids.iter().filter_map(|upid| world.tasks.key(upid)).collect::<Vec<_>>() {
        world.interrupt_task(key);
    }
}

fn down_timeout(world: &World, vmid: Vmid) -> u64 {
    let startup =
        world.guests.get(&vmid).and_then(|guest| guest.config.get("startup").cloned()).unwrap_or_default();
    startup.split(',').find_map(|part| part.strip_prefix("down=")?.parse().ok()).unwrap_or(60)
}

fn is_paused(world: &World, vmid: Vmid) -> bool {
    world.guests.get(&vmid).is_some_and(|guest| matches!(guest.power, Power::Running { paused: true, .. }))
}

fn shutdown(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    let asker = asker(call)?;
    let force = call.flag("forceStop");
    let timeout = call.integer("timeout").and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = timeout.unwrap_or_else(|| down_timeout(call.world, asker.vmid));
    let mut kind = "qmshutdown";
    if is_paused(call.world, asker.vmid) {
        if !force {
            return Err(Refusal::died("VM is paused - cannot shutdown"));
        }
        call.output.push("VM is paused - stopping instead of shutdown".to_owned());
        kind = "qmstop";
    }
    if crate::api::cluster::is_ha_managed(call.world, asker.vmid) && !call.caller.is_command {
        return Ok(crate::api::cluster::ha_request(call.world, &asker, "hastop", "stopped").into());
    }
    let stages = shutdown_stages(&asker, Duration::from_secs(timeout), force, kind == "qmstop");
    let worker = worker(kind, &asker, stages);
    Ok(call.world.start_worker(worker).into())
}

fn shutdown_stages(asker: &Asker, timeout: Duration, force: bool, at_once: bool) -> Vec<Stage> {
    let (node, vmid) = (asker.node.clone(), asker.vmid);
    let work = move |world: &mut World, _| {
        let found = world.guests.get(&vmid).filter(|guest| guest.node == node);
        let missing = || format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist");
        let guest = found.ok_or_else(missing)?;
        if !guest.is_running() {
            return Ok(Next::Go);
        }
        check_lock(guest).map_err(text)?;
        let off = |takes| {
            Stage::new(takes, move |world: &mut World, _| {
                switch_off(world, vmid);
                Ok(())
            })
        };
        if at_once {
            return Ok(Next::Then(vec![off(Duration::ZERO)]));
        }
        match crate::guest::shutdown_duration(world, vmid) {
            Some(takes) if takes <= timeout => Ok(Next::Then(vec![off(takes)])),
            _ if !force => Ok(Next::Then(vec![Stage::new(timeout, |_, _| {
                Err("VM quit/powerdown failed - got timeout".to_owned())
            })])),
            _ => Ok(Next::Then(vec![Stage::new(timeout, move |world, key| {
                world.warn(key, "VM still running - terminating now with SIGTERM");
                switch_off(world, vmid);
                Ok(())
            })])),
        }
    };
    vec![Stage { takes: Duration::ZERO, work: Box::new(work) }]
}

fn reboot(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let asker = asker(call)?;
    running(call.world, &asker.node, asker.vmid)?;
    if is_paused(call.world, asker.vmid) {
        return Err(Refusal::died("VM is paused - cannot shutdown"));
    }
    let timeout = call.integer("timeout").and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = timeout.unwrap_or_else(|| down_timeout(call.world, asker.vmid));
    let mut stages = shutdown_stages(&asker, Duration::from_secs(timeout), false, false);
    // PVE: qemu-server src/PVE/QemuServer.pm vm_reboot, src/PVE/CLI/qm.pm cleanup: the task ends when the guest is down;
    // qmeventd sees the request and starts it again, by a task of root's own.
    let root = Asker { auth_id: "root@pam".to_owned(), ..asker.clone() };
    stages.push(Stage::now(move |world, _| {
        start_task(world, &root, false);
        Ok(())
    }));
    let worker = worker("qmreboot", &asker, stages);
    Ok(call.world.start_worker(worker).into())
}

fn reset(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    let asker = asker(call)?;
    running(call.world, &asker.node, asker.vmid)?;
    let vmid = asker.vmid;
    let stage = Stage::now(move |world, _| {
        if let Some(guest) = world.guests.get(&vmid) {
            check_lock(guest).map_err(text)?;
        }
        crate::guest::stopped(world, vmid);
        crate::guest::started(world, vmid);
        Ok(())
    });
    let worker = worker("qmreset", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn set_paused(world: &mut World, vmid: Vmid, now_paused: bool) {
    if let Some(Power::Running { paused, .. }) = world.guests.get_mut(&vmid).map(|guest| &mut guest.power) {
        *paused = now_paused;
    }
}

fn suspend(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    let asker = asker(call)?;
    running(call.world, &asker.node, asker.vmid)?;
    let (vmid, to_disk) = (asker.vmid, call.flag("todisk"));
    if to_disk {
        asker.require(call.world, &[pve_types::Privilege::VmConfigDisk])?;
    }
    let stage = Stage::now(move |world, _| {
        if let Some(guest) = world.guests.get_mut(&vmid) {
            check_lock(guest).map_err(text)?;
            if to_disk {
                guest.power = Power::Stopped;
                guest.config.insert("lock".into(), "suspended".into());
            }
        }
        match to_disk {
            true => crate::guest::stopped(world, vmid),
            false => set_paused(world, vmid, true),
        }
        Ok(())
    });
    let worker = worker(if to_disk { "qmsuspend" } else { "qmpause" }, &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}

fn resume(call: &mut Call<'_>) -> Result<Value, Refusal> {
    root_only_skiplock(call)?;
    let asker = asker(call)?;
    let vmid = asker.vmid;
    let sleeps = call.world.guests.get(&vmid).is_some_and(|guest| guest.lock() == Some("suspended"));
    if !sleeps {
        running(call.world, &asker.node, vmid)?;
    }
    let again = asker.clone();
    let stage = Stage::now(move |world, _| {
        if !sleeps {
            set_paused(world, vmid, false);
            return Ok(());
        }
        if let Some(guest) = world.guests.get_mut(&vmid) {
            guest.config.remove("lock");
        }
        switch_on(world, &again)
    });
    let worker = worker("qmresume", &asker, vec![stage]);
    Ok(call.world.start_worker(worker).into())
}
