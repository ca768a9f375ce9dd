//! Good bytes for each body: Kafka's own messages and records, and what our encoders write.

use std::path::Path;

use record::{BatchBuilder, BatchOptions, Codec, Compression};

/// The lines of Kafka's own bytes: file, first two words, bytes.
fn golden_lines(folder: &str) -> Vec<(String, String, i16, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).expect("golden files") {
        let path = entry.expect("as generated").path();
        let stem = path.file_stem().expect("as generated").to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path).expect("as generated").lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            let [of, version, hex] = parts[..] else { panic!("{line}") };
            let bytes = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("as generated"))
                .collect();
            let version = version.parse().expect("as generated");
            lines.push((stem.clone(), of.to_owned(), version, bytes));
        }
    }
    lines.sort();
    lines
}

fn key_of(api: &str) -> wire::ApiKey {
    wire::ApiKey::all().find(|key| key.name() == api).expect("an API")
}

/// Frames: length, header, request.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let lines = golden_lines("wire/testdata/java").into_iter();
    lines
        .filter(|(_, side, _, _)| side == "request")
        .map(|(api, _, version, body)| {
            let key = key_of(&api);
            let mut writer = wire::Writer::new();
            wire::RequestHeader::new(key, version, 1, Some("fuzz".into()))
                .encode(&mut writer, key.request_header_version(version))
                .expect("as generated");
            writer.raw(&body);
            let mut frame = (writer.len() as i32).to_be_bytes().to_vec();
            frame.extend_from_slice(&writer.into_bytes());
            frame
        })
        .collect()
}

/// Key, version, response.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    let lines = golden_lines("wire/testdata/java").into_iter();
    lines
        .filter(|(_, side, _, _)| side == "response")
        .map(|(api, _, version, body)| {
            let key = key_of(&api).as_i16().to_be_bytes();
            [&key[..], &version.to_be_bytes(), &body].concat()
        })
        .collect()
}

/// Number of a stored structure, version, structure.
pub(crate) fn structures() -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    macro_rules! row {
        ($module:ident, $record:ident) => {
            names.push(stringify!($record));
        };
    }
    record::for_each_stored!(row);
    golden_lines("record/testdata/java")
        .into_iter()
        .map(|(_, name, version, body)| {
            let choice = names.iter().position(|known| *known == name).expect("a structure");
            [&[choice as u8, version as u8][..], &body].concat()
        })
        .collect()
}

/// Coordinator, key length, key, value.
pub(crate) fn coordinators() -> Vec<Vec<u8>> {
    use record::stored::group::{GroupKey, GroupMetadataKey, OffsetCommitKey};
    use record::stored::transaction::{TransactionKey, TransactionLogKey};
    let offset = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 1 };
    let transaction = TransactionLogKey { transactional_id: "x".into() };
    let share = [&[0, 0, 0, 1, b'g'][..], &[1; 16], &[0, 0, 0, 1]].concat();
    let keys = [
        (0, GroupKey::GroupMetadata(GroupMetadataKey { group: "g".into() }).encode()),
        (0, GroupKey::OffsetCommit(offset).encode()),
        (1, TransactionKey::TransactionLog(transaction).encode()),
        (2, Ok(share.into())),
    ];
    let mut seeds = Vec::new();
    for (family, key) in keys {
        let key = key.expect("as generated");
        for (stem, _, version, body) in golden_lines("record/testdata/java") {
            if ["group", "transaction", "share"][usize::from(family)] == stem {
                let head = [family, key.len() as u8];
                seeds.push([&head[..], &key, &version.to_be_bytes(), &body].concat());
            }
        }
    }
    seeds
}

/// A record under each key of the metadata log: most will not fit, those of the right key will.
pub(crate) fn metadata() -> Vec<Vec<u8>> {
    let lines = golden_lines("record/testdata/java");
    let of_log = || lines.iter().filter(|(stem, _, _, _)| stem == "metadata");
    let under = |key: u8| {
        of_log().map(move |(_, _, version, body)| [&[1, key, *version as u8][..], body].concat())
    };
    (0..=30).flat_map(under).collect()
}

/// Runs of batches in each codec.
pub(crate) fn batches() -> Vec<Vec<u8>> {
    Compression::ALL
        .into_iter()
        .map(|compression| {
            let mut run = Vec::new();
            for count in [1, 5] {
                let options =
                    BatchOptions { codec: Codec::from(compression), ..BatchOptions::default() };
                let mut builder = BatchBuilder::new(options);
                for index in 0..count {
                    let key = [index; 3];
                    let headers = [(&b"h"[..], Some(&b"v"[..])), (&b"n"[..], None)];
                    let at = Some(types::Timestamp(1_000 + i64::from(index)));
                    builder.push_with_headers(at, Some(&key), Some(&[7; 100]), headers);
                }
                run.extend_from_slice(&builder.build().to_bytes());
            }
            run
        })
        .collect()
}

/// Noise for files, and lists of edits.
pub(crate) fn edits() -> Vec<Vec<u8>> {
    (0..60_u8)
        .map(|seed| {
            let len = 1 + usize::from(seed) * 3 / 2;
            (0..len).map(|at| (at as u8).wrapping_mul(37) ^ seed.wrapping_mul(91)).collect()
        })
        .collect()
}
