//! Renaming a VM in a spec's text: only its names change, comments and layout stay.

use super::diagnostic::{SourceFile, Span};
use super::model::{CloneSource, Deployment, ImageSource};
use pve_types::GuestName;
use std::collections::BTreeSet;

/// Returns the files in which a VM has another name: at its key, at what is cloned from it or built in it, and in lock
/// files. `None` where a name does not stand where the spec was read, or the spec has no such VM.
pub fn renamed(deployment: &Deployment, old: &GuestName, new: &GuestName) -> Option<Vec<SourceFile>> {
    // The name of a group's member is made from the group's.
    let vm = deployment.vm(old).filter(|vm| vm.group.is_none())?;
    let clones = deployment.vms.iter().filter_map(|vm| vm.clone.as_ref()).filter(|clone| !clone.by_image);
    let clones = clones.filter(|clone| matches!(&clone.from.value, CloneSource::Vm(name) if name == old));
    let builders = deployment.images.values().filter_map(|image| match &image.source {
        ImageSource::Build(build) if build.vm.value == *old => Some(build.vm.span),
        _ => None,
    });
    let spans: BTreeSet<Span> =
        [vm.name.span].into_iter().chain(clones.map(|clone| clone.from.span)).chain(builders).collect();
    let mut files = deployment.files.clone();
    // From the end to the beginning, so that the places of the others stay.
    for span in spans.into_iter().rev() {
        replace(files.get_mut(usize::from(span.file))?, span, old.as_str(), new.as_str())?;
    }
    for (_, pin) in deployment.pins.iter().filter(|((_, name), _)| name == old) {
        rename_pin(files.get_mut(usize::from(pin.span.file))?, pin.span, old.as_str(), new.as_str());
    }
    Some(files)
}

/// Replaces a word at its place, in quotes or not.
fn replace(file: &mut SourceFile, span: Span, old: &str, new: &str) -> Option<()> {
    let at = offset(&file.text, span)?;
    let quotes = file.text[at..].chars().next().filter(|c| matches!(c, '"' | '\'')).map_or(0, char::len_utf8);
    let at = at + quotes;
    file.text[at..].starts_with(old).then(|| exchange(file, at, old, new))
}

/// Replaces the key on a pin's line. A pin that is written otherwise stays, and has no effect: the guest has a VMID.
fn rename_pin(file: &mut SourceFile, span: Span, old: &str, new: &str) {
    let Some(start) = offset(&file.text, Span { column: 1, ..span }) else { return };
    let line = file.text[start..].lines().next().unwrap_or_default();
    let key = line.trim_start();
    let indent = line.len() - key.len();
    if key.strip_prefix(old).is_some_and(|rest| rest.starts_with(':')) {
        exchange(file, start + indent, old, new);
    }
}

fn exchange(file: &mut SourceFile, at: usize, old: &str, new: &str) {
    file.text = format!("{}{new}{}", &file.text[..at], &file.text[at + old.len()..]).into();
}

/// Returns where a place is in a text, in bytes.
fn offset(text: &str, span: Span) -> Option<usize> {
    let line_at = match span.line.checked_sub(1)? {
        0 => 0,
        before => text.match_indices('\n').nth(before as usize - 1)?.0 + 1,
    };
    let column = span.column.checked_sub(1)? as usize;
    let in_line =
        text[line_at..].char_indices().map(|(at, _)| at).chain([text.len() - line_at]).nth(column)?;
    Some(line_at + in_line)
}

#[cfg(test)]
mod tests {
    use super::super::{LoadOptions, load};
    use super::*;

    #[test]
    fn only_names_change_in_a_renamed_spec() {
        let spec = [
            "# my VMs",
            "version: 1",
            "project: web",
            "vms:",
            "  \"web01\": # the first",
            "    vmid: {range: [200, 210]}",
            "    template: true",
            "  web02: {clone: web01, description: web01}  # from web01",
            "",
        ];
        let spec = spec.join("\n");
        let lock = "version: 1\nproject: web\nvmids:\n  default:\n    web01: 200\n    web011: 201\n";
        let files = [SourceFile::new("a.yaml", spec.clone()), SourceFile::new("a.lock.yaml", lock)];
        let loaded = load(&files, &LoadOptions::default()).unwrap();
        let name = |text: &str| text.parse::<GuestName>().unwrap();
        let renamed = renamed(&loaded.deployment, &name("web01"), &name("first")).unwrap();
        let expect = spec.replace("\"web01\":", "\"first\":").replace("clone: web01", "clone: first");
        assert_eq!(&*renamed[0].text, expect);
        assert_eq!(&*renamed[1].text, lock.replace("web01: 200", "first: 200"));
        load(&renamed, &LoadOptions::default()).unwrap();
        assert_eq!(super::renamed(&loaded.deployment, &name("other"), &name("first")), None);
    }
}
