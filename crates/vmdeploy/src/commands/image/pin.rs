//! `vmdeploy image pin`: the current checksums of images that PVE downloads, written into the spec.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::files;
use crate::output;
use crate::public_https::client_builder;
use crate::spec_files::{SpecArgs, load_unpinned};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmdeploy_planner::spec::{Deployment, Image, ImageSource, SourceFile, published_checksum, with_checksum};

/// Names of the files next to an image in which publishers state checksums, the stronger algorithm first.
const SUMS: &[&str] = &["SHA512SUMS", "SHA256SUMS", "CHECKSUM"];
/// What follows an image's name in the name of a file with its checksum alone.
const ENDINGS: &[&str] = &[".sha512", ".sha256", ".sha512sum", ".sha256sum", ".SHA256"];
/// The largest list of checksums that is read.
const LONGEST_LIST: usize = 4 << 20;
const READ_LIMIT: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 5;

/// `image pin`.
#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// The images, by their names in the spec; else all with `url:`
    #[arg(value_name = "IMAGE")]
    names: Vec<String>,
    /// Spec file or folder; else VMDEPLOY_SPEC
    #[arg(long = "spec", value_name = "SPEC")]
    specs: Vec<PathBuf>,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
}

/// Finds each image's current checksum and writes it into the spec. Comments and layout stay.
///
/// # Errors
/// The spec is refused, an image is unknown or is no `url:`, or its checksum cannot be found out.
pub(super) async fn pin(args: &PinArgs, context: &Context) -> CommandResult {
    let specs = SpecArgs::new(args.specs.clone());
    let deployment = load_unpinned(&specs, context)?;
    let client = client().map_err(|error| Failure::of(Exit::INTERNAL, error))?;
    let mut files = deployment.files.clone();
    for (image, url) in images(args, &deployment)? {
        let checksum = current_checksum(&client, &image.name, &url).await?;
        let before = image.checksum.as_ref().map(|checksum| checksum.value.as_str());
        if before == Some(checksum.as_str()) {
            output::say(&format!("{}: {checksum}, as the spec says", image.name));
            continue;
        }
        files = with_checksum(&files, &image.name, &checksum).map_err(|error| {
            Failure::of(Exit::USAGE, error)
                .context(format!("the checksum of image `{}` cannot be written into the spec", image.name))
                .hint(format!("write `checksum: {checksum}` below the image yourself"))
        })?;
        let was = before.map(|before| format!(", was {before}")).unwrap_or_default();
        output::say(&format!("{}: {checksum}{was}", image.name));
    }
    if !args.dry_run {
        write_changed(&deployment.files, &files)?;
    }
    Ok(Exit::DONE)
}

/// Returns the images that are pinned, with their addresses.
fn images<'d>(args: &PinArgs, deployment: &'d Deployment) -> Result<Vec<(&'d Image, Url)>, Failure> {
    let url_of = |image: &'d Image| match &image.source {
        ImageSource::Url { url } => Some((image, url.value.as_str())),
        _ => None,
    };
    let named: Vec<(&Image, &str)> = if args.names.is_empty() {
        deployment.images.values().filter_map(url_of).collect()
    } else {
        let find = |name: &String| {
            let image = deployment.images.get(name);
            image.and_then(url_of).ok_or_else(|| {
                let known: Vec<&str> = deployment
                    .images
                    .values()
                    .filter_map(url_of)
                    .map(|(image, _)| image.name.as_str())
                    .collect();
                Failure::usage(format!("the spec has no image `{}` with a `url`", name.escape_debug()))
                    .hint(format!("images with a `url`: {}", known.join(", ")))
            })
        };
        args.names.iter().map(find).collect::<Result<_, _>>()?
    };
    let parsed = named.into_iter().map(|(image, url)| {
        let url = Url::parse(url).map_err(|error| {
            Failure::of(Exit::USAGE, error)
                .context(format!("the `url` of image `{}` is not valid", image.name))
        })?;
        Ok((image, url))
    });
    parsed.collect()
}

/// A redirect to an address without TLS is not followed.
fn client() -> Result<Client, reqwest::Error> {
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let leaves_tls = attempt.url().scheme() != "https"
            && attempt.previous().last().is_some_and(|before| before.scheme() == "https");
        match attempt.previous().len() {
            _ if leaves_tls => attempt.error("it redirects to an address without TLS"),
            MOST_REDIRECTS.. => attempt.error("it redirects too often"),
            _ => attempt.follow(),
        }
    });
    client_builder().redirect(redirects).read_timeout(READ_LIMIT).build()
}

/// Returns `ALGORITHM:HEX`: what the publisher states next to the image, else what is computed by downloading it.
async fn current_checksum(client: &Client, name: &str, url: &Url) -> Result<String, Failure> {
    let file = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
    let siblings = SUMS.iter().map(|name| (*name).to_owned());
    let candidates = siblings.chain(ENDINGS.iter().map(|ending| format!("{file}{ending}")));
    for candidate in candidates {
        let Ok(address) = url.join(&candidate) else { continue };
        if let Some(text) = list_at(client, &address).await?
            && let Some(checksum) = published_checksum(&text, &file)
        {
            output::say(&format!("{name}: its checksum is stated in {address}"));
            return Ok(checksum);
        }
    }
    output::say(&format!("{name}: no checksum is stated next to {url}; downloading it to compute one"));
    computed(client, name, url).await
}

/// Returns the text at an address; `None` where nothing is there, or nothing that is a list.
async fn list_at(client: &Client, address: &Url) -> Result<Option<String>, Failure> {
    let mut response = get(client, address).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => return Ok(None),
        status => return Err(unexpected(address, status)),
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(address, error))? {
        if body.len() + chunk.len() > LONGEST_LIST {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).ok())
}

async fn computed(client: &Client, name: &str, url: &Url) -> Result<String, Failure> {
    let mut response = get(client, url).await?;
    if response.status() != StatusCode::OK {
        return Err(unexpected(url, response.status())
            .hint(format!("correct the `url` of image `{name}`, or use the file itself: `file: PATH`")));
    }
    let mut hash = Sha256::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(url, error))? {
        hash.update(&chunk);
    }
    Ok(format!("sha256:{}", pve_types::hex(hash.finalize())))
}

async fn get(client: &Client, url: &Url) -> Result<Response, Failure> {
    client.get(url.clone()).send().await.map_err(|error| lost(url, error))
}

fn lost(url: &Url, error: reqwest::Error) -> Failure {
    Failure::of(Exit::OBSERVED, error.without_url())
        .context(format!("{url} cannot be read; the spec is as it was"))
        .hint("try again, or write the checksum into the spec yourself")
}

fn unexpected(url: &Url, status: StatusCode) -> Failure {
    Failure::new(Exit::OBSERVED, format!("{url} answers {}; the spec is as it was", status.as_u16()))
}

fn write_changed(before: &[SourceFile], after: &[SourceFile]) -> Result<(), Failure> {
    for (_, file) in before.iter().zip(after).filter(|(before, after)| before.text != after.text) {
        let path = Path::new(&file.name);
        files::write_own(path, &file.text).map_err(|error| files::cannot_write(path, error))?;
        output::say(&format!("{} is written; read the difference, and keep it in git", file.name));
    }
    Ok(())
}
