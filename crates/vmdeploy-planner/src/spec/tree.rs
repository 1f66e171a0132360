//! YAML as a compact tree in which every value knows its place.
//!
//! Built from the parser's events within limits, so that hostile input is refused before it costs anything: a node
//! takes twenty bytes, aliases are references that are never expanded, and what they would expand to is counted.

use super::diagnostic::Span;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;

/// How large a file may be.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// How many values a file may hold, aliases expanded.
pub const MAX_NODES: usize = 2_000_000;
/// How deep values may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many lines a file may have: the parser remembers each line end of a text.
const MAX_LINES: usize = 2_000_000;
/// How many `!` a file may have: each may begin a tag, and the parser keeps the tags of a line.
const MAX_MARKS: usize = 50_000;
/// How many anchors a file may have.
pub const MAX_ANCHORS: usize = 10_000;

/// The tags of YAML's own kinds of values; every other names a kind of a program.
const CORE_TAGS: &[&str] = &["str", "int", "float", "bool", "null", "map", "seq"];

/// A whole file.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    file: u16,
    nodes: Vec<Record>,
    /// All scalars' texts, one after the other.
    text: String,
    /// The first node of each document.
    roots: Vec<u32>,
}

/// One node; children follow their parent, keys and values in turn.
#[derive(Debug, Clone, Copy)]
struct Record {
    line: u32,
    column: u32,
    /// A scalar's place in the text, a container's end among the nodes, an alias's target.
    at: u32,
    /// A scalar's length, a container's number of children (a map's keys and values both count).
    count: u32,
    tag: RecordTag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordTag {
    Plain,
    Quoted,
    List,
    Map,
    Alias,
}

/// Why a file is not a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeFault {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

/// A value in a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    tree: &'a Tree,
    index: u32,
    /// Where the value is used: an alias's place, else its own.
    span: Span,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'a> {
    /// Nothing: `null`, `~` or no text at all.
    Null,
    /// A scalar that is written without quotes.
    Plain(&'a str),
    /// A scalar in quotes, or a block of text.
    Quoted(&'a str),
    List,
    Map,
}

impl Tree {
    /// Reads a file.
    pub(crate) fn parse(file: u16, text: &str) -> Result<Self, TreeFault> {
        let start = Span { file, line: 1, column: 1 };
        if text.len() > MAX_FILE_BYTES {
            let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(TreeFault {
                span: start,
                message,
                hint: Some("split it into several files of one folder".into()),
            });
        }
        let count = |desired: u8| text.bytes().filter(|byte| *byte == desired).count();
        let (lines, marks) = (count(b'\n'), count(b'!'));
        if lines > MAX_LINES || marks > MAX_MARKS {
            let (most, what) = if lines > MAX_LINES { (MAX_LINES, "lines") } else { (MAX_MARKS, "`!`") };
            let message = format!("the file has more than {most} {what}");
            return Err(TreeFault { span: start, message, hint: None });
        }
        let mut builder = Builder::new(file, text.len());
        for event in Parser::new_from_str(text) {
            let (event, span) = event
                .map_err(|error| odd_blank(file, text, &error).unwrap_or_else(|| scan_fault(file, &error)))?;
            let place =
                Place { line: number(span.start.line()), column: number(span.start.col()).saturating_add(1) };
            builder.event(event, place)?;
        }
        Ok(builder.tree)
    }

    /// Returns the documents of the file that hold anything.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Node<'_>> {
        self.roots.iter().map(|&index| self.node(index)).filter(|node| !matches!(node.shape(), Shape::Null))
    }

    fn node(&self, index: u32) -> Node<'_> {
        let record = self.record(index);
        let span = Span { file: self.file, line: record.line, column: record.column };
        let target = if record.tag == RecordTag::Alias { record.at } else { index };
        Node { tree: self, index: target, span }
    }
    fn record(&self, index: u32) -> Record {
        self.nodes[index as usize]
    }
    /// Returns the index behind a node and all that is in it.
    fn after(&self, index: u32) -> u32 {
        match self.record(index) {
            Record { tag: RecordTag::List | RecordTag::Map, at, .. } => at,
            _ => index + 1,
        }
    }
}

