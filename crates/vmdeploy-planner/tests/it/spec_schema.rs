//! The JSON Schema and the reference tell of the language what the program does.

use crate::spec_files::{load, root};
use regex::Regex;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use vmdeploy_planner::spec::{self, SourceFile};

/// Returns where `value` does not fit `schema`: as much of JSON Schema as ours uses, and a panic for any more.
fn misfits(schema: &Value, value: &Value, root: &Value, path: &str, found: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else { panic!("{path}: {schema}") };
    macro_rules! fail {
        ($what:expr) => {
            found.push(format!("{path}: {}", $what))
        };
    }
    for (rule, expect) in rules {
        match rule.as_str() {
            "description" | "examples" | "$schema" | "$id" | "title" | "$defs" => {}
            "type" => {
                let types: Vec<&Value> =
                    expect.as_array().map_or_else(|| vec![expect], |list| list.iter().collect());
                if !types.iter().any(|kind| is_type(value, kind.as_str().unwrap())) {
                    fail!(format!("{value} is not {expect}"));
                }
            }
            "const" if value != expect => fail!(format!("{value} is not {expect}")),
            "enum" if !expect.as_array().unwrap().contains(value) => {
                fail!(format!("{value} is none of {expect}"))
            }
            "minimum" if value.as_f64().is_some_and(|number| number < expect.as_f64().unwrap()) => {
                fail!("too small")
            }
            "maximum" if value.as_f64().is_some_and(|number| number > expect.as_f64().unwrap()) => {
                fail!("too large")
            }
            "pattern" => {
                if let Some(text) = value.as_str()
                    && !Regex::new(expect.as_str().unwrap()).unwrap().is_match(text)
                {
                    fail!(format!("{text} does not match {expect}"));
                }
            }
            "const" | "enum" | "minimum" | "maximum" | "properties" => {}
            "required" => {
                for key in expect.as_array().unwrap() {
                    if value.is_object() && value.get(key.as_str().unwrap()).is_none() {
                        fail!(format!("{key} is missing"));
                    }
                }
            }
            "propertyNames" => {
                for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
                    misfits(expect, &json!(key), root, path, found);
                }
            }
            "additionalProperties" => {
                let known = rules.get("properties");
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let path = format!("{path}.{key}");
                    match (known.and_then(|known| known.get(key)), expect) {
                        (Some(schema), _) => misfits(schema, inner, root, &path, found),
                        (None, Value::Bool(false)) => found.push(format!("{path}: unknown key")),
                        (None, schema) => misfits(schema, inner, root, &path, found),
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    misfits(expect, item, root, path, found);
                }
            }
            "anyOf" | "oneOf" => {
                let trials: Vec<Vec<String>> = expect
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|schema| {
                        let mut trial = Vec::new();
                        misfits(schema, value, root, path, &mut trial);
                        trial
                    })
                    .collect();
                let fitting = trials.iter().filter(|trial| trial.is_empty()).count();
                if fitting == 0 || (rule == "oneOf" && fitting > 1) {
                    let deepest = trials.into_iter().max_by_key(|trial| trial.first().map_or(0, String::len));
                    found.extend(deepest.unwrap_or_default());
                }
            }
            "$ref" => {
                let name = expect.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                misfits(&root["$defs"][name], value, root, path, found);
            }
            other => panic!("{path}: the test does not know `{other}`"),
        }
    }
}

fn is_type(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

fn faults_of(yaml: &str) -> Vec<String> {
    let schema = spec::json_schema();
    let value: Value = serde_yaml::from_str(yaml).unwrap();
    let mut found = Vec::new();
    misfits(&schema, &value, &schema, "", &mut found);
    found
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the whole specs among a document's examples.
fn examples(markdown: &str) -> Vec<String> {
    let blocks = markdown.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.filter(|block| block.contains("version: 1") && !block.contains("vmids:")).collect()
}

#[test]
fn every_deployment_fits_the_schema() {
    let mut seen = 0;
    for path in files_below(&root().join("deployments"), "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.to_string_lossy().ends_with(".lock.yaml") || !text.contains("version: 1") {
            continue;
        }
        assert_eq!(faults_of(&text), Vec::<String>::new(), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_example_of_the_documents_is_sound_and_fits_the_schema() {
    let mut documents = files_below(&root().join("docs"), "md");
    documents.push(root().join("README.md"));
    let mut seen = 0;
    for path in documents.iter().filter(|path| path.exists()) {
        for example in examples(&std::fs::read_to_string(path).unwrap()) {
            assert_eq!(faults_of(&example), Vec::<String>::new(), "{}:\n{example}", path.display());
            load(&[SourceFile::new(path.display().to_string(), example)]);
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    for body in [
        "vms: {a: {memory: 4096}}",
        "vms: {a: {memmory: 4GiB}}",
        "vms: {a: {onboot: 'yes'}}",
        "vms: {a: {bios: uefi}}",
        "vms: {a: {disks: {scsi31: {}}}}",
        "vms: {a: {vmid: 99}}",
        "vms: {a: {cloud_init: {password: hunter2}}}",
        "vms: {a: {cloud_init: {password: {env: A, file: b}}}}",
        "vms: {a: {nics: {net0: {ip: 10.0.0.5}}}}",
        "images: {a: {path: /x, file: y}}",
        "project: Web",
        "transport: sea",
    ] {
        assert_ne!(faults_of(&format!("version: 1\n{body}\n")), Vec::<String>::new(), "{body}");
    }
    assert_ne!(faults_of("project: x\n"), Vec::<String>::new());
}

#[test]
fn the_schema_describes_every_key() {
    let schema = spec::json_schema();
    let mut objects: Vec<(&str, &Value)> = vec![("top", &schema)];
    objects.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, object)| (name.as_str(), object)));
    assert!(objects.len() > 40);
    for (name, object) in objects {
        for (key, property) in object["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 8), "{name}.{key}");
        }
    }
    let cores = &schema["$defs"]["cpu"]["properties"]["cores"];
    assert_eq!(cores["anyOf"][0]["maximum"], 1024);
    assert!(cores["description"].as_str().unwrap().contains("PVE: cores"));
}

const BEGIN: &str = "<!-- reference: begin (generated from the program; `cargo test -p vmdeploy-planner --test it` compares it) -->\n";
const END: &str = "<!-- reference: end -->";

fn with_reference(document: &str) -> String {
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    format!("{before}{BEGIN}\n{}{END}{after}", spec::reference_markdown())
}

#[test]
fn the_reference_in_the_documents_is_the_program_s() {
    let document = std::fs::read_to_string(root().join("docs/spec.md")).unwrap();
    let hint = "run `cargo test -p vmdeploy-planner --test it -- --ignored write_the_reference`";
    assert!(document == with_reference(&document), "docs/spec.md is not up to date: {hint}");
}

#[test]
#[ignore = "writes docs/spec.md; run it after a change of the table"]
fn write_the_reference() {
    let path = root().join("docs/spec.md");
    let document = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, with_reference(&document)).unwrap();
}
