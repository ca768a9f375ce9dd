//! Sample messages for tests: a reader that makes values up instead of reading them.
//!
//! Every decoder is also a description of what it decodes. A sampling reader answers each read with a value of its own,
//! so decoding "nothing" at some version yields a message that is full of values this version can carry. Tests of all
//! generated messages need no code of their own for that. Compiled with the feature `sampling` only.

use bytes::Bytes;

use super::{Reader, Str};

/// Where the values come from: a small generator of pseudo-random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    state: u64,
    null_forbidden: bool,
}

impl Sampler {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn maybe(&mut self) -> bool {
        !self.next().is_multiple_of(4)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    pub(super) fn text(&mut self) -> Str {
        const WORDS: [&str; 6] =
            ["", "a", "orders", "größe", "топик", "a-rather-long-name.with_all_kinds"];
        Str::from(WORDS[(self.next() % 6) as usize])
    }

    pub(super) fn blob(&mut self) -> Bytes {
        let count = self.next() % 20;
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// The next array must not be null.
    pub(super) fn forbid_null(&mut self) {
        self.null_forbidden = true;
    }

    pub(super) fn count(&mut self) -> Option<usize> {
        let null_allowed = !std::mem::take(&mut self.null_forbidden);
        match self.next() % 8 {
            0 if null_allowed => None,
            0 | 1 => Some(0),
            2..=5 => Some(1),
            _ => Some(3),
        }
    }
}

impl Reader {
    /// A reader that makes values up; the same `seed` makes up the same ones.
    pub fn sampling(seed: u64) -> Reader {
        let mut reader = Reader::new(Bytes::new());
        reader.sampler = Some(Sampler { state: seed, null_forbidden: false });
        reader
    }
}
