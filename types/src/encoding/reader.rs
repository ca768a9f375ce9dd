//! The reader: bytes in, values out, errors typed, memory bounded.

use bytes::Bytes;

use super::varint::{read_unsigned_varint, read_varint, read_varlong};
use super::{
    DecodeError, ELEMENTS_MAX, EXPANSION_MAX, EXPANSION_SLACK, Str, TAGS_MAX, TEXT_BYTES_MAX,
};
use crate::Uuid;

/// A position in one message's bytes.
#[derive(Clone, Debug)]
pub struct Reader {
    input: Bytes,
    position: usize,
    /// Bytes of memory that arrays may still reserve.
    budget: usize,
    #[cfg(feature = "sampling")]
    pub(super) sampler: Option<super::sample::Sampler>,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl Reader {
    /// Reads `input` from its beginning.
    pub fn new(input: impl Into<Bytes>) -> Reader {
        let input = input.into();
        let budget = input.len().saturating_mul(EXPANSION_MAX).saturating_add(EXPANSION_SLACK);
        Reader {
            input,
            position: 0,
            budget,
            #[cfg(feature = "sampling")]
            sampler: None,
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.input.len() - self.position
    }

    /// Everything that is left, as a slice of the input.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.input.slice(self.position..);
        self.position = self.input.len();
        rest
    }

    /// Fails if anything is left.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes(count)),
        }
    }

    fn check(&self, needed: usize) -> Result<()> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(DecodeError::UnexpectedEnd { needed, remaining });
        }
        Ok(())
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.bytes());
        }
        let mut bytes = [0; N];
        let end = self.position + N;
        match self.input.get(self.position..end) {
            Some(found) => bytes.copy_from_slice(found),
            None => {
                return Err(DecodeError::UnexpectedEnd { needed: N, remaining: self.remaining() });
            }
        }
        self.position = end;
        Ok(bytes)
    }

    /// The next `count` bytes, as a slice of the input.
    pub fn take(&mut self, count: usize) -> Result<Bytes> {
        self.check(count)?;
        let bytes = self.input.slice(self.position..self.position + count);
        self.position += count;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<()> {
        self.check(count)?;
        self.position += count;
        Ok(())
    }

    /// A byte that is zero for false.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// A signed 8-bit integer.
    pub fn i8(&mut self) -> Result<i8> {
        self.array_of().map(i8::from_be_bytes)
    }

    /// A signed 16-bit integer.
    pub fn i16(&mut self) -> Result<i16> {
        self.array_of().map(i16::from_be_bytes)
    }

    /// An unsigned 16-bit integer.
    pub fn u16(&mut self) -> Result<u16> {
        self.array_of().map(u16::from_be_bytes)
    }

    /// A signed 32-bit integer.
    pub fn i32(&mut self) -> Result<i32> {
        self.array_of().map(i32::from_be_bytes)
    }

    /// An unsigned 32-bit integer.
    pub fn u32(&mut self) -> Result<u32> {
        self.array_of().map(u32::from_be_bytes)
    }

    /// A signed 64-bit integer.
    pub fn i64(&mut self) -> Result<i64> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// A 64-bit IEEE 754 number.
    pub fn f64(&mut self) -> Result<f64> {
        #[cfg(feature = "sampling")]
        if self.sampler.is_some() {
            return self.i32().map(f64::from);
        }
        self.array_of().map(f64::from_be_bytes)
    }

    /// Sixteen bytes that name something.
    pub fn uuid(&mut self) -> Result<Uuid> {
        self.array_of().map(Uuid)
    }

    /// An unsigned variable-length integer of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let (value, length) = read_unsigned_varint(&self.input[self.position..])?;
        self.position += length;
        Ok(value)
    }

    /// A zig-zag coded integer of at most 32 bits.
    pub fn varint(&mut self) -> Result<i32> {
        let (value, length) = read_varint(&self.input[self.position..])?;
        self.position += length;
        Ok(value)
    }

    /// A zig-zag coded integer of at most 64 bits.
    pub fn varlong(&mut self) -> Result<i64> {
        let (value, length) = read_varlong(&self.input[self.position..])?;
        self.position += length;
        Ok(value)
    }

    /// A length of which zero (flexible) or a negative number says null.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>> {
        if flexible {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        let length = if wide { self.i32()? } else { i32::from(self.i16()?) };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::InvalidLength(i64::from(length))),
        }
    }

    /// Text that may be null.
    pub fn nullable_str(&mut self, flexible: bool) -> Result<Option<Str>> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.maybe().then(|| sampler.text()));
        }
        let Some(length) = self.length(flexible, false)? else {
            return Ok(None);
        };
        if length > TEXT_BYTES_MAX {
            return Err(DecodeError::InvalidLength(length as i64));
        }
        self.check(length)?;
        let bytes = &self.input[self.position..self.position + length];
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidText)?;
        self.position += length;
        Ok(Some(Str::from(text)))
    }

    /// Text.
    pub fn str(&mut self, flexible: bool) -> Result<Str> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.text());
        }
        self.nullable_str(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes that may be null, as a slice of the input.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.maybe().then(|| sampler.blob()));
        }
        match self.length(flexible, true)? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    /// Bytes, as a slice of the input.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.blob());
        }
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array that may be null; `element` reads one element.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        mut element: impl FnMut(&mut Reader) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.count::<T>(flexible)? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array; `element` reads one element.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Reader) -> Result<T>,
    ) -> Result<Vec<T>> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            sampler.forbid_null();
        }
        self.nullable_array(flexible, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// How many elements follow, checked against the input, the limit and the memory budget.
    fn count<T>(&mut self, flexible: bool) -> Result<Option<usize>> {
        #[cfg(feature = "sampling")]
        if let Some(sampler) = &mut self.sampler {
            return Ok(sampler.count());
        }
        let Some(count) = self.length(flexible, true)? else {
            return Ok(None);
        };
        if count > ELEMENTS_MAX {
            return Err(DecodeError::TooManyElements(count));
        }
        // No element takes less than a byte.
        self.check(count)?;
        self.budget =
            (self.budget).checked_sub(count * size_of::<T>()).ok_or(DecodeError::TooMuchMemory)?;
        Ok(Some(count))
    }

    /// A structure that may be null: a byte below zero says so.
    pub fn nullable<T>(
        &mut self,
        value: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.i8()? < 0 { Ok(None) } else { value(self).map(Some) }
    }

    /// The content of a tagged field that is a structure and may be null: unlike elsewhere, zero says so.
    pub fn nullable_in_tag<T>(
        &mut self,
        value: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<Option<T>> {
        #[cfg(feature = "sampling")]
        if self.sampler.is_some() {
            return self.nullable(value);
        }
        if self.unsigned_varint()? == 0 { Ok(None) } else { value(self).map(Some) }
    }

    /// Tagged fields. `field` is called with each tag and says whether it knew and read it; others are passed over.
    pub fn tags(&mut self, mut field: impl FnMut(&mut Reader, u32) -> Result<bool>) -> Result<()> {
        #[cfg(feature = "sampling")]
        if self.sampler.is_some() {
            return (0..32).try_for_each(|tag| field(self, tag).map(|_known| ()));
        }
        let count = self.unsigned_varint()? as usize;
        if count > TAGS_MAX {
            return Err(DecodeError::TooManyTags(count));
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            self.check(size)?;
            let end = self.position + size;
            if field(self, tag)? {
                if self.position != end {
                    return Err(DecodeError::TagSize { tag, size });
                }
            } else {
                self.position = end;
            }
        }
        Ok(())
    }

    /// Tagged fields of a structure that knows none.
    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(false))
    }
}
