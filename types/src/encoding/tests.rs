//! Primitive encodings: what they write they read, at their edges too, and what they must refuse.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{TopicName, Uuid};

/// Writes, compares with `expected`, reads back, compares with `value`.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    value: T,
    expected: &[u8],
    write: impl FnOnce(&mut Writer, &T),
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) {
    let mut writer = Writer::new();
    write(&mut writer, &value);
    let bytes = writer.into_bytes();
    assert_eq!(&bytes[..], expected);
    let mut reader = Reader::new(bytes);
    assert_eq!(read(&mut reader), Ok(value));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn numbers_are_big_endian() {
    check(-2, &[0xfe], |w, it| w.i8(*it), Reader::i8);
    check(0x0102, &[1, 2], |w, it| w.i16(*it), Reader::i16);
    check(0xfffe, &[0xff, 0xfe], |w, it| w.u16(*it), Reader::u16);
    check(-1, &[0xff; 4], |w, it| w.i32(*it), Reader::i32);
    check(u32::MAX, &[0xff; 4], |w, it| w.u32(*it), Reader::u32);
    check(1 << 40, &[0, 0, 1, 0, 0, 0, 0, 0], |w, it| w.i64(*it), Reader::i64);
    check(1.5, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], |w, it| w.f64(*it), Reader::f64);
    check(true, &[1], |w, it| w.bool(*it), Reader::bool);
    check(Uuid([7; 16]), &[7; 16], |w, it| w.uuid(*it), Reader::uuid);
}

#[test]
fn variable_length_numbers_take_seven_bits_a_byte() {
    let cases: &[(u32, &[u8])] = &[
        (0, &[0]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (300, &[0xac, 2]),
        (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    for (value, bytes) in cases {
        check(*value, bytes, |w, it| w.unsigned_varint(*it), Reader::unsigned_varint);
    }
    for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7f]), (64, &[0x80, 1])] {
        check(value, bytes, |w, it| w.varint(*it), Reader::varint);
        check(i64::from(value), bytes, |w, it| w.varlong(*it), Reader::varlong);
    }
    let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    check(i64::MIN, &least, |w, it| w.varlong(*it), Reader::varlong);
}

#[test]
fn variable_length_numbers_that_do_not_end_are_refused() {
    let endless: [(&[u8], DecodeError); 4] = [
        (&[0x80; 5], DecodeError::InvalidVarint),
        (&[0xff, 0xff, 0xff, 0xff, 0x10], DecodeError::InvalidVarint),
        (&[0x80, 0x80], DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }),
        (&[], DecodeError::UnexpectedEnd { needed: 1, remaining: 0 }),
    ];
    for (bytes, error) in endless {
        assert_eq!(read_unsigned_varint(bytes), Err(error));
        assert_eq!(read_varint(bytes), Err(error));
    }
    assert_eq!(read_varlong(&[0x80; 10]), Err(DecodeError::InvalidVarint));
    assert_eq!(read_varlong(&[0x80; 9]).ok(), None);
}

#[test]
fn text_has_two_forms_of_length() {
    let text = Str::from("größe");
    let body = "größe".as_bytes();
    let plain = [&[0, 7], body].concat();
    let compact = [&[8], body].concat();
    check(text.clone(), &plain, |w, it| w.str(it, false).expect("short"), |r| r.str(false));
    check(text, &compact, |w, it| w.str(it, true).expect("short"), |r| r.str(true));
    for (flexible, null) in [(false, &[0xff, 0xff][..]), (true, &[0])] {
        check(
            None,
            null,
            |w, it| w.nullable_str(it, flexible).expect("short"),
            |r| r.nullable_str(flexible),
        );
        let refused = Reader::new(null.to_vec()).str(flexible);
        assert_eq!(refused, Err(DecodeError::UnexpectedNull));
    }
}

