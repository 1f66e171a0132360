//! `qemu-img info`.

use serde_json::json;

use crate::cli::options::Options;
use crate::cli::{Context, Exit};
use crate::vfs::{FsError, ImageFormat, ImageInfo, Kind, Stat};

const MODELLED: &[&str] = &["output=", "U|force-share", "f=", "format|"];

pub(crate) async fn qemu_img(context: &Context, arguments: &[String]) -> Exit {
    match arguments.split_first() {
        Some((command, rest)) if command == "info" => info(context, rest).await,
        Some((command, _)) if command == "--version" || command == "-V" => {
            context.line("qemu-img version 10.0.13 (pve-qemu-kvm_10.0.13-1)").await.map(|()| 0)
        }
        Some((command, _)) => {
            context.fail(1, format!("qemu-img: the lab does not have `qemu-img {command}`")).await
        }
        None => {
            context
                .fail(1, "qemu-img: Not enough arguments\nTry 'qemu-img --help' for more information")
                .await
        }
    }
}

async fn info(context: &Context, arguments: &[String]) -> Exit {
    let options = match Options::parse(arguments, MODELLED) {
        Ok(options) => options,
        Err(text) => return context.fail(1, format!("qemu-img: {text}")).await,
    };
    let [name] = options.operands.as_slice() else {
        return context
            .fail(1, "qemu-img: Expecting one image file name\nTry 'qemu-img --help' for more information")
            .await;
    };
    let path = context.absolute(name);
    let found = context.node.files(|files| {
        let stat = files.stat(&path)?;
        if stat.kind == Kind::Directory {
            return Err(FsError::IsADirectory);
        }
        Ok((files.image(&path)?, stat))
    });
    match found {
        Err(FsError::IsADirectory) => context
            .fail(
                1,
                format!(
                    "qemu-img: Could not open '{name}': 'file' driver requires '{name}' to be a regular file"
                ),
            )
            .await,
        Err(error) => {
            context
                .fail(1, format!("qemu-img: Could not open '{name}': Could not open '{name}': {error}"))
                .await
        }
        Ok((image, stat)) => {
            let wanted = options.value("f").map(str::to_owned);
            if wanted.is_some_and(|wanted| wanted != image.format.as_str() && wanted != "raw") {
                return context
                    .fail(
                        1,
                        format!(
                            "qemu-img: Could not open '{name}': Image is not in {} format",
                            options.value("f").unwrap_or_default()
                        ),
                    )
                    .await;
            }
            match options.value("output") {
                Some("json") => context.print(as_json(name, &image, &stat)).await.map(|()| 0),
                None | Some("human") => context.print(as_text(name, &image, &stat)).await.map(|()| 0),
                Some(_) => {
                    context.fail(1, "qemu-img: --output must be used with human or json as argument.").await
                }
            }
        }
    }
}

fn as_json(name: &str, image: &ImageInfo, stat: &Stat) -> String {
    let mut value = json!({
        "virtual-size": image.virtual_size,
        "filename": name,
        "format": image.format.as_str(),
        "actual-size": stat.allocated,
        "dirty-flag": false,
    });
    if image.format == ImageFormat::Qcow2 {
        value["cluster-size"] = 65_536.into();
        value["format-specific"] = json!({
            "type": "qcow2",
            "data": {"compat": "1.1", "compression-type": "zlib", "lazy-refcounts": false, "refcount-bits": 16, "corrupt": false, "extended-l2": false},
        });
    }
    if let Some(backing) = &image.backing_file {
        value["backing-filename"] = backing.as_str().into();
        value["full-backing-filename"] = backing.as_str().into();
    }
    // qemu-img indents by four.
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(
        &mut out,
        serde_json::ser::PrettyFormatter::with_indent(b"    "),
    );
    let written = serde::Serialize::serialize(&value, &mut writer);
    debug_assert!(written.is_ok());
    String::from_utf8_lossy(&out).into_owned() + "\n"
}

fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            let rounded = if value >= 100.0 {
                format!("{value:.0}")
            } else if value >= 10.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.2}")
            };
            let trimmed = if rounded.contains('.') {
                rounded.trim_end_matches('0').trim_end_matches('.')
            } else {
                &rounded
            };
            return format!("{trimmed} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

fn as_text(name: &str, image: &ImageInfo, stat: &Stat) -> String {
    let mut text = format!(
        "image: {name}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n",
        image.format.as_str(),
        human(image.virtual_size),
        image.virtual_size,
        human(stat.allocated)
    );
    if image.format == ImageFormat::Qcow2 {
        text.push_str("cluster_size: 65536\n");
        if let Some(backing) = &image.backing_file {
            text.push_str(&format!("backing file: {backing}\n"));
        }
        text.push_str("Format specific information:\n    compat: 1.1\n    compression type: zlib\n    lazy refcounts: false\n    refcount bits: 16\n    corrupt: false\n    extended l2: false\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_qemu_img_shows_them() {
        for (bytes, expect) in [
            (167_772_160, "160 MiB"),
            (3_221_225_472, "3 GiB"),
            (18_093_056, "17.3 MiB"),
            (512, "512 B"),
            (2_362_232_012, "2.2 GiB"),
        ] {
            assert_eq!(human(bytes), expect);
        }
    }
}
