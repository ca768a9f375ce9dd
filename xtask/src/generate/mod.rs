//! `cargo xtask gen`: Rust structures from Kafka's published schemas.
//!
//! Kafka describes its messages and stored records in JSON and publishes these files inside its jars, under the Apache
//! license. This task fetches the jars through Maven, reads the schemas out of them and writes one Rust module for each
//! API (`wire/src/generated`) and for each family of stored records (`record/src/stored`). The result is checked in,
//! so that building needs neither Java nor the network; `--check` proves that it is still what the schemas say.
//!
//! The facts of the schemas are carried over (names, types, versions, defaults), their prose is not.

mod emit;
mod families;
mod jars;
mod own;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Generated files by their path from the repository's root.
type Files = BTreeMap<String, String>;

const FOLDERS: [&str; 2] = ["wire/src/generated", "record/src/stored/generated"];

/// Writes the generated files, or with `--check` compares them with what is checked in.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: cargo xtask gen [--check]".to_owned()),
    };
    let mut schemas = jars::schemas(root)?;
    own::add(&mut schemas)?;
    let mut files = families::files(&schemas)?;
    for text in files.values_mut() {
        *text = formatted(root, text)?;
    }
    let stale = stale(root, &files)?;
    if check {
        return match stale.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "not what the schemas say: {}; run `cargo xtask gen`",
                stale.join(", ")
            )),
        };
    }
    for path in &stale {
        let place = root.join(path);
        match files.get(path) {
            Some(text) => {
                fs::create_dir_all(place.parent().unwrap_or(root))
                    .and_then(|()| fs::write(&place, text))
                    .map_err(|error| format!("{path}: {error}"))?;
            }
            None => fs::remove_file(&place).map_err(|error| format!("{path}: {error}"))?,
        }
    }
    println!("{} files, {} of them changed", files.len(), stale.len());
    Ok(())
}

/// Paths whose checked-in content differs from `files`, with those that should not be there at all.
fn stale(root: &Path, files: &Files) -> Result<Vec<String>, String> {
    let mut stale = Vec::new();
    for (path, text) in files {
        if fs::read_to_string(root.join(path)).ok().as_ref() != Some(text) {
            stale.push(path.clone());
        }
    }
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let entry = entry.map_err(|error| format!("{folder}: {error}"))?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

fn formatted(root: &Path, text: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("rustfmt: {error}");
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take().ok_or("rustfmt has no input")?;
    let owned = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(owned.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    let written = writer.join().map_err(|_| "the writer to rustfmt died".to_owned())?;
    written.map_err(failed)?;
    if !output.status.success() {
        return Err(format!("rustfmt: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}
