//! One call of a method, as its handler sees it.

use pve_types::Vmid;
use serde_json::Value;

use super::{Caller, Params, Refusal};
use crate::schema::split_list;
use crate::world::World;

/// What a handler works with.
pub struct Call<'a> {
    /// The world.
    pub world: &'a mut World,
    /// Who calls.
    pub caller: &'a Caller,
    /// The verified parameters, those of the path included: text, or arrays of text.
    pub params: Params,
    /// For a list that is cut: how long it is.
    pub total: Option<u64>,
    /// What the method prints: a command's stdout.
    pub output: Vec<String>,
    /// The number of a change that takes its time.
    pub(crate) later: Option<u64>,
}

/// A method.
pub type Handler = fn(&mut Call<'_>) -> Result<Value, Refusal>;

/// Methods with the path that the table has for them.
pub type Methods = &'static [(&'static str, &'static str, Handler)];

impl Call<'_> {
    /// A parameter's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }
    /// A parameter's text, empty when it is not there (the table has required those that must be).
    pub fn string(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }
    /// A parameter's number.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| text.trim_start_matches('+').parse().ok())
    }
    /// A boolean parameter, false when it is not there.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }
    /// A boolean parameter, `default` when it is not there.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.text(name).map_or(default, |text| text == "1")
    }
    /// A list parameter's items.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.params.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => split_list(self.text(name).unwrap_or_default()).map(str::to_owned).collect(),
        }
    }
    /// Tells whether a parameter is there.
    pub fn is_given(&self, name: &str) -> bool {
        self.params.contains_key(name)
    }
    /// The guest that the call is about.
    ///
    /// # Errors
    /// The endpoint has no `vmid`.
    pub fn vmid(&self) -> Result<Vmid, Refusal> {
        let text = self.text("vmid").unwrap_or_default();
        text.parse().map_err(|_| Refusal::parameter("vmid", "property is missing and it is not optional"))
    }
    /// The node of the call; the listener's own for an endpoint without one, and for `localhost`.
    pub fn node(&self) -> String {
        match self.text("node") {
            None | Some("localhost") => self.caller.node.clone(),
            Some(name) => name.to_owned(),
        }
    }
}
