//! One build on one host: send, run, find, verify, fetch, and clear away.

use super::builder::failed;
use super::source::SourceTree;
use crate::escape;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::redact::redact;
use crate::run_output::duration;
use pve_ssh::command::{Command, build, files};
use pve_ssh::parse::{self, ImageInfo};
use pve_ssh::{Download, Ended, Error, Host, Keep, OnLine, Output, RunOptions};
use pve_types::{Bytes, Secret};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use vmdeploy_planner::plan::Compression;
use vmdeploy_planner::spec::ImageBuild;

/// What is to be built.
pub struct Job<'a> {
    /// The image's name.
    pub image: &'a str,
    /// The format in the spec, if any.
    pub format: Option<&'a str>,
    /// How it is built.
    pub build: &'a ImageBuild,
    /// What is sent.
    pub source: Option<SourceTree>,
    /// The secret environment.
    pub secrets: BTreeMap<String, Secret>,
    /// The build's folder on the host is left as it is.
    pub keep_work: bool,
}

/// A build on a host.
pub struct RemoteBuild<'a> {
    /// The job.
    pub job: Job<'a>,
    /// The host.
    pub host: &'a Host,
    /// A name that no other build has.
    pub name: String,
    /// Cancelled, it ends what runs on the host.
    pub stop: CancellationToken,
}

/// What a build gave.
#[derive(Debug)]
pub struct Built {
    /// The size of the file.
    pub size: Bytes,
    /// Its SHA-256.
    pub sha256: String,
    /// The digest of the source that was sent.
    pub source_sha256: Option<String>,
    /// What `qemu-img` on the builder says of it, where it has one.
    pub info: Option<ImageInfo>,
}

/// Small commands may take this long.
const SHORT: Duration = Duration::from_secs(60);
/// Sending the source, and clearing away, may take this long.
const LONG: Duration = Duration::from_secs(1_800);
/// How often a download says how far it is.
const EVERY: Duration = Duration::from_secs(10);

