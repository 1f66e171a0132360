//! `vmdeploy doctor`: from DNS to the bridge, one line each, and what to do about those that are not well.

mod checks;
mod settings;

use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::CommandResult;
use crate::output;
use crate::reach::{self, Transports};
use crate::reach_cluster::transports_for;
use crate::spec_files::{SpecArgs, load_whole_if_named};
use crate::{escape, redact};
use owo_colors::OwoColorize as _;
use serde::Serialize;

/// Checks the connection to the cluster, from DNS to bridges, and suggests a fix for every failure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    name: String,
    /// `ok`, `failed` or `skipped`.
    outcome: Outcome,
    /// What was found.
    text: String,
    /// The subcommand.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Whether the credentials or keys are the trouble.
    #[serde(skip)]
    about_trust: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Failed,
    Skipped,
}

impl Check {
    fn ok(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            outcome: Outcome::Ok,
            text: text.into(),
            hint: None,
            about_trust: false,
        }
    }
    fn skipped(name: &str, text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::ok(name, text) }
    }
    fn failed(name: &str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, hint: Some(hint.into()), ..Self::ok(name, text) }
    }
    fn about_trust(self) -> Self {
        Self { about_trust: true, ..self }
    }
    fn line(&self) -> String {
        let word = match self.outcome {
            Outcome::Ok => "ok    ".green().to_string(),
            Outcome::Failed => "FAILED".red().bold().to_string(),
            Outcome::Skipped => "-     ".dimmed().to_string(),
        };
        let text = escape::one_line(&redact::redact(&self.text));
        let hint = self.hint.as_deref().map(|hint| format!("\n{:29}hint: {}", "", escape::one_line(hint)));
        format!("{word} {:<20}  {text}{}", self.name, hint.unwrap_or_default())
    }
}

/// Runs the checks, printing each as it is done.
///
/// # Errors
/// Nothing says where to go.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let spec = load_whole_if_named(&args.spec, context)?;
    let environment = &context.environment;
    let read = |environment: &Environment| match &spec {
        Some(spec) => {
            transports_for(&Context { environment: environment.clone(), ..context.clone() }, spec, None)
        }
        None => Transports::of(environment),
    };
    let mut transports = read(environment);
    let mut checks = Vec::new();
    let mut tell = |check: Check| {
        if !args.json {
            output::print_line(&check.line());
        }
        checks.push(check);
    };
    let api = settings::api(&mut transports).await;
    let ssh = settings::ssh(&mut transports, environment, read).await;
    if !api.is_set && !ssh.is_set {
        return Err(reach::nowhere(environment));
    }
    let default_node = reach::default_node(environment).unwrap_or_else(|failure| {
        tell(settings::fault("node", &failure));
        None
    });
    let deployment = spec.as_ref().map(|spec| &spec.deployment);
    let api_places = settings::api_places(environment);
    checks::Asked { api, ssh, api_places, default_node, deployment }.run(&mut tell).await;
    if args.json {
        output::print_document("checks", &checks)?;
    }
    let failed = checks.iter().filter(|check| check.outcome == Outcome::Failed);
    let verdict = verdict(failed.map(|check| check.about_trust));
    output::say(if verdict == Exit::DONE {
        "all checks passed"
    } else {
        "some checks failed: see the hints"
    });
    Ok(verdict)
}

/// Credentials and host keys outweigh the rest: they are what the reader can put right here.
fn verdict(failed: impl Iterator<Item = bool>) -> Exit {
    failed.fold(
        Exit::DONE,
        |exit, about_trust| if about_trust { Exit::RIGHTS } else { exit.or(Exit::OBSERVED) },
    )
}
