//! The metadata log, replayed: any records lead to an image, and the image's own records lead to the same again (I40).

use bytes::Bytes;
use cluster::metadata::{Delta, Image, MetadataRecord, snapshot};

/// A log: records of two bytes of length each.
pub(crate) fn metadata_log(data: &[u8]) {
    let mut delta = Delta::new(Image::empty());
    let mut rest = data;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (record, after) =
            after.split_at(usize::from(u16::from_be_bytes(*len)).min(after.len()));
        if let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(record)) {
            // What does not fit what is there is refused, and changes nothing.
            let before = delta.image().clone();
            if delta.apply(&record).is_err() {
                assert_eq!(*delta.image(), before, "a record that is refused changes nothing");
            }
        }
        rest = after;
    }
    let (image, _) = delta.finish();
    let records = snapshot(&image);
    let mut again = Delta::new(Image::empty());
    for record in &records {
        assert_eq!(again.apply(record), Ok(()), "an image's own record {record:?}");
    }
    assert_eq!(again.finish().0, image, "I40");
}