impl<'a> Node<'a> {
    /// Returns where it stands.
    pub(crate) fn span(self) -> Span {
        self.span
    }
    /// Returns what it is.
    pub(crate) fn shape(self) -> Shape<'a> {
        let record = self.tree.record(self.index);
        let text = || &self.tree.text[record.at as usize..(record.at + record.count) as usize];
        match record.tag {
            RecordTag::Plain => match text() {
                "" | "~" | "null" | "Null" | "NULL" => Shape::Null,
                text => Shape::Plain(text),
            },
            RecordTag::Quoted => Shape::Quoted(text()),
            RecordTag::List => Shape::List,
            RecordTag::Map | RecordTag::Alias => Shape::Map,
        }
    }
    /// Tells whether it is nothing.
    pub(crate) fn is_null(self) -> bool {
        matches!(self.shape(), Shape::Null)
    }
    /// Returns a scalar's text.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self.shape() {
            Shape::Plain(text) | Shape::Quoted(text) => Some(text),
            Shape::Null | Shape::List | Shape::Map => None,
        }
    }
    /// Returns a list's items; nothing for anything else.
    pub(crate) fn items(self) -> impl Iterator<Item = Node<'a>> {
        self.children(RecordTag::List)
    }
    /// Returns a map's keys and values; nothing for anything else.
    pub(crate) fn entries(self) -> impl Iterator<Item = (Node<'a>, Node<'a>)> {
        let mut children = self.children(RecordTag::Map);
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }
    /// Returns the value of a map's key.
    pub(crate) fn get(self, key: &str) -> Option<Node<'a>> {
        self.entries().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }
    /// Returns how many items or entries it has.
    pub(crate) fn len(self) -> usize {
        let record = self.tree.record(self.index);
        match record.tag {
            RecordTag::List => record.count as usize,
            RecordTag::Map => record.count as usize / 2,
            _ => 0,
        }
    }
    /// Returns how many values it holds, itself and its keys counted, aliases as often as they are used.
    pub(crate) fn weight(self) -> usize {
        let children = self.children(RecordTag::List).chain(self.children(RecordTag::Map));
        1 + children.map(Node::weight).sum::<usize>()
    }
    fn children(self, tag: RecordTag) -> impl Iterator<Item = Node<'a>> {
        let tree = self.tree;
        let record = tree.record(self.index);
        let end = if record.tag == tag { record.at } else { 0 };
        let mut next = self.index + 1;
        std::iter::from_fn(move || {
            let index = next;
            (index < end).then(|| {
                next = tree.after(index);
                tree.node(index)
            })
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    line: u32,
    column: u32,
}

/// What a container that is still open has so far.
struct Open {
    index: u32,
    anchor: usize,
    children: u32,
    /// Values in it, aliases expanded.
    weight: usize,
    /// Bytes of text in it, aliases expanded.
    bytes: usize,
}

/// What an anchor stands for.
#[derive(Clone, Copy)]
struct Anchored {
    index: u32,
    weight: usize,
    bytes: usize,
}

struct Builder {
    tree: Tree,
    open: Vec<Open>,
    anchors: Vec<Option<Anchored>>,
    weight: usize,
    bytes: usize,
}

impl Builder {
    fn new(file: u16, bytes: usize) -> Self {
        let text = String::with_capacity(bytes / 2);
        Self {
            tree: Tree { file, text, ..Tree::default() },
            open: Vec::new(),
            anchors: Vec::new(),
            weight: 0,
            bytes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), TreeFault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), place)
            }
            Event::SequenceStart(anchor, tag) => self.start(RecordTag::List, anchor, tag, place),
            Event::MappingStart(anchor, tag) => self.start(RecordTag::Map, anchor, tag, place),
            Event::SequenceEnd | Event::MappingEnd => self.end(place),
            Event::Alias(anchor) => self.alias(anchor, place),
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), TreeFault> {
        let quoted = self.is_text_tag(tag, place)? || style != ScalarStyle::Plain;
        let at = number(self.tree.text.len());
        self.tree.text.push_str(text);
        let tag = if quoted { RecordTag::Quoted } else { RecordTag::Plain };
        let index =
            self.push(Record { line: place.line, column: place.column, at, count: number(text.len()), tag })?;
        self.define(anchor, Some(Anchored { index, weight: 1, bytes: text.len() }), place)?;
        self.add(1, text.len(), place)
    }

    fn start(
        &mut self,
        tag: RecordTag,
        anchor: usize,
        yaml_tag: Option<Cow<'_, Tag>>,
        place: Place,
    ) -> Result<(), TreeFault> {
        if yaml_tag.is_some() {
            self.is_text_tag(yaml_tag.as_deref(), place)?;
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fault(place, format!("values are nested more than {MAX_DEPTH} deep"), None));
        }
        let index = self.push(Record { line: place.line, column: place.column, at: 0, count: 0, tag })?;
        self.define(anchor, None, place)?;
        self.open.push(Open { index, anchor, children: 0, weight: 1, bytes: 0 });
        Ok(())
    }

    fn end(&mut self, place: Place) -> Result<(), TreeFault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let end = number(self.tree.nodes.len());
        let record = &mut self.tree.nodes[open.index as usize];
        (record.at, record.count) = (end, open.children);
        let (weight, bytes) = (open.weight, open.bytes);
        self.define(open.anchor, Some(Anchored { index: open.index, weight, bytes }), place)?;
        self.add(weight, bytes, place)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), TreeFault> {
        let Some(target) = self.anchors.get(anchor).copied().flatten() else {
            return Err(self.fault(place, "an alias is inside the value that it refers to".to_owned(), None));
        };
        let Place { line, column } = place;
        self.push(Record { line, column, at: target.index, count: 0, tag: RecordTag::Alias })?;
        self.add(target.weight, target.bytes, place)
    }

    fn push(&mut self, record: Record) -> Result<u32, TreeFault> {
        let index = number(self.tree.nodes.len());
        if self.tree.nodes.len() >= MAX_NODES {
            let place = Place { line: record.line, column: record.column };
            return Err(self.too_many(place));
        }
        match self.open.last_mut() {
            Some(open) => open.children += 1,
            None => self.tree.roots.push(index),
        }
        self.tree.nodes.push(record);
        Ok(index)
    }

    /// Counts a finished value into its container.
    fn add(&mut self, weight: usize, bytes: usize, place: Place) -> Result<(), TreeFault> {
        let (total, text) = match self.open.last_mut() {
            Some(open) => (&mut open.weight, &mut open.bytes),
            None => (&mut self.weight, &mut self.bytes),
        };
        *total = total.saturating_add(weight);
        *text = text.saturating_add(bytes);
        if *total > MAX_NODES || *text > MAX_FILE_BYTES {
            return Err(self.too_many(place));
        }
        Ok(())
    }

    fn define(&mut self, anchor: usize, value: Option<Anchored>, place: Place) -> Result<(), TreeFault> {
        if anchor == 0 {
            return Ok(());
        }
        if anchor > MAX_ANCHORS {
            return Err(self.fault(place, format!("there are more than {MAX_ANCHORS} anchors"), None));
        }
        if self.anchors.len() <= anchor {
            self.anchors.resize(anchor + 1, None);
        }
        self.anchors[anchor] = value;
        Ok(())
    }

    fn is_text_tag(&self, tag: Option<&Tag>, place: Place) -> Result<bool, TreeFault> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() && CORE_TAGS.contains(&tag.suffix.as_str()) => {
                Ok(tag.suffix == "str")
            }
            Some(_) => Err(self.fault(
                place,
                "YAML tags (`!…`) are not supported".to_owned(),
                Some("remove the tag"),
            )),
        }
    }

    fn too_many(&self, place: Place) -> TreeFault {
        let message = format!(
            "the file contains more than {MAX_NODES} values or {} MiB of text, counting each use of an alias",
            MAX_FILE_BYTES >> 20
        );
        self.fault(
            place,
            message,
            Some("split it into several files, and use `profiles:` for repeated values"),
        )
    }

    fn fault(&self, place: Place, message: String, hint: Option<&str>) -> TreeFault {
        let span = Span { file: self.tree.file, line: place.line, column: place.column };
        TreeFault { span, message, hint: hint.map(str::to_owned) }
    }
}

