//! The writer: values in, bytes out. Integers cannot fail; lengths can, where they exceed what the protocol can say.

use bytes::{BufMut, Bytes, BytesMut};

use super::varint::{write_unsigned_varint, write_varint, write_varlong};
use super::{EncodeError, Str, TEXT_BYTES_MAX};
use crate::Uuid;

/// Grows the bytes of one message.
///
/// A writer made by [`Writer::splicing`] leaves room for bytes that lie elsewhere: it notes where they belong, and the
/// caller puts them there when it sends.
#[derive(Debug, Default)]
pub struct Writer {
    output: BytesMut,
    /// Where bytes that lie elsewhere belong: position in `output` and their length.
    cuts: Option<Vec<(usize, usize)>>,
}

type Result<T> = std::result::Result<T, EncodeError>;

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer { output: BytesMut::with_capacity(capacity), cuts: None }
    }

    /// Continues after what is in `output`.
    pub fn onto(output: BytesMut) -> Writer {
        Writer { output, cuts: None }
    }

    /// An empty writer that notes where bytes that lie elsewhere belong.
    pub fn splicing() -> Writer {
        Writer { output: BytesMut::new(), cuts: Some(Vec::new()) }
    }

    /// Whether bytes that lie elsewhere can be spliced in.
    pub fn is_splicing(&self) -> bool {
        self.cuts.is_some()
    }

    /// Bytes written, without those that lie elsewhere.
    pub fn len(&self) -> usize {
        self.output.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Bytes of the message, with those that lie elsewhere.
    pub fn total_len(&self) -> usize {
        self.len() + self.cuts.iter().flatten().map(|&(_, length)| length).sum::<usize>()
    }

    /// Notes that `length` bytes that lie elsewhere belong here.
    pub fn cut(&mut self, length: usize) -> Result<()> {
        let position = self.len();
        self.cuts.as_mut().ok_or(EncodeError::RecordsElsewhere)?.push((position, length));
        Ok(())
    }

    /// What has been written, for patching lengths that are known late.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.output
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Bytes {
        self.output.freeze()
    }

    /// The bytes written, still growable.
    pub fn into_inner(self) -> BytesMut {
        self.output
    }

    /// The bytes written, and for each piece that lies elsewhere its position in them and its length.
    pub fn into_spliced(self) -> (Bytes, Vec<(usize, usize)>) {
        (self.output.freeze(), self.cuts.unwrap_or_default())
    }

    /// Raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// One byte: 1 for true.
    pub fn bool(&mut self, value: bool) {
        self.output.put_u8(u8::from(value));
    }

    /// A signed 8-bit integer.
    pub fn i8(&mut self, value: i8) {
        self.output.put_i8(value);
    }

    /// A signed 16-bit integer.
    pub fn i16(&mut self, value: i16) {
        self.output.put_i16(value);
    }

    /// An unsigned 16-bit integer.
    pub fn u16(&mut self, value: u16) {
        self.output.put_u16(value);
    }

    /// A signed 32-bit integer.
    pub fn i32(&mut self, value: i32) {
        self.output.put_i32(value);
    }

    /// An unsigned 32-bit integer.
    pub fn u32(&mut self, value: u32) {
        self.output.put_u32(value);
    }

    /// A signed 64-bit integer.
    pub fn i64(&mut self, value: i64) {
        self.output.put_i64(value);
    }

    /// A 64-bit IEEE 754 number.
    pub fn f64(&mut self, value: f64) {
        self.output.put_f64(value);
    }

    /// Sixteen bytes that name something.
    pub fn uuid(&mut self, value: Uuid) {
        self.output.extend_from_slice(&value.0);
    }

    /// An unsigned variable-length integer.
    pub fn unsigned_varint(&mut self, value: u32) {
        write_unsigned_varint(&mut self.output, value);
    }

    /// A zig-zag coded integer.
    pub fn varint(&mut self, value: i32) {
        write_varint(&mut self.output, value);
    }

    /// A zig-zag coded integer.
    pub fn varlong(&mut self, value: i64) {
        write_varlong(&mut self.output, value);
    }

    fn length(&mut self, length: Option<usize>, flexible: bool, wide: bool) -> Result<()> {
        let most = if wide { i32::MAX as usize - 1 } else { TEXT_BYTES_MAX };
        if let Some(length) = length
            && length > most
        {
            return Err(EncodeError::TooLong(length));
        }
        match (flexible, wide) {
            (true, _) => self.unsigned_varint(length.map_or(0, |length| length as u32 + 1)),
            (false, true) => self.i32(length.map_or(-1, |length| length as i32)),
            (false, false) => self.i16(length.map_or(-1, |length| length as i16)),
        }
        Ok(())
    }

    /// Text.
    pub fn str(&mut self, value: &str, flexible: bool) -> Result<()> {
        self.length(Some(value.len()), flexible, false)?;
        self.raw(value.as_bytes());
        Ok(())
    }

    /// Text that may be null.
    pub fn nullable_str(&mut self, value: &Option<Str>, flexible: bool) -> Result<()> {
        match value {
            Some(value) => self.str(value, flexible),
            None => self.length(None, flexible, false),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8], flexible: bool) -> Result<()> {
        self.bytes_len(value.len(), flexible)?;
        self.raw(value);
        Ok(())
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, value: &Option<Bytes>, flexible: bool) -> Result<()> {
        match value {
            Some(value) => self.bytes(value, flexible),
            None => self.null(flexible),
        }
    }

    /// The length of bytes that the caller writes or splices in next.
    pub fn bytes_len(&mut self, length: usize, flexible: bool) -> Result<()> {
        self.length(Some(length), flexible, true)
    }

    /// Null in place of bytes or an array.
    pub fn null(&mut self, flexible: bool) -> Result<()> {
        self.length(None, flexible, true)
    }

    /// An array; `element` writes one element.
    pub fn array<T>(
        &mut self,
        values: &[T],
        flexible: bool,
        mut element: impl FnMut(&mut Writer, &T) -> Result<()>,
    ) -> Result<()> {
        self.length(Some(values.len()), flexible, true)?;
        values.iter().try_for_each(|value| element(self, value))
    }

    /// An array that may be null; `element` writes one element.
    pub fn nullable_array<T>(
        &mut self,
        values: &Option<Vec<T>>,
        flexible: bool,
        element: impl FnMut(&mut Writer, &T) -> Result<()>,
    ) -> Result<()> {
        match values {
            Some(values) => self.array(values, flexible, element),
            None => self.null(flexible),
        }
    }

    /// A structure that may be null: a byte says whether it is there.
    pub fn nullable<T>(
        &mut self,
        value: &Option<T>,
        write: impl FnOnce(&mut Writer, &T) -> Result<()>,
    ) -> Result<()> {
        match value {
            Some(value) => {
                self.i8(1);
                write(self, value)
            }
            None => {
                self.i8(-1);
                Ok(())
            }
        }
    }

    /// The content of a tagged field that is a structure and may be null: unlike elsewhere, zero says so.
    pub fn nullable_in_tag<T>(
        &mut self,
        value: &Option<T>,
        write: impl FnOnce(&mut Writer, &T) -> Result<()>,
    ) -> Result<()> {
        self.i8(i8::from(value.is_some()));
        value.as_ref().map_or(Ok(()), |value| write(self, value))
    }

    /// The tagged fields collected.
    pub fn tags(&mut self, tags: Tags) {
        self.unsigned_varint(tags.count);
        self.raw(&tags.fields.output);
    }

    /// No tagged fields.
    pub fn no_tags(&mut self) {
        self.i8(0);
    }
}

/// Collects the tagged fields of one structure, in ascending order of their tags.
#[derive(Debug, Default)]
pub struct Tags {
    count: u32,
    fields: Writer,
}

impl Tags {
    /// None yet.
    pub fn new() -> Tags {
        Tags::default()
    }

    /// Adds field `tag`, whose content `write` writes.
    pub fn field(&mut self, tag: u32, write: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        let mut content = Writer::new();
        write(&mut content)?;
        self.count += 1;
        self.fields.unsigned_varint(tag);
        self.fields.unsigned_varint(content.len() as u32);
        self.fields.raw(&content.output);
        Ok(())
    }
}
