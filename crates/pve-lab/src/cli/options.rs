//! Options of the ordinary programs, the GNU way: bundled letters, `--long=value`, `--`.

/// A command line taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    given: Vec<(&'static str, String)>,
    /// What is not an option.
    pub(super) operands: Vec<String>,
}

impl Options {
    /// Takes `arguments` apart. `known` names the options without dashes, with a trailing `=` where a value follows;
    /// letters that mean the same are joined by `|` and are known by the first.
    ///
    /// # Errors
    /// The program's text for an option that it does not know.
    pub(super) fn parse(arguments: &[String], known: &[&'static str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                options.operands.extend(rest.cloned());
                break;
            }
            if let Some(long) = argument.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
                let (first, takes) =
                    find(known, name).ok_or_else(|| format!("unrecognized option '{argument}'"))?;
                let value = match (takes, value) {
                    (true, Some(value)) => value,
                    (true, None) => rest
                        .next()
                        .cloned()
                        .ok_or_else(|| format!("option '{argument}' requires an argument"))?,
                    (false, None) => String::new(),
                    (false, Some(_)) => return Err(format!("option '--{name}' doesn't allow an argument")),
                };
                options.given.push((first, value));
            } else if argument.len() > 1 && argument.starts_with('-') {
                options.letters(&argument[1..], known, &mut rest)?;
            } else {
                options.operands.push(argument.clone());
            }
        }
        Ok(options)
    }

    /// As [`Options::parse`], but the first operand ends the options.
    pub(super) fn parse_leading(arguments: &[String], known: &[&'static str]) -> Result<Self, String> {
        let mut end = 0;
        while end < arguments.len() {
            let argument = &arguments[end];
            if argument == "--" || !argument.starts_with('-') || argument == "-" {
                break;
            }
            let name = argument.trim_start_matches('-');
            let wants_value = !argument.contains('=')
                && match argument.strip_prefix("--") {
                    Some(long) => find(known, long).is_some_and(|(_, takes)| takes),
                    None => name.chars().next_back().is_some_and(|letter| {
                        find(known, &letter.to_string()).is_some_and(|(_, takes)| takes)
                    }),
                };
            end += if wants_value { 2 } else { 1 };
        }
        let end = end.min(arguments.len());
        let mut options = Self::parse(&arguments[..end], known)?;
        let rest = &arguments[end..];
        let skip = usize::from(rest.first().is_some_and(|first| first == "--"));
        options.operands.extend_from_slice(&rest[skip..]);
        Ok(options)
    }

    fn letters(
        &mut self,
        letters: &str,
        known: &[&'static str],
        rest: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), String> {
        for (index, letter) in letters.char_indices() {
            let name = letter.to_string();
            let (first, takes) = find(known, &name).ok_or_else(|| format!("invalid option -- '{letter}'"))?;
            if takes {
                let joined = &letters[index + letter.len_utf8()..];
                let value = if joined.is_empty() {
                    rest.next()
                        .cloned()
                        .ok_or_else(|| format!("option requires an argument -- '{letter}'"))?
                } else {
                    joined.to_owned()
                };
                self.given.push((first, value));
                return Ok(());
            }
            self.given.push((first, String::new()));
        }
        Ok(())
    }

    /// Tells whether an option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(known, _)| *known == name)
    }

    /// The last value given for an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// Finds an option among `known`: the first of its names, and whether a value follows.
fn find(known: &[&'static str], name: &str) -> Option<(&'static str, bool)> {
    known.iter().find_map(|entry| {
        let (names, takes) = entry.strip_suffix('=').map_or((*entry, false), |names| (names, true));
        let first = names.split('|').next()?;
        names.split('|').any(|known| known == name).then_some((first, takes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, known: &[&'static str]) -> Result<Options, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&arguments, known)
    }

    #[test]
    fn letters_long_names_and_values() {
        let known = &["p|parents", "m|mode=", "v"];
        let options = parse("-pm 700 --parents a -- -v", known).unwrap();
        assert!(options.has("p") && !options.has("v"));
        assert_eq!(options.value("m"), Some("700"));
        assert_eq!(options.operands, ["a", "-v"]);
        assert_eq!(parse("--mode=755 x", known).unwrap().value("m"), Some("755"));
        assert_eq!(parse("-x", known).unwrap_err(), "invalid option -- 'x'");
        assert_eq!(parse("--frob", known).unwrap_err(), "unrecognized option '--frob'");
        assert_eq!(parse("-m", known).unwrap_err(), "option requires an argument -- 'm'");
    }

    #[test]
    fn leading_options_stop_at_the_command() {
        let arguments: Vec<String> = "-k 5 -s TERM 10 qm -x".split(' ').map(str::to_owned).collect();
        let options = Options::parse_leading(&arguments, &["k=", "s="]).unwrap();
        assert_eq!(options.operands, ["10", "qm", "-x"]);
        assert_eq!(options.value("s"), Some("TERM"));
    }
}
