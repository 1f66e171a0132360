//! What is cloned from what.

use crate::spec::faults::Faults;
use crate::spec::hints::name_hint;
use crate::spec::model::{
    CloneMode, CloneSource, Deployment, Disk, DiskContent, Image, ImageBuild, ImageSource, Spanned, Vm,
};
use pve_types::GuestName;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Finds the template that `clone: linked` alone means: the one that the image names, or the only one made of it.
pub(super) fn resolve_templates(
    deployment: &mut Deployment,
    templates: &BTreeMap<String, Spanned<String>>,
    faults: &mut Faults,
) {
    let mut found: Vec<(usize, GuestName)> = Vec::new();
    let by_image = templates_by_image(deployment);
    for (at, vm) in deployment.vms.iter().enumerate() {
        let Some(clone) = vm.clone.as_ref().filter(|clone| clone.by_image) else { continue };
        let image = vm.disks.values().filter_map(|disk| disk.set()).find_map(image_of);
        let Some(image) = image else {
            let hint = "set the source, `clone: {from: NAME, mode: linked}`, or set a disk's `image`";
            faults.error_hint(clone.span, vm.path("clone"), "no disk of the VM has an `image`", hint);
            continue;
        };
        let named = templates.get(image).and_then(|name| name.value.parse().ok());
        let made = by_image.get(&(vm.cluster.as_str(), image)).map_or(&[][..], Vec::as_slice);
        match (named, made) {
            (Some(name), _) => found.push((at, name)),
            (None, [only]) => found.push((at, (*only).clone())),
            (None, []) => {
                let message = format!("the spec has no template of image `{image}` in this cluster");
                let hint = format!(
                    "add a VM with `template: true` and a disk `{{image: {image}}}`, or write `clone: {{from: NAME}}`"
                );
                faults.error_hint(clone.span, vm.path("clone"), message, hint);
            }
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                let message = format!("several templates use image `{image}`: {}", names.join(", "));
                let hint =
                    format!("write `template: {}` at the image, or `clone: {{from: NAME}}` here", names[0]);
                faults.error_hint(clone.span, vm.path("clone"), message, hint);
            }
        }
    }
    for (at, name) in found {
        if let Some(clone) = &mut deployment.vms[at].clone {
            clone.from.value = CloneSource::Vm(name);
        }
    }
}

fn image_of(disk: &Disk) -> Option<&str> {
    match &disk.content {
        DiskContent::Image(name) => Some(&name.value),
        _ => None,
    }
}

fn templates_by_image(deployment: &Deployment) -> HashMap<(&str, &str), Vec<&GuestName>> {
    let mut found: HashMap<(&str, &str), Vec<&GuestName>> = HashMap::new();
    for vm in deployment.vms.iter().filter(|vm| vm.template) {
        for image in vm.disks.values().filter_map(|disk| disk.set()).filter_map(image_of) {
            found.entry((&vm.cluster, image)).or_default().push(&vm.name.value);
        }
    }
    found
}

pub(super) fn check_clones(deployment: &Deployment, faults: &mut Faults) {
    let by_name: HashMap<&GuestName, &Vm> = deployment.vms.iter().map(|vm| (&vm.name.value, vm)).collect();
    let mut sound: HashSet<&GuestName> = HashSet::new();
    for vm in &deployment.vms {
        let Some(clone) = &vm.clone else { continue };
        let CloneSource::Vm(from) = &clone.from.value else { continue };
        let Some(source) = by_name.get(from) else {
            if !clone.by_image
                || deployment.images.values().len() > 0 && from.as_str() != "template-of-the-image"
            {
                let names: Vec<&str> = by_name.keys().map(|name| name.as_str()).collect();
                let message = format!("there is no VM `{from}` to clone");
                faults.error_hint(
                    clone.from.span,
                    vm.path("clone.from"),
                    message,
                    name_hint(from.as_str(), "VM", &names),
                );
            }
            continue;
        };
        check_source(vm, source, faults);
        check_loop(vm, &by_name, &mut sound, faults);
    }
}

