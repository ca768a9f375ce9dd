//! Bytes of other implementations: what they wrote we read, and write again byte by byte.
//!
//! `testdata/golden` holds whole frames (without their length) recorded between real clients (Kafka's Java tools and
//! clients, librdkafka, kafka-python) and a real Kafka broker. `testdata/java` holds messages that Kafka 4.4's own Java
//! classes wrote, for every message in every version. One file each, named after API, version and side.

mod table;

use std::collections::BTreeSet;

use bytes::Bytes;
use wire::{Reader, RequestHeader, ResponseHeader, Writer};

/// Every golden file of a folder: its row of the table, its version, its bytes.
#[allow(clippy::disallowed_methods, reason = "a test that reads its data")]
fn files(folder: &str) -> Vec<(String, usize, i16, Bytes)> {
    let rows = table::rows();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&path).expect("golden files") {
        let path = entry.expect("a golden file").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let parts: Vec<&str> = name.split('-').collect();
        let [api, version, side] = parts[..] else { panic!("{name}: API-vNN-side") };
        let is_request = side == "request";
        let row = rows
            .iter()
            .position(|row| row.key.name() == api && row.is_request == is_request)
            .unwrap_or_else(|| panic!("{name}: no such message"));
        let version = version.trim_start_matches('v').parse().expect("a version");
        let bytes = std::fs::read(&path).expect("readable");
        files.push((name, row, version, bytes.into()));
    }
    files.sort();
    files
}

#[test]
fn frames_of_real_clients_and_brokers_are_read_and_written_alike() {
    let rows = table::rows();
    let mut seen = BTreeSet::new();
    for (name, row, version, bytes) in files("golden") {
        let row = &rows[row];
        let mut reader = Reader::new(bytes.clone());
        let mut writer = Writer::new();
        if row.is_request {
            let header = RequestHeader::of_frame(&mut reader).expect("a header");
            assert_eq!(header.api_key(), Some(row.key), "{name}");
            assert_eq!(header.request_api_version, version, "{name}");
            header.encode(&mut writer, row.key.request_header_version(version)).expect("a header");
        } else {
            let header_version = row.key.response_header_version(version);
            let header = ResponseHeader::decode(&mut reader, header_version).expect("a header");
            header.encode(&mut writer, header_version).expect("a header");
        }
        let again = (row.recode)(reader.rest(), version);
        let again = again.unwrap_or_else(|error| panic!("{name}: {error}"));
        writer.raw(&again);
        assert_eq!(writer.into_bytes(), bytes, "{name}");
        seen.insert(row.key);
    }
    assert!(seen.len() >= 50, "{} APIs: {seen:?}", seen.len());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test that reads its data")]
fn what_kafkas_own_classes_wrote_is_read_and_written_alike() {
    for row in table::rows() {
        let path = format!("{}/testdata/java/{}.txt", env!("CARGO_MANIFEST_DIR"), row.key.name());
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = String::from_utf8(text).expect("text");
        let side = if row.is_request { "request" } else { "response" };
        let mut versions = Vec::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [of, version, hex] = parts[..] else { panic!("{path}: {line}") };
            if of == side {
                let version: i16 = version.parse().expect("a version");
                let bytes = unhex(hex);
                let again = (row.recode)(bytes.clone(), version);
                assert_eq!(again, Ok(bytes), "{} version {version}", row.name());
                versions.push(version);
            }
        }
        assert_eq!(versions, row.versions().collect::<Vec<i16>>(), "{}", row.name());
    }
}

fn unhex(text: &str) -> Bytes {
    let digit = |at: usize| text[at..at + 2].to_owned();
    (0..text.len() / 2)
        .map(|index| u8::from_str_radix(&digit(2 * index), 16).expect("hex"))
        .collect()
}
