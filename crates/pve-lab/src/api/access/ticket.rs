//! Tickets and CSRF tokens: making, verifying, and `POST /access/ticket`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::super::rights::{effective, normal_path, rights};
use super::super::{Call, Methods, Refusal};
use super::factors;
use crate::world::World;

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/ticket", dummy),
    ("POST", "/access/ticket", create),
    ("POST", "/access/vncticket", verify_vnc),
];

// PVE: pve-access-control src/PVE/AccessControl.pm: two hours, five minutes of tolerance.
const LIFETIME: u64 = 7200;
const TOLERANCE: u64 = 300;

fn mac(world: &World, text: &str, counter: u8) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&world.access.signing_key) else { return Vec::new() };
    mac.update(&[counter]);
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A signature as long as that of a 2048-bit RSA key.
fn signature(world: &World, text: &str) -> String {
    let bytes: Vec<u8> = (0..8).flat_map(|counter| mac(world, text, counter)).collect();
    STANDARD.encode(bytes)
}

/// A ticket for `data` (a user id, or a half-done login); `bound_to` is signed along, but not shown.
fn make_ticket(world: &World, data: &str, bound_to: &str) -> String {
    let plain = format!("PVE:{}:{:08X}", data.replace(':', "%3A"), world.now_seconds());
    format!("{plain}::{}", signature(world, &format!("{plain}{bound_to}")))
}

/// The CSRF token that goes with a user's ticket.
pub(crate) fn make_csrf(world: &World, user: &str) -> String {
    let time = format!("{:08X}", world.now_seconds());
    format!("{time}:{}", csrf_mac(world, &time, user))
}

fn csrf_mac(world: &World, time: &str, user: &str) -> String {
    STANDARD.encode(mac(world, &format!("{time}:{user}"), 99)).trim_end_matches('=').to_owned()
}

fn is_in_time(world: &World, hex: &str) -> bool {
    let Ok(time) = u64::from_str_radix(hex, 16) else { return false };
    let now = world.now_seconds();
    hex.len() == 8 && time <= now + TOLERANCE && now < time + LIFETIME
}

/// What a valid ticket is for.
fn ticket_data(world: &World, ticket: &str, bound_to: &str) -> Option<String> {
    let (plain, sig) = ticket.rsplit_once("::")?;
    let (data, time) = plain.strip_prefix("PVE:")?.rsplit_once(':')?;
    let is_ours = sig == signature(world, &format!("{plain}{bound_to}"));
    (is_in_time(world, time) && is_ours).then(|| data.replace("%3A", ":"))
}

/// Why a ticket or token does not let in.
pub(crate) enum Rejected {
    /// A half-done login counts as none.
    NoTicket,
    /// With the words that versions before 8.4.17 and 9.1.5 used.
    Invalid(String),
}

/// The user of a valid ticket.
pub(crate) fn verify_ticket(world: &World, ticket: &str) -> Result<String, Rejected> {
    let invalid = || Rejected::Invalid("permission denied - invalid PVE ticket".to_owned());
    if ticket.starts_with("PVE:!tfa!") {
        return Err(Rejected::NoTicket);
    }
    let user = ticket_data(world, ticket, "").ok_or_else(invalid)?;
    if is_active(world, &user) { Ok(user) } else { Err(invalid()) }
}

fn is_active(world: &World, user: &str) -> bool {
    let now = world.now_seconds();
    world.access.users.get(user).is_some_and(|user| user.enable && (user.expire == 0 || user.expire > now))
}

/// Tells whether the CSRF token belongs to the user and is in time.
pub(crate) fn verify_csrf(world: &World, user: &str, token: &str) -> bool {
    let Some((time, mac)) = token.split_once(':') else { return false };
    is_in_time(world, time) && mac.trim_end_matches('=') == csrf_mac(world, time, user)
}

/// The full id of the API token that `text` (`user@realm!name=secret`) names.
pub(crate) fn verify_token(world: &World, text: &str) -> Result<String, Rejected> {
    let invalid = |text: String| Rejected::Invalid(text);
    let Some((id, secret)) = text.rsplit_once('=') else {
        return Err(invalid("no tokenid specified".to_owned()));
    };
    let Some((user, name)) = id.rsplit_once('!') else {
        let text = format!("'{id}' is not a valid token ID - not able to split into user and token parts");
        return Err(invalid(text));
    };
    let now = world.now_seconds();
    let Some(account) = world.access.users.get(user) else {
        return Err(invalid(format!("no such user ('{user}')")));
    };
    if !account.enable {
        return Err(invalid(format!("user '{user}' is disabled")));
    }
    if account.expire != 0 && account.expire <= now {
        return Err(invalid(format!("user '{user}' access expired")));
    }
    let Some(token) = account.tokens.get(name) else {
        return Err(invalid(format!("no such token '{name}' for user '{user}'")));
    };
    if token.expire != 0 && token.expire <= now {
        return Err(invalid(format!("token '{name}' access expired")));
    }
    if token.secret == secret { Ok(id.to_owned()) } else { Err(invalid("invalid token value!".to_owned())) }
}

