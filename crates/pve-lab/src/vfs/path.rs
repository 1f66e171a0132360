//! Path arithmetic and glob patterns, without a file system behind them.

/// Returns the absolute form of `path` as seen from `cwd`, without `.` and `//`; `..` is kept for the
/// walk, because what it means depends on symbolic links.
pub(super) fn components(cwd: &str, path: &str) -> Vec<String> {
    let base = if path.starts_with('/') { "" } else { cwd };
    base.split('/')
        .chain(path.split('/'))
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect()
}

/// Returns `/a/b` for its parts.
pub fn join(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

/// Returns the absolute path with `.`, `..` and `//` taken out as text.
pub fn normalize(cwd: &str, path: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    for part in components(cwd, path) {
        if part == ".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    join(&out)
}

/// Tells whether `name` matches the shell pattern (`*`, `?`, `[…]`, `\x`); a `/` is an ordinary character.
pub fn glob_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() {
            return p == pattern.len();
        }
        match match_one(&pattern, p, name[n]) {
            Some(next) => {
                p = next;
                n += 1;
            }
            None => match star {
                Some((after, at)) => {
                    star = Some((after, at + 1));
                    p = after;
                    n = at + 1;
                }
                None => return false,
            },
        }
    }
}

/// Matches one character against the pattern element at `p`; returns where the next element begins.
fn match_one(pattern: &[char], p: usize, character: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => match bracket_end(pattern, p) {
            Some(end) => in_bracket(&pattern[p + 1..end], character).then_some(end + 1),
            None => (character == '[').then_some(p + 1),
        },
        '\\' => match pattern.get(p + 1) {
            Some(escaped) => (*escaped == character).then_some(p + 2),
            None => (character == '\\').then_some(p + 1),
        },
        other => (other == character).then_some(p + 1),
    }
}

fn bracket_end(pattern: &[char], open: usize) -> Option<usize> {
    let mut first = open + 1;
    if matches!(pattern.get(first), Some('!' | '^')) {
        first += 1;
    }
    (first + 1..pattern.len()).find(|index| pattern[*index] == ']')
}

fn in_bracket(set: &[char], character: char) -> bool {
    let (negated, set) = match set.first() {
        Some('!' | '^') => (true, &set[1..]),
        _ => (false, set),
    };
    let mut found = false;
    let mut index = 0;
    while index < set.len() {
        if index + 2 < set.len() && set[index + 1] == '-' {
            found |= set[index] <= character && character <= set[index + 2];
            index += 3;
        } else {
            found |= set[index] == character;
            index += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expect) in [
            ("*", "abc", true),
            ("*.conf", "100.conf", true),
            ("*.conf", "100.config", false),
            ("1?0", "120", true),
            ("[1-3]x", "2x", true),
            ("[!1-3]x", "2x", false),
            ("[]x", "[]x", true),
            ("a*b*c", "aXbYbZc", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("**", "", true),
            ("vm-*-disk-[0-9]", "vm-100-disk-7", true),
        ] {
            assert_eq!(glob_matches(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_normalized() {
        for (cwd, path, expect) in
            [("/root", "a/../b", "/root/b"), ("/", "//x/./y/", "/x/y"), ("/a", "../../..", "/")]
        {
            assert_eq!(normalize(cwd, path), expect);
        }
    }
}
