//! Runs what the parser made of a command line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::ast::{Command, Connector, Item, Kind, List, Pipeline, Redirect, Target};
use super::io::{Input, OpenFile, Output, Streams, pipe};
use super::node::Node;
use super::process::{Running, Signal};
use super::{SyntaxError, builtin, parse};
use crate::cli;
use crate::vfs::{FsError, Kind as FileKind, normalize};

/// How a command line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an exit status.
    Status(i32),
    /// By a signal.
    Signal(Signal),
}

impl Ended {
    /// The status as `$?` shows it.
    pub(crate) fn status(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Why the shell stops running what it is at.
#[derive(Debug)]
pub(crate) enum Stop {
    Exit(i32),
    Break(u32),
    Continue(u32),
}

/// `set -e` and the like.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) errexit: bool,
    pub(crate) nounset: bool,
    pub(crate) pipefail: bool,
    pub(crate) noglob: bool,
}

/// One background job.
pub(crate) struct Job {
    pub(crate) pid: u32,
    pub(crate) handle: JoinHandle<i32>,
}

/// A shell at work.
pub(crate) struct Shell {
    pub(crate) node: Arc<Node>,
    /// Its own number, and that of its process group.
    pub(crate) pid: u32,
    pub(crate) group: u32,
    pub(crate) name: String,
    pub(crate) positional: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) directory: String,
    pub(crate) options: Options,
    pub(crate) last_status: i32,
    pub(crate) last_background: Option<u32>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) umask: u32,
    /// The process whose number a lone command takes over, as `exec` does.
    pub(crate) own: Option<Arc<Running>>,
    /// The process that `exec` takes over.
    pub(crate) exec_target: Option<Arc<Running>>,
    /// The signal that ended a command which had taken over the shell's process.
    pub(crate) ended_by: Option<Signal>,
    /// Inside a condition, where `set -e` does nothing.
    unchecked: u32,
    depth: u32,
}

/// Shells within shells; more are refused.
const MAX_DEPTH: u32 = 16;

type Outcome = Result<i32, Stop>;

