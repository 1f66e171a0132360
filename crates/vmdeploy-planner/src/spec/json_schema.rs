//! The JSON Schema of specs, for editors.

use super::schema::{Field, Kind, Nullable, Object, TOP, TextRule};
use serde_json::{Map, Value, json};

/// Returns the JSON Schema (2020-12) of one file of a spec.
///
/// It is a little laxer than the program: what a VM must have may come from its profile, so that nothing is demanded of
/// a single map below `vms`, `profiles` and `defaults`.
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    let top = object_schema(&TOP, Place::Whole, &mut definitions);
    let Value::Object(mut schema) = top else { return Value::Null };
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("$id".into(), "https://vmdeploy.invalid/schema/spec-1.json".into());
    schema.insert("title".into(), "vmdeploy spec".into());
    schema.insert("$defs".into(), Value::Object(definitions));
    Value::Object(schema)
}

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where it stands alone.
    Whole,
    /// Below a VM, where profiles and defaults may add to it.
    Merged,
}

fn object_schema(object: &'static Object, place: Place, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        properties.insert(field.key.to_owned(), field_schema(field, object, place, definitions));
    }
    let mut schema = json!({
        "type": "object",
        "description": object.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if place == Place::Whole || object.secret {
        let required: Vec<&str> =
            object.fields.iter().filter(|field| field.required).map(|field| field.key).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if !object.exactly_one.is_empty() {
            schema["oneOf"] = object.exactly_one.iter().map(|key| json!({"required": [key]})).collect();
        }
    }
    schema
}

/// Returns a reference to the object's definition, which is made where there is none yet.
fn reference(object: &'static Object, place: Place, definitions: &mut Map<String, Value>) -> Value {
    let place = if object.name == "vm" { Place::Merged } else { place };
    if !definitions.contains_key(object.name) {
        definitions.insert(object.name.to_owned(), Value::Null);
        let schema = object_schema(object, place, definitions);
        definitions.insert(object.name.to_owned(), schema);
    }
    let own = json!({"$ref": format!("#/$defs/{}", object.name)});
    match object.shorthand.and_then(|key| object.field(key)) {
        Some(field) => json!({"anyOf": [kind_schema(&field.kind, place, definitions), own]}),
        None => own,
    }
}

fn field_schema(
    field: &'static Field,
    object: &Object,
    place: Place,
    definitions: &mut Map<String, Value>,
) -> Value {
    let schema = kind_schema(&field.kind, place, definitions);
    let mut schema = if field.nullable { or_null(schema) } else { schema };
    let mut text = capital(field.doc);
    let more = [
        ("PVE", super::reference::pve_words(field, object)),
        ("Default", (!field.default.is_empty()).then(|| field.default.to_owned())),
        ("Since PVE", super::reference::since(field, object)),
    ];
    for (word, what) in more {
        if let Some(what) = what {
            text.push_str(&format!(" {word}: {what}."));
        }
    }
    schema["description"] = Value::from(text.replace('`', ""));
    schema
}

fn capital(doc: &str) -> String {
    let mut chars = doc.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

fn kind_schema(kind: &'static Kind, place: Place, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Only(truth) => json!({"const": truth}),
        Kind::Int(min, max) if *max == i64::MAX => json!({"type": "integer", "minimum": min}),
        Kind::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(min, max) => number_schema(*min, *max),
        Kind::Size(..) => json!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB|PiB)$",
            "examples": ["4GiB", "512MiB"],
        }),
        Kind::Duration => {
            json!({"type": "string", "pattern": "^([0-9]+[smhd])+$", "examples": ["30s", "5m"]})
        }
        Kind::Text(rule) => text_schema(rule),
        Kind::Choice(words) => choice_schema(words),
        Kind::List(item) => json!({"type": "array", "items": kind_schema(item, place, definitions)}),
        Kind::OneOrMany(item) => {
            let item = kind_schema(item, place, definitions);
            json!({"anyOf": [item, {"type": "array", "items": item}]})
        }
        Kind::Map(rule, value, nullable) => {
            let value = kind_schema(value, place, definitions);
            let value = if *nullable == Nullable::Yes { or_null(value) } else { value };
            let mut names = Map::new();
            if !rule.pattern.is_empty() {
                names.insert("pattern".into(), rule.pattern.into());
            }
            json!({"type": "object", "propertyNames": names, "additionalProperties": value})
        }
        Kind::Object(object) => reference(object, place, definitions),
        Kind::OneOf(kinds) => {
            let any: Vec<Value> = kinds.iter().map(|kind| kind_schema(kind, place, definitions)).collect();
            json!({"anyOf": any})
        }
        Kind::Free => json!({}),
    }
}

fn number_schema(min: f64, max: f64) -> Value {
    let mut schema = json!({"type": "number"});
    if min > f64::MIN {
        schema["minimum"] = json!(min);
    }
    if max < f64::MAX {
        schema["maximum"] = json!(max);
    }
    schema
}

/// A text that could be a number may be written without quotes.
fn text_schema(rule: &TextRule) -> Value {
    let may_be_number = (rule.check)("1").is_ok();
    let mut schema =
        json!({"type": if may_be_number { json!(["string", "number"]) } else { json!("string") }});
    if !rule.pattern.is_empty() {
        schema["pattern"] = json!(rule.pattern);
    }
    if !rule.example.contains('<') {
        schema["examples"] = json!([rule.example]);
    }
    schema
}

fn choice_schema(words: &[&str]) -> Value {
    let mut values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    values.extend(words.iter().filter_map(|word| word.parse::<i64>().ok()).map(Value::from));
    json!({"enum": values})
}
