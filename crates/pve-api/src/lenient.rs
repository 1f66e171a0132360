//! A deserializer that takes PVE's JSON as it comes.
//!
//! Perl does not know whether a scalar is a number: the same field is `100` on one node and `"100"` on another,
//! and booleans are 0 and 1. So the types of this crate are plain serde types, and the leniency is here, once.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde_json::{Error, Value};

/// Returns `value` as `T`, or says on one line why not.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    T::deserialize(Lenient(value)).map_err(|error| crate::text::one_line(&error.to_string()))
}

/// Returns a number that may be written as a string.
pub(crate) fn to_u64(value: &Value) -> Option<u64> {
    from_value(value.clone()).ok()
}

struct Lenient(Value);

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl Lenient {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.0 {
            Value::Null => Unexpected::Unit,
            Value::Bool(flag) => Unexpected::Bool(*flag),
            Value::Number(_) => Unexpected::Other("a number"),
            Value::String(_) => Unexpected::Other("a text"),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }
    fn refuse<'de, T>(&self, visitor: &impl Visitor<'de>) -> Result<T, Error> {
        Err(Error::invalid_type(self.unexpected(), visitor))
    }
    /// Returns the value as a boolean: true, 1, "1", "yes", "on".
    // PVE: pve-common src/PVE/JSONSchema.pm parse_boolean.
    fn as_bool(&self) -> Option<bool> {
        match &self.0 {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => Some(number.as_f64()? != 0.0),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "on" | "yes" | "true" => Some(true),
                "0" | "off" | "no" | "false" | "" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
    fn as_text(&self) -> Option<String> {
        match &self.0 {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(u8::from(*flag).to_string()),
            _ => None,
        }
    }
    fn as_unsigned(&self) -> Option<u64> {
        match &self.0 {
            Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => {
                let text = text.trim();
                text.parse().ok().or_else(|| whole(text.parse().ok()?))
            }
            Value::Bool(flag) => Some(u64::from(*flag)),
            _ => None,
        }
    }
    fn as_signed(&self) -> Option<i64> {
        match &self.0 {
            Value::Number(number) => number.as_i64().or_else(|| i64::try_from(whole(number.as_f64()?)?).ok()),
            Value::String(text) => text.trim().parse().ok(),
            Value::Bool(flag) => Some(i64::from(*flag)),
            _ => None,
        }
    }
    fn as_float(&self) -> Option<f64> {
        match &self.0 {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

/// Returns a number of PVE's that came as `1.5e9` or `1048576.0`, cut to a whole one.
fn whole(number: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the range is checked on the same line"
    )]
    (number >= 0.0 && number < u64::MAX as f64).then_some(number as u64)
}

macro_rules! coerced {
    ($($method:ident $as:ident $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.$as() {
                Some(value) => visitor.$visit(value),
                None => self.refuse(&visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient))),
            Value::Object(map) => {
                let entries = map.into_iter().map(|(key, value)| (key, Lenient(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            other => other.deserialize_any(visitor),
        }
    }

    coerced! {
        deserialize_bool as_bool visit_bool;
        deserialize_u8 as_unsigned visit_u64;
        deserialize_u16 as_unsigned visit_u64;
        deserialize_u32 as_unsigned visit_u64;
        deserialize_u64 as_unsigned visit_u64;
        deserialize_i8 as_signed visit_i64;
        deserialize_i16 as_signed visit_i64;
        deserialize_i32 as_signed visit_i64;
        deserialize_i64 as_signed visit_i64;
        deserialize_f32 as_float visit_f64;
        deserialize_f64 as_float visit_f64;
        deserialize_str as_text visit_string;
        deserialize_string as_text visit_string;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    // An empty hash and an empty list are one thing to Perl code that forgot to say which.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0 {
            Value::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Lenient>())),
            Value::Object(map) if map.is_empty() => {
                visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Lenient>()))
            }
            Value::Array(_) => self.deserialize_any(visitor),
            _ => self.refuse(&visitor),
        }
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0 {
            Value::Array(items) if items.is_empty() => Lenient(Value::Object(Default::default())),
            Value::Null => Lenient(Value::Object(Default::default())),
            Value::Object(_) => self,
            _ => return self.refuse(&visitor),
        }
        .deserialize_any(visitor)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0 {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => self.refuse(&visitor),
        }
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // The answer of a call whose result is not used does not matter.
        visitor.visit_unit()
    }
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit_struct tuple tuple_struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Sample {
        vmid: pve_types::Vmid,
        cpus: Option<f64>,
        mem: Option<u64>,
        on: Option<bool>,
        name: Option<String>,
        #[serde(default)]
        list: Vec<String>,
        #[serde(default)]
        map: BTreeMap<String, bool>,
    }

    fn check(value: Value, expect: Sample) {
        assert_eq!(from_value::<Sample>(value).unwrap(), expect);
    }

    #[test]
    fn numbers_texts_and_booleans_are_taken_in_either_form() {
        let vmid = pve_types::Vmid::new(100).unwrap();
        let bare = || Sample {
            vmid,
            cpus: None,
            mem: None,
            on: None,
            name: None,
            list: vec![],
            map: BTreeMap::new(),
        };
        check(json!({"vmid": "100"}), bare());
        check(json!({"vmid": 100, "unknown": {"deep": [1]}, "cpus": null, "list": null}), bare());
        check(
            json!({"vmid": 100, "cpus": "1.5", "mem": "1048576", "on": "1", "name": 7, "list": [1, "b"], "map": {"x": 1}}),
            Sample {
                cpus: Some(1.5),
                mem: Some(1_048_576),
                on: Some(true),
                name: Some("7".into()),
                list: vec!["1".into(), "b".into()],
                map: BTreeMap::from([("x".into(), true)]),
                ..bare()
            },
        );
        check(
            json!({"vmid": 100, "cpus": 2, "mem": 1e9, "on": 0, "map": []}),
            Sample { cpus: Some(2.0), mem: Some(1_000_000_000), on: Some(false), ..bare() },
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_showing_it() {
        for value in [json!({"vmid": 7}), json!({"vmid": 100, "mem": "lots"}), json!([1]), json!("x")] {
            let error = from_value::<Sample>(value.clone()).unwrap_err();
            assert!(!error.contains("lots"), "{error}");
        }
        assert!(from_value::<()>(json!({"anything": 1})).is_ok());
    }
}
