//! Passwords.

use serde_json::Value;

use super::super::{Call, Methods, Refusal};

/// The methods of this file.
pub const METHODS: Methods = &[("PUT", "/access/password", change)];

// PVE: pve-access-control src/PVE/API2/AccessControl.pm change_password
fn change(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    if !call.world.access.users.contains_key(&id) {
        return Err(Refusal::died(format!("no such user ('{id}')")));
    }
    if !call.caller.is_root() {
        if id == "root@pam" || id.ends_with("@pam") && call.caller.user() != id {
            return Err(Refusal::new(403, "Permission check failed"));
        }
        let own = call.caller.user().to_owned();
        let confirmation = call.text("confirmation-password").map(str::to_owned);
        let confirmation = confirmation
            .ok_or_else(|| Refusal::parameter("confirmation-password", "missing confirmation password"))?;
        if !call.world.access.password_fits(&own, &confirmation) {
            return Err(Refusal { is_delayed: true, ..Refusal::new(401, "authentication failure") });
        }
    }
    let realm = id.rsplit_once('@').map_or("", |(_, realm)| realm);
    match call.world.access.realms.get(realm).map(|realm| realm.kind.as_str()) {
        Some("pam" | "pve") => {}
        Some(kind) => return Err(Refusal::died(format!("can't set password on auth type '{kind}'"))),
        None => return Err(Refusal::died(format!("domain '{realm}' does not exist"))),
    }
    let password = call.string("password");
    if let Some(user) = call.world.access.users.get_mut(&id) {
        user.password = Some(password);
    }
    Ok(Value::Null)
}
