//! `vmdeploy api`: any call of Proxmox VE's API, as `pvesh` makes them on a node.

use crate::api_client;
use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{CommandResult, Failure};
use crate::{output, redact, values};
use pve_api::{ApiError, ApiPath, Method, Params, Request, Response};
use pve_types::{Secret, Upid};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

/// Calls any path of the API.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Read an object or list
    Get(CallArgs),
    /// Create an object, or start an action
    Post(CallArgs),
    /// Change an object
    Put(CallArgs),
    /// Remove an object
    Delete(CallArgs),
}

#[derive(Debug, clap::Args)]
struct CallArgs {
    /// API path, such as /nodes/pve1/qemu
    path: String,
    /// Parameters; a key may be repeated
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// Secret parameter, read from an environment variable
    #[arg(long, value_name = "KEY=NAME")]
    secret_env: Vec<String>,
    /// Secret parameter, read from a file, or from standard input for `-`
    #[arg(long, value_name = "KEY=FILE")]
    secret_file: Vec<String>,
    /// Print the answer as JSON, including errors
    #[arg(long)]
    json: bool,
    /// Do not ask before a change
    #[arg(short, long)]
    yes: bool,
    /// Wait for the task that the call starts, and show its log
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait for the task, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

/// Makes the call and prints its answer.
///
/// # Errors
/// The path or a parameter is malformed, or the call fails.
pub async fn run(args: &Args, context: &Context) -> CommandResult {
    let (method, call) = match &args.verb {
        Verb::Get(call) => (Method::Get, call),
        Verb::Post(call) => (Method::Post, call),
        Verb::Put(call) => (Method::Put, call),
        Verb::Delete(call) => (Method::Delete, call),
    };
    let path: ApiPath = call.path.parse().map_err(|error: pve_api::InvalidPath| Failure::usage(error))?;
    let what = format!("{} {path}", verb_of(method));
    let request = Request::new(method, path).with(params(call, context)?);
    if method != Method::Get && !confirm(call.yes, &format!("send {what}"), "`--yes`")? {
        return Ok(Exit::USAGE);
    }
    let client = api_client::open(context).await?;
    let response = match client.send(&request).await {
        Ok(response) => response,
        Err(error) => {
            if call.json {
                print_json(&error_json(&error))?;
            }
            return Err(api_client::failure(error));
        }
    };
    match call.json {
        true => print_json(&response.data)?,
        false => output::write_stdout(&values::render(&response.data)),
    }
    if call.wait
        && let Some(upid) = upid(&response)
    {
        api_client::follow(&client.task(&upid), Duration::from_secs(call.timeout)).await?;
    }
    Ok(Exit::DONE)
}

fn verb_of(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    }
}

fn upid(response: &Response) -> Option<Upid> {
    response.data.as_str()?.parse().ok()
}

fn params(call: &CallArgs, context: &Context) -> Result<Params, Failure> {
    let mut params = Params::new();
    for text in &call.params {
        let (key, value) = pair(text)?;
        params.push(key, value);
    }
    for text in &call.secret_env {
        let (key, name) = pair(text)?;
        let value = context.environment.get(name);
        let value = value.ok_or_else(|| Failure::usage(format!("the variable `{name}` is not set")))?;
        params = params.with_secret(key, &known(value));
    }
    for text in &call.secret_file {
        let (key, path) = pair(text)?;
        params = params.with_secret(key, &secret_file(path)?);
    }
    Ok(params)
}

fn pair(text: &str) -> Result<(&str, &str), Failure> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        // The text is not shown: it may be half of a secret.
        _ => Err(Failure::usage("a parameter is written as `key=value`")),
    }
}

/// Reads a secret from a file, or from standard input for `-`, without its last newline.
///
/// # Errors
/// It cannot be read.
pub fn secret_file(path: &str) -> Result<Secret, Failure> {
    let text = match path {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        _ => std::fs::read_to_string(PathBuf::from(path)),
    };
    let text =
        text.map_err(|error| Failure::of(Exit::USAGE, error).context(format!("cannot read `{path}`")))?;
    Ok(known(text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text))))
}

fn known(value: &str) -> Secret {
    redact::register(value);
    Secret::new(value)
}

fn error_json(error: &ApiError) -> Value {
    json!({
        "error": error.to_string(),
        "status": error.status(),
        "said": error.said(),
        "errors": error.parameter_errors(),
        "effect": error.effect(),
    })
}

/// Prints a value as JSON on stdout.
///
/// # Errors
/// It cannot be written as JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = output::json(value)?;
    output::print_line(&text);
    Ok(())
}