#[test]
fn text_that_is_none_is_refused() {
    let refused = |bytes: &[u8], flexible| Reader::new(bytes.to_vec()).str(flexible);
    assert_eq!(refused(&[0, 2, 0xc3, 0x28], false), Err(DecodeError::InvalidText));
    assert_eq!(refused(&[0xff, 0xfe], false), Err(DecodeError::InvalidLength(-2)));
    let too_long = refused(&[0x81, 0x80, 0x02, b'a'], true);
    assert_eq!(too_long, Err(DecodeError::InvalidLength(32768)));
    let cut = DecodeError::UnexpectedEnd { needed: 3, remaining: 2 };
    assert_eq!(refused(&[0, 3, b'a', b'b'], false), Err(cut));
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    for flexible in [false, true] {
        let refused = Writer::new().str(&long, flexible);
        assert_eq!(refused, Err(EncodeError::TooLong(TEXT_BYTES_MAX + 1)));
        assert_eq!(Writer::new().str(&long[1..], flexible), Ok(()));
    }
}

#[test]
fn bytes_are_slices_of_the_input() {
    let input = Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3]);
    let found = Reader::new(input.clone()).bytes(false).expect("whole");
    assert_eq!(found.as_ptr(), input[4..].as_ptr());
    let claims = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 1]);
    let refused = Reader::new(claims).bytes(false);
    let short = DecodeError::UnexpectedEnd { needed: 0x7fff_ffff, remaining: 1 };
    assert_eq!(refused, Err(short));
}

#[test]
fn arrays_are_counted_before_they_are_reserved() {
    let read = |bytes: &[u8]| Reader::new(bytes.to_vec()).array(false, Reader::i8);
    assert_eq!(read(&[0, 0, 0, 2, 5, 6]), Ok(vec![5, 6]));
    assert_eq!(read(&[0xff; 4]), Err(DecodeError::UnexpectedNull));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xfe]), Err(DecodeError::InvalidLength(-2)));
    assert_eq!(read(&[0, 0x0f, 0x42, 0x41]), Err(DecodeError::TooManyElements(1_000_001)));
    let short = DecodeError::UnexpectedEnd { needed: 9, remaining: 1 };
    assert_eq!(read(&[0, 0, 0, 9, 5]), Err(short));
    // Two arrays share one budget.
    let mut input = vec![0; 100_000];
    input[..4].copy_from_slice(&50_000_i32.to_be_bytes());
    let mut reader = Reader::new(input);
    let large = |r: &mut Reader| r.skip(1).map(|()| [0u8; 100]);
    assert!(reader.array(false, large).is_ok());
    let second = reader.nullable_array(true, |r| r.skip(1).map(|()| [0u8; 100]));
    assert_eq!(second, Ok(None));
    let mut input = vec![0x80; 100_000];
    input[..3].copy_from_slice(&[0xe1, 0xa7, 0x04]);
    let refused = Reader::new(input).array(true, |r| r.skip(1).map(|()| [0u8; 100]));
    assert_eq!(refused.err(), Some(DecodeError::TooMuchMemory));
}

#[test]
fn tagged_fields_are_read_skipped_and_measured() {
    let mut tags = Tags::new();
    tags.field(1, |w| w.str("x", true)).expect("short");
    tags.field(9, |w| {
        w.i32(7);
        Ok(())
    })
    .expect("short");
    let mut writer = Writer::new();
    writer.tags(tags);
    let bytes = writer.into_bytes();
    assert_eq!(&bytes[..], [2, 1, 2, 2, b'x', 9, 4, 0, 0, 0, 7]);
    let mut found = None;
    let mut reader = Reader::new(bytes.clone());
    let read = reader.tags(|r, tag| {
        if tag == 9 {
            found = Some(r.i32()?);
        }
        Ok(tag == 9)
    });
    assert_eq!((read, found, reader.finish()), (Ok(()), Some(7), Ok(())));
    assert_eq!(Reader::new(bytes.clone()).skip_tags(), Ok(()));
    let short = Reader::new(bytes).tags(|r, tag| Ok(tag == 9 && r.i16().is_ok()));
    assert_eq!(short, Err(DecodeError::TagSize { tag: 9, size: 4 }));
    let many = Reader::new(vec![0x91, 0x4e]).skip_tags();
    assert_eq!(many, Err(DecodeError::TooManyTags(10_001)));
    let beyond = Reader::new(vec![1, 0, 5, 0]).skip_tags();
    assert_eq!(beyond, Err(DecodeError::UnexpectedEnd { needed: 5, remaining: 1 }));
}

