//! A value as it is after merging: its own layer, its profiles' and the defaults', seen as one without a copy.
//!
//! The rule: maps are merged key by key, the VM's own over its profiles (later ones over earlier ones) over `defaults`;
//! anything else (a scalar, a list, `null`) replaces what lies below it.
//! A scalar that is short for a map counts as that map.

use super::check::refuse_null;
use super::diagnostic::Span;
use super::faults::{Faults, Path};
use super::model::{Desired, Spanned};
use super::scalar::{parse_bool, parse_duration, parse_number};
use super::schema::{Field, Kind, Object};
use super::tree::{Node, Shape};
use pve_types::Bytes;
use std::time::Duration;

/// A value with what lies below it, the uppermost first; never empty.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    layers: Vec<Node<'a>>,
}

impl<'a> View<'a> {
    /// Returns the view of these layers, the uppermost first.
    pub(crate) fn of(layers: Vec<Node<'a>>) -> Option<Self> {
        if layers.is_empty() { None } else { Some(Self { layers }) }
    }
    /// Returns the uppermost layer.
    pub(crate) fn top(&self) -> Node<'a> {
        self.layers[0]
    }
    /// Returns the layers, the uppermost first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = Node<'a>> {
        self.layers.iter().copied()
    }
    /// Returns where it stands.
    pub(crate) fn span(&self) -> Span {
        self.top().span()
    }
    /// Tells whether it is removed.
    pub(crate) fn is_null(&self) -> bool {
        self.top().is_null()
    }
    /// Tells whether its `null` hides a value of a layer below.
    fn hides(&self, field: &Field, object: &Object) -> bool {
        let child = |layer: &Node<'a>| match layer.shape() {
            Shape::Map => layer.get(field.key),
            Shape::Plain(_) | Shape::Quoted(_) if object.shorthand == Some(field.key) => Some(*layer),
            _ => None,
        };
        let mut values = self.layers.iter().filter_map(child);
        values.next().is_some_and(Node::is_null) && values.any(|value| !value.is_null())
    }
    /// Tells whether it is a map, or a scalar in place of one.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.top().shape(), Shape::Map)
    }
    /// Tells whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.top().shape(), Shape::List)
    }

    /// Returns the value of an object's key, `null` included.
    pub(crate) fn get(&self, object: &Object, key: &str) -> Option<View<'a>> {
        let mut found = Vec::new();
        let is_alternative = object.exactly_one.contains(&key);
        for layer in &self.layers {
            let child = match layer.shape() {
                Shape::Map => layer.get(key),
                Shape::Plain(_) | Shape::Quoted(_) if object.shorthand == Some(key) => Some(*layer),
                Shape::Plain(_) | Shape::Quoted(_) if object.shorthand.is_some() => None,
                _ => break,
            };
            if let Some(child) = child {
                found.push(child);
                if !matches!(child.shape(), Shape::Map | Shape::Plain(_) | Shape::Quoted(_)) {
                    break;
                }
            }
            // Of keys of which only one may be there, the uppermost layer's hides those below.
            if is_alternative && object.exactly_one.iter().any(|other| layer.get(other).is_some()) {
                break;
            }
        }
        Self::of(found)
    }
    /// Returns those of an object's fields that are there, with their values, in the object's order.
    pub(crate) fn present(&self, object: &'static Object) -> Vec<(&'static Field, View<'a>)> {
        let mut keys: Vec<&str> = Vec::new();
        for layer in &self.layers {
            match layer.shape() {
                Shape::Map => keys.extend(layer.entries().filter_map(|(key, _)| key.text())),
                Shape::Plain(_) | Shape::Quoted(_) => keys.extend(object.shorthand),
                Shape::Null | Shape::List => break,
            }
        }
        let there = object.fields.iter().filter(|field| keys.contains(&field.key));
        there.filter_map(|field| Some((field, self.get(object, field.key)?))).collect()
    }
    /// Returns the value of a key that is not removed.
    pub(crate) fn some(&self, object: &Object, key: &str) -> Option<View<'a>> {
        self.get(object, key).filter(|view| !view.is_null())
    }

    /// Returns all keys of a free map with their values, in order of first appearance, the uppermost layer's first.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Span, View<'a>)> {
        let mut all: Vec<(&'a str, Span, View<'a>)> = Vec::new();
        let mut at = std::collections::HashMap::new();
        for layer in &self.layers {
            if !matches!(layer.shape(), Shape::Map) {
                break;
            }
            for (key, value) in layer.entries() {
                let Some(name) = key.text() else { continue };
                match at.get(name) {
                    None => {
                        at.insert(name, all.len());
                        all.push((name, key.span(), View { layers: vec![value] }));
                    }
                    Some(&index) => {
                        let (_, _, view): &mut (_, _, View<'a>) = &mut all[index];
                        if !view.layers.last().is_some_and(|last| last.is_null()) {
                            view.layers.push(value);
                        }
                    }
                }
            }
        }
        all
    }

    /// Returns the items of a list, or the single value in its place.
    pub(crate) fn items(&self) -> Vec<Node<'a>> {
        match self.top().shape() {
            Shape::List => self.top().items().collect(),
            Shape::Null => Vec::new(),
            _ => vec![self.top()],
        }
    }

    /// Returns the scalar's text.
    pub(crate) fn text(&self) -> Option<Spanned<&'a str>> {
        self.top().text().map(|text| Spanned::new(text, self.span()))
    }
    /// Returns the text as a value of `T`; nothing where it is none (the check has said so).
    pub(crate) fn parse<T: std::str::FromStr>(&self) -> Option<Spanned<T>> {
        self.top().text()?.parse().ok().map(|value| Spanned::new(value, self.span()))
    }
    /// Returns the boolean.
    pub(crate) fn bool(&self) -> Option<Spanned<bool>> {
        self.top().text().and_then(parse_bool).map(|value| Spanned::new(value, self.span()))
    }
    /// Returns the time.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.top().text().and_then(parse_duration)
    }
    /// Returns the desired for a value of `T`, `null` for its removal.
    pub(crate) fn desired<T: std::str::FromStr>(view: Option<&Self>) -> Desired<T> {
        match view {
            None => Desired::Unmanaged,
            Some(view) if view.is_null() => Desired::Remove(view.span()),
            Some(view) => view.parse().map_or(Desired::Unmanaged, Desired::of),
        }
    }
}

