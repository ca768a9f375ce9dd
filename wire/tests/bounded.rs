//! Bytes from strangers: no panic, and no more memory than a fixed multiple of what they sent.
//!
//! Each decoder reads truncations and random mutations of good messages, and small frames that claim to be huge, under
//! an allocator that counts. The sum of all that is allocated while decoding is compared with the input, so a decoder
//! that reserves what a stranger claims cannot hide behind an early failure.
#![allow(unsafe_code, reason = "counting needs an allocator, and an allocator is unsafe")]

mod table;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use types::encoding::{EXPANSION_MAX, EXPANSION_SLACK};
use wire::{DecodeError, Reader, RequestHeader, frame_len};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|allocated| allocated.set(allocated.get() + layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Text costs its bytes and a counter more; the shortest text of one byte takes two on the wire and 24 in memory.
const TEXT_EXPANSION_MAX: usize = 12;

/// Decodes and returns what was allocated meanwhile.
fn allocated(decode: impl FnOnce()) -> usize {
    let before = ALLOCATED.with(Cell::get);
    decode();
    ALLOCATED.with(Cell::get) - before
}

fn check(row: &table::Row, version: i16, input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let most = input.len() * (EXPANSION_MAX + TEXT_EXPANSION_MAX) + EXPANSION_SLACK + 256;
    let used = allocated(|| {
        let _any = (row.decode)(bytes, version);
    });
    assert!(
        used <= most,
        "{} version {version}: {} bytes made it allocate {used}: {input:?}",
        row.name(),
        input.len()
    );
}

#[test]
fn mutations_neither_panic_nor_swell() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let rng = runner.rng();
    for row in table::rows() {
        for version in row.versions() {
            for seed in 0..6 {
                let good = (row.sample)(seed, version);
                for _ in 0..12 {
                    let mut bad = good.to_vec();
                    for _ in 0..rng.random_range(1..4) {
                        mutate(&mut bad, rng);
                    }
                    check(&row, version, &bad);
                }
            }
        }
    }
}

/// One small damage: a byte changed, a large length put in, a piece cut out or doubled, the end cut off.
fn mutate(bytes: &mut Vec<u8>, rng: &mut impl Rng) {
    if bytes.is_empty() {
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x07]);
        return;
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[at] = rng.random(),
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => {
            let lengths: [&[u8]; 4] = [
                &[0x7f, 0xff, 0xff, 0xff],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                &[0x00, 0x0f, 0x42, 0x40],
                &[0xc1, 0x84, 0x3d],
            ];
            let length = lengths[rng.random_range(0..4)];
            bytes.splice(at..(at + length.len()).min(bytes.len()), length.iter().copied());
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..(at + 4).min(bytes.len()))),
        _ => {
            let end = (at + 16).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

#[test]
fn small_frames_that_claim_to_be_huge_are_refused() {
    for row in table::rows() {
        for version in row.versions() {
            for filler in [0x00, 0x01, 0x02, 0x3d, 0x7f, 0x80, 0xff] {
                for length in [0, 1, 2, 3, 4, 5, 8, 13, 64, 1024] {
                    check(&row, version, &vec![filler; length]);
                }
            }
        }
    }
}

#[test]
fn arrays_pay_for_their_elements() {
    use wire::describe_groups::DescribeGroupsResponse;
    // 100,000 bytes that claim 99,000 groups: below the limits on length and count, refused all the same, because a
    // group in memory is larger than a byte.
    let mut input = vec![0; 100_000];
    input[..4].copy_from_slice(&99_000_i32.to_be_bytes());
    let refused = DescribeGroupsResponse::decode(&mut Reader::new(input.clone()), 0);
    assert_eq!(refused.err(), Some(DecodeError::TooMuchMemory));
    input[..4].copy_from_slice(&1_000_001_i32.to_be_bytes());
    let refused = DescribeGroupsResponse::decode(&mut Reader::new(input), 0);
    assert_eq!(refused.err(), Some(DecodeError::TooManyElements(1_000_001)));
    // Large answers of honest brokers pass: 40,000 groups that hold as little as a group can.
    let group = wire::describe_groups::DescribedGroup::default();
    let honest = DescribeGroupsResponse { groups: vec![group; 40_000], ..Default::default() };
    let bytes = table::encoded(&honest, 5);
    assert_eq!(DescribeGroupsResponse::decode(&mut Reader::new(bytes), 5), Ok(honest));
}

proptest! {
    #[test]
    fn headers_and_lengths_take_anything(input in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _any = RequestHeader::of_frame(&mut Reader::new(input.clone()));
        if let Some(prefix) = input.first_chunk() {
            prop_assert!(frame_len(*prefix, 1000).is_ok_and(|length| length <= 1000)
                || frame_len(*prefix, 1000).is_err());
        }
    }
}
