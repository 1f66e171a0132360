//! What the grammar takes and refuses.

use super::*;

/// Shows a list the way the tests state it: quoted text in «».
fn show(list: &List) -> String {
    let items = list.iter().map(|item| {
        let mut text = pipeline(&item.first);
        for (connector, next) in &item.rest {
            text += if *connector == Connector::And { " && " } else { " || " };
            text += &pipeline(next);
        }
        if item.background { text + " &" } else { text }
    });
    items.collect::<Vec<_>>().join("; ")
}

fn pipeline(pipeline: &Pipeline) -> String {
    let commands: Vec<_> = pipeline.commands.iter().map(command).collect();
    format!("{}{}", if pipeline.negated { "! " } else { "" }, commands.join(" | "))
}

fn command(command: &Command) -> String {
    let mut parts = match &command.kind {
        Kind::Simple { assignments, words } => {
            let mut all: Vec<_> =
                assignments.iter().map(|(name, value)| format!("{name}={}", word(value))).collect();
            all.extend(words.iter().map(word));
            all
        }
        Kind::Group(list) => vec![format!("{{ {} }}", show(list))],
        Kind::Subshell(list) => vec![format!("( {} )", show(list))],
        other => vec![format!("{other:?}")],
    };
    parts.extend(command.redirects.iter().map(|redirect| match &redirect.target {
        Target::Read(name) => format!("{}<{}", redirect.fd, word(name)),
        Target::Write(name) => format!("{}>{}", redirect.fd, word(name)),
        Target::Append(name) => format!("{}>>{}", redirect.fd, word(name)),
        Target::Duplicate(fd) => format!("{}>&{fd}", redirect.fd),
        Target::Close => format!("{}>&-", redirect.fd),
        Target::Text(text) => format!("{}<<{}", redirect.fd, word(text)),
    }));
    parts.join(" ")
}

fn word(parts: &Word) -> String {
    parts
        .iter()
        .map(|part| match part {
            Part::Literal { text, quoted: true } => format!("«{text}»"),
            Part::Literal { text, quoted: false } => text.clone(),
            Part::Parameter { name, .. } => format!("${{{name}}}"),
            Part::Substitution { list, .. } => format!("$({})", show(list)),
            Part::Home => "~".into(),
        })
        .collect()
}

fn check(script: &str, expect: &str) {
    let got = match parse(script) {
        Ok(list) => show(&list),
        Err(error) => error.to_string(),
    };
    assert_eq!(got, expect, "{script}");
}

#[test]
fn words_and_quotes() {
    check("qm set 100 --name 'a b;c'", "qm set 100 --name «a b;c»");
    check("echo \"x $y \\\"z\\$\"'q'\\;", "echo «x »${y}« \"z$»«q;»");
    check("a\\\nb", "ab");
    check("# nothing", "");
    check("echo a#b # c", "echo a#b");
    check("echo $ $? $$ ${x}y", "echo «$» ${?} ${$} ${x}y");
    check("X=1 Y='a b' cmd Z=3", "X=1 Y=«a b» cmd Z=3");
    check("echo ~ ~/a a~", "echo ~ ~/a a~");
    check("echo $(hostname -s) `id -u`", "echo $(hostname -s) $(id -u)");
    check("echo $'a\\nb'", "echo «a\nb»");
}

#[test]
fn lists_pipes_and_redirections() {
    check("a && b || c; d &", "a && b || c; d &");
    check("a 2>&1 | b 2>/dev/null >x >>y <z", "a 2>&1 | b 2>/dev/null 1>x 1>>y 0<z");
    check("a &>log", "a 1>log 2>&1");
    check("{ a; b; } >x; (c; d)", "{ a; b } 1>x; ( c; d )");
    check("! test -f x", "! test -f x");
    check("cat <<'E' > f\na $b\nE\necho", "cat 0<<«a $b\n» 1>f; echo");
    check("cat <<E\na $b\nE", "cat 0<<«a »${b}«\n»");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    check("[[ -f x ]]", "the lab's shell does not know `[[`");
    check("f() { a; }", "the lab's shell does not know functions");
    check("echo $((1+1))", "the lab's shell does not know `$((`");
    check("echo {a,b}", "the lab's shell does not know brace expansion; quote the braces");
    check("echo '{a,b}' \"{1..2}\" {} {a}", "echo «{a,b}» «{1..2}» {} {a}");
    check("a 3>x", "the lab's shell does not know file descriptor 3");
    check("diff <(a) b", "the lab's shell does not know process substitution");
    check("echo ${a/b/c}", "the lab's shell does not know this form of `${…}`");
    check("a=(1 2)", "the lab's shell does not know arrays");
}

#[test]
fn faults_of_grammar_are_found_before_anything_runs() {
    check("echo 'a", "syntax error unexpected EOF while looking for matching `''");
    check("a && ", "syntax error unexpected end of file");
    check("a ;; b", "syntax error near unexpected token `;;'");
    check("; a", "syntax error near unexpected token `;'");
    check("a )", "syntax error near unexpected token `)'");
    check("if true; fi", "syntax error near unexpected token `fi'");
    check("fi", "syntax error near unexpected token `fi'");
    check("{ a", "syntax error unexpected end of file");
    check("cat >", "syntax error near unexpected token `newline'");
}

#[test]
fn nesting_is_limited() {
    for script in [
        "(".repeat(10_000),
        "$(".repeat(10_000),
        "`".repeat(9_999),
        "{ ".repeat(10_000),
        "${a:-".repeat(10_000),
        "if ".repeat(5000),
    ] {
        assert!(parse(&script).is_err());
    }
}
