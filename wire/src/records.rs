//! Record data inside messages: opaque bytes that need not be in memory.
//!
//! A fetch response is a small structure around large runs of bytes, which may lie in files. So the messages with records
//! are generic over what carries them: `Bytes` where they are in memory (and always when decoded), anything that
//! knows its length when they are sent. [`splice`] encodes such a message into pieces: what the codec wrote, and between
//! them the carriers, untouched, in their places.

use bytes::Bytes;
use types::encoding::{EncodeError, Writer};

use crate::{ApiKey, ResponseHeader};

/// Something that stands for record data of a known length.
pub trait Records {
    /// How many bytes it stands for.
    fn len(&self) -> usize;

    /// Whether it stands for none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in memory in one piece.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }
}

impl Records for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A run of a frame: bytes of ours or records in whatever carries them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<R> {
    /// What the codec wrote.
    Mem(Bytes),
    /// What the caller gave; never empty.
    Records(R),
}

/// Writes a records field: its length, and its bytes or the place where they belong.
pub(crate) fn put<R: Records>(
    records: &Option<R>,
    w: &mut Writer,
    flexible: bool,
) -> Result<(), EncodeError> {
    let Some(records) = records else {
        return w.null(flexible);
    };
    w.bytes_len(records.len(), flexible)?;
    if w.is_splicing() {
        w.cut(records.len())
    } else {
        w.raw(records.bytes().ok_or(EncodeError::RecordsElsewhere)?);
        Ok(())
    }
}

/// A response whose records may lie elsewhere.
pub trait Spliced<R> {
    /// Which question it answers.
    const API_KEY: ApiKey;

    /// Writes it in `version`.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Moves the records out, in the order in which they are written.
    fn take_records(self, out: &mut Vec<R>);
}

macro_rules! spliced {
    ($($key:ident $response:path,)*) => {
        $(
            impl<R: Records> Spliced<R> for $response {
                const API_KEY: ApiKey = ApiKey::$key;

                fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                    self.encode(w, version)
                }

                fn take_records(self, out: &mut Vec<R>) {
                    self.take_records(out);
                }
            }
        )*
    };
}

spliced! {
    Fetch crate::fetch::FetchResponse<R>,
    FetchSnapshot crate::fetch_snapshot::FetchSnapshotResponse<R>,
    ShareFetch crate::share_fetch::ShareFetchResponse<R>,
}

/// The frame of `response` in `version`, length prefix and header included, in pieces, with their total length.
pub fn splice<R: Records, S: Spliced<R>>(
    response: S,
    header: ResponseHeader,
    version: i16,
) -> Result<(Vec<Piece<R>>, usize), EncodeError> {
    let mut writer = Writer::splicing();
    writer.i32(0);
    header.encode(&mut writer, S::API_KEY.response_header_version(version))?;
    response.encode(&mut writer, version)?;
    let total = writer.total_len();
    crate::frame::set_length(&mut writer, total)?;
    let (mut bytes, cuts) = writer.into_spliced();
    let mut carriers = Vec::with_capacity(cuts.len());
    response.take_records(&mut carriers);
    assert_eq!(carriers.len(), cuts.len(), "each carrier was written once");

    let mut pieces = Vec::with_capacity(2 * cuts.len() + 1);
    let mut done = 0;
    for (carrier, (position, length)) in carriers.into_iter().zip(cuts) {
        if length == 0 {
            continue;
        }
        // Two carriers have at least the second one's length between them.
        pieces.push(Piece::Mem(bytes.split_to(position - done)));
        pieces.push(Piece::Records(carrier));
        done = position;
    }
    if !bytes.is_empty() {
        pieces.push(Piece::Mem(bytes));
    }
    Ok((pieces, total))
}
