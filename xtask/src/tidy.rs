//! `cargo xtask tidy`: what the compiler does not check. Who may import whom, words with one meaning, files nobody
//! reaches, promises nobody checks. Prints every finding with its place and what to do; fails if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Arrows of ARCHITECTURE.md: each room and what it may import (tests may also use the false world).
const ROOMS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("env", &["types"]),
    ("record", &["types"]),
    ("wire", &["types"]),
    ("log", &["types", "env", "record"]),
    ("cluster", &["types", "record"]),
    ("client", &["types", "env", "record", "wire"]),
    ("broker", &["types", "env", "record", "wire", "log", "cluster", "client"]),
    ("server", &["types", "env", "record", "wire", "log", "cluster", "broker", "client"]),
    ("sim", &["types", "env", "record", "wire", "log", "cluster", "broker", "client"]),
    (
        "fuzz",
        &["types", "env", "record", "wire", "log", "cluster", "broker", "client", "server", "sim"],
    ),
    ("bench", &["types", "env", "record", "wire", "log", "cluster"]),
    ("xtask", &[]),
];

/// Arrows inside a crate: each module and the others it may know. Rooms of `broker` meet in `shared` and know no room that
/// calls them; what is not listed may be known to all.
const MODULES: &[(&str, &str, &[&str])] = &[
    ("cluster", "config", &["replica"]),
    ("cluster", "controller", &["config", "metadata"]),
    ("cluster", "group", &[]),
    ("cluster", "metadata", &["config"]),
    ("cluster", "quorum", &[]),
    ("cluster", "replica", &[]),
    ("cluster", "telemetry", &["config", "metadata"]),
    ("broker", "connection", &["context", "handlers", "partition", "shared"]),
    ("broker", "coordinator", &["config", "partition", "shared"]),
    ("broker", "directory", &["config", "start"]),
    ("broker", "fetch_session", &[]),
    (
        "broker",
        "handlers",
        &[
            "connection",
            "context",
            "coordinator",
            "error_map",
            "fetch_session",
            "partition",
            "replication",
            "shared",
        ],
    ),
    ("broker", "metadata", &["error_map", "partition", "shared", "start"]),
    ("broker", "partition", &["error_map", "replication", "shared", "together"]),
    ("broker", "replication", &["error_map", "metadata", "shared", "together"]),
    ("broker", "retention", &["shared", "together"]),
    ("broker", "together", &[]),
];

/// Structures of `cluster::config` whose every field somebody must read: a setting that nobody reads is accepted, stored
/// and ignored.
const SETTINGS: &[&str] = &["broker.rs", "topic.rs"];

/// Lines around a number of an invariant in which the assertion stands that checks it.
const NEAR: usize = 4;

/// Rooms that the simulator runs: the outside reaches them through `env` alone.
const CORE: &[&str] = &["types", "env", "record", "wire", "log", "cluster", "broker", "client"];

/// Words that have another word here, and why.
const BANNED: &[(&str, &str)] = &[
    ("message set", "a batch"),
    ("MessageSet", "a batch"),
    ("async_trait", "methods return impl Future"),
    ("thread_rng", "env::Rng"),
    ("select! {\n", "select! without `biased;` differs between runs"),
];

/// Endings of type names that say nothing.
const EMPTY_NAMES: &[&str] = &["Manager", "Util", "Utils", "Impl", "Helper"];

struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.0.push(format!("{place}: {what}"));
    }
}

/// Runs every check over the work tree at `root`; the findings, one line each.
pub fn run(root: &Path) -> Result<(), String> {
    let mut findings = Findings(Vec::new());
    let mut sources = BTreeMap::new();
    for (room, _) in ROOMS {
        collect(&root.join(room), &mut sources);
    }
    imports(root, &mut findings);
    modules(root, &sources, &mut findings);
    settings(root, &sources, &mut findings);
    lints(root, &mut findings);
    words(root, &sources, &mut findings);
    reached(root, &sources, &mut findings);
    promises(root, &sources, &mut findings);
    growth(root, &sources);
    for finding in &findings.0 {
        println!("{finding}");
    }
    match findings.0.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings")),
    }
}

fn collect(dir: &Path, sources: &mut BTreeMap<PathBuf, String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "testdata") {
                collect(&path, sources);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && let Ok(text) = fs::read_to_string(&path)
        {
            sources.insert(path, text);
        }
    }
}

/// Each room imports only what ARCHITECTURE.md allows.
fn imports(root: &Path, findings: &mut Findings) {
    let names: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in ROOMS {
        let path = root.join(room).join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&path) else {
            findings.add(path.display(), "the room has no Cargo.toml");
            continue;
        };
        let mut section = String::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let is_dependency =
                section.contains("dependencies]") || section.contains("dependencies.");
            let is_test = section.contains("dev-dependencies");
            let Some(name) = room_named(line, &names).filter(|_| is_dependency) else { continue };
            if !(allowed.contains(&name) || is_test && name == "sim") {
                findings.add(
                    format!("{room}/Cargo.toml"),
                    format!("may not import `{name}` (ARCHITECTURE.md)"),
                );
            }
        }
    }
}