/// The 401 that a version gives for credentials that it does not accept.
pub(crate) fn refusal(world: &World, rejected: Rejected) -> Refusal {
    // PVE: pve-manager 8.4.17 and 9.1.5 made the text the same for all.
    let version = world.version;
    let is_unified = version >= pve_types::PveVersion::new(9, 1, 5)
        || (version.major == 8 && version >= pve_types::PveVersion::new(8, 4, 17));
    match rejected {
        Rejected::NoTicket => Refusal::unauthenticated("No ticket"),
        Rejected::Invalid(_) if is_unified => Refusal::unauthenticated("Authentication failed!"),
        Rejected::Invalid(text) => Refusal::unauthenticated(text),
    }
}

fn failure() -> Refusal {
    Refusal { is_delayed: true, ..Refusal::new(401, "authentication failure") }
}

fn dummy(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(Value::Null)
}

fn verify_vnc(_: &mut Call<'_>) -> Result<Value, Refusal> {
    Err(failure())
}

/// `POST /access/ticket`: a login, its second half, or the renewal of a ticket.
// PVE: pve-access-control src/PVE/API2/AccessControl.pm create_ticket
fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut user = call.string("username");
    if let Some(realm) = call.text("realm") {
        user = format!("{user}@{realm}");
    }
    let password = call.string("password");
    if !is_active(call.world, &user) {
        return Err(failure());
    }
    if let Some(challenge) = call.text("tfa-challenge").map(str::to_owned) {
        let data = ticket_data(call.world, &challenge, &user).ok_or_else(failure)?;
        if call.is_given("otp") || !data.starts_with("!tfa!") {
            return Err(failure());
        }
        if !factors::answer(call.world, &user, &password) {
            return Err(failure());
        }
        return Ok(full_reply(call.world, &user));
    }
    if let (Some(path), true) = (call.text("path"), call.is_given("privs")) {
        let path = normal_path(path);
        return verify_only(call, &user, &password, &path);
    }
    let holder = verify_ticket(call.world, &password).ok();
    let is_renewal = holder.as_deref() == Some(user.as_str()) || holder.as_deref() == Some("root@pam");
    if is_renewal {
        return Ok(full_reply(call.world, &user));
    }
    if !call.world.access.password_fits(&user, &password) {
        return Err(failure());
    }
    match factors::challenge(call.world, &user) {
        None => Ok(full_reply(call.world, &user)),
        Some(challenge) => {
            let ticket = make_ticket(call.world, &format!("!tfa!{challenge}"), &user);
            let csrf = make_csrf(call.world, &user);
            Ok(json!({ "username": user, "ticket": ticket, "CSRFPreventionToken": csrf, "NeedTFA": 1 }))
        }
    }
}

fn verify_only(call: &mut Call<'_>, user: &str, password: &str, path: &str) -> Result<Value, Refusal> {
    let known = verify_ticket(call.world, password).is_ok_and(|holder| holder == user)
        || call.world.access.password_fits(user, password);
    let rights = rights(call.world, user, path);
    let wanted = call.list("privs");
    let allowed = |name: &String| name.parse().is_ok_and(|privilege| rights.contains_key(&privilege));
    if known && wanted.iter().any(allowed) { Ok(json!({ "username": user })) } else { Err(failure()) }
}

fn full_reply(world: &World, user: &str) -> Value {
    let mut reply = json!({
        "username": user,
        "ticket": make_ticket(world, user, ""),
        "CSRFPreventionToken": make_csrf(world, user),
        "cap": capabilities(world, user),
    });
    let audits = rights(world, user, "/").contains_key(&pve_types::Privilege::SysAudit);
    if let (Some(cluster), true) = (&world.cluster, audits) {
        reply["clustername"] = cluster.as_str().into();
    }
    reply
}

/// What the web interface shows to a user.
// PVE: pve-access-control src/PVE/RPCEnvironment.pm compute_api_permission
fn capabilities(world: &World, user: &str) -> Value {
    let names = ["access", "dc", "mapping", "nodes", "sdn", "storage", "vms"];
    let mut all: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
    for (path, rights) in effective(world, user) {
        let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let top = if top.is_empty() { "dc" } else { top };
        for privilege in rights.into_keys() {
            let name = privilege.as_str();
            for section in sections(top, name) {
                if let Some(Value::Object(of)) = all.get_mut(section) {
                    of.insert(name.to_owned(), 1.into());
                }
            }
        }
    }
    Value::Object(all)
}

fn sections(top: &str, privilege: &str) -> Vec<&'static str> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| privilege.starts_with(prefix));
    let one = |section, fits: bool| if fits { vec![section] } else { Vec::new() };
    let modify = privilege == "Permissions.Modify";
    match top {
        "vms" => one("vms", starts(&["VM."]) || modify),
        "access" => one("access", starts(&["User.", "Group."]) || modify),
        "storage" => one("storage", starts(&["Datastore."]) || modify),
        "nodes" => one("nodes", starts(&["Sys."]) || modify),
        "sdn" => one("sdn", starts(&["SDN."]) || modify),
        "mapping" => one("mapping", starts(&["Mapping."]) || modify),
        "dc" => one("dc", starts(&["Sys.Audit", "Sys.Modify", "SDN."])),
        "pool" if modify => vec!["vms", "storage", "nodes"],
        "pool" if starts(&["VM."]) => vec!["vms"],
        "pool" => one("storage", starts(&["Datastore."])),
        _ => Vec::new(),
    }
}
