//! Mappings of PCI and USB devices and of folders.

use pve_types::Privilege;
use serde_json::{Value, json};

use super::super::{Call, Methods, Refusal};
use super::sections::{self, File};

/// The methods of this file.
pub const METHODS: Methods = &[
    ("GET", "/cluster/mapping", |_| {
        Ok(["pci", "usb", "dir"].iter().map(|name| json!({ "name": name })).collect())
    }),
    ("GET", "/cluster/mapping/dir", |call| list(call, &DIR)),
    ("POST", "/cluster/mapping/dir", |call| create(call, &DIR)),
    ("GET", "/cluster/mapping/dir/{id}", |call| get(call, &DIR)),
    ("PUT", "/cluster/mapping/dir/{id}", |call| update(call, &DIR)),
    ("DELETE", "/cluster/mapping/dir/{id}", |call| delete(call, &DIR)),
    ("GET", "/cluster/mapping/pci", |call| list(call, &PCI)),
    ("POST", "/cluster/mapping/pci", |call| create(call, &PCI)),
    ("GET", "/cluster/mapping/pci/{id}", |call| get(call, &PCI)),
    ("PUT", "/cluster/mapping/pci/{id}", |call| update(call, &PCI)),
    ("DELETE", "/cluster/mapping/pci/{id}", |call| delete(call, &PCI)),
    ("GET", "/cluster/mapping/usb", |call| list(call, &USB)),
    ("POST", "/cluster/mapping/usb", |call| create(call, &USB)),
    ("GET", "/cluster/mapping/usb/{id}", |call| get(call, &USB)),
    ("PUT", "/cluster/mapping/usb/{id}", |call| update(call, &USB)),
    ("DELETE", "/cluster/mapping/usb/{id}", |call| delete(call, &USB)),
];

const DIR: File = File { name: "mapping/dir", id: "id", noun: "directory mapping" };
const PCI: File = File { name: "mapping/pci", id: "id", noun: "pci mapping" };
const USB: File = File { name: "mapping/usb", id: "id", noun: "usb mapping" };

fn shown(call: &Call<'_>, file: &File, id: &str, options: &crate::world::Config) -> Value {
    let mut shown = sections::shown(call, &format!("/cluster/{}", file.name), ("id", id), options);
    shown["type"] = file.name.rsplit('/').next().unwrap_or_default().into();
    shown["digest"] = sections::digest(call.world, file).into();
    shown
}

fn list(call: &mut Call<'_>, file: &File) -> Result<Value, Refusal> {
    let wanted = [Privilege::MappingModify, Privilege::MappingUse, Privilege::MappingAudit];
    let seen = sections::all(call.world, file)
        .filter(|(id, _)| call.require_any(&format!("/{}/{id}", file.name), &wanted).is_ok());
    Ok(seen.map(|(id, options)| shown(call, file, id, options)).collect())
}

fn create(call: &mut Call<'_>, file: &File) -> Result<Value, Refusal> {
    let (id, options) = (call.string("id"), sections::given(call, file));
    sections::add(call, file, &id, options).map(|()| Value::Null)
}

fn get(call: &mut Call<'_>, file: &File) -> Result<Value, Refusal> {
    let id = call.string("id");
    let options = sections::one(call.world, file, &id)?;
    Ok(shown(call, file, &id, options))
}

fn update(call: &mut Call<'_>, file: &File) -> Result<Value, Refusal> {
    let id = call.string("id");
    sections::change(call, file, &id).map(|()| Value::Null)
}

fn delete(call: &mut Call<'_>, file: &File) -> Result<Value, Refusal> {
    let id = call.string("id");
    sections::remove(call, file, &id).map(|()| Value::Null)
}
