//! Asking for a passphrase at the terminal, which is afterwards as it was before, whatever key ends the asking.

use crate::environment::names;
use pve_types::Secret;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use zeroize::Zeroizing;

/// Asks for the passphrase of the key in `path`. `attempt` counts from 1.
///
/// # Errors
/// Words: there is no terminal, nothing was typed, or Ctrl-C was.
pub fn ask(path: &Path, attempt: u32) -> Result<Secret, String> {
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(format!(
            "there is no terminal to ask for it; use ssh-agent, or set {} or {}",
            names::SSH_PASSPHRASE_FILE,
            names::SSH_PASSPHRASE_COMMAND
        ));
    };
    let again = if attempt > 1 { "wrong passphrase; " } else { "" };
    let shown = path.display().to_string().escape_debug().to_string();
    let typed = {
        let mut quiet = Quiet::begin(&terminal).map_err(|error| format!("the terminal: {error}"))?;
        let prompt = write!(terminal, "{again}passphrase for the key `{shown}`: ");
        let typed = prompt.and_then(|()| quiet.line());
        let _ = writeln!(terminal);
        typed.map_err(|error| format!("the terminal: {error}"))?
    };
    match typed {
        Typed::Line(line) => Ok(Secret::new(String::from_utf8_lossy(&line))),
        Typed::End => Err("none was entered".to_owned()),
        Typed::Interrupt => {
            // The terminal is as it was, so this is now what Ctrl-C means everywhere else.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
            Err("interrupted by Ctrl-C".to_owned())
        }
    }
}

/// What a person typed.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Line(Zeroizing<Vec<u8>>),
    End,
    Interrupt,
}

/// A terminal that shows nothing of what is typed and sends no signals, until it is dropped: a signal could end
/// the program before the terminal is as it was.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn begin(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON);
        // A read waits for one byte, however long that takes.
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        let terminal = terminal.try_clone()?;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }

    fn line(&mut self) -> io::Result<Typed> {
        read_line(|| {
            let mut byte = [0];
            Ok((self.terminal.read(&mut byte)? > 0).then_some(byte[0]))
        })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// What is typed at most; no passphrase is longer.
const LONGEST: usize = 1024;

/// Reads a line by its bytes, with the keys that edit one.
fn read_line(mut next: impl FnMut() -> io::Result<Option<u8>>) -> io::Result<Typed> {
    // Room for all of it: what grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    loop {
        match next()? {
            Some(b'\r' | b'\n') => return Ok(Typed::Line(line)),
            Some(0x03) => return Ok(Typed::Interrupt),
            // Ctrl-D, or a terminal that went away.
            Some(0x04) | None if line.is_empty() => return Ok(Typed::End),
            None => return Ok(Typed::Line(line)),
            Some(0x08 | 0x7f) => erase(&mut line),
            // Ctrl-U
            Some(0x15) => line.clear(),
            Some(byte) if byte >= b' ' && line.len() < LONGEST => line.push(byte),
            Some(_) => {}
        }
    }
}

/// Takes the last character off, all its bytes.
fn erase(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[u8], expect: Typed) {
        let mut keys = keys.iter().copied();
        assert_eq!(read_line(|| Ok(keys.next())).unwrap(), expect);
    }

    fn line(text: &str) -> Typed {
        Typed::Line(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn keys_edit_the_line_and_end_it() {
        check(b"open sesame\r", line("open sesame"));
        check(b"open\n sesame", line("open"));
        check("opeé\u{7f}\u{7f}n\r".as_bytes(), line("opn"));
        check(b"wrong\x15right\x08\x08ht\r", line("right"));
        check(b"\x7f\r", line(""));
        check(b"ope\x04n\r", line("open"));
        check(b"\x04", Typed::End);
        check(b"", Typed::End);
        check(b"ope\x03n\r", Typed::Interrupt);
        check(&[b'x'; LONGEST + 9], line(&"x".repeat(LONGEST)));
    }
}
