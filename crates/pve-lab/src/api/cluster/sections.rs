//! Configuration files that are made of sections: one table of CRUD for HA, backup jobs and mappings.

use serde_json::{Map, Value, json};

use super::super::{Call, Refusal};
use crate::api::hex_sha1;
use crate::schema::Kind;
use crate::world::{Config, World};

/// A file of sections.
pub struct File {
    /// Its name in [`World::sections`].
    pub name: &'static str,
    /// The parameter that holds a section's id.
    pub id: &'static str,
    /// What a section is called in messages.
    pub noun: &'static str,
}

/// Options that are no part of a section.
const NOT_OPTIONS: &[&str] = &["digest", "delete", "node"];

/// The sections of a file.
pub fn all<'a>(world: &'a World, file: &File) -> impl Iterator<Item = (&'a String, &'a Config)> {
    world.sections.get(file.name).into_iter().flatten()
}

/// One section.
///
/// # Errors
/// There is none of that id.
pub fn one<'a>(world: &'a World, file: &File, id: &str) -> Result<&'a Config, Refusal> {
    let found = world.sections.get(file.name).and_then(|sections| sections.get(id));
    found.ok_or_else(|| missing(file, id))
}

fn missing(file: &File, id: &str) -> Refusal {
    Refusal::died(format!("no such {} '{id}'", file.noun))
}

/// The digest of the whole file.
pub fn digest(world: &World, file: &File) -> String {
    hex_sha1(&format!("{:?}", world.sections.get(file.name)))
}

/// A section as JSON: numbers where a number or a boolean is meant.
pub fn shown(call: &Call<'_>, path: &str, id: (&str, &str), options: &Config) -> Value {
    let params = crate::schema::table(call.world.version).endpoints().iter();
    let endpoint = params.clone().find(|endpoint| endpoint.method == "POST" && endpoint.path == path);
    let value = |name: &String, text: &String| {
        let kind = endpoint.and_then(|endpoint| endpoint.params.get(name)).map(|param| param.kind);
        match kind {
            Some(Kind::Integer | Kind::Boolean | Kind::Number) => {
                text.parse::<i64>().map_or_else(|_| text.as_str().into(), Value::from)
            }
            Some(Kind::Array) => serde_json::from_str(text).unwrap_or_else(|_| json!([text])),
            _ => text.as_str().into(),
        }
    };
    let mut shown: Map<String, Value> =
        options.iter().map(|(name, text)| (name.clone(), value(name, text))).collect();
    shown.insert(id.0.to_owned(), id.1.into());
    Value::Object(shown)
}

/// The options that a call gives; arrays as JSON text.
pub fn given(call: &Call<'_>, file: &File) -> Config {
    let options =
        call.params.iter().filter(|(name, _)| !NOT_OPTIONS.contains(&name.as_str()) && *name != file.id);
    options
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// Adds a section.
///
/// # Errors
/// There is one of that id already.
pub fn add(call: &mut Call<'_>, file: &File, id: &str, options: Config) -> Result<(), Refusal> {
    let sections = call.world.sections.entry(file.name).or_default();
    if sections.contains_key(id) {
        return Err(Refusal::died(format!("{} '{id}' already exists", file.noun)));
    }
    sections.insert(id.to_owned(), options);
    Ok(())
}

/// Changes a section: what is given, and what `delete` names.
///
/// # Errors
/// There is none of that id, or the digest is another.
pub fn change(call: &mut Call<'_>, file: &File, id: &str) -> Result<(), Refusal> {
    if call.text("digest").is_some_and(|given| given != digest(call.world, file)) {
        return Err(Refusal::died(
            "detected modified configuration - file changed by other user? Try again.",
        ));
    }
    let (options, deleted) = (given(call, file), call.list("delete"));
    let sections = call.world.sections.entry(file.name).or_default();
    let section = sections.get_mut(id).ok_or_else(|| missing(file, id))?;
    deleted.iter().for_each(|name| drop(section.remove(name)));
    section.extend(options);
    Ok(())
}

/// Removes a section.
///
/// # Errors
/// There is none of that id.
pub fn remove(call: &mut Call<'_>, file: &File, id: &str) -> Result<(), Refusal> {
    let sections = call.world.sections.entry(file.name).or_default();
    sections.remove(id).map(|_| ()).ok_or_else(|| missing(file, id))
}