fn scan_fault(file: u16, error: &ScanError) -> TreeFault {
    let mark = error.marker();
    let span = Span { file, line: number(mark.line()).max(1), column: number(mark.col()).saturating_add(1) };
    let info = error.info();
    if info.contains("recursion limit") {
        return TreeFault {
            span,
            message: format!("values are nested more than {MAX_DEPTH} deep"),
            hint: None,
        };
    }
    let hint = if info.contains("unprintable") {
        Some("the file contains a control character, such as a zero byte; check that it is a text file")
    } else if info.contains("flow mapping") || info.contains("flow sequence") {
        Some("close each `{` with `}` and each `[` with `]`, and separate the items by `, `")
    } else if info.contains("quoted scalar") || info.contains("end of stream") {
        Some("close each `'` and `\"`")
    } else if info.contains("valid YAML whitespace") {
        Some("put one space, not a tab, after the `:`")
    } else if info.contains("node content") {
        Some("a value is missing, or there is an extra `[`, `{`, `]` or `}`")
    } else if info.contains("tab") {
        Some("indent with spaces, not with tabs")
    } else if info.contains("anchor") {
        Some("an alias `*name` needs an earlier anchor `&name`; a string that starts with `*` needs quotes")
    } else if info.contains("mapping values") || info.contains("simple key") || info.contains("block mapping")
    {
        Some("check the indentation, and quote strings that contain `: ` or ` #`")
    } else {
        None
    };
    TreeFault { span, message: format!("this is not YAML: {info}"), hint: hint.map(str::to_owned) }
}

