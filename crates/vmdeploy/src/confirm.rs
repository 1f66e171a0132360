//! A change is confirmed by `--yes`, or by a user at a terminal.

use crate::failure::Failure;
use crate::output;
use std::io::BufRead as _;

/// Asks, unless `yes` is given already.
///
/// `what` completes "this would …", and `how_to_agree` "run it again with …". Returns whether it may be done.
///
/// # Errors
/// There is no terminal.
pub fn confirm(yes: bool, what: &str, how_to_agree: &str) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !output::can_ask() {
        return Err(Failure::usage(format!("this would {what}, and there is no terminal to confirm it on"))
            .hint(format!("to confirm, run it with {how_to_agree}")));
    }
    output::write_stderr(&format!("This will {}. Continue? [y/N] ", crate::escape::one_line(what)));
    output::finish();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    let agreed = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if !agreed {
        output::say("not confirmed; nothing was changed");
    }
    Ok(agreed)
}
