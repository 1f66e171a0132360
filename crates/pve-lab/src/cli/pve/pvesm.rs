//! `pvesm`.

use serde_json::Value;

use super::{Command, Invocation, Then, api, follow, print_lines, scalar};
use crate::Params;
use crate::api::Refusal;
use crate::cli::Exit;

// PVE: pve-storage src/PVE/CLI/pvesm.pm
pub(super) const COMMANDS: &[Command] = &[
    Command::new("status", "GET", "/nodes/{node}/storage", &[], Then::Own),
    Command::new(
        "list",
        "GET",
        "/nodes/{node}/storage/{storage}/content",
        &["storage"],
        Then::Print(contents),
    ),
    Command::new("path", "", "", &["volume"], Then::Own),
    Command::new(
        "alloc",
        "POST",
        "/nodes/{node}/storage/{storage}/content",
        &["storage", "vmid", "filename", "size"],
        Then::Print(allocated),
    ),
    Command::new(
        "free",
        "DELETE",
        "/nodes/{node}/storage/{storage}/content/{volume}",
        &["volume"],
        Then::Own,
    ),
    Command::new("add", "POST", "/storage", &["type", "storage"], Then::Quiet),
    Command::new("set", "PUT", "/storage/{storage}", &["storage"], Then::Quiet),
    Command::new("remove", "DELETE", "/storage/{storage}", &["storage"], Then::Quiet),
];

fn whole(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|number| number as u64))
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .unwrap_or(0)
}

fn allocated(data: &Value) -> String {
    format!("successfully created '{}'\n", scalar(data))
}

fn contents(data: &Value) -> String {
    let mut all: Vec<&Value> = data.as_array().map(|all| all.iter().collect()).unwrap_or_default();
    all.sort_by_key(|entry| scalar(&entry["volid"]));
    let name_width = all.iter().map(|entry| scalar(&entry["volid"]).len()).max().unwrap_or(0);
    let size_width = all.iter().map(|entry| whole(&entry["size"])).max().unwrap_or(0).to_string().len();
    let line = |volid: &str, format: &str, kind: &str, size: &str| {
        format!("{volid:<name_width$} {format:<7} {kind:<9} {size:>size_width$}")
    };
    let mut text = line("Volid", "Format", "Type", "Size") + " VMID\n";
    let shown = |entry: &Value| {
        line(
            &scalar(&entry["volid"]),
            &scalar(&entry["format"]),
            &scalar(&entry["content"]),
            &scalar(&entry["size"]),
        )
    };
    let (owned, mut others): (Vec<&Value>, Vec<&Value>) =
        all.into_iter().partition(|entry| !entry["vmid"].is_null());
    for entry in owned {
        text.push_str(&format!("{} {}\n", shown(entry), scalar(&entry["vmid"])));
    }
    others.sort_by_key(|entry| scalar(&entry["format"]));
    for entry in others {
        text.push_str(&(shown(entry) + "\n"));
    }
    text
}

fn status_table(data: &Value, in_kib: bool) -> String {
    let mut all: Vec<&Value> = data.as_array().map(|all| all.iter().collect()).unwrap_or_default();
    all.sort_by_key(|entry| scalar(&entry["storage"]));
    let width = all.iter().map(|entry| scalar(&entry["storage"]).len()).max().unwrap_or(0) + 1;
    let titles = if in_kib {
        ["Total (KiB)", "Used (KiB)", "Available (KiB)"]
    } else {
        ["Total", "Used", "Available"]
    };
    let mut text = format!(
        "{:<width$} {:>10} {:>10} {:>15} {:>15} {:>15} {:>8}\n",
        "Name", "Type", "Status", titles[0], titles[1], titles[2], "%"
    );
    for entry in all {
        let (total, used, available) =
            (whole(&entry["total"]), whole(&entry["used"]), whole(&entry["avail"]));
        let percent = if total > 0 { used as f64 * 100.0 / total as f64 } else { 0.0 };
        let (state, percent) = match (whole(&entry["enabled"]), whole(&entry["active"])) {
            (0, _) => ("disabled", format!("{:>8}", "N/A")),
            (_, 0) => ("inactive", format!("{percent:>7.2}%")),
            _ => ("active", format!("{percent:>7.2}%")),
        };
        text.push_str(&format!(
            "{:<width$} {:>10} {state:>10} {:>15} {:>15} {:>15} {percent}\n",
            scalar(&entry["storage"]),
            scalar(&entry["type"]),
            total / 1024,
            used / 1024,
            available / 1024,
        ));
    }
    text
}

