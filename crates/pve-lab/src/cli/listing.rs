//! `ls`, `stat`, `df`, `du`.

use super::files::{missing_operand, options};
use super::options::Options;
use super::{Context, Exit};
use crate::calendar::written;
use crate::vfs::{FsError, Kind, NodeFiles, Space, Stat};

fn permissions(stat: &Stat) -> String {
    let kind = match stat.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Device => 'c',
    };
    let mut text = String::from(kind);
    for shift in [6, 3, 0] {
        let bits = stat.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let sticky = shift == 0 && stat.mode & 0o1000 != 0;
        text.push(match (bits & 1 != 0, sticky) {
            (true, true) => 't',
            (false, true) => 'T',
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn name_of(id: u32) -> String {
    match id {
        0 => "root".into(),
        33 => "www-data".into(),
        other => other.to_string(),
    }
}

/// A time in UTC as `2026-11-21 23:16:59`.
pub(crate) fn utc(seconds: u64) -> String {
    written(seconds, "%F %T")
}

fn ls_time(seconds: u64) -> String {
    written(seconds, "%b %e %H:%M")
}

fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if value < 1024.0 {
            return if unit.is_empty() {
                format!("{bytes}")
            } else if value < 10.0 {
                format!("{value:.1}{unit}")
            } else {
                format!("{:.0}{unit}", value.ceil())
            };
        }
        value /= 1024.0;
    }
    format!("{bytes}")
}

fn long_line(files: &NodeFiles<'_>, path: &str, shown: &str, options: &Options) -> Result<String, FsError> {
    let stat = files.stat_link(path)?;
    let size = if options.has("h") { human(stat.size) } else { stat.size.to_string() };
    let link = if stat.kind == Kind::Symlink {
        format!(" -> {}", files.read_link(path).unwrap_or_default())
    } else {
        String::new()
    };
    let (owner, group) = if options.has("n") {
        (stat.uid.to_string(), stat.gid.to_string())
    } else {
        (name_of(stat.uid), name_of(stat.gid))
    };
    Ok(format!(
        "{} {} {owner} {group} {size:>10} {} {shown}{link}",
        permissions(&stat),
        stat.links,
        ls_time(stat.mtime)
    ))
}

fn entries(files: &NodeFiles<'_>, path: &str, options: &Options) -> Result<Vec<String>, FsError> {
    let mut names = files.list(path)?;
    if !options.has("a") && !options.has("A") {
        names.retain(|name| !name.starts_with('.'));
    }
    if options.has("a") {
        names.splice(0..0, [".".to_owned(), "..".to_owned()]);
    }
    let time = |name: &String| files.stat_link(&format!("{path}/{name}")).map_or(0, |stat| stat.mtime);
    if options.has("t") {
        names.sort_by_key(|name| std::cmp::Reverse(time(name)));
    }
    if options.has("r") {
        names.reverse();
    }
    Ok(names)
}

pub(super) async fn ls(context: &Context, arguments: &[String]) -> Exit {
    let known = &[
        "l",
        "a|all",
        "A|almost-all",
        "1",
        "d|directory",
        "h|human-readable",
        "t",
        "r|reverse",
        "n|numeric-uid-gid",
        "F|classify",
        "color=",
        "S",
        "i",
    ];
    let options = options!(context, "ls", arguments, known);
    if ["S", "i"].iter().any(|option| options.has(option)) {
        return context.fail(2, "ls: the lab does not know the options -S and -i").await;
    }
    let names = if options.operands.is_empty() { vec![".".to_owned()] } else { options.operands.clone() };
    let mut status = 0;
    let (mut plain, mut folders) = (Vec::new(), Vec::new());
    for name in names {
        let path = context.absolute(&name);
        match context.node.files(|files| files.stat(&path).or_else(|_| files.stat_link(&path))) {
            Ok(stat) if stat.kind == Kind::Directory && !options.has("d") => folders.push((name, path)),
            Ok(_) => plain.push((name, path)),
            Err(error) => {
                context.complain(format!("ls: cannot access '{name}': {error}")).await?;
                status = 2;
            }
        }
    }
    for (name, path) in &plain {
        let line = context.node.files(|files| {
            if options.has("l") { long_line(files, path, name, &options) } else { Ok(name.clone()) }
        });
        context.line(line.unwrap_or_default()).await?;
    }
    let titled = folders.len() > 1
        || (!plain.is_empty() && !folders.is_empty())
        || (status != 0 && !folders.is_empty());
    for (index, (name, path)) in folders.iter().enumerate() {
        if titled {
            let gap = if index > 0 || !plain.is_empty() { "\n" } else { "" };
            context.line(format!("{gap}{name}:")).await?;
        }
        let lines = context.node.files(|files| -> Result<Vec<String>, FsError> {
            let names = entries(files, path, &options)?;
            if !options.has("l") {
                return Ok(names);
            }
            let blocks: u64 = names
                .iter()
                .filter_map(|name| files.stat_link(&format!("{path}/{name}")).ok())
                .map(|stat| stat.allocated / 1024)
                .sum();
            let mut lines = vec![format!("total {blocks}")];
            for name in &names {
                lines.push(long_line(files, &format!("{path}/{name}"), name, &options)?);
            }
            Ok(lines)
        });
        for line in lines.unwrap_or_default() {
            context.line(line).await?;
        }
    }
    Ok(status)
}

fn kind_name(stat: &Stat) -> &'static str {
    match stat.kind {
        Kind::File if stat.size == 0 => "regular empty file",
        Kind::File => "regular file",
        Kind::Directory => "directory",
        Kind::Symlink => "symbolic link",
        Kind::Device => "character special file",
    }
}

