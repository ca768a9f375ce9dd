//! Another implementation reads what we write and writes it again: the `kafka-protocol` crate, in the versions that it
//! knows too. It lags behind Kafka 4.4, so it says nothing of the newest versions; Kafka's own bytes do (golden.rs).

mod table;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};

/// Decodes and encodes with the other implementation. `None`: it does not know the version.
fn recoded(row: &table::Row, bytes: &Bytes, version: i16) -> Option<Result<Bytes, String>> {
    let key = ApiKey::try_from(row.key.as_i16()).ok()?;
    let known = key.valid_versions();
    if version < known.min || version > known.max {
        return None;
    }
    let mut input = bytes.clone();
    let mut output = BytesMut::new();
    let result = if row.is_request {
        RequestKind::decode(key, &mut input, version)
            .and_then(|message| message.encode(&mut output, version))
    } else {
        ResponseKind::decode(key, &mut input, version)
            .and_then(|message| message.encode(&mut output, version))
    };
    Some(match result {
        Ok(()) if input.is_empty() => Ok(output.freeze()),
        Ok(()) => Err(format!("{} bytes left", input.len())),
        Err(error) => Err(format!("{error:#}")),
    })
    // Its table of keys promises versions of which some of its messages know nothing.
    .filter(|result| {
        !result.as_ref().is_err_and(|error| error.ends_with("not supported by this message type"))
    })
}

#[test]
fn another_implementation_reads_and_writes_the_same_bytes() {
    let mut compared = 0;
    let mut findings = Vec::new();
    for row in table::rows() {
        for version in row.versions() {
            for seed in 100..112 {
                let bytes = (row.sample)(seed, version);
                match recoded(&row, &bytes, version) {
                    None => {}
                    Some(Ok(again)) if again == bytes => compared += 1,
                    Some(other) => findings.push(format!(
                        "{} version {version} seed {seed}: {other:?} instead of {bytes:?}",
                        row.name()
                    )),
                }
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(compared > 4_000, "{compared} compared");
}