pub(super) async fn own(invocation: &Invocation<'_>, params: Params) -> Exit {
    match invocation.command.shown {
        "status" => status(invocation, params).await,
        "path" => path(invocation, &params).await,
        _ => free(invocation, &params).await,
    }
}

async fn status(invocation: &Invocation<'_>, params: Params) -> Exit {
    let context = invocation.context;
    match api(context, "GET", &format!("/nodes/{}/storage", context.node.name), &params).await {
        Err(refusal) => invocation.refused(&refusal).await,
        Ok(reply) => {
            // PVE: the units are in the header since pve-storage 9.0.14, PVE 9.1.
            let in_kib = context.node.world.with(|world| world.version.at_least(9, 1));
            context.print(status_table(&reply.data, in_kib)).await.map(|()| 0)
        }
    }
}

async fn path(invocation: &Invocation<'_>, params: &Params) -> Exit {
    let context = invocation.context;
    let volume = params.get("volume").map(scalar).unwrap_or_default();
    // No look whether it is there: the path is made from the name.
    let found = if volume.starts_with('/') {
        Ok(volume)
    } else {
        context.node.world.with(|world| world.volume_path(&volume))
    };
    match found {
        Ok(path) => context.line(path).await.map(|()| 0),
        Err(text) => context.fail(255, text).await,
    }
}

/// Frees a volume; the command ends well whatever becomes of the worker.
async fn free(invocation: &Invocation<'_>, params: &Params) -> Exit {
    let context = invocation.context;
    let volume = params.get("volume").map(scalar).unwrap_or_default();
    let (storage, name) = match (volume.split_once(':'), params.get("storage").map(scalar)) {
        (Some((storage, _)), _) => (storage.to_owned(), volume.clone()),
        (None, Some(storage)) => (storage.clone(), format!("{storage}:{volume}")),
        (None, None) => {
            return invocation.refused(&Refusal::parameter("storage", "missing storage specification")).await;
        }
    };
    let path = format!("/nodes/{}/storage/{storage}/content/{name}", context.node.name);
    match api(context, "DELETE", &path, &Params::new()).await {
        Err(refusal) => invocation.refused(&refusal).await,
        Ok(reply) => {
            print_lines(context, &reply.output).await?;
            follow(context, &reply.data).await.map(|_| 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contents_are_in_columns_with_owned_volumes_first() {
        let data = json!([
            {"volid": "local:import/tiny.qcow2", "format": "qcow2", "content": "import", "size": 18_093_056},
            {"volid": "local:200/vm-200-disk-0.qcow2", "format": "qcow2", "content": "images", "size": 167_772_160, "vmid": 200},
        ]);
        let expect = "Volid                         Format  Type           Size VMID\n\
                      local:200/vm-200-disk-0.qcow2 qcow2   images    167772160 200\n\
                      local:import/tiny.qcow2       qcow2   import     18093056\n";
        assert_eq!(contents(&data), expect);
    }

    #[test]
    fn the_status_table_has_pves_header() {
        let data = json!([{"storage": "local-lvm", "type": "lvmthin", "enabled": 1, "active": 1, "total": 2048, "used": 1024, "avail": 1024}]);
        let text = status_table(&data, true);
        assert_eq!(
            text.lines().next(),
            Some("Name             Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %")
        );
        assert_eq!(
            text.lines().nth(1),
            Some("local-lvm     lvmthin     active               2               1               1   50.00%")
        );
        assert!(status_table(&data, false).starts_with(
            "Name             Type     Status           Total            Used       Available        %"
        ));
    }
}
