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
    ("broker", &["types", "env", "record", "wire", "log", "cluster"]),
    ("client", &["types", "env", "record", "wire"]),
    ("server", &["types", "env", "record", "wire", "log", "cluster", "broker", "client"]),
    ("sim", &["types", "env", "record", "wire", "log", "cluster", "broker", "client"]),
    ("fuzz", &["types", "env", "record", "wire", "log", "cluster", "sim"]),
    ("bench", &["types", "env", "record", "wire", "log", "cluster"]),
    ("xtask", &[]),
];

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
            let name = line.split(['=', ' ', '.']).next().unwrap_or_default();
            let is_dependency = section.contains("dependencies]");
            let is_test = section.contains("dev-dependencies");
            if is_dependency
                && names.contains(name)
                && !allowed.contains(&name)
                && !(is_test && name == "sim")
            {
                findings.add(
                    format!("{room}/Cargo.toml"),
                    format!("may not import `{name}` (ARCHITECTURE.md)"),
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
    for (path, text) in sources {
        if !is_generated(text) && !path.starts_with(root.join("xtask")) {
            cited.extend(numbers(text, 'I'));
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
    fn numbers_are_whole_words() {
        let found = numbers("// I7, (I10) I1-I14 XI3 I2x", 'I');
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 7, 10, 14]);
    }
}