impl RemoteBuild<'_> {
    /// Builds, and brings the image to `target`; every line of the build goes to stderr and into `log`.
    ///
    /// # Errors
    /// The build failed, took too long, was given up, or made something else than one image. The host is then as it
    /// was, or the failure says what is left there.
    pub async fn run(&self, target: &Path, log: &Path) -> Result<Built, Failure> {
        let work = format!("/var/tmp/vmdeploy-build-{}", self.name);
        self.require(&build::make_folder(&work), SHORT).await?;
        let result = self.run_in(&work, target, log).await;
        if self.job.keep_work {
            output::say(&format!("the build folder is kept: {work} on {}", self.host.address()));
            return result;
        }
        // Asked for even when everything else was given up.
        let removal = build::remove_folder(&work);
        match (result, self.host.run_to_success(&removal, LONG).await) {
            (result, Ok(_)) => result,
            (Ok(built), Err(error)) => {
                output::say(&format!(
                    "warning: {work} could not be removed from {}: {error}",
                    self.host.address()
                ));
                Ok(built)
            }
            (Err(failure), Err(_)) => Err(failure
                .exiting(Exit::FAILED_LEFT)
                .hint(format!("on {}: `{removal}` removes the rest", self.host.address()))),
        }
    }

    async fn run_in(&self, work: &str, target: &Path, log: &Path) -> Result<Built, Failure> {
        let source_sha256 = match &self.job.source {
            Some(source) => Some(self.send(source, work).await?),
            None => None,
        };
        self.build(work, log).await?;
        let made = self.find(work).await?;
        let info = self.verify(&made).await?;
        let (size, sha256) = self.fetch(&made, target).await?;
        Ok(Built { size, sha256, source_sha256, info })
    }

    async fn send(&self, source: &SourceTree, work: &str) -> Result<String, Failure> {
        let began = Instant::now();
        let (writer, reader) = tokio::io::duplex(1 << 20);
        let tree = source.clone();
        let writing =
            tokio::task::spawn_blocking(move || tree.write(tokio_util::io::SyncIoBridge::new(writer)));
        let options = RunOptions { stdin: Some(Box::new(reader)), ..self.options(LONG) };
        let unpack = build::unpack(work);
        let output = self.run_command(&unpack, options, &mut |_, _| {}).await?;
        self.host.require_success(&unpack, output).map_err(failed)?;
        let sum = writing
            .await
            .map_err(anyhow::Error::from)?
            .map_err(|error| Failure::of(Exit::USAGE, error).context("the source cannot be read"))?;
        let took = duration(began.elapsed().as_millis() as u64);
        output::say(&format!("sent {} files to {} in {took}", source.files(), self.host.address()));
        Ok(sum)
    }

    async fn build(&self, work: &str, log: &Path) -> Result<(), Failure> {
        let spec = self.job.build;
        let plain = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let secret = self.job.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
        let environment = build::environment(plain.chain(secret))
            .map_err(|error| Failure::usage(format!("the build's environment: {error}")))?;
        let stdin = Box::new(std::io::Cursor::new(environment));
        let options = RunOptions { stdin: Some(stdin), keep: Keep::Tail, ..self.options(spec.timeout) };
        let mut file = crate::files::create_private(log).map_err(|error| {
            Failure::of(Exit::USAGE, error).context(format!("cannot write the log `{}`", log.display()))
        })?;
        let began = Instant::now();
        let mut on_line = |_, line: &str| {
            let line = escape::one_line(&redact(line));
            output::write_stderr(&format!("  | {line}\n"));
            // A full disk does not end the build; its output is still printed to the terminal.
            let _ = writeln!(file, "{line}");
        };
        let command = build::run(work, &spec.command.value);
        let output = self.run_command(&command, options, &mut on_line).await?;
        let took = duration(began.elapsed().as_millis() as u64);
        if output.success() {
            output::say(&format!("built in {took}; the log is in {}", log.display()));
            return Ok(());
        }
        Err(Failure::new(
            Exit::FAILED_UNDONE,
            format!(
                "the build of image `{}` ended with exit status {} after {took}",
                self.job.image, output.status
            ),
        )
        .hint(format!(
            "its log is in {}; `--keep-work` leaves the build's folder on the builder",
            log.display()
        )))
    }

    /// Finds the one file that the build made.
    async fn find(&self, work: &str) -> Result<String, Failure> {
        let pattern = &self.job.build.output.value;
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let full = format!("{work}/{pattern}");
        let output = self.require(&build::find(work, &full), LONG).await?;
        let found: Vec<&str> = output.stdout.split('\0').filter(|path| matches(&full, path)).collect();
        match found.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Failure::new(
                Exit::FAILED_UNDONE,
                format!("the build produced no file that matches `{pattern}`"),
            )
            .hint("correct `output:` in the spec; it is relative to the folder that the command runs in")),
            several => {
                let names: Vec<&str> = several
                    .iter()
                    .map(|path| path.strip_prefix(work).unwrap_or(path).trim_start_matches('/'))
                    .collect();
                Err(Failure::list(
                    Exit::FAILED_UNDONE,
                    &format!("`{pattern}` fits {} files", names.len()),
                    &names,
                )
                .hint("change `output:` in the spec so that it matches the image only"))
            }
        }
    }

    /// Asks the builder's `qemu-img` what the file is; `None` where it has none, or the file is compressed.
    async fn verify(&self, made: &str) -> Result<Option<ImageInfo>, Failure> {
        if Compression::ALL.iter().any(|compression| made.ends_with(compression.ending())) {
            return Ok(None);
        }
        let command = files::image_info(made);
        let output = self.run_command(&command, self.options(SHORT), &mut |_, _| {}).await?;
        if output.status == 127 {
            output::say("note: the builder has no qemu-img, so the image format was not checked there");
            return Ok(None);
        }
        let output = self.host.require_success(&command, output).map_err(|error| {
            failed(error).exiting(Exit::FAILED_UNDONE).hint("the result of the build is not a disk image")
        })?;
        let info = parse::image_info(&output.stdout).map_err(anyhow::Error::from)?;
        check_info(self.job.image, self.job.format, &info)?;
        output::say(&format!(
            "qemu-img on the builder: {}, a disk of {}",
            info.format,
            Bytes::new(info.virtual_size)
        ));
        Ok(Some(info))
    }

    async fn fetch(&self, made: &str, target: &Path) -> Result<(Bytes, String), Failure> {
        let began = Instant::now();
        let mut told = began;
        let mut progress = |done: Bytes, size: Bytes| {
            if told.elapsed() >= EVERY {
                told = Instant::now();
                output::say(&format!("fetched {done} of {size}"));
            }
        };
        let download = Download::new(made, target);
        let fetched = tokio::select! {
            fetched = self.host.download(&download, &mut progress) => fetched.map_err(failed)?,
            () = self.stop.cancelled() => return Err(interrupted("the image was not fetched")),
        };
        let took = duration(began.elapsed().as_millis() as u64);
        output::say(&format!("fetched {} in {took}, its SHA-256 is {}", fetched.size, fetched.sha256));
        Ok((fetched.size, fetched.sha256))
    }

    async fn require(&self, command: &Command, deadline: Duration) -> Result<Output, Failure> {
        let output = self.run_command(command, self.options(deadline), &mut |_, _| {}).await?;
        self.host.require_success(command, output).map_err(failed)
    }

    fn options(&self, deadline: Duration) -> RunOptions {
        RunOptions { cancel: self.stop.clone(), ..RunOptions::within(deadline) }
    }

    async fn run_command(
        &self,
        command: &Command,
        options: RunOptions,
        on_line: OnLine<'_>,
    ) -> Result<Output, Failure> {
        match self.host.run(command, options, on_line).await {
            Ok(output) => Ok(output),
            Err(error) => Err(self.told(error).await),
        }
    }

    /// Tells how a command was ended: given up, too slow, or lost.
    async fn told(&self, error: Error) -> Failure {
        let left_behind = match &error {
            Error::Lost { pid: Some(pid), .. } => self.host.end_left_behind(*pid).await,
            _ => Ended::Unknown("it did not report its process ID".to_owned()),
        };
        let (text, ended, exit) = match &error {
            Error::Lost { reason, .. } => {
                let reason = escape::one_line(reason);
                (
                    format!("the connection was lost while the build ran ({reason})"),
                    &left_behind,
                    Exit::FAILED_UNDONE,
                )
            }
            Error::Cancelled { ended, .. } => ("the build was aborted".to_owned(), ended, Exit::INTERRUPTED),
            Error::Deadline { ended, limit, .. } => (
                format!("the build took longer than its `timeout:` of {} s", limit.as_secs()),
                ended,
                Exit::FAILED_UNDONE,
            ),
            _ => return failed(error),
        };
        match ended {
            Ended::Yes => Failure::new(exit, format!("{text}; it was stopped on {}", self.host.address())),
            Ended::Unknown(why) => {
                let why = escape::one_line(why);
                Failure::new(
                    Exit::FAILED_LEFT,
                    format!("{text} and may still be running on {}: {why}", self.host.address()),
                )
                .hint("find it there with `ps` and stop it")
            }
        }
    }
}

