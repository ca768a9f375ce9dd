//! Variable-length integers: seven bits a byte, least significant first, the high bit says that more follow. Signed
//! ones are zig-zag coded first, so that small negative numbers stay short.

use bytes::BufMut;

use super::DecodeError;

/// Reads an unsigned 32-bit integer from the front of `input`: its value and how many bytes it took.
pub fn read_unsigned_varint(input: &[u8]) -> Result<(u32, usize), DecodeError> {
    let mut value = 0u32;
    for index in 0..5 {
        let byte =
            *input.get(index).ok_or(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 })?;
        // The fifth byte has room for the top four bits only.
        if index == 4 && byte > 0x0f {
            return Err(DecodeError::InvalidVarint);
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(DecodeError::InvalidVarint)
}

/// Reads a zig-zag coded 32-bit integer from the front of `input`: its value and how many bytes it took.
pub fn read_varint(input: &[u8]) -> Result<(i32, usize), DecodeError> {
    let (raw, length) = read_unsigned_varint(input)?;
    Ok(((raw >> 1) as i32 ^ -((raw & 1) as i32), length))
}

/// Reads a zig-zag coded 64-bit integer from the front of `input`: its value and how many bytes it took.
pub fn read_varlong(input: &[u8]) -> Result<(i64, usize), DecodeError> {
    let mut raw = 0u64;
    for index in 0..10 {
        let byte =
            *input.get(index).ok_or(DecodeError::UnexpectedEnd { needed: 1, remaining: 0 })?;
        if index == 9 && byte > 1 {
            return Err(DecodeError::InvalidVarint);
        }
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(((raw >> 1) as i64 ^ -((raw & 1) as i64), index + 1));
        }
    }
    Err(DecodeError::InvalidVarint)
}

/// Appends `value` to `out`.
pub fn write_unsigned_varint(out: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends `value`, zig-zag coded, to `out`.
pub fn write_varint(out: &mut impl BufMut, value: i32) {
    write_unsigned_varint(out, zigzag(value));
}

/// Appends `value`, zig-zag coded, to `out`.
pub fn write_varlong(out: &mut impl BufMut, value: i64) {
    let mut raw = zigzag_long(value);
    while raw >= 0x80 {
        out.put_u8(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.put_u8(raw as u8);
}

/// Bytes that [`write_unsigned_varint`] takes.
pub const fn unsigned_varint_len(value: u32) -> usize {
    // One byte for each started group of seven bits; zero still takes one.
    ((38 - (value | 1).leading_zeros()) / 7) as usize
}

/// Bytes that [`write_varint`] takes.
pub const fn varint_len(value: i32) -> usize {
    unsigned_varint_len(zigzag(value))
}

/// Bytes that [`write_varlong`] takes.
pub const fn varlong_len(value: i64) -> usize {
    ((70 - (zigzag_long(value) | 1).leading_zeros()) / 7) as usize
}

const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
