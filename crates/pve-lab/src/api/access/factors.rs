//! Second factors: TOTP and recovery codes.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::Rng as _;
use serde_json::{Map, Value, json};
use sha1::Sha1;

use super::super::{Call, Methods, Refusal};
use crate::world::{Factor, FactorKind, User, World};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/tfa", list_all),
    ("GET", "/access/tfa/{userid}", list),
    ("POST", "/access/tfa/{userid}", add),
    ("GET", "/access/tfa/{userid}/{id}", get),
    ("PUT", "/access/tfa/{userid}/{id}", update),
    ("DELETE", "/access/tfa/{userid}/{id}", delete),
    ("GET", "/access/users/{userid}/tfa", types),
    ("PUT", "/access/users/{userid}/unlock-tfa", unlock),
];

/// What a user is asked after the password; `None` when that is enough.
pub(super) fn challenge(world: &World, user: &str) -> Option<Value> {
    let factors: Vec<&Factor> =
        world.access.users.get(user)?.factors.iter().filter(|factor| factor.enable).collect();
    if factors.is_empty() {
        return None;
    }
    let mut asked = Map::new();
    for factor in factors {
        match &factor.kind {
            FactorKind::Totp { .. } => asked.insert("totp".into(), true.into()),
            FactorKind::Recovery { codes } => {
                let left = codes.iter().enumerate().filter(|(_, code)| code.is_some()).map(|(at, _)| at);
                asked.insert("recovery".into(), left.collect())
            }
        };
    }
    Some(Value::Object(asked))
}

/// Tells whether `answer` (`totp:123456`, `recovery:…`) answers the user's challenge; a recovery code is used up.
// PVE: proxmox-rs proxmox-tfa/src/api/mod.rs: TOTP is locked after eight failures.
pub(super) fn answer(world: &mut World, user: &str, answer: &str) -> bool {
    let now = world.now_seconds();
    let Some(user) = world.access.users.get_mut(user) else { return false };
    match answer.split_once(':') {
        Some(("totp", code)) if user.totp_failures < 8 => {
            let fits = user.factors.iter().any(|factor| match &factor.kind {
                FactorKind::Totp { secret } => factor.enable && totp_fits(secret, code, now),
                FactorKind::Recovery { .. } => false,
            });
            user.totp_failures = if fits { 0 } else { user.totp_failures + 1 };
            fits
        }
        Some(("recovery", code)) => use_recovery(user, code),
        _ => false,
    }
}

fn use_recovery(user: &mut User, code: &str) -> bool {
    for factor in &mut user.factors {
        if let FactorKind::Recovery { codes } = &mut factor.kind
            && let Some(found) = codes.iter_mut().find(|known| known.as_deref() == Some(code))
        {
            *found = None;
            return true;
        }
    }
    false
}

/// Tells whether `code` is the TOTP code of the secret (Base32), a step of 30 s before or after allowed.
pub(crate) fn totp_fits(secret: &str, code: &str, now: u64) -> bool {
    let Some(key) = base32(secret) else { return false };
    let step = now / 30;
    [step.saturating_sub(1), step, step + 1].iter().any(|step| totp(&key, *step).as_deref() == Some(code))
}

// RFC 6238 with SHA-1 and six digits.
fn totp(key: &[u8], step: u64) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last()? & 15);
    let part: [u8; 4] = digest.get(offset..offset + 4)?.try_into().ok()?;
    Some(format!("{:06}", (u32::from_be_bytes(part) & 0x7fff_ffff) % 1_000_000))
}

