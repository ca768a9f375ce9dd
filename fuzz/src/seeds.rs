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

/// Side and version, then a header.
pub(crate) fn headers() -> Vec<Vec<u8>> {
    let header = [0, 18, 0, 3, 0, 0, 0, 7, 0, 4, b'f', b'u', b'z', b'z', 1, 0, 2, 9, 9];
    (0..4).map(|choice| [&[choice][..], &header].concat()).collect()
}

/// Direction and codec, cap, bytes: plain ones, and compressed ones of every codec.
pub(crate) fn codecs() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, compression) in Compression::ALL.into_iter().enumerate() {
        let mut builder =
            BatchBuilder::new(BatchOptions { codec: compression.into(), ..Default::default() });
        builder.push(None, Some(b"key"), Some(b"some text, some text and some more text"));
        let (plain, packed) = (2 * number as u8, 2 * number as u8 + 1);
        seeds.push([&[plain, 0, 1][..], b"abcabcabcabcabc"].concat());
        seeds.push([&[packed, 0, 1][..], &builder.build().payload()].concat());
    }
    // Snappy without the Java client's framing: a length, a literal, a copy.
    seeds.push([&[5, 0, 1][..], b"\x0a\x04ab\x21\x02"].concat());
    seeds
}

/// Records of one byte of key length, one of value length each.
pub(crate) fn group_records() -> Vec<Vec<u8>> {
    let of_groups = coordinators().into_iter().filter(|seed| seed[0] == 0);
    let records: Vec<Vec<u8>> = of_groups
        .map(|seed| {
            let (key, value) = seed[2..].split_at(usize::from(seed[1]));
            [&[seed[1], value.len().min(254) as u8][..], key, &value[..value.len().min(254)]]
                .concat()
        })
        .collect();
    let all = records.concat();
    records.into_iter().chain([all]).collect()
}

/// Subscriptions and assignments.
pub(crate) fn protocols() -> Vec<Vec<u8>> {
    let lines = golden_lines("record/testdata/java").into_iter();
    lines
        .filter(|(stem, _, _, _)| stem == "consumer")
        .map(|(_, _, version, body)| [&version.to_be_bytes()[..], &body].concat())
        .collect()
}

/// Records of the metadata log, each alone and all in one.
pub(crate) fn metadata_log() -> Vec<Vec<u8>> {
    let fits = |seed: &Vec<u8>| {
        record::stored::metadata::MetadataRecord::decode(seed.clone().into()).is_ok()
    };
    let framed = |seed: Vec<u8>| [&(seed.len() as u16).to_be_bytes()[..], &seed].concat();
    let records: Vec<Vec<u8>> = metadata().into_iter().filter(fits).map(framed).collect();
    let all = records.concat();
    records.into_iter().chain([all]).collect()
}

/// Files in Java's properties form.
pub(crate) fn files() -> Vec<Vec<u8>> {
    [
        "# comment\n! another\nkey=value\nkey: value\nkey value\n",
        "listeners=PLAINTEXT://127.0.0.1:9092\r\nlog.dirs = /data/a, \\\n   /data/b\nnode.id=1",
        "escaped\\=\\:\\ key=\\t\\u00e9\\ud83d\\ude00\\\\\n=empty\nalone",
        "\u{feff}broker.rack=a\rb=\u{fc}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Every setting in a value that its table gives, and files that somebody could have.
pub(crate) fn settings() -> Vec<Vec<u8>> {
    use cluster::config::{BROKER, GROUP, TOPIC};
    let lines: Vec<String> = [BROKER, TOPIC, GROUP]
        .into_iter()
        .flatten()
        .map(|key| format!("{}={}\n", key.name, key.default.unwrap_or("1")))
        .collect();
    let mut seeds: Vec<Vec<u8>> =
        lines.chunks(8).map(|lines| lines.concat().into_bytes()).collect();
    seeds.push(
        b"process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:9092\n\
          controller.quorum.voters=1@127.0.0.1:9093\nlog.dirs=/a,/b\nmax.connections.per.ip.overrides=10.0.0.1:100\n"
            .to_vec(),
    );
    seeds.push(b"cleanup.policy=delete\nsegment.bytes=1048576\ncompression.type=zstd\n".to_vec());
    seeds
}

/// Words, one a line.
pub(crate) fn command_lines() -> Vec<Vec<u8>> {
    [
        "dev --listen 127.0.0.1:0 --data /d --set log.dirs=/x",
        "server /etc/server.properties --log-format json --log-level info,broker=debug",
        "format --cluster-id x --config f",
        "topic create t --partitions 3 --set retention.ms=1 --bootstrap h:1",
        "topic describe t --json",
        "group reset g --topic t --to 2026-01-31T12:00:00Z",
        "group reset g --topic t:0 --to earliest",
        "config set topic t retention.ms=5",
        "produce t --acks all --compression zstd --partition 0",
        "consume t --from 90m --until-end --json --max 5",
        "consume t --from 42 --group g",
        "sim run --seeds 0..10",
        "completion bash",
    ]
    .map(|line| line.replace(' ', "\n").into_bytes())
    .to_vec()
}

/// Files that say whose a directory is, and names of clusters.
pub(crate) fn identities() -> Vec<Vec<u8>> {
    let text = "cluster.id=c\ndirectory.id=BwcHBwcHRweHBwcHBwcHBw\nfoletold.format=1\nnode.id=0\nversion=1\n"
        .replace("foletold", "foretold");
    let file = |text: &str| [&[0][..], text.as_bytes()].concat();
    vec![
        file(&text),
        file(&text.replace("cluster.id=c", "cluster.id=other")),
        file(&text.replace("format=1", "format=2")),
        file(&text.replace("foretold.format=1\n", "")),
        b"\x01a=b:c#d".to_vec(),
        b"\x01 spaced ".to_vec(),
    ]
}

/// The size of the pieces, then frames one behind the other.
pub(crate) fn streams() -> Vec<Vec<u8>> {
    let frames = requests();
    let mut seeds: Vec<Vec<u8>> = frames
        .chunks(3)
        .enumerate()
        .map(|(at, frames)| [&[(at % 20) as u8][..], &frames.concat()].concat())
        .collect();
    seeds.push([&[7][..], &frames.concat()[..4096]].concat());
    seeds
}

/// What is asked and what is answered rightly, then answers: two bytes of length, a response without its header.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let bodies: Vec<Vec<u8>> = responses()
        .into_iter()
        .map(|seed| [&((seed.len() - 4) as u16).to_be_bytes()[..], &seed[4..]].concat())
        .collect();
    let of = |number: usize| [&[number as u8 % 16, 3][..], &bodies[number]].concat();
    (0..bodies.len()).map(of).collect()
}
