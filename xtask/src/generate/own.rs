//! What brokers say to each other beyond Kafka's words: tagged fields, which whoever does not know them passes over
//! (KIP-482). Their numbers are far above any that Kafka gives.

use std::collections::BTreeMap;

use super::schema::{Field, Kind, Schema, Versions};

/// Adds them to Kafka's schemas.
pub fn add(schemas: &mut BTreeMap<(String, String), Schema>) -> Result<(), String> {
    // How much of its log a follower has synced: its fetch offset says what it has received.
    let durable_end = int64("DurableEnd", 10_000, "17+")?;
    add_to(schemas, "FetchRequest", Some("FetchPartition"), durable_end)?;
    // A replica asks whoever holds another for committed records in the place of damaged ones, up to here.
    let repairs_until = int64("RepairsUntil", 10_001, "17+")?;
    add_to(schemas, "FetchRequest", Some("FetchPartition"), repairs_until)?;
    // Up to where a broker has to know the metadata before it serves by what it is told here, and for how many milliseconds
    // the controller has had no word from a majority.
    let metadata_end = int64("MetadataEnd", 10_000, "0+")?;
    add_to(schemas, "BrokerHeartbeatResponse", None, metadata_end)?;
    let unconfirmed = int64("UnconfirmedMs", 10_001, "0+")?;
    add_to(schemas, "BrokerHeartbeatResponse", None, unconfirmed)
}

fn int64(name: &str, tag: u32, versions: &str) -> Result<Field, String> {
    let versions = Versions::parse(versions)?;
    Ok(Field {
        name: name.to_owned(),
        kind: Kind::parse("int64"),
        versions,
        nullable: Versions::NONE,
        tagged: versions,
        tag: Some(tag),
        default: Some("-1".to_owned()),
        ignorable: true,
        flexible: None,
    })
}

/// Into a structure of a message, or into the message itself.
fn add_to(
    schemas: &mut BTreeMap<(String, String), Schema>,
    message: &str,
    structure: Option<&str>,
    field: Field,
) -> Result<(), String> {
    let key = ("kafka-clients".to_owned(), message.to_owned());
    let schema = schemas.get_mut(&key).ok_or_else(|| format!("there is no {message}"))?;
    let (fields, known) = match structure {
        None => (&mut schema.fields, schema.valid),
        Some(structure) => {
            let found = schema.structures.iter_mut().find(|found| found.name == structure);
            let found = found.ok_or_else(|| format!("{message} has no {structure}"))?;
            (&mut found.fields, found.versions)
        }
    };
    let versions = field.versions.and(known);
    fields.push(Field { versions, tagged: versions, ..field });
    Ok(())
}
