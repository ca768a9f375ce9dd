//! The fuzz bodies on a stable toolchain: everything that was ever found, good bytes, and seeded mutations of them; a few
//! seconds in all.

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

fn mutated(good: &[u8], seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
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
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied().take(32));
            }
        }
    }
    bytes
}

fn smoke(name: &str) {
    let body = fuzz::BODIES.iter().find(|body| body.name == name).expect("a body");
    let seeds = (body.seeds)();
    assert!(!seeds.is_empty());
    // What it makes once does not count as memory of an input.
    (body.take)(&seeds[0]);
    for found in findings(name) {
        fuzz::run(body, &found);
    }
    for (index, good) in seeds.iter().enumerate() {
        fuzz::run(body, good);
        let mut random = Random(index as u64);
        for _ in 0..=body.runs / seeds.len() {
            fuzz::run(body, &mutated(good, &seeds, &mut random));
        }
    }
}

/// What once broke a promise of this body.
fn findings(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings").join(name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| std::fs::read(entry.path()).ok()).collect()
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                smoke(stringify!($name));
            }
        )*

        #[test]
        fn every_body_is_here() {
            let here = [$(stringify!($name)),*];
            let all: Vec<_> = fuzz::BODIES.iter().map(|body| body.name).collect();
            assert_eq!(all, here);
        }
    };
}

smoke! {
    wire_request
    wire_response
    wire_header
    stored_coordinator
    stored_metadata
    stored_structure
    record_batches
    record_codecs
    group_records
    consumer_protocol
    metadata_log
    server_properties
    settings
    pushed_metrics
    command_line
    log_journal
    log_directory
    identity
    broker_connection
    client_answers
}