/// Fills a format of `stat -c`.
fn formatted(format: &str, name: &str, stat: &Stat, space: Option<&Space>) -> Result<String, String> {
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let value = match (characters.next(), space) {
            (Some('%') | None, _) => "%".to_owned(),
            (Some('n'), _) => name.to_owned(),
            (Some('a'), Some(space)) => (space.available / 4096).to_string(),
            (Some('f'), Some(space)) => (space.available / 4096).to_string(),
            (Some('b'), Some(space)) => (space.total / 4096).to_string(),
            (Some('s' | 'S'), Some(_)) => "4096".into(),
            (Some('T'), Some(_)) => "ext2/ext3".into(),
            (Some('s'), None) => stat.size.to_string(),
            (Some('a'), None) => format!("{:o}", stat.mode),
            (Some('A'), None) => permissions(stat),
            (Some('b'), None) => (stat.allocated / 512).to_string(),
            (Some('B'), None) => "512".into(),
            (Some('F'), None) => kind_name(stat).into(),
            (Some('u'), None) => stat.uid.to_string(),
            (Some('U'), None) => name_of(stat.uid),
            (Some('g'), None) => stat.gid.to_string(),
            (Some('G'), None) => name_of(stat.gid),
            (Some('h'), None) => stat.links.to_string(),
            (Some('i'), None) => stat.inode.to_string(),
            (Some('Y' | 'X' | 'Z'), None) => stat.mtime.to_string(),
            (Some('y' | 'x' | 'z'), None) => format!("{}.000000000 +0000", utc(stat.mtime)),
            (Some(other), _) => return Err(format!("the lab does not know the directive %{other}")),
        };
        out.push_str(&value);
    }
    Ok(out)
}

pub(super) async fn stat(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "stat",
        arguments,
        &["c|format=", "L|dereference", "f|file-system", "printf=", "t"]
    );
    if options.operands.is_empty() {
        return missing_operand(context, "stat").await;
    }
    let mut status = 0;
    for name in &options.operands {
        let path = context.absolute(name);
        let found = context.node.files(|files| {
            let stat = if options.has("L") { files.stat(&path) } else { files.stat_link(&path) };
            stat.map(|stat| (stat, files.space(&path)))
        });
        let (stat, space) = match found {
            Ok(found) => found,
            Err(error) => {
                context.complain(format!("stat: cannot statx '{name}': {error}")).await?;
                status = 1;
                continue;
            }
        };
        let space = space.filter(|_| options.has("f"));
        let text = match (options.value("c"), options.value("printf")) {
            (Some(format), _) => formatted(format, name, &stat, space.as_ref()).map(|text| text + "\n"),
            (None, Some(format)) => formatted(&format.replace("\\n", "\n"), name, &stat, space.as_ref()),
            (None, None) => Ok(format!(
                "  File: {name}\n  Size: {:<10}\tBlocks: {:<10} IO Block: 4096   {}\nAccess: ({:04o}/{})  Uid: ({:>5}/{:>8})   Gid: ({:>5}/{:>8})\nModify: {}.000000000 +0000\n",
                stat.size,
                stat.allocated / 512,
                kind_name(&stat),
                stat.mode,
                permissions(&stat),
                stat.uid,
                name_of(stat.uid),
                stat.gid,
                name_of(stat.gid),
                utc(stat.mtime)
            )),
        };
        match text {
            Ok(text) => context.print(text).await?,
            Err(text) => return context.fail(1, format!("stat: {text}")).await,
        }
    }
    Ok(status)
}

