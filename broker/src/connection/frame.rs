//! Frames: a length of four bytes, then so many bytes. The only place that trusts a length, and it does so last.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length before each frame.
pub(super) const LENGTH_BYTES: usize = 4;
/// Key, version and correlation id: no request is shorter.
const REQUEST_BYTES_MIN: usize = 8;
/// Up to here a frame costs nothing of the memory that all connections share: ten thousand that are begun are few.
const FREE_BYTES: usize = 8 << 10;
/// A frame beyond this is among the largest: no producer's ordinary request is.
const HUGE_BYTES: usize = 4 << 20;
/// What one read takes: at least, and at most.
const READ_BYTES: std::ops::RangeInclusive<usize> = 16 << 10..=64 << 10;
/// Once so much of a frame has arrived, room is reserved in large steps.
const PROVEN_BYTES: usize = 64 << 10;
/// Up to here room for a frame is reserved at once; beyond it only as bytes arrive, so that a length without bytes behind
/// it costs nothing.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// The stream is not made of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadLength(pub i32);

/// Bytes received and not yet taken as frames.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) buffer: BytesMut,
}

impl Inbox {
    /// The next whole frame, without its length. `None`: more bytes are needed.
    pub(crate) fn next_frame(
        &mut self,
        frame_bytes_max: usize,
    ) -> Result<Option<Bytes>, BadLength> {
        let Some(head) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = i32::from_be_bytes(*head);
        let bytes = match usize::try_from(length) {
            Ok(bytes) if (REQUEST_BYTES_MIN..=frame_bytes_max).contains(&bytes) => bytes,
            _ => return Err(BadLength(length)),
        };
        if self.buffer.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(LENGTH_BYTES + bytes).freeze();
        frame.advance(LENGTH_BYTES);
        if self.buffer.is_empty() {
            // Lets go of the block, which the frame may keep for long; an idle connection holds no memory.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// What the next read may take: of a large frame hardly more than has arrived of it, so that who sends little holds
    /// little.
    pub(crate) fn read_bytes_max(&self) -> usize {
        match self.announced_bytes() {
            Some(bytes) if bytes > FREE_BYTES => {
                self.buffer.len().clamp(*READ_BYTES.start(), *READ_BYTES.end())
            }
            _ => *READ_BYTES.end(),
        }
    }

    /// Makes room for the next bytes of a frame that is arriving.
    pub(crate) fn make_room(&mut self) {
        if let Some(bytes) = self.announced_bytes() {
            self.buffer.reserve(self.room(bytes));
        }
    }

    /// How much room for a frame of `bytes` is made next.
    fn room(&self, bytes: usize) -> usize {
        let arrived = self.buffer.len();
        let step = match arrived < PROVEN_BYTES {
            true => self.read_bytes_max(),
            false => RESERVE_BYTES_MAX.max(arrived),
        };
        (LENGTH_BYTES + bytes).saturating_sub(arrived).min(step)
    }

    /// Bytes of shared memory that it must hold before room is made and more is read, and whether for a frame that is among
    /// the largest.
    pub(crate) fn shared_bytes(&self) -> (usize, bool) {
        match self.announced_bytes() {
            Some(bytes) if bytes > FREE_BYTES && self.buffer.len() > FREE_BYTES / 2 => {
                let next = self.read_bytes_max().max(self.room(bytes));
                (self.buffer.len() + next, bytes > HUGE_BYTES)
            }
            _ => (0, false),
        }
    }

    /// Bytes of the frame that is arriving, if that is known and can be.
    fn announced_bytes(&self) -> Option<usize> {
        usize::try_from(i32::from_be_bytes(*self.buffer.first_chunk::<LENGTH_BYTES>()?)).ok()
    }

    /// Whether [`Inbox::next_frame`] has something to say without another read.
    pub(crate) fn has_frame(&self) -> bool {
        let Some(head) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return false };
        // A negative length is an error to report.
        usize::try_from(i32::from_be_bytes(*head))
            .map_or(true, |bytes| self.buffer.len() - LENGTH_BYTES >= bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox { buffer: BytesMut::from(bytes) }
    }

    #[test]
    fn frames_leave_whole_and_in_order() {
        let mut inbox = inbox(b"\0\0\0\x08abcdefgh\0\0\0\x09012345678\0\0");
        assert_eq!(inbox.next_frame(100), Ok(Some(Bytes::from_static(b"abcdefgh"))));
        assert_eq!(inbox.next_frame(100), Ok(Some(Bytes::from_static(b"012345678"))));
        assert_eq!(inbox.next_frame(100), Ok(None));
        assert!(!inbox.has_frame());
    }

    #[test]
    fn what_has_arrived_of_a_large_frame_and_the_room_for_more_cost_shared_memory() {
        let of = |announced: i32, arrived: usize| {
            let mut bytes = announced.to_be_bytes().to_vec();
            bytes.resize(arrived, 0);
            inbox(&bytes).shared_bytes()
        };
        assert_eq!(of(100 << 20, 2), (0, false));
        assert_eq!(of(100 << 20, 1000), (0, false), "a length without bytes behind it");
        assert_eq!(of(8 << 10, 8 << 10), (0, false), "a small one");
        assert_eq!(of(1 << 20, 5 << 10), (21 << 10, false));
        assert_eq!(
            of(1 << 20, 50 << 10),
            (100 << 10, false),
            "at most as much again as has arrived"
        );
        assert_eq!(of(1 << 20, 64 << 10), ((1 << 20) + 4, false), "what is proven gets its room");
        assert_eq!(of(100 << 20, 64 << 10), ((64 << 10) + (1 << 20), true));
        assert_eq!(of(100 << 20, 5 << 20), (10 << 20, true));
        assert_eq!(of(-1, 1 << 20), (0, false));
    }

    #[test]
    fn a_length_is_checked_before_room_is_reserved() {
        for length in [-1i32, 0, 7, 101, i32::MAX] {
            let mut inbox = inbox(&length.to_be_bytes());
            assert_eq!(inbox.next_frame(100), Err(BadLength(length)));
        }
        let mut inbox = inbox(&(100i32 << 20).to_be_bytes());
        assert_eq!(inbox.next_frame(100 << 20), Ok(None));
        inbox.make_room();
        assert!(inbox.buffer.capacity() <= 2 * READ_BYTES.start());
    }
}
