//! The fuzz bodies on a stable toolchain: a corpus of good bytes and seeded mutations of it, a few seconds in all.

use std::path::Path;

/// A small generator of pseudo-random numbers (SplitMix64): the same seed, the same run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Values at which lengths and counts go wrong.
const EDGES: &[&[u8]] = &[
    &[0xff],
    &[0x00],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x00, 0x0f, 0x42, 0x40],
];

fn mutated(good: &[u8], corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 => {
                let edge = EDGES[random.below(EDGES.len())];
                let end = (at + edge.len()).min(bytes.len());
                bytes.splice(at..end, edge.iter().copied());
            }
            3 => bytes.truncate(at),
            4 => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied().take(32));
            }
        }
    }
    bytes
}

fn smoke(name: &str, corpus: &[Vec<u8>]) {
    assert!(!corpus.is_empty());
    let (_, body) = fuzz::BODIES.iter().find(|(known, _)| *known == name).expect("a body");
    for good in corpus {
        body(good);
    }
    let rounds = 40_000 / corpus.len().max(1) + 1;
    for (index, good) in corpus.iter().enumerate() {
        let mut random = Random(index as u64);
        for _ in 0..rounds {
            body(&mutated(good, corpus, &mut random));
        }
    }
}

/// The lines of Kafka's own bytes: first words and bytes.
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
            lines.push((
                stem.clone(),
                of.to_owned(),
                version.parse().expect("as generated"),
                bytes,
            ));
        }
    }
    lines.sort();
    lines
}

fn key_of(api: &str) -> wire::ApiKey {
    wire::ApiKey::all().find(|key| key.name() == api).expect("an API")
}

#[test]
fn requests() {
    let mut corpus = Vec::new();
    for (api, side, version, body) in golden_lines("wire/testdata/java") {
        if side == "request" {
            let key = key_of(&api);
            let mut writer = wire::Writer::new();
            wire::RequestHeader::new(key, version, 1, Some("fuzz".into()))
                .encode(&mut writer, key.request_header_version(version))
                .expect("as generated");
            writer.raw(&body);
            let mut frame = (writer.len() as i32).to_be_bytes().to_vec();
            frame.extend_from_slice(&writer.into_bytes());
            corpus.push(frame);
        }
    }
    smoke("wire_request", &corpus);
}

#[test]
fn responses() {
    let corpus: Vec<Vec<u8>> = golden_lines("wire/testdata/java")
        .into_iter()
        .filter(|(_, side, _, _)| side == "response")
        .map(|(api, _, version, body)| {
            let key = key_of(&api).as_i16().to_be_bytes();
            [&key[..], &version.to_be_bytes(), &body].concat()
        })
        .collect();
    smoke("wire_response", &corpus);
}

#[test]
fn stored_structures() {
    let mut names = Vec::new();
    macro_rules! row {
        ($module:ident, $record:ident) => {
            names.push(stringify!($record));
        };
    }
    record::for_each_stored!(row);
    let corpus: Vec<Vec<u8>> = golden_lines("record/testdata/java")
        .into_iter()
        .map(|(_, name, version, body)| {
            let choice = names.iter().position(|known| *known == name).expect("a structure");
            [&[choice as u8, version as u8][..], &body].concat()
        })
        .collect();
    smoke("stored_structure", &corpus);
}

#[test]
fn records_of_coordinators() {
    use record::stored::group::{GroupKey, GroupMetadataKey, OffsetCommitKey};
    use record::stored::transaction::{TransactionKey, TransactionLogKey};
    let keys = [
        (0, GroupKey::GroupMetadata(GroupMetadataKey { group: "g".into() }).encode()),
        (
            0,
            GroupKey::OffsetCommit(OffsetCommitKey {
                group: "g".into(),
                topic: "t".into(),
                partition: 1,
            })
            .encode(),
        ),
        (
            1,
            TransactionKey::TransactionLog(TransactionLogKey { transactional_id: "x".into() })
                .encode(),
        ),
        (
            2,
            Ok(vec![0, 0, 0, 1, b'g', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1]
                .into()),
        ),
    ];
    let mut corpus = Vec::new();
    for (family, key) in keys {
        let key = key.expect("as generated");
        for (stem, _, version, body) in golden_lines("record/testdata/java") {
            if ["group", "transaction", "share"][family as usize] == stem {
                let head = [family, key.len() as u8];
                corpus.push([&head[..], &key, &version.to_be_bytes(), &body].concat());
            }
        }
    }
    smoke("stored_coordinator", &corpus);
}

#[test]
fn records_of_the_metadata_log() {
    // A record under each key: most will not fit, those of the right key will.
    let corpus: Vec<Vec<u8>> = (0..=30u8)
        .flat_map(|key| {
            golden_lines("record/testdata/java").into_iter().filter_map(
                move |(stem, _, version, body)| {
                    (stem == "metadata").then(|| [&[1, key, version as u8][..], &body].concat())
                },
            )
        })
        .collect();
    smoke("stored_metadata", &corpus);
}

#[test]
fn batches() {
    use record::{BatchBuilder, BatchOptions, Codec, Compression};
    let mut corpus = Vec::new();
    for compression in Compression::ALL {
        let codec = Codec::from(compression);
        let mut run = Vec::new();
        for count in [1, 5] {
            let options = BatchOptions { codec, ..BatchOptions::default() };
            let mut builder = BatchBuilder::new(options);
            for index in 0..count {
                let key = [index; 3];
                let headers = [(&b"h"[..], Some(&b"v"[..])), (&b"n"[..], None)];
                let at = Some(types::Timestamp(1_000 + i64::from(index)));
                builder.push_with_headers(at, Some(&key), Some(&[7; 100]), headers);
            }
            run.extend_from_slice(&builder.build().to_bytes());
        }
        corpus.push(run);
    }
    smoke("record_batches", &corpus);
}