#[test]
fn structures_may_be_null_in_two_ways() {
    let write = |w: &mut Writer, it: &i16| {
        w.i16(*it);
        Ok(())
    };
    for (value, plain, tagged) in [(Some(5), &[1, 0, 5][..], &[1, 0, 5][..]), (None, &[0xff], &[0])]
    {
        check(
            value,
            plain,
            |w, it| w.nullable(it, write).expect("plain"),
            |r| r.nullable(Reader::i16),
        );
        check(
            value,
            tagged,
            |w, it| w.nullable_in_tag(it, write).expect("plain"),
            |r| r.nullable_in_tag(Reader::i16),
        );
    }
}

#[test]
fn text_is_equal_whether_empty_or_absent_and_converts_to_names() {
    assert_eq!(Str::EMPTY, Str::from(std::sync::Arc::<str>::from("")));
    assert_eq!(Str::from("a"), "a");
    let name = TopicName::from("orders");
    let text = Str::from(&name);
    assert_eq!(text.as_ptr(), name.as_str().as_ptr());
    assert_eq!(TopicName::from(&text), name);
    assert_eq!(format!("{text} {text:?}"), "orders \"orders\"");
}

#[test]
fn records_elsewhere_need_a_writer_that_leaves_room() {
    assert_eq!(Writer::new().cut(5), Err(EncodeError::RecordsElsewhere));
    let mut writer = Writer::splicing();
    writer.i8(1);
    writer.cut(5).expect("splicing");
    writer.i8(2);
    assert_eq!((writer.len(), writer.total_len()), (2, 7));
    assert_eq!(writer.into_spliced(), (Bytes::from_static(&[1, 2]), vec![(1, 5)]));
}

proptest! {
    #[test]
    fn variable_length_numbers_survive(unsigned: u32, signed: i32, long: i64) {
        let mut out = BytesMut::new();
        write_unsigned_varint(&mut out, unsigned);
        prop_assert_eq!(read_unsigned_varint(&out), Ok((unsigned, out.len())));
        prop_assert_eq!(unsigned_varint_len(unsigned), out.len());
        out.clear();
        write_varint(&mut out, signed);
        prop_assert_eq!(read_varint(&out), Ok((signed, out.len())));
        prop_assert_eq!(varint_len(signed), out.len());
        out.clear();
        write_varlong(&mut out, long);
        prop_assert_eq!(read_varlong(&out), Ok((long, out.len())));
        prop_assert_eq!(varlong_len(long), out.len());
    }

    #[test]
    fn small_numbers_survive_at_every_length(shift in 0u32..64, delta in -2i64..3) {
        let value = (1i64 << shift).wrapping_add(delta);
        let mut out = BytesMut::new();
        write_varlong(&mut out, value);
        prop_assert_eq!(read_varlong(&out), Ok((value, out.len())));
        prop_assert_eq!(varlong_len(value), out.len());
    }

    #[test]
    fn composites_survive(
        text in proptest::option::of(".{0,40}"),
        blob in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        numbers in proptest::option::of(proptest::collection::vec(any::<i64>(), 0..20)),
        flexible: bool,
    ) {
        let (text, blob) = (text.map(Str::from), blob.map(Bytes::from));
        let mut writer = Writer::new();
        writer.nullable_str(&text, flexible).expect("short");
        writer.nullable_bytes(&blob, flexible).expect("short");
        writer
            .nullable_array(&numbers, flexible, |w, it| {
                w.i64(*it);
                Ok(())
            })
            .expect("short");
        let mut reader = Reader::new(writer.into_bytes());
        prop_assert_eq!(reader.nullable_str(flexible), Ok(text));
        prop_assert_eq!(reader.nullable_bytes(flexible), Ok(blob));
        prop_assert_eq!(reader.nullable_array(flexible, Reader::i64), Ok(numbers));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn anything_is_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..80)) {
        for flexible in [false, true] {
            let mut reader = Reader::new(input.clone());
            while reader.remaining() > 0 {
                let before = reader.position();
                let _any = reader.nullable_str(flexible);
                let _any = reader.nullable_bytes(flexible);
                let _any = reader.nullable_array(flexible, |r| r.str(flexible));
                let _any = reader.skip_tags();
                let _any = reader.varlong();
                if reader.position() == before {
                    break;
                }
            }
            prop_assert!(reader.position() <= input.len());
        }
    }
}
