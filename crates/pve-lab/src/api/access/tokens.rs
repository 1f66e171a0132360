//! API tokens.

use serde_json::{Map, Value, json};

use super::super::{Call, Methods, Refusal};
use crate::world::{Token, made_up_uuid};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/access/users/{userid}/token", list),
    ("GET", "/access/users/{userid}/token/{tokenid}", get),
    ("POST", "/access/users/{userid}/token/{tokenid}", create),
    ("PUT", "/access/users/{userid}/token/{tokenid}", update),
    ("DELETE", "/access/users/{userid}/token/{tokenid}", delete),
];

/// A token as `user.cfg` has it, without its secret.
pub(super) fn shown(token: &Token) -> Value {
    let mut shown = json!({ "privsep": u8::from(token.privsep), "expire": token.expire });
    if let Some(comment) = &token.comment {
        shown["comment"] = comment.as_str().into();
    }
    shown
}

/// A token in a list.
pub(super) fn listed(name: &str, token: &Token) -> Value {
    let mut entry = shown(token);
    entry["tokenid"] = name.into();
    entry
}

fn no_user(id: &str) -> Refusal {
    Refusal::died(format!("no such user ('{id}')"))
}

fn list(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let id = call.string("userid");
    let user = call.world.access.users.get(&id).ok_or_else(|| no_user(&id))?;
    Ok(user.tokens.iter().map(|(name, token)| listed(name, token)).collect())
}

fn find<'a>(call: &'a mut Call<'_>) -> Result<&'a mut Token, Refusal> {
    let (id, name) = (call.string("userid"), call.string("tokenid"));
    let user = call.world.access.users.get_mut(&id).ok_or_else(|| no_user(&id))?;
    user.tokens.get_mut(&name).ok_or_else(|| Refusal::died(format!("no such token '{name}' for user '{id}'")))
}

fn get(call: &mut Call<'_>) -> Result<Value, Refusal> {
    Ok(shown(find(call)?))
}

/// What was asked, echoed as it came: text stays text.
fn echoed(call: &Call<'_>) -> Map<String, Value> {
    let names = ["comment", "expire", "privsep"];
    names
        .iter()
        .filter_map(|name| call.params.get(*name).map(|value| ((*name).to_owned(), value.clone())))
        .collect()
}

fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, name) = (call.string("userid"), call.string("tokenid"));
    let secret = made_up_uuid(&mut call.world.random);
    let mut info = echoed(call);
    info.entry("privsep").or_insert(1.into());
    let token = Token {
        privsep: call.flag_or("privsep", true),
        expire: call.integer("expire").map_or(0, |time| u64::try_from(time).unwrap_or(0)),
        comment: call.text("comment").map(str::to_owned),
        secret: secret.clone(),
    };
    let user = call.world.access.users.get_mut(&id).ok_or_else(|| no_user(&id))?;
    if user.tokens.contains_key(&name) {
        return Err(Refusal::parameter("tokenid", "Token already exists."));
    }
    user.tokens.insert(name.clone(), token);
    Ok(json!({ "full-tokenid": format!("{id}!{name}"), "info": info, "value": secret }))
}

fn update(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (given, deleted) = (echoed(call), call.list("delete"));
    let privsep = call.text("privsep").map(|text| text == "1");
    let expire = call.integer("expire").map(|time| u64::try_from(time).unwrap_or(0));
    let comment = call.text("comment").map(str::to_owned);
    let token = find(call)?;
    let mut shown_before = shown(token);
    token.privsep = privsep.unwrap_or(token.privsep);
    token.expire = expire.unwrap_or(token.expire);
    token.comment = comment.or_else(|| token.comment.clone());
    if deleted.iter().any(|name| name == "comment") {
        token.comment = None;
        shown_before.as_object_mut().map(|shown| shown.remove("comment"));
    }
    for (name, value) in given {
        shown_before[name] = value;
    }
    Ok(shown_before)
}

fn delete(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let (id, name) = (call.string("userid"), call.string("tokenid"));
    find(call)?;
    if let Some(user) = call.world.access.users.get_mut(&id) {
        user.tokens.remove(&name);
    }
    for node in call.world.access.acl.values_mut() {
        node.tokens.remove(&format!("{id}!{name}"));
    }
    call.world.access.acl.retain(|_, node| !node.is_empty());
    Ok(Value::Null)
}
