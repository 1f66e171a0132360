//! `pvesh`: the API on the command line.
// PVE: pve-manager PVE/CLI/pvesh.pm

use serde_json::Value;

use super::{api, follow, print_lines, pvesh_paths, table};
use crate::cli::frame::{self, Known, Takes};
use crate::cli::{Context, Exit};
use crate::schema;

pub(super) async fn pvesh(context: &Context, words: &[String]) -> Exit {
    let commands = ["create", "delete", "get", "ls", "set", "usage"];
    let (index, rest) = match frame::find_command("pvesh", &commands, words) {
        Ok(found) => found,
        Err(text) => {
            let usage = "USAGE: pvesh <COMMAND> [ARGS] [OPTIONS]";
            return context.fail(255, format!("ERROR: {text}\n{usage}")).await;
        }
    };
    let command = commands[index];
    if matches!(command, "ls" | "usage") {
        let Some(path) = rest.iter().find(|word| !word.starts_with('-')) else {
            return context.fail(255, format!("400 not enough arguments\npvesh {command} <api_path>")).await;
        };
        let path = format!("/{}", path.trim_matches('/'));
        return match command {
            "ls" => pvesh_paths::ls(context, &path).await,
            _ => pvesh_paths::usage(context, &path).await,
        };
    }
    let method = match command {
        "create" => "POST",
        "delete" => "DELETE",
        "set" => "PUT",
        _ => "GET",
    };
    let usage = format!("pvesh {command} <api_path> [OPTIONS] [FORMAT_OPTIONS]");
    let Some((path, rest)) = rest.split_first().filter(|(path, _)| !path.starts_with('-')) else {
        return context.fail(255, format!("400 not enough arguments\n{usage}")).await;
    };
    let path = format!("/{}", path.trim_matches('/'));
    let version = context.node.world.with(|world| world.version);
    let Some(found) = schema::method(version, method, &path) else {
        return context.fail(255, format!("no '{command}' handler for '{path}'")).await;
    };
    let mut known = frame::known_options(&found.endpoint.params);
    known.push(Known::own("output-format", Takes::Text));
    known.extend(
        ["human-readable", "noborder", "noheader", "quiet", "noproxy"]
            .map(|name| Known::own(name, Takes::Flag)),
    );
    let in_path: Vec<&str> = found.path_params.keys().map(String::as_str).collect();
    let mut params = match frame::parse_line(rest, &known, &[], &in_path) {
        Ok(line) => line.params,
        Err(bad) => {
            for warning in bad.warnings {
                context.complain(warning).await?;
            }
            return context.fail(255, format!("400 {}\n{usage}", bad.text)).await;
        }
    };
    let wanted = table::Wanted::take(&mut params, true);
    params.remove("noproxy");
    match api(context, method, &path, &params).await {
        Err(refusal) => {
            print_lines(context, &refusal.output).await?;
            let (text, status) = frame::refusal_text(&refusal, &usage);
            context.streams.stderr.write(text).await?;
            Ok(status)
        }
        Ok(reply) => {
            print_lines(context, &reply.output).await?;
            if reply.data.as_str().is_some_and(|text| text.starts_with("UPID:")) {
                // What becomes of the worker is told on stderr; the UPID comes in any case.
                follow(context, &reply.data).await?;
            }
            show(context, &wanted, &reply.data).await
        }
    }
}

async fn show(context: &Context, wanted: &table::Wanted, data: &Value) -> Exit {
    if data.is_null() {
        return Ok(0);
    }
    match wanted.show(data) {
        Ok(text) => context.print(text).await.map(|()| 0),
        Err(text) => context.fail(255, text).await,
    }
}