/// Checks, after merging, that what must be there is there; in this object and in those within it.
pub(crate) fn check_complete(view: &View<'_>, object: &'static Object, path: Path<'_>, faults: &mut Faults) {
    if view.is_null() || view.is_list() {
        return;
    }
    let present = view.present(object);
    for field in object.fields.iter().filter(|field| field.required) {
        if !present
            .iter()
            .any(|(there, value)| there.key == field.key && (field.nullable || !value.is_null()))
        {
            let hint = format!("add `{}: …`, {}", field.key, field.kind.describe());
            faults.error_hint(view.span(), path, format!("the key `{}` is missing", field.key), hint);
        }
    }
    for (field, value) in &present {
        // In `defaults` and profiles it is known only of each VM whether there is anything below.
        if value.is_null() && !field.nullable && path.is_layered() && !view.hides(field, object) {
            refuse_null(value.span(), field, path.key(field.key), faults);
        }
        check_complete_kind(value, &field.kind, path.key(field.key), faults);
    }
    check_exactly_one(view, object, path, faults);
}

fn check_exactly_one(view: &View<'_>, object: &Object, path: Path<'_>, faults: &mut Faults) {
    if object.exactly_one.is_empty() || faults.are_full() {
        return;
    }
    let words = object.exactly_one.join("`, `");
    let there: Vec<View<'_>> = object.exactly_one.iter().filter_map(|key| view.some(object, key)).collect();
    match there.as_slice() {
        [] if !view.is_map() => {}
        [] => {
            let first = object.exactly_one.first().copied().unwrap_or_default();
            let hint = format!("add one of them, such as `{first}: …`");
            faults.error_hint(view.span(), path, format!("one of the keys `{words}` is missing"), hint);
        }
        [_] => {}
        [_, second, ..] => {
            let message = format!("only one of the keys `{words}` is allowed");
            faults.error_hint(second.span(), path, message, "keep one of them and remove the others");
        }
    }
}

fn check_complete_kind(view: &View<'_>, kind: &'static Kind, path: Path<'_>, faults: &mut Faults) {
    match kind {
        Kind::Object(object) => check_complete(view, object, path, faults),
        Kind::Map(_, kind, _) if holds_objects(kind) => {
            for (key, _, value) in view.entries() {
                check_complete_kind(&value, kind, path.key(key), faults);
            }
        }
        Kind::List(kind) | Kind::OneOrMany(kind) if holds_objects(kind) => {
            for (at, item) in view.items().into_iter().enumerate() {
                let number = at.to_string();
                check_complete_kind(&View { layers: vec![item] }, kind, path.key(&number), faults);
            }
        }
        Kind::OneOf(kinds) if view.is_map() => {
            let objects = kinds.iter().filter(|kind| matches!(kind, Kind::Object(_)));
            objects.for_each(|kind| check_complete_kind(view, kind, path, faults));
        }
        Kind::OneOf(kinds) if view.is_list() => {
            let lists = kinds.iter().filter(|kind| matches!(kind, Kind::List(_) | Kind::OneOrMany(_)));
            lists.for_each(|kind| check_complete_kind(view, kind, path, faults));
        }
        _ => {}
    }
}

fn holds_objects(kind: &Kind) -> bool {
    match kind {
        Kind::Object(_) => true,
        Kind::OneOf(kinds) => kinds.iter().any(holds_objects),
        Kind::List(kind) | Kind::OneOrMany(kind) | Kind::Map(_, kind, _) => holds_objects(kind),
        _ => false,
    }
}

/// Returns the size that a text says.
pub(crate) fn size(text: &str) -> Option<Bytes> {
    text.parse().ok()
}

/// Returns a number's text as PVE writes it: without needless digits.
pub(crate) fn plain_number(text: &str) -> Option<String> {
    parse_number(text).map(|number| number.to_string())
}