/// Returns what is said where a blank that YAML does not know, and that looks like one, stands before a fault.
fn odd_blank(file: u16, text: &str, error: &ScanError) -> Option<TreeFault> {
    let line = error.marker().line();
    let (first, until) = (line.saturating_sub(3), line);
    let lines = text.lines().enumerate().skip(first).take(until.saturating_sub(first));
    let odd = |c: char| (c.is_whitespace() && !matches!(c, ' ' | '\t' | '\r')) || c == '\u{feff}';
    let mut found = None;
    for (at, line) in lines {
        if let Some((column, blank)) = line.chars().enumerate().find(|(_, c)| odd(*c)) {
            found = Some((at, column, blank));
        }
    }
    let (at, column, blank) = found?;
    let span = Span { file, line: number(at + 1), column: number(column + 1) };
    let message = format!("this is not YAML: the space here is the character U+{:04X}", u32::from(blank));
    Some(TreeFault { span, message, hint: Some("replace it by a plain space".to_owned()) })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: Node<'_>) -> String {
        match node.shape() {
            Shape::Null => "null".to_owned(),
            Shape::Plain(text) => text.to_owned(),
            Shape::Quoted(text) => format!("{text:?}"),
            Shape::List => format!("[{}]", node.items().map(show).collect::<Vec<_>>().join(" ")),
            Shape::Map => {
                let entry = |(key, value)| format!("{}:{}", show(key), show(value));
                format!("{{{}}}", node.entries().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }
    fn check(text: &str, expect: &str) {
        let tree = Tree::parse(0, text).unwrap();
        let shown: Vec<String> = tree.documents().map(show).collect();
        assert_eq!(shown.join(" | "), expect, "{text}");
    }

    #[test]
    fn values_keep_their_shape() {
        check(
            "a: 1\nb: [x, 'y', \"\"]\nc: {d: null, e: ~, f: }",
            "{a:1 b:[x \"y\" \"\"] c:{d:null e:null f:null}}",
        );
        check("a: &x {b: 1}\nc: *x\nd: [*x, *x]", "{a:{b:1} c:{b:1} d:[{b:1} {b:1}]}");
        check("---\na: 1\n---\n---\nb: |\n  x\n  y\n", "{a:1} | {b:\"x\\ny\\n\"}");
        check("", "");
        check("a: !!str 5", "{a:\"5\"}");
    }

    #[test]
    fn places_are_those_of_the_value() {
        let tree = Tree::parse(3, "vms:\n  é: {cpu: 2}\n").unwrap();
        let root = tree.documents().next().unwrap();
        let cpu = root.get("vms").unwrap().get("é").unwrap().get("cpu").unwrap();
        assert_eq!(cpu.span(), Span { file: 3, line: 2, column: 12 });
    }

    #[test]
    fn hostile_input_is_refused_at_its_place() {
        let check = |text: &str, part: &str| {
            let fault = Tree::parse(0, text).unwrap_err();
            assert!(fault.message.contains(part), "{}: {fault:?}", text.chars().take(40).collect::<String>());
        };
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let row = vec![format!("*a{}", level - 1); 10].join(",");
            laughs.push_str(&format!("a{level}: &a{level} [{row}]\n"));
        }
        check(&laughs, "more than 2000000");
        let fat = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 50_000].join(","));
        check(&fat, "16 MiB of text");
        check(&"[".repeat(100_000), "64 deep");
        check(&"- ".repeat(100_000), "64 deep");
        check(&"? ".repeat(50_000), "64 deep");
        check("a: &a [*a]", "inside the value");
        check("a: *b", "not YAML");
        check("a: !ruby/object {}", "YAML tags");
        check("a:\n\t- b", "not YAML");
        check(&(0..10_001).map(|n| format!("- &a{n} x\n")).collect::<String>(), "anchors");
        check(&"!!str a\n".repeat(60_000), "more than 50000 `!`");
        check(&"\n".repeat(2_000_001), "more than 2000000 lines");
        check(&" ".repeat(MAX_FILE_BYTES + 1), "larger than 16 MiB");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-a-c:{}\\[\\],&*!|>'\"#% \n\t?~0]{0,80}") {
            if let Ok(tree) = Tree::parse(0, &text) {
                for node in tree.documents() {
                    let _ = show(node);
                }
            }
        }
    }
}