/// The room that a line of a Cargo.toml makes a dependency of, by whatever name it is called.
fn room_named<'a>(line: &str, names: &BTreeSet<&'a str>) -> Option<&'a str> {
    let key = line.split(['=', ' ', '.', ']']).next().unwrap_or_default();
    let table = line.trim_start_matches('[').trim_end_matches(']').rsplit('.').next();
    let package = line.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
    let package = package.and_then(|package| package.strip_prefix("foretold-"));
    let called = [Some(key), table.filter(|_| line.starts_with('[')), package];
    called.into_iter().flatten().find_map(|name| names.get(name).copied())
}

/// Each module of a crate knows only those that [`MODULES`] allows.
fn modules(root: &Path, sources: &BTreeMap<PathBuf, String>, findings: &mut Findings) {
    for (room, module, allowed) in MODULES {
        let src = root.join(room).join("src");
        let (file, folder) = (src.join(format!("{module}.rs")), src.join(module));
        // A model in `tests` puts several together.
        let tests = folder.join("tests");
        let ours = sources.iter().filter(|(path, _)| **path == file || path.starts_with(&folder));
        let ours = ours.filter(|(path, _)| !path.starts_with(&tests));
        let mut is_there = false;
        for (path, text) in ours {
            is_there = true;
            for (number, line) in text.lines().enumerate() {
                let known = line.split("crate::").skip(1).filter_map(|rest| {
                    let word = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
                    MODULES.iter().find(|(r, m, _)| r == room && *m == word).map(|(_, m, _)| *m)
                });
                for other in known.filter(|other| other != module && !allowed.contains(other)) {
                    let place = path.strip_prefix(root).unwrap_or(path).display();
                    findings.add(
                        format!("{place}:{}", number + 1),
                        format!("`{module}` may not know `{other}` (MODULES in xtask/src/tidy.rs)"),
                    );
                }
            }
        }
        if !is_there {
            findings.add(format!("{room}/src/{module}"), "is in MODULES and not there");
        }
    }
}

/// Every setting is read by somebody who is not the configuration itself.
fn settings(root: &Path, sources: &BTreeMap<PathBuf, String>, findings: &mut Findings) {
    let config = root.join("cluster/src/config");
    for file in SETTINGS {
        let Some(text) = sources.get(&config.join(file)) else {
            findings.add(format!("cluster/src/config/{file}"), "is in SETTINGS and not there");
            continue;
        };
        for field in text.lines().filter_map(|line| line.strip_prefix("    pub ")) {
            let Some((name, _)) = field.split_once(": ").filter(|_| !field.starts_with("fn "))
            else {
                continue;
            };
            // Behind a function of its own file it counts as read, if that function is.
            let read = format!(".{name}");
            let is_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let is_read = sources.iter().any(|(path, text)| {
                (!path.starts_with(&config) || path.ends_with(file))
                    && text.split(&read).skip(1).any(is_word)
            });
            if !is_read {
                findings.add(
                    format!("cluster/src/config/{file}"),
                    format!("`{name}` is accepted, stored and ignored: nobody reads it"),
                );
            }
        }
    }
}

/// Every core room carries the lint file that forbids the real world.
fn lints(root: &Path, findings: &mut Findings) {
    let reference = fs::read_to_string(root.join("types/clippy.toml")).unwrap_or_default();
    for room in CORE {
        let text = fs::read_to_string(root.join(room).join("clippy.toml")).unwrap_or_default();
        if text != reference || text.is_empty() {
            findings.add(format!("{room}/clippy.toml"), "must equal types/clippy.toml");
        }
    }
    for (room, _) in ROOMS {
        let text = fs::read_to_string(root.join(room).join("Cargo.toml")).unwrap_or_default();
        if !text.contains("[lints]\nworkspace = true") {
            findings.add(format!("{room}/Cargo.toml"), "must take the workspace's lint table");
        }
    }
}

fn is_generated(text: &str) -> bool {
    text.lines().take(3).any(|line| line.contains("do not edit"))
}

fn words(root: &Path, sources: &BTreeMap<PathBuf, String>, findings: &mut Findings) {
    for (path, text) in sources {
        let place = path.strip_prefix(root).unwrap_or(path).display();
        if place.to_string() == "xtask/src/tidy.rs" {
            continue;
        }
        if !text.starts_with("//!") && !text.starts_with("#!") {
            findings.add(
                &place,
                "a file begins with `//!`: what it is for and why it is a room of its own",
            );
        }
        if is_generated(text) {
            continue;
        }
        for (word, instead) in BANNED {
            if *word == "select! {\n" {
                for (at, _) in text.match_indices("select! {") {
                    if !text[at + 9..].trim_start().starts_with("biased;") {
                        findings.add(&place, instead);
                    }
                }
            } else if text.contains(word) {
                findings.add(&place, format!("`{word}`: here it is {instead}"));
            }
        }
        for (number, line) in text.lines().enumerate() {
            let line =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            for keyword in ["struct ", "enum ", "trait "] {
                if let Some(rest) = line.strip_prefix(keyword) {
                    let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                    if EMPTY_NAMES.iter().any(|ending| name.ends_with(ending)) {
                        findings.add(
                            format!("{place}:{}", number + 1),
                            format!("`{name}` says nothing"),
                        );
                    }
                }
            }
        }
    }
}

