//! The API client for commands that use it by themselves, and how its errors and tasks are shown.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{escape, output, reach};
use pve_api::{ApiError, Client, Finished, Method, Task, TookEffect, Wait};
use std::time::Duration;

/// Returns the client that the environment describes: HTTPS, or `pvesh` where there is SSH alone.
///
/// # Errors
/// No host is named, or a setting is not what it should be.
pub async fn open(context: &Context) -> Result<Client, Failure> {
    let config = reach::connections_config(&context.environment)?;
    Ok(reach::open(config).await?.api().clone())
}

/// Turns an error of the API into a failure: its causes, its exit code, and what to do next.
pub fn failure(error: ApiError) -> Failure {
    let (exit, hint, effect) = (exit_of(&error), error.hint(), error.effect());
    let log = match &error {
        ApiError::Task { log, .. } => log.clone(),
        _ => Vec::new(),
    };
    let failure = match log.is_empty() {
        true => Failure::of(exit, error),
        false => {
            let lines: Vec<&str> = log.iter().map(String::as_str).collect();
            Failure::chain(exit, &error.to_string(), &lines)
        }
    };
    let failure = hint.into_iter().fold(failure, Failure::hint);
    match effect {
        TookEffect::Maybe => failure.hint("it may have taken effect: check before you repeat it"),
        TookEffect::Yes => failure.hint("it took effect: do not repeat it"),
        TookEffect::No => failure,
    }
}

fn exit_of(error: &ApiError) -> Exit {
    let is_read = error.call().is_none_or(|call| call.method == Method::Get);
    if error.is_denied() || error.is_unauthenticated() || matches!(error, ApiError::Certificate { .. }) {
        Exit::RIGHTS
    } else if matches!(error, ApiError::Unusable(_) | ApiError::SecretOnCommandLine { .. })
        || (error.status() == Some(400) && error.effect() == TookEffect::No)
    {
        Exit::USAGE
    } else if matches!(error, ApiError::Task { .. } | ApiError::TaskTimeout { .. }) {
        if error.effect() == TookEffect::No { Exit::FAILED_UNDONE } else { Exit::FAILED_LEFT }
    } else if is_read || error.is_unreachable() {
        Exit::OBSERVED
    } else if error.effect() == TookEffect::No {
        Exit::FAILED_UNDONE
    } else {
        Exit::FAILED_LEFT
    }
}

/// Waits for a task and shows its log on stderr meanwhile.
///
/// # Errors
/// It fails, or still runs after `timeout`.
pub async fn follow(task: &Task, timeout: Duration) -> Result<Finished, Failure> {
    let tell = |progress: pve_api::TaskProgress<'_>| {
        for line in progress.lines {
            output::say(&escape::one_line(&line.t));
        }
    };
    // The log was shown as it came: it is not shown once more.
    let without_log = |error| match error {
        ApiError::Task { upid, status, .. } => ApiError::Task { upid, status, log: Vec::new() },
        other => other,
    };
    task.wait_with(Wait::at_most(timeout), tell).await.map_err(|error| failure(without_log(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_api::{Answer, Call, Params, Request, Response};

    fn answered(method: Method, path: &str, status: u16, reason: &str) -> ApiError {
        let request = Request::new(method, path.parse().unwrap()).with(Params::new());
        ApiError::Answered(Box::new(Answer::of(Call::of(&request), &Response::empty(status, reason))))
    }

    #[test]
    fn exit_codes_tell_a_script_what_happened() {
        let check = |method, status, reason: &str, expect: Exit| {
            let error = answered(method, "/access/users", status, reason);
            assert_eq!(failure(error).exit(), expect, "{status} {reason}");
        };
        check(Method::Get, 403, "Permission check failed", Exit::RIGHTS);
        check(Method::Get, 401, "no", Exit::RIGHTS);
        check(Method::Get, 500, "no such user ('x@pve')", Exit::OBSERVED);
        check(Method::Post, 400, "Parameter verification failed.", Exit::USAGE);
        check(Method::Post, 595, "No route to host", Exit::OBSERVED);
        check(Method::Post, 501, "no", Exit::FAILED_UNDONE);
        check(Method::Post, 500, "create user failed: disk full", Exit::FAILED_LEFT);
        assert_eq!(failure(ApiError::Unusable("x".into())).exit(), Exit::USAGE);
    }
}