fn check_source(vm: &Vm, source: &Vm, faults: &mut Faults) {
    let Some(clone) = &vm.clone else { return };
    let (span, path) = (clone.from.span, vm.path("clone"));
    let name = &source.name.value;
    if source.cluster != vm.cluster {
        faults.error_hint(
            span,
            &path,
            format!("`{name}` is in cluster `{}`; a clone must be in the same cluster", source.cluster),
            "clone a VM of the same cluster",
        );
    }
    if clone.mode == CloneMode::Linked && !source.template {
        let hint = format!("add `template: true` to `{name}`, or write `mode: full`");
        faults.error_hint(
            span,
            &path,
            format!("`{name}` is not a template, so it cannot have linked clones"),
            hint,
        );
    }
    if clone.mode == CloneMode::Linked
        && let Some(storage) = &clone.storage
    {
        let hint = "remove `storage`, or write `mode: full`";
        faults.error_hint(storage.span, &path, "a linked clone stays on its template's storage", hint);
    }
    for disk in vm.disks.values().filter_map(|disk| disk.set()) {
        let Some(origin) = source.disks.get(&disk.slot).and_then(|disk| disk.set()) else { continue };
        check_cloned_disk(vm, disk, origin, name, faults);
    }
}

fn check_cloned_disk(vm: &Vm, disk: &Disk, origin: &Disk, source: &GuestName, faults: &mut Faults) {
    let path = vm.path(&format!("disks.{}", disk.slot));
    if let (Some(size), Some(at_least)) = (disk.size, origin.size)
        && size.value < at_least.value
    {
        let message = format!(
            "{} is smaller than the {} of `{source}`, and a disk cannot shrink",
            size.value, at_least.value
        );
        let hint = format!("write `{}` or more", at_least.value);
        faults.error_hint(size.span, format!("{path}.size"), message, hint);
    }
    if let DiskContent::Image(image) = &disk.content
        && image_of(origin) != Some(&image.value)
    {
        let message =
            format!("this slot of `{source}` has a disk that is not created from `{}`", image.value);
        faults.error_hint(image.span, path, message, "remove `image`, or use another slot");
    }
}

/// Follows the sources of `vm`; every VM on a way without a loop is noted as sound.
fn check_loop<'a>(
    vm: &'a Vm,
    by_name: &HashMap<&'a GuestName, &'a Vm>,
    sound: &mut HashSet<&'a GuestName>,
    faults: &mut Faults,
) {
    let mut way: Vec<&GuestName> = Vec::new();
    let mut next = Some(vm);
    while let Some(vm) = next {
        let name = &vm.name.value;
        if sound.contains(name) {
            break;
        }
        if let Some(start) = way.iter().position(|seen| *seen == name) {
            let names: Vec<&str> =
                way[start..].iter().map(|name| name.as_str()).chain([name.as_str()]).collect();
            let span = vm.clone.as_ref().map_or(vm.name.span, |clone| clone.from.span);
            faults.error_hint(
                span,
                vm.path("clone"),
                format!("circular clone references: {}", names.join(" from ")),
                "give one of them its own disks instead of `clone`",
            );
            break;
        }
        way.push(name);
        next = match vm.clone.as_ref().map(|clone| &clone.from.value) {
            Some(CloneSource::Vm(from)) => by_name.get(from).copied(),
            _ => None,
        };
    }
    sound.extend(way);
}

/// A build runs in a VM of the spec, which is not made of its own image.
pub(super) fn check_builds(deployment: &Deployment, faults: &mut Faults) {
    for image in deployment.images.values() {
        let ImageSource::Build(build) = &image.source else { continue };
        let path = format!("images.{}.build.vm", image.name);
        check_output(image, build, faults);
        let Some(builder) = deployment.vm(&build.vm.value) else {
            let names: Vec<&str> = deployment.vms.iter().map(|vm| vm.name.value.as_str()).collect();
            let message = format!("there is no VM `{}` to build in", build.vm.value);
            faults.error_hint(build.vm.span, path, message, name_hint(build.vm.value.as_str(), "VM", &names));
            continue;
        };
        if builder
            .disks
            .values()
            .filter_map(|disk| disk.set())
            .any(|disk| image_of(disk) == Some(&image.name))
        {
            let message = "this VM is created from the image that it would build";
            faults.error_hint(build.vm.span, path, message, "use a VM that is created from another image");
        }
    }
}

/// What a build makes lies in its own folder: elsewhere, what an older build left could be taken for it.
fn check_output(image: &Image, build: &ImageBuild, faults: &mut Faults) {
    let output = &build.output;
    let leaves = output.value.starts_with(['/', '~']) || output.value.split('/').any(|part| part == "..");
    if leaves {
        let path = format!("images.{}.build.output", image.name);
        let message = "the output must be in the folder that the command runs in";
        faults.error_hint(output.span, path, message, "write a relative path, such as `out/*.qcow2`");
    }
    for name in build.secrets.keys().filter(|name| build.env.contains_key(*name)) {
        let path = format!("images.{}.build.secrets.{name}", image.name);
        let hint = "remove it from `env`";
        faults.error_hint(build.command.span, path, "this variable is also in `env`", hint);
    }
}