/// Every source file is declared by a module of its crate.
fn reached(root: &Path, sources: &BTreeMap<PathBuf, String>, findings: &mut Findings) {
    for path in sources.keys() {
        let place = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.len() < 3 || parts[1] != "src" || parts[2] == "bin" {
            continue;
        }
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let name = match stem.as_str() {
            "lib" | "main" => continue,
            "mod" => parts[parts.len() - 2].clone(),
            _ => stem,
        };
        let crate_src = root.join(&parts[0]).join("src");
        let declared = sources.iter().any(|(other, text)| {
            other.starts_with(&crate_src)
                && text.lines().any(|line| {
                    let line = line.trim_start();
                    line.ends_with(&format!("mod {name};"))
                        || line.contains(&format!("mod {name};"))
                })
        });
        if !declared {
            findings.add(place.display(), "no module declares this file: delete it or use it");
        }
    }
}

/// Every invariant in force is cited by an assertion or a checker.
fn promises(root: &Path, sources: &BTreeMap<PathBuf, String>, findings: &mut Findings) {
    let Ok(spec) = fs::read_to_string(root.join("SPEC.md")) else {
        findings.add("SPEC.md", "is missing");
        return;
    };
    let mut cited = BTreeSet::new();
    let judges = ["checker", "harness", "explore"].map(|room| root.join("sim/src").join(room));
    for (path, text) in sources {
        if is_generated(text) || path.starts_with(root.join("xtask")) {
            continue;
        }
        match judges.iter().any(|judge| path.starts_with(judge)) {
            true => cited.extend(numbers(text, 'I')),
            false => cited.extend(asserted(text)),
        }
    }
    for line in spec.lines().filter_map(|line| line.strip_prefix("- I")) {
        let number: String = line.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(number) = number.parse::<u32>()
            && !cited.contains(&number)
        {
            findings.add("SPEC.md", format!("I{number} is cited by no assertion and no checker"));
        }
    }
}

/// The invariants that stand near an assertion: words about one are no check.
fn asserted(text: &str) -> BTreeSet<u32> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let near = &lines[at.saturating_sub(NEAR)..lines.len().min(at + NEAR + 1)];
        if near.iter().any(|line| line.contains("assert") || line.contains("require(")) {
            found.extend(numbers(line, 'I'));
        }
    }
    found
}

/// The numbers that follow `letter` as words of their own: `I7` and the ends of `I1-I14` both count.
fn numbers(text: &str, letter: char) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        if let Some(digits) = word.strip_prefix(letter)
            && let Ok(number) = digits.parse()
        {
            found.insert(number);
        }
    }
    found
}

/// How large each room is, for those who watch growth.
fn growth(root: &Path, sources: &BTreeMap<PathBuf, String>) {
    let mut rows = Vec::new();
    for (room, _) in ROOMS {
        let (mut written, mut generated, mut files) = (0, 0, 0);
        for (path, text) in sources {
            if path.starts_with(root.join(room)) {
                files += 1;
                *if is_generated(text) { &mut generated } else { &mut written } +=
                    text.lines().count();
            }
        }
        rows.push(format!(
            "{room} {written} lines in {files} files{}",
            match generated {
                0 => String::new(),
                lines => format!(" (and {lines} generated)"),
            }
        ));
    }
    println!("rooms: {}", rows.join(" · "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_known_by_any_name() {
        let names: BTreeSet<&str> = ["broker", "types", "log"].into();
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(room_named(line, &names), expected, "{line}");
        };
        check("broker = { workspace = true }", Some("broker"));
        check("broker.workspace = true", Some("broker"));
        check("[dependencies.broker]", Some("broker"));
        check("[target.'cfg(madsim)'.dependencies.log]", Some("log"));
        check("b = { path = \"../broker\", package = \"foretold-broker\" }", Some("broker"));
        check("bytes = { workspace = true }", None);
        check("[dependencies]", None);
    }

    #[test]
    fn words_about_an_invariant_are_no_check() {
        let found = |text: &str| asserted(text).into_iter().collect::<Vec<_>>();
        assert_eq!(found("// I7 holds.\nfn f() {}"), [] as [u32; 0]);
        assert_eq!(found("assert!(a < b, \"I7\");"), [7]);
        assert_eq!(found("assert!(\n    a < b,\n    \"I7\"\n);"), [7]);
        assert_eq!(found("assert!(true);\n\n\n\n\n\n// I7"), [] as [u32; 0]);
    }

    #[test]
    fn numbers_are_whole_words() {
        let found = numbers("// I7, (I10) I1-I14 XI3 I2x", 'I');
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 7, 10, 14]);
    }
}
