//! Zig-zag varints inside records, over plain slices: the innermost loop of every walk.

use bytes::{BufMut, BytesMut};

/// Reads a zig-zag varint of at most 32 bits at `*at` and moves on; `None` if it is cut short or too long.
#[inline]
pub(crate) fn read_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    // Most lengths and deltas fit one byte.
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some((i32::from(first) >> 1) ^ -(i32::from(first) & 1));
    }
    // The rest are mostly lengths below 8 KiB.
    let second = *bytes.get(*at + 1)?;
    if second < 0x80 {
        *at += 2;
        let value = u32::from(first & 0x7f) | u32::from(second) << 7;
        return Some((value >> 1) as i32 ^ -((value & 1) as i32));
    }
    let value = u32::try_from(read_unsigned(bytes, at, 5)?).ok()?;
    Some((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// Reads a zig-zag varint of at most 64 bits at `*at` and moves on; `None` if it is cut short or too long.
#[inline]
pub(crate) fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some((i64::from(first) >> 1) ^ -(i64::from(first) & 1));
    }
    let value = read_unsigned(bytes, at, 10)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cold]
fn read_unsigned(bytes: &[u8], at: &mut usize, bytes_max: u32) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..bytes_max {
        let byte = *bytes.get(*at)?;
        *at += 1;
        // The tenth byte has room for one bit.
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_i32(out: &mut BytesMut, value: i32) {
    put_i64(out, i64::from(value));
}

pub(crate) fn put_i64(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Bytes that `value` takes.
pub(crate) fn len_i64(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0i32, &[0u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = BytesMut::new();
            put_i32(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            let mut at = 0;
            assert_eq!(read_i32(bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
        }
    }

    #[test]
    fn too_long_or_cut_short_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0xff; 11]] {
            assert_eq!(read_i32(bytes, &mut 0), None, "{bytes:?}");
        }
        assert_eq!(read_i64(&[0xff; 10], &mut 0), None);
        assert_eq!(read_i64(&[0x80; 12], &mut 0), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64) {
            let mut out = BytesMut::new();
            put_i64(&mut out, value);
            prop_assert_eq!(out.len(), len_i64(value));
            let mut at = 0;
            prop_assert_eq!(read_i64(&out, &mut at), Some(value));
            prop_assert_eq!(at, out.len());
        }
    }
}
