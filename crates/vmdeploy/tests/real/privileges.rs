//! A token that fix-token made, with one privilege less at a time: what check-token says is what the node does.

use crate::battery::{clean_up, prepare, remove_guests_and_images};
use crate::ground::{Ground, Settings, text};
use crate::transcript::Session;
use libtest_mimic::Failed;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const USER: &str = "vmdeploy-test@pve";
const TOKEN: &str = "battery";

/// Takes each privilege away once.
///
/// # Errors
/// Each privilege for which the verdict is not what the node did.
pub fn one_less(settings: &Settings) -> Result<(), Failed> {
    let root = Ground::real(settings)?;
    on(&root)
}

/// Does the same on any ground.
pub fn on(root: &Ground) -> Result<(), Failed> {
    prepare(root)?;
    let before = roles(root)?;
    let token = token(root)?;
    let checked = each(root, &token, &before);
    for role in roles(root)?.difference(&before) {
        root.call("delete", &format!("/access/roles/{role}"), &[])?;
    }
    root.call("delete", &format!("/access/users/{USER}"), &[])?;
    let cleaned = clean_up(root);
    checked?;
    cleaned
}

/// Makes a user with a token that may do nothing; returns a session as that token.
fn token(root: &Ground) -> Result<Session, Failed> {
    root.call("post", "/access/users", &[&format!("userid={USER}"), "comment=made by a test of vmdeploy"])?;
    let path = format!("/access/users/{USER}/token/{TOKEN}");
    let made = root.done(&["api", "post", &path, "privsep=1", "--yes", "--json"])?;
    let made: Value = serde_json::from_str(&made)?;
    let secret = made["value"].as_str().ok_or("the token has no secret")?.to_owned();
    let mut session = Session::new().with_variables(&root.variables());
    session.add_variable("PROXMOX_API_USER", &format!("{USER}!{TOKEN}"));
    session.add_variable("PROXMOX_API_PASSWORD", &secret);
    session.write("spec.yaml", &spec(root));
    std::fs::copy(root.user.path("tiny.raw"), session.path("tiny.raw"))?;
    Ok(session)
}

/// A spec that needs privileges of most kinds.
fn spec(ground: &Ground) -> String {
    let settings = &ground.settings;
    let (storage, other, bridge) = (&settings.storage, &settings.other_storage, &settings.bridge);
    format!(
        "version: 1\nproject: real-rights\ntransport: api\ndefaults: {{node: {node}, pool: {pool}}}\n\
         images: {{tiny: {{file: tiny.raw, store: {images}}}}}\nvms:\n  \
         rich: {{vmid: {vmid}, memory: 32MiB, cpu: 1, tags: [a, b], startup: {{order: 7}}, vga: std,\n    \
         disks: {{scsi0: {{storage: {storage}, image: tiny, size: 1GiB}}, scsi1: {{storage: {other}, size: 1GiB}}, ide0: {{iso: none}}}},\n    \
         nics: {{net0: {{bridge: {bridge}, ip: dhcp}}}}, cloud_init: {{user: admin}}}}\n  \
         copy: {{vmid: {copy}, clone: {{from: rich, mode: full}}, memory: 48MiB,\n    \
         nics: {{net1: {{bridge: {bridge}, vlan: 40}}}}, lifecycle: {{state: stopped}}}}\n",
        node = ground.node,
        pool = settings.pool,
        images = settings.images,
        vmid = settings.first,
        copy = settings.first + 1,
    )
}

fn roles(root: &Ground) -> Result<BTreeSet<String>, Failed> {
    let all = root.get("/access/roles")?;
    let ours = all.as_array().into_iter().flatten().filter_map(|role| role["roleid"].as_str());
    Ok(ours.filter(|role| role.starts_with("VMDeploy")).map(str::to_owned).collect())
}

fn each(root: &Ground, token: &Session, before: &BTreeSet<String>) -> Result<(), Failed> {
    run(token, &["fix-token", "spec.yaml", "--yes"], &[0])?;
    let mut differs = String::new();
    let whole = (is_enough(token)?, is_done(root, token)?);
    if whole != (true, true) {
        let _ = writeln!(differs, "with all privileges: enough, done = {whole:?}");
    }
    let all = root.get("/access/roles")?;
    for role in all.as_array().into_iter().flatten() {
        let name = role["roleid"].as_str().unwrap_or_default();
        if before.contains(name) || !name.starts_with("VMDeploy") {
            continue;
        }
        let held: Vec<&str> = role["privs"].as_str().unwrap_or_default().split(',').collect();
        for privilege in &held {
            let rest: Vec<&str> = held.iter().copied().filter(|other| other != privilege).collect();
            let path = format!("/access/roles/{name}");
            root.call("put", &path, &[&format!("privs={}", rest.join(","))])?;
            let found = (is_enough(token)?, is_done(root, token)?);
            eprintln!("without {privilege} of {name}: enough, done = {found:?}");
            if found != (false, false) {
                let _ = writeln!(differs, "without {privilege} of {name}: enough, done = {found:?}");
            }
            root.call("put", &path, &[&format!("privs={}", held.join(","))])?;
        }
    }
    if differs.is_empty() { Ok(()) } else { Err(differs.into()) }
}

fn run(session: &Session, arguments: &[&str], codes: &[i32]) -> Result<String, Failed> {
    let output = session.output(arguments);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    match output.status.code().is_some_and(|code| codes.contains(&code)) {
        true => Ok(out),
        false => {
            Err(format!("`{}` ended with {:?}:\n{out}\n{said}", arguments.join(" "), output.status).into())
        }
    }
}

fn is_enough(token: &Session) -> Result<bool, Failed> {
    let verdict: Value =
        serde_json::from_str(&run(token, &["check-token", "spec.yaml", "--json"], &[0, 7])?)?;
    Ok(verdict["enough"] == true)
}

/// Deploys and destroys without the checks of privileges; tells whether all of it was done. Nothing is left.
fn is_done(root: &Ground, token: &Session) -> Result<bool, Failed> {
    let done = carried_out(token, &[])? && carried_out(token, &["--destroy"])?;
    remove_guests_and_images(root)?;
    Ok(done)
}

fn carried_out(token: &Session, mode: &[&str]) -> Result<bool, Failed> {
    let _ = std::fs::remove_file(token.path("plan.json"));
    token.output(&[&["plan", "spec.yaml", "--out", "plan.json"], mode].concat());
    let Ok(text) = std::fs::read_to_string(token.path("plan.json")) else { return Ok(false) };
    let mut plan: Value = serde_json::from_str(&text)?;
    if let Some(checks) = plan["checks"].as_array_mut() {
        checks.retain(|check| check["is_right"] != true);
    }
    token.write("plan.json", &plan.to_string());
    Ok(token.output(&["deploy", "--plan", "plan.json", "--yes"]).status.success())
}
