//! Builds batches: for producers, coordinators, compaction and tests.

use bytes::{BufMut, BytesMut};
use types::{LeaderEpoch, Offset, Timestamp};

use crate::compression::Codec;
use crate::header::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, BatchHeader, HEADER_LEN, ProducerStamp,
};
use crate::varint::{len_i64, put_i32, put_i64};
use crate::{Batch, BatchError, Compression, Record};

/// What holds for a whole batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchOptions {
    /// Offset of the first record; 0 for a batch that is yet to be placed.
    pub base_offset: Offset,
    /// Term of the appending leader, if it is placed.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Idempotent or transactional producer.
    pub producer: Option<ProducerStamp>,
    /// Whether it belongs to a transaction.
    pub is_transactional: bool,
    /// Whether it holds control records.
    pub is_control: bool,
    /// How to compress it.
    pub codec: Codec,
}

/// A batch in the making. Records are encoded as they come.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the encoded records.
    bytes: BytesMut,
    count: i32,
    base_time: i64,
    max_time: i64,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> BatchBuilder {
        let bytes = BytesMut::zeroed(HEADER_LEN);
        BatchBuilder { options, bytes, count: 0, base_time: -1, max_time: -1 }
    }

    /// Number of records so far.
    pub fn records_count(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch so far, before compression.
    pub fn bytes_total(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record without headers.
    pub fn push(
        &mut self,
        timestamp: Option<Timestamp>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> &mut BatchBuilder {
        self.push_with_headers(timestamp, key, value, [])
    }

    /// Adds `record`; its offset is the next one, whatever it says.
    pub fn push_record(&mut self, record: &Record) -> &mut BatchBuilder {
        let headers = record.headers.iter().map(|h| (h.key.as_ref(), h.value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        self.push_with_headers(record.timestamp, key, value, headers)
    }

    /// Adds a record with headers.
    ///
    /// Panics when the batch would pass 2 GiB: the limits on requests are far below.
    pub fn push_with_headers<'a>(
        &mut self,
        timestamp: Option<Timestamp>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>), IntoIter: Clone>,
    ) -> &mut BatchBuilder {
        let time = timestamp.map_or(-1, |timestamp| timestamp.0.max(-1));
        if self.count == 0 {
            self.base_time = time;
        }
        self.max_time = self.max_time.max(time);
        let time_delta = time - self.base_time;
        let headers = headers.into_iter();
        let headers_count = headers.clone().count();
        let body = 1
            + len_i64(time_delta)
            + len_i64(i64::from(self.count))
            + field_len(key)
            + field_len(value)
            + len_i64(headers_count as i64)
            + headers.clone().map(|(k, v)| field_len(Some(k)) + field_len(v)).sum::<usize>();
        let total = self.bytes.len().saturating_add(body).saturating_add(5);
        assert!(total < i32::MAX as usize, "a batch is below 2 GiB");
        self.bytes.reserve(body + 5);
        put_i32(&mut self.bytes, body as i32);
        self.bytes.put_u8(0);
        put_i64(&mut self.bytes, time_delta);
        put_i32(&mut self.bytes, self.count);
        put_field(&mut self.bytes, key);
        put_field(&mut self.bytes, value);
        put_i32(&mut self.bytes, headers_count as i32);
        for (key, value) in headers {
            put_field(&mut self.bytes, Some(key));
            put_field(&mut self.bytes, value);
        }
        self.count += 1;
        self
    }

    /// The finished batch.
    ///
    /// Panics when there is no record: an empty batch is never worth an offset.
    pub fn build(self) -> Batch {
        assert!(self.count > 0, "a batch has at least one record");
        let compression = self.options.codec.compression();
        let compressed = match compression {
            Compression::None => Ok(None),
            _ => self.compressed().map(Some),
        };
        // The encoders write to memory and refuse no input; if one ever did, plain bytes are as good.
        let (bytes, compression) = match compressed {
            Ok(Some(bytes)) => (bytes, compression),
            Ok(None) | Err(_) => (self.bytes, Compression::None),
        };
        let mut header = BatchHeader::blank();
        header.set_base(self.options.base_offset.0);
        header.set_epoch(self.options.leader_epoch.map_or(-1, |epoch| epoch.0));
        let flag = |on: bool, bit: i16| if on { bit } else { 0 };
        header.set_attributes(
            i16::from(compression.id())
                | flag(self.options.is_transactional, ATTRIBUTE_TRANSACTIONAL)
                | flag(self.options.is_control, ATTRIBUTE_CONTROL),
        );
        header.set_last_offset_delta(self.count - 1);
        header.set_base_time(self.base_time);
        header.set_max_time(self.max_time);
        let producer = self.options.producer;
        header.set_producer_id(producer.map_or(-1, |stamp| stamp.id.0));
        header.set_producer_epoch(producer.map_or(-1, |stamp| stamp.epoch.0));
        header.set_base_sequence(producer.map_or(-1, |stamp| stamp.base_sequence.0));
        header.set_records_count(self.count);
        Batch::seal(header, bytes)
    }

    fn compressed(&self) -> Result<BytesMut, BatchError> {
        let mut out = BytesMut::zeroed(HEADER_LEN);
        self.options.codec.compress(&self.bytes[HEADER_LEN..], &mut out)?;
        Ok(out)
    }
}

fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| len_i64(bytes.len() as i64) + bytes.len())
}

fn put_field(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