impl Shell {
    /// Returns root's login shell on a node, running as `own`.
    pub(crate) fn new(node: Arc<Node>, own: Arc<Running>) -> Self {
        let variables = [
            ("HOME", "/root"),
            ("LOGNAME", "root"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("PWD", "/root"),
            ("SHELL", "/bin/bash"),
            ("USER", "root"),
        ];
        Self {
            pid: own.process.pid,
            group: own.process.group(),
            node,
            name: "bash".into(),
            positional: Vec::new(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory: "/root".into(),
            options: Options::default(),
            last_status: 0,
            last_background: None,
            jobs: Vec::new(),
            umask: 0o022,
            exec_target: Some(Arc::clone(&own)),
            own: Some(own),
            ended_by: None,
            unchecked: 0,
            depth: 0,
        }
    }

    /// The shell that `sh -c` starts, in the process of the program `name`.
    pub(crate) fn within(context: &cli::Context, name: &str) -> Self {
        Self {
            pid: context.process.pid,
            group: context.process.group(),
            node: Arc::clone(&context.node),
            name: name.to_owned(),
            positional: Vec::new(),
            variables: context.variables.clone(),
            directory: context.directory.clone(),
            options: Options::default(),
            last_status: 0,
            last_background: None,
            jobs: Vec::new(),
            umask: context.umask,
            own: None,
            exec_target: None,
            ended_by: None,
            unchecked: 0,
            depth: context.depth + 1,
        }
    }

    /// A subshell: changes in it stay in it.
    pub(crate) fn fork(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            pid: self.pid,
            group: self.group,
            name: self.name.clone(),
            positional: self.positional.clone(),
            variables: self.variables.clone(),
            directory: self.directory.clone(),
            options: self.options.clone(),
            last_status: self.last_status,
            last_background: self.last_background,
            jobs: Vec::new(),
            umask: self.umask,
            own: None,
            exec_target: None,
            ended_by: None,
            unchecked: self.unchecked,
            depth: self.depth + 1,
        }
    }

    /// Runs a whole script and returns its exit status; a fault of syntax runs nothing.
    pub(crate) async fn run_script(&mut self, script: &str, streams: &Streams) -> i32 {
        if self.depth > MAX_DEPTH {
            let _ = streams.stderr.line("the lab's shell does not nest shells this deep").await;
            return 126;
        }
        let list = match parse::parse(script) {
            Ok(list) => list,
            Err(error) => {
                self.complain_syntax(&error, streams).await;
                return 2;
            }
        };
        match self.run_list(&list, streams).await {
            Ok(status) | Err(Stop::Exit(status)) => status,
            Err(Stop::Break(_) | Stop::Continue(_)) => self.last_status,
        }
    }

    async fn complain_syntax(&self, error: &SyntaxError, streams: &Streams) {
        let text = match error {
            SyntaxError::Syntax(_) => format!("{}: -c: line 1: {error}", self.name),
            SyntaxError::Unknown(_) => format!("{}: {error}", self.name),
        };
        let _ = streams.stderr.line(text).await;
    }

    /// Says what is wrong as bash does.
    pub(crate) async fn complain(&self, streams: &Streams, text: &str) {
        let _ = streams.stderr.line(format!("{}: line 1: {text}", self.name)).await;
    }

    // ---- variables and places

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    pub(crate) fn set_variable(&mut self, name: &str, value: String) {
        self.variables.insert(name.to_owned(), value);
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.last_status.to_string()),
            "$" => Some(self.pid.to_string()),
            "!" => self.last_background.map(|pid| pid.to_string()),
            "#" => Some(self.positional.len().to_string()),
            "@" | "*" => Some(self.positional.join(" ")),
            "0" => Some(self.name.clone()),
            "-" => Some("hBc".into()),
            _ => match name.parse::<usize>() {
                Ok(number) => self.positional.get(number.wrapping_sub(1)).cloned(),
                Err(_) => self.variable(name),
            },
        }
    }

    /// The absolute form of a path.
    pub(crate) fn absolute(&self, path: &str) -> String {
        normalize_keeping_slash(&self.directory, path)
    }

    // ---- lists

    pub(super) fn run_list<'a>(
        &'a mut self,
        list: &'a List,
        streams: &'a Streams,
    ) -> futures::future::BoxFuture<'a, Outcome> {
        Box::pin(async move {
            for (index, item) in list.iter().enumerate() {
                let alone = list.len() == 1 && item.rest.is_empty() && item.first.commands.len() == 1;
                if !(alone && index == 0) {
                    self.own_is_taken();
                }
                if item.background {
                    self.start_job(item, streams);
                    self.last_status = 0;
                } else {
                    self.run_item(item, streams).await?;
                }
            }
            Ok(self.last_status)
        })
    }

    /// From here on the shell runs in parallel with its commands: none may reuse its process ID.
    fn own_is_taken(&mut self) {
        self.own = None;
    }

    async fn run_item(&mut self, item: &Item, streams: &Streams) -> Outcome {
        let mut status = self.run_checked(&item.first, streams, item.rest.is_empty()).await?;
        for (index, (connector, pipeline)) in item.rest.iter().enumerate() {
            let wanted = match connector {
                Connector::And => status == 0,
                Connector::Or => status != 0,
            };
            if wanted {
                status = self.run_checked(pipeline, streams, index + 1 == item.rest.len()).await?;
            }
        }
        Ok(status)
    }

    async fn run_checked(&mut self, pipeline: &Pipeline, streams: &Streams, is_last: bool) -> Outcome {
        let checked = is_last && !pipeline.negated;
        if !checked {
            self.unchecked += 1;
        }
        let done = self.run_pipeline(pipeline, streams).await;
        if !checked {
            self.unchecked -= 1;
        }
        let status = done?;
        self.last_status = status;
        if status != 0 && checked && self.unchecked == 0 && self.options.errexit {
            return Err(Stop::Exit(status));
        }
        Ok(status)
    }

    async fn run_pipeline(&mut self, pipeline: &Pipeline, streams: &Streams) -> Outcome {
        let status = match pipeline.commands.as_slice() {
            [command] => self.run_command(command, streams).await?,
            commands => self.run_pipes(commands, streams).await,
        };
        Ok(if pipeline.negated { i32::from(status == 0) } else { status })
    }

    async fn run_pipes(&mut self, commands: &[Command], streams: &Streams) -> i32 {
        self.own_is_taken();
        let mut running = Vec::new();
        let mut input = streams.stdin.clone();
        for (index, command) in commands.iter().enumerate() {
            let (stdout, next) =
                if index + 1 < commands.len() { pipe() } else { (streams.stdout.clone(), Input::empty()) };
            let stage = Streams { stdin: std::mem::replace(&mut input, next), stdout, ..streams.clone() };
            let (mut shell, list) = (self.fork(), vec![as_item(command)]);
            running.push(tokio::spawn(async move { shell.run_to_status(&list, &stage).await }));
        }
        let mut statuses = Vec::new();
        for stage in running {
            statuses.push(stage.await.unwrap_or(128 + 9));
        }
        let failed = statuses.iter().rev().copied().find(|status| *status != 0);
        match failed {
            Some(status) if self.options.pipefail => status,
            _ => statuses.last().copied().unwrap_or(0),
        }
    }

    async fn run_to_status(&mut self, list: &List, streams: &Streams) -> i32 {
        match self.run_list(list, streams).await {
            Ok(status) | Err(Stop::Exit(status)) => status,
            Err(Stop::Break(_) | Stop::Continue(_)) => 0,
        }
    }

    fn start_job(&mut self, item: &Item, streams: &Streams) {
        let running = Arc::new(self.node.processes.start(Some(self.group), "bash"));
        let mut shell = self.fork();
        shell.own = Some(Arc::clone(&running));
        shell.exec_target = Some(Arc::clone(&running));
        let list = vec![Item { background: false, ..item.clone() }];
        let streams = Streams { stdin: Input::empty(), ..streams.clone() };
        let pid = running.process.pid;
        let handle = tokio::spawn(async move {
            let process = Arc::clone(&running.process);
            let mut work = Box::pin(shell.run_to_status(&list, &streams));
            tokio::select! {
                status = &mut work => return status,
                _ = process.signalled() => {}
            }
            // A command that took over the job's process deals with the signal in its own way.
            if process.is_taken_over() { work.await } else { 128 + process.signalled().await }
        });
        self.last_background = Some(pid);
        self.jobs.push(Job { pid, handle });
    }

    // ---- commands

    async fn run_command(&mut self, command: &Command, streams: &Streams) -> Outcome {
        let streams = match self.redirected(&command.redirects, streams).await? {
            Ok(streams) => streams,
            Err(text) => {
                self.complain(streams, &text).await;
                return Ok(1);
            }
        };
        match &command.kind {
            Kind::Simple { assignments, words } => {
                Box::pin(self.run_simple(assignments, words, &streams)).await
            }
            Kind::Group(list) => self.run_list(list, &streams).await,
            Kind::Subshell(list) => {
                self.own_is_taken();
                let mut shell = self.fork();
                Ok(shell.run_to_status(list, &streams).await)
            }
            Kind::If { branches, otherwise } => self.run_if(branches, otherwise.as_ref(), &streams).await,
            Kind::For { name, words, body } => self.run_for(name, words.as_deref(), body, &streams).await,
            Kind::While { until, condition, body } => self.run_while(*until, condition, body, &streams).await,
            Kind::Case { word, arms } => {
                let value = self.expand_text(word, &streams).await?;
                for (patterns, body) in arms {
                    for pattern in patterns {
                        let pattern = self.expand_pattern(pattern, &streams).await?;
                        if crate::vfs::glob_matches(&pattern, &value) {
                            return if body.is_empty() { Ok(0) } else { self.run_list(body, &streams).await };
                        }
                    }
                }
                Ok(0)
            }
        }
    }

    async fn run_condition(&mut self, list: &List, streams: &Streams) -> Result<bool, Stop> {
        self.own_is_taken();
        self.unchecked += 1;
        let done = self.run_list(list, streams).await;
        self.unchecked -= 1;
        Ok(done? == 0)
    }

    async fn run_if(
        &mut self,
        branches: &[(List, List)],
        otherwise: Option<&List>,
        streams: &Streams,
    ) -> Outcome {
        for (condition, body) in branches {
            if self.run_condition(condition, streams).await? {
                return self.run_list(body, streams).await;
            }
        }
        match otherwise {
            Some(body) => self.run_list(body, streams).await,
            None => Ok(0),
        }
    }

    async fn run_for(
        &mut self,
        name: &str,
        words: Option<&[super::ast::Word]>,
        body: &List,
        streams: &Streams,
    ) -> Outcome {
        self.own_is_taken();
        let values = match words {
            Some(words) => self.expand_words(words, streams).await?,
            None => self.positional.clone(),
        };
        let mut status = 0;
        for value in values {
            self.set_variable(name, value);
            match self.loop_body(body, streams).await? {
                Some(done) => status = done,
                None => break,
            }
        }
        Ok(status)
    }

    async fn run_while(&mut self, until: bool, condition: &List, body: &List, streams: &Streams) -> Outcome {
        let mut status = 0;
        while self.run_condition(condition, streams).await? != until {
            match self.loop_body(body, streams).await? {
                Some(done) => status = done,
                None => break,
            }
            // A loop that awaits nothing must still let others work.
            tokio::task::yield_now().await;
        }
        Ok(status)
    }

    /// Runs a loop's body once; `None` leaves the loop.
    async fn loop_body(&mut self, body: &List, streams: &Streams) -> Result<Option<i32>, Stop> {
        match self.run_list(body, streams).await {
            Ok(status) => Ok(Some(status)),
            Err(Stop::Continue(levels)) if levels <= 1 => Ok(Some(0)),
            Err(Stop::Break(levels)) if levels <= 1 => Ok(None),
            Err(Stop::Continue(levels)) => Err(Stop::Continue(levels - 1)),
            Err(Stop::Break(levels)) => Err(Stop::Break(levels - 1)),
            Err(stop) => Err(stop),
        }
    }

    async fn run_simple(
        &mut self,
        assignments: &[(String, super::ast::Word)],
        words: &[super::ast::Word],
        streams: &Streams,
    ) -> Outcome {
        let arguments = self.expand_words(words, streams).await?;
        let mut values = Vec::new();
        for (name, word) in assignments {
            let status_before = self.last_status;
            self.last_status = 0;
            values.push((name.clone(), self.expand_text(word, streams).await?));
            if arguments.is_empty() {
                continue;
            }
            self.last_status = status_before;
        }
        if arguments.is_empty() {
            let status = if values.is_empty() { 0 } else { self.last_status };
            self.variables.extend(values);
            return Ok(status);
        }
        self.run_arguments(arguments, values, streams).await
    }

    async fn run_arguments(
        &mut self,
        arguments: Vec<String>,
        values: Vec<(String, String)>,
        streams: &Streams,
    ) -> Outcome {
        if let Some(done) = builtin::run(self, &arguments, streams).await {
            let status = done?;
            return Ok(status);
        }
        Ok(self.run_program(arguments, values, streams).await.status())
    }

    /// Runs a program in a process of its own, or in the shell's when that has nothing else to do.
    pub(crate) async fn run_program(
        &mut self,
        arguments: Vec<String>,
        values: Vec<(String, String)>,
        streams: &Streams,
    ) -> Ended {
        let own = self.own.take();
        let taken_over = own.as_ref().map(|own| Arc::clone(&own.process));
        let running = own
            .unwrap_or_else(|| Arc::new(self.node.processes.start(Some(self.group), &arguments.join(" "))));
        let mut variables = self.variables.clone();
        variables.extend(values);
        let context = cli::Context {
            node: Arc::clone(&self.node),
            process: Arc::clone(&running.process),
            streams: streams.clone(),
            directory: self.directory.clone(),
            variables,
            umask: self.umask,
            depth: self.depth,
        };
        let work = async move {
            let ended = cli::run(context, arguments).await;
            drop(running);
            ended
        };
        if let Some(process) = taken_over {
            process.take_over();
            let ended = work.await;
            if let Ended::Signal(signal) = ended {
                self.ended_by = Some(signal);
            }
            return ended;
        }
        // A command outlives the shell that waits for it, as a process does.
        tokio::spawn(work).await.unwrap_or(Ended::Signal(super::process::KILL))
    }

    /// Runs a list and returns what it wrote, without the newlines at its end.
    pub(super) async fn capture(&mut self, list: &List, streams: &Streams) -> Result<String, Stop> {
        let own = self.own.take();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let inner = Streams { stdout: Output::Capture(Arc::clone(&kept)), ..streams.clone() };
        let mut shell = self.fork();
        self.last_status = shell.run_to_status(list, &inner).await;
        self.own = own;
        let bytes = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        let text = String::from_utf8_lossy(&bytes).replace('\0', "");
        Ok(text.trim_end_matches('\n').to_owned())
    }

    // ---- redirections

    async fn redirected(
        &mut self,
        redirects: &[Redirect],
        streams: &Streams,
    ) -> Result<Result<Streams, String>, Stop> {
        let mut streams = streams.clone();
        for redirect in redirects {
            match &redirect.target {
                Target::Read(word) => {
                    let name = self.expand_text(word, &streams).await?;
                    match self.open_input(&name) {
                        Ok(input) if redirect.fd == 0 => streams.stdin = input,
                        Ok(_) => {}
                        Err(error) => return Ok(Err(format!("{name}: {error}"))),
                    }
                }
                Target::Write(word) | Target::Append(word) => {
                    let name = self.expand_text(word, &streams).await?;
                    match self.open_output(&name, matches!(redirect.target, Target::Append(_))) {
                        Ok(output) => set_output(&mut streams, redirect.fd, output),
                        Err(error) => return Ok(Err(format!("{name}: {error}"))),
                    }
                }
                Target::Duplicate(from) => {
                    let output = match from {
                        1 => streams.stdout.clone(),
                        2 => streams.stderr.clone(),
                        _ => Output::Closed,
                    };
                    set_output(&mut streams, redirect.fd, output);
                }
                Target::Close if redirect.fd == 0 => streams.stdin = Input::empty(),
                Target::Close => set_output(&mut streams, redirect.fd, Output::Closed),
                Target::Text(word) => streams.stdin = Input::bytes(self.expand_text(word, &streams).await?),
            }
        }
        Ok(Ok(streams))
    }

    fn open_input(&self, name: &str) -> Result<Input, FsError> {
        let path = self.absolute(name);
        if path == "/dev/null" {
            return Ok(Input::empty());
        }
        let stat = self.node.files(|files| files.stat(&path))?;
        if stat.kind == FileKind::Directory {
            return Err(FsError::IsADirectory);
        }
        Ok(Input::file(Arc::clone(&self.node), path))
    }

    fn open_output(&self, name: &str, append: bool) -> Result<Output, FsError> {
        let path = self.absolute(name);
        if path == "/dev/null" {
            return Ok(Output::Null);
        }
        self.node.files(|files| {
            files.create(&path, 0o666 & !self.umask)?;
            if append { Ok(()) } else { files.truncate(&path, 0) }
        })?;
        let file = OpenFile { node: Arc::clone(&self.node), path, append, position: Mutex::new(0) };
        Ok(Output::File(Arc::new(file)))
    }
}

fn set_output(streams: &mut Streams, fd: u8, output: Output) {
    match fd {
        1 => streams.stdout = output,
        2 => streams.stderr = output,
        _ => {}
    }
}

fn as_item(command: &Command) -> Item {
    let first = Pipeline { negated: false, commands: vec![command.clone()] };
    Item { first, rest: Vec::new(), background: false }
}

/// The absolute form of a path; a slash at its end still asks for a directory.
pub(crate) fn normalize_keeping_slash(directory: &str, path: &str) -> String {
    let absolute = normalize(directory, path);
    if path.len() > 1 && path.ends_with('/') && absolute != "/" { absolute + "/" } else { absolute }
}