pub(super) async fn df(context: &Context, arguments: &[String]) -> Exit {
    let known = &[
        "h|human-readable",
        "k",
        "P|portability",
        "B|block-size=",
        "output=",
        "T|print-type",
        "m",
        "l|local",
    ];
    let options = options!(context, "df", arguments, known);
    let (mut spaces, mut status) = (Vec::new(), 0);
    if options.operands.is_empty() {
        spaces = context.node.files(|files| files.spaces());
    }
    for name in &options.operands {
        let path = context.absolute(name);
        match context.node.files(|files| files.stat(&path).map(|_| files.space(&path))) {
            Ok(space) => spaces.extend(space),
            Err(error) => {
                context.complain(format!("df: {name}: {error}")).await?;
                status = 1;
            }
        }
    }
    if spaces.is_empty() {
        return Ok(1);
    }
    let unit = match options.value("B") {
        Some("1") => 1,
        Some("M" | "1M") => 1 << 20,
        Some("G" | "1G") => 1 << 30,
        Some("K" | "1K") | None if !options.has("m") => 1024,
        None => 1 << 20,
        Some(other) => {
            return context.fail(1, format!("df: the lab does not know the block size ‘{other}’")).await;
        }
    };
    let number = |bytes: u64| if options.has("h") { human(bytes) } else { bytes.div_ceil(unit).to_string() };
    let percent = |space: &Space| format!("{}%", (space.used * 100).checked_div(space.total).unwrap_or(0));
    let mut rows = Vec::new();
    if let Some(columns) = options.value("output") {
        let cells = |choose: &dyn Fn(&str) -> Option<String>| {
            columns.split(',').map(choose).collect::<Option<Vec<_>>>()
        };
        let header = cells(&|column| {
            Some(match column {
                "source" => "Filesystem".into(),
                "size" => "1K-blocks".replace("1K", unit_name(unit)),
                "used" => "Used".into(),
                "avail" => "Avail".into(),
                "pcent" => "Use%".into(),
                "target" => "Mounted on".into(),
                _ => return None,
            })
        });
        let Some(header) = header else {
            return context.fail(1, format!("df: the lab does not know all of the fields ‘{columns}’")).await;
        };
        rows.push(header);
        for space in &spaces {
            rows.extend(cells(&|column| {
                Some(match column {
                    "source" => space.device.clone(),
                    "size" => number(space.total),
                    "used" => number(space.used),
                    "avail" => number(space.available),
                    "pcent" => percent(space),
                    _ => space.mounted_on.clone(),
                })
            }));
        }
    } else {
        let title = if options.has("h") {
            "Size".to_owned()
        } else if options.has("P") {
            format!("{}-blocks", unit)
        } else {
            format!("{}-blocks", unit_name(unit))
        };
        let last = if options.has("P") { "Capacity" } else { "Use%" };
        let available = if options.has("h") { "Avail" } else { "Available" };
        rows.push(["Filesystem", &title, "Used", available, last, "Mounted on"].map(str::to_owned).to_vec());
        for space in &spaces {
            rows.push(vec![
                space.device.clone(),
                number(space.total),
                number(space.used),
                number(space.available),
                percent(space),
                space.mounted_on.clone(),
            ]);
        }
    }
    for line in table(&rows) {
        context.line(line).await?;
    }
    Ok(status)
}

fn unit_name(unit: u64) -> &'static str {
    match unit {
        1 => "1B",
        1024 => "1K",
        1_048_576 => "1M",
        _ => "1G",
    }
}

/// Aligns columns: names to the left, figures to the right.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_name = |column: usize| {
        rows.first()
            .and_then(|row| row.get(column))
            .is_some_and(|title| title == "Filesystem" || title == "Mounted on")
    };
    let cell = |(column, cell): (usize, &String)| match (is_name(column), column + 1 == columns) {
        (true, true) => cell.clone(),
        (true, false) => format!("{cell:<width$}", width = widths[column]),
        (false, _) => format!("{cell:>width$}", width = widths[column]),
    };
    rows.iter().map(|row| row.iter().enumerate().map(cell).collect::<Vec<_>>().join(" ")).collect()
}

fn tree_size(files: &NodeFiles<'_>, path: &str, apparent: bool) -> Result<u64, FsError> {
    let stat = files.stat_link(path)?;
    let own = if apparent { stat.size } else { stat.allocated };
    if stat.kind != Kind::Directory {
        return Ok(own);
    }
    let mut total = own;
    for name in files.list(path)? {
        total += tree_size(files, &format!("{path}/{name}"), apparent)?;
    }
    Ok(total)
}

pub(super) async fn du(context: &Context, arguments: &[String]) -> Exit {
    let options = options!(
        context,
        "du",
        arguments,
        &["s|summarize", "b|bytes", "h|human-readable", "k", "m", "apparent-size"]
    );
    let names = if options.operands.is_empty() { vec![".".to_owned()] } else { options.operands.clone() };
    let mut status = 0;
    for name in names {
        let path = context.absolute(&name);
        let apparent = options.has("b") || options.has("apparent-size");
        match context.node.files(|files| tree_size(files, path.trim_end_matches('/'), apparent)) {
            Ok(size) => {
                let shown = match () {
                    () if options.has("b") => size.to_string(),
                    () if options.has("h") => human(size),
                    () if options.has("m") => size.div_ceil(1 << 20).to_string(),
                    () => size.div_ceil(1024).to_string(),
                };
                context.line(format!("{shown}\t{name}")).await?;
            }
            Err(error) => {
                context.complain(format!("du: cannot access '{name}': {error}")).await?;
                status = 1;
            }
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(1_795_303_019), "2026-11-21 23:16:59");
    }

    #[test]
    fn sizes_are_shown_for_people() {
        for (bytes, expect) in
            [(0, "0"), (1023, "1023"), (1536, "1.5K"), (18_093_056, "18M"), (107_374_182_400, "100G")]
        {
            assert_eq!(human(bytes), expect);
        }
    }
}
