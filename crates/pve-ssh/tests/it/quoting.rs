//! `quote()` against real shells: every byte but NUL comes back as it went.

use crate::{Needs, test};
use libtest_mimic::Trial;
use pve_ssh::command::quote;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    let shells = ["sh", "bash", "dash", "busybox", "zsh", "ksh"];
    let mut trials = Vec::new();
    for shell in shells {
        let name = format!("quoting::every_byte_but_nul_comes_back_from_{shell}");
        trials.push(test(&name, Needs::Shell(shell), move || async move { round_trip(shell) }));
    }
    trials
}

/// Sends many words in one script, each printed back with its length, and compares.
fn round_trip(shell: &str) {
    let words = words();
    for chunk in words.chunks(200) {
        let mut script = b"printf '%s\\0'".to_vec();
        for word in chunk {
            script.push(b' ');
            script.extend(quote(word).unwrap());
        }
        let mut command = Command::new(shell);
        if shell == "busybox" {
            command.arg("sh");
        }
        use std::os::unix::ffi::OsStrExt as _;
        let run = command.arg("-c").arg(std::ffi::OsStr::from_bytes(&script)).stdin(Stdio::null());
        let output = run.env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let back: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        assert_eq!(back.len(), chunk.len() + 1);
        for (word, got) in chunk.iter().zip(back) {
            assert_eq!(word.as_slice(), got, "{shell} changed {:?}", String::from_utf8_lossy(word));
        }
    }
}

/// Every single byte, every pair with a special one, what shells are known to trip over, and random words.
fn words() -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = (1..=255u8).map(|byte| vec![byte]).collect();
    let special = b"'\"\\$`!*?[]{}()<>|&;~#=% \t\n\r-+^@,:.";
    for &one in special {
        for &other in special {
            words.push(vec![one, other]);
            words.push(vec![b'a', one, b'b', other, b'c']);
        }
    }
    let known = [
        "",
        "-n",
        "--",
        "$HOME",
        "$(id)",
        "`id`",
        "a'b",
        "''",
        "'\\''",
        "~root",
        "a=~",
        "{a,b}",
        "!!",
        "\\",
        "\\n",
        "%s",
        "*",
        "/*",
        "[a-z]*",
        "#c",
        "a\nb",
        "\u{feff}x",
        "ü",
        "日本語",
        "A=b",
        "=ls",
        "if",
        "for",
        "a;b",
        "local:~",
    ];
    words.extend(known.iter().map(|word| word.as_bytes().to_vec()));
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..2000 {
        let length = next(&mut state) % 40;
        words.push((0..length).map(|_| (next(&mut state) % 255 + 1) as u8).collect());
    }
    words
}

/// A small generator, so that a failure can be repeated.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}