fn interrupted(what: &str) -> Failure {
    Failure::new(Exit::INTERRUPTED, format!("it was aborted; {what}"))
}

/// Refuses an image of another format than the spec says, and one that is only part of an image.
///
/// # Errors
/// It is one of these.
pub(crate) fn check_info(image: &str, format: Option<&str>, info: &ImageInfo) -> Result<(), Failure> {
    let found = escape::one_line(&info.format);
    if let Some(format) = format.filter(|format| *format != info.format) {
        let message = format!("image `{image}` is {found}, but the spec has {format}");
        return Err(
            Failure::new(Exit::FAILED_UNDONE, message).hint("correct `format:` in the spec, or the build")
        );
    }
    if info.backing_file.is_some() {
        let message = format!("image `{image}` has a backing file, which PVE would not have");
        return Err(Failure::new(Exit::FAILED_UNDONE, message).hint(
            "end the build command with `qemu-img convert`, which writes an image without a backing file",
        ));
    }
    Ok(())
}

/// Tells whether a path fits a pattern, in which `*` stands for anything but `/`, and `?` for one such character.
fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    patterns.len() == parts.len() && patterns.iter().zip(&parts).all(|(pattern, part)| fits(pattern, part))
}

/// Goes back to the last `*` only, so that no pattern takes long.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match &mut star {
                Some((star_at, taken)) => {
                    *taken += 1;
                    (at, read) = (*star_at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_folder() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(matches(pattern, path), expect, "{pattern} {path}")
        };
        check("/w/out/*.qcow2", "/w/out/a.qcow2", true);
        check("/w/out/*.qcow2", "/w/out/sub/a.qcow2", false);
        check("/w/*/a-?.raw", "/w/x/a-1.raw", true);
        check("/w/a.qcow2", "/w/a.qcow2", true);
        check("/w/a.qcow2", "/w/a_qcow2", false);
        check("/w/*", "", false);
        check("/w/*a*b*c", "/w/xxaxxbxxbc", true);
        check("/w/*a*b*c", "/w/xxaxxbxx", false);
    }
}