fn base32(text: &str) -> Option<Vec<u8>> {
    let mut bits: u64 = 0;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            letter @ b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u64::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

fn user<'a>(call: &'a mut Call<'_>) -> Result<&'a mut User, Refusal> {
    let id = call.string("userid");
    call.world.access.users.get_mut(&id).ok_or_else(|| Refusal::died(format!("no such user ('{id}')")))
}

fn shown(factor: &Factor) -> Value {
    let kind = match factor.kind {
        FactorKind::Totp { .. } => "totp",
        FactorKind::Recovery { .. } => "recovery",
    };
    let mut shown = json!({
        "id": factor.id, "type": kind, "description": factor.description, "created": factor.created,
    });
    if !factor.enable {
        shown["enable"] = 0.into();
    } else {
        shown["enable"] = 1.into();
    }
    shown
}

fn list_all(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let all = call.world.access.users.iter().filter(|(_, user)| !user.factors.is_empty());
    let visible = |id: &str| {
        id == call.caller.auth_id() || call.has("/access/groups", pve_types::Privilege::UserModify)
    };
    let shown = all.filter(|(id, _)| visible(id)).map(
        |(id, user)| json!({ "userid": id, "entries": user.factors.iter().map(shown).collect::<Vec<_>>() }),
    );
    Ok(shown.collect())
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(user(call)?.factors.iter().map(shown).collect())
}

fn confirm_password(call: &Call<'_>) -> Result<(), Refusal> {
    if call.caller.is_root() {
        return Ok(());
    }
    let password = call
        .text("password")
        .ok_or_else(|| Refusal::parameter("password", "password is required to modify TFA data"))?;
    if call.world.access.password_fits(call.caller.user(), password) {
        return Ok(());
    }
    Err(Refusal { is_delayed: true, ..Refusal::new(401, "authentication failure") })
}

fn add(call: &mut Call<'_>) -> Result<Value, Refusal> {
    confirm_password(call)?;
    let created = call.world.now_seconds();
    let description = call.string("description");
    match call.string("type").as_str() {
        "totp" => {
            let uri = call.string("totp");
            let secret = secret_of(&uri).ok_or_else(|| Refusal::died("missing or invalid totp URI"))?;
            if !totp_fits(&secret, &call.string("value"), created) {
                return Err(Refusal::died("failed to verify TOTP challenge"));
            }
            let mut bytes = [0; 16];
            call.world.random.fill_bytes(&mut bytes);
            let id = format!("totp-{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes[..6]));
            let kind = FactorKind::Totp { secret };
            user(call)?.factors.push(Factor { id: id.clone(), kind, description, enable: true, created });
            Ok(json!({ "id": id }))
        }
        "recovery" => {
            if user(call)?.factors.iter().any(|factor| factor.id == "recovery") {
                return Err(Refusal::died("user already has recovery keys"));
            }
            let codes: Vec<String> = (0..10).map(|_| recovery_code(call.world)).collect();
            let kind = FactorKind::Recovery { codes: codes.iter().cloned().map(Some).collect() };
            user(call)?.factors.push(Factor {
                id: "recovery".into(),
                kind,
                description,
                enable: true,
                created,
            });
            Ok(json!({ "id": "recovery", "recovery": codes }))
        }
        other => Err(Refusal::died(format!("the lab has no second factor of type '{other}'"))),
    }
}

fn secret_of(uri: &str) -> Option<String> {
    let (_, query) = uri.strip_prefix("otpauth://totp/")?.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("secret=")).map(str::to_owned)
}

fn recovery_code(world: &mut World) -> String {
    let number = world.random.next_u64();
    let part = |at: u32| format!("{:04x}", (number >> (16 * at)) & 0xffff);
    (0..4).map(part).collect::<Vec<_>>().join("-")
}

fn position(call: &mut Call<'_>) -> Result<usize, Refusal> {
    let id = call.string("id");
    let found = user(call)?.factors.iter().position(|factor| factor.id == id);
    found.ok_or_else(|| Refusal::new(404, format!("No such tfa entry '{id}'")))
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let at = position(call)?;
    Ok(shown(&user(call)?.factors[at]))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    confirm_password(call)?;
    let at = position(call)?;
    let (description, enable) =
        (call.text("description").map(str::to_owned), call.text("enable").map(|text| text == "1"));
    let factor = &mut user(call)?.factors[at];
    factor.description = description.unwrap_or_else(|| factor.description.clone());
    factor.enable = enable.unwrap_or(factor.enable);
    Ok(Value::Null)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    confirm_password(call)?;
    let at = position(call)?;
    user(call)?.factors.remove(at);
    Ok(Value::Null)
}

fn types(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let multiple = call.flag("multiple");
    let id = call.string("userid");
    let realm = id.rsplit_once('@').and_then(|(_, realm)| call.world.access.realms.get(realm));
    let realm_tfa = realm.and_then(|realm| realm.options.get("tfa").cloned());
    let user = user(call)?;
    let mut shown = Map::new();
    if let Some(tfa) = realm_tfa {
        shown.insert("realm".into(), tfa.into());
    }
    let names: Vec<&str> = user
        .factors
        .iter()
        .map(|factor| if matches!(factor.kind, FactorKind::Totp { .. }) { "totp" } else { "recovery" })
        .collect();
    if multiple {
        shown.insert("types".into(), names.into());
    } else if let Some(first) = names.first() {
        shown.insert("user".into(), if *first == "totp" { "oath" } else { *first }.into());
    }
    Ok(Value::Object(shown))
}

fn unlock(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let user = user(call)?;
    let was_locked = user.totp_failures >= 8;
    user.totp_failures = 0;
    Ok(u8::from(was_locked).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, cut to six digits.
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert!(totp_fits(secret, "287082", 59));
        assert!(totp_fits(secret, "081804", 1_111_111_109));
        assert!(!totp_fits(secret, "081804", 1_111_111_309));
    }
}
