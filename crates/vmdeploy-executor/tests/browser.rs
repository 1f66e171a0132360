//! The report's page, looked at in headless Chromium. Without a browser the tests are reported as ignored, with the
//! reason; they never count as passed then.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when something is not as expected, and explains it on the terminal"
)]

use libtest_mimic::{Arguments, Failed, Trial};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use vmdeploy_executor::{RunsFolder, html_page};

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let browser = browser();
    let reason = if browser.is_none() { " [ignored: no Chromium in PATH]" } else { "" };
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        let found = browser.clone();
        let run = move || test(&found.ok_or("there is no browser")?);
        Trial::test(format!("{name}{reason}"), run).with_ignored_flag(browser.is_none())
    };
    let trials = vec![
        trial("the_page_shows_every_part_of_a_run", the_page_shows_every_part_of_a_run),
        trial("the_page_is_drawn_light_and_dark", the_page_is_drawn_light_and_dark),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let candidates =
        std::env::split_paths(&folders).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// Writes the page of the sample run.
fn page(folder: &Path) -> PathBuf {
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples/runs");
    let stored = RunsFolder::new(samples).open("format-1").unwrap();
    let path = folder.join("report.html");
    std::fs::write(&path, html_page(&stored.plan, &stored.report())).unwrap();
    path
}

/// The longest that the browser may take; on an idle machine it takes two seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs the browser on the page, away from any network and any profile of the user's.
fn look(browser: &Path, folder: &Path, options: &[String]) -> Result<Vec<u8>, Failed> {
    // Files, not pipes: helpers of the browser may keep those open after its end.
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    let mut child = Command::new(browser)
        .args(["--headless", "--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,1400"])
        .args(["--disable-breakpad", "--disable-crash-reporter"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(options)
        .arg(format!("file://{}", page(folder).display()))
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    match status {
        Some(status) if status.success() => Ok(std::fs::read(&out)?),
        Some(status) => {
            Err(format!("the browser ended with {status}: {}", std::fs::read_to_string(&err)?).into())
        }
        None => {
            Err(format!("the browser did not end in {PATIENCE:?}: {}", std::fs::read_to_string(&err)?).into())
        }
    }
}

fn the_page_shows_every_part_of_a_run(browser: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let dom =
        String::from_utf8_lossy(&look(browser, folder.path(), &["--dump-dom".to_owned()])?).into_owned();
    for part in ["failures", "left", "plan", "chart", "steps"] {
        assert!(dom.contains(&format!("<section id=\"{part}\">")), "the page has no `{part}`");
    }
    assert_eq!(dom.matches("class=\"bar ").count(), 2, "one bar for each step that was sent out");
    Ok(())
}

fn the_page_is_drawn_light_and_dark(browser: &Path) -> Result<(), Failed> {
    let drawn = |scheme: u8| -> Result<Vec<u8>, Failed> {
        let folder = tempfile::tempdir()?;
        let picture = folder.path().join("page.png");
        let options = [
            format!("--screenshot={}", picture.display()),
            format!("--blink-settings=preferredColorScheme={scheme}"),
        ];
        look(browser, folder.path(), &options)?;
        Ok(std::fs::read(picture)?)
    };
    let (dark, light) = (drawn(0)?, drawn(1)?);
    for picture in [&dark, &light] {
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 5_000, "nothing was drawn");
    }
    assert!(dark != light, "the page looks the same light and dark");
    Ok(())
}
