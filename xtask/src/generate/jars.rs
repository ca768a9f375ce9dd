//! Where the schemas come from: Kafka's jars on Maven Central.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::schema::{self, Schema};
use crate::shell;

/// The release whose protocol is spoken.
const KAFKA: &str = "4.4.0";

const ARTIFACTS: [&str; 6] = [
    "kafka-clients",
    "kafka-group-coordinator",
    "kafka-transaction-coordinator",
    "kafka-share-coordinator",
    "kafka-raft",
    "kafka-metadata",
];

/// Every schema of the release by artifact and name.
pub fn schemas(root: &Path) -> Result<BTreeMap<(String, String), Schema>, String> {
    let folder = root.join("target").join("kafka-schemas").join(KAFKA);
    let jar = |artifact: &str| folder.join(format!("{artifact}-{KAFKA}.jar"));
    if !ARTIFACTS.iter().all(|artifact| jar(artifact).exists()) {
        download(&folder)?;
    }
    let mut schemas = BTreeMap::new();
    for artifact in ARTIFACTS {
        read(&jar(artifact), artifact, &mut schemas)
            .map_err(|error| format!("{}: {error}", jar(artifact).display()))?;
    }
    Ok(schemas)
}

fn download(folder: &Path) -> Result<(), String> {
    let dependencies: String = ARTIFACTS
        .iter()
        .map(|artifact| {
            format!(
                "<dependency><groupId>org.apache.kafka</groupId><artifactId>{artifact}</artifactId>\
                 <version>{KAFKA}</version></dependency>\n"
            )
        })
        .collect();
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>schemas</groupId><artifactId>schemas</artifactId><version>1</version>\
         <packaging>pom</packaging>\n<dependencies>\n{dependencies}</dependencies>\n</project>\n"
    );
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join("pom.xml"), pom))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    shell::run(&mut shell::command(
        folder,
        "mvn",
        &[
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DexcludeTransitive=true",
            "-DoutputDirectory=.",
        ],
    ))
}

fn read(
    jar: &Path,
    artifact: &str,
    schemas: &mut BTreeMap<(String, String), Schema>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut archive = zip::ZipArchive::new(fs::File::open(jar)?)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        let is_schema = name.starts_with("common/message/") || name.starts_with("common/metadata/");
        if !is_schema || !name.ends_with(".json") {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let schema = schema::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        schemas.insert((artifact.to_owned(), schema.name.clone()), schema);
    }
    Ok(())
}
