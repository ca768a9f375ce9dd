//! What brokers say to each other beyond Kafka's words: tagged fields, which whoever does not know them passes over
//! (KIP-482). Their numbers are far above any that Kafka gives.

use std::collections::BTreeMap;

use super::schema::{Field, Kind, Schema, Structure, Versions};

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
    add_to(schemas, "BrokerHeartbeatResponse", None, unconfirmed)?;
    // How far the replicas of a broker reach where nobody is known to hold everything (P11).
    let place = [("TopicId", "uuid"), ("PartitionIndex", "int32"), ("LeaderEpoch", "int32")];
    let ends = [("LastEpoch", "int32"), ("LogEnd", "int64"), ("HighWatermark", "int64")];
    add_list(schemas, "BrokerHeartbeatResponse", ("LogEndQuestions", 10_002, "0+"), &place)?;
    let answer = [place, ends].concat();
    add_list(schemas, "BrokerHeartbeatRequest", ("LogEndAnswers", 10_000, "0+"), &answer)
}

/// A list of a message, of plain structures that are called as it is, without the `s`.
fn add_list(
    schemas: &mut BTreeMap<(String, String), Schema>,
    message: &str,
    (name, tag, versions): (&str, u32, &str),
    fields: &[(&str, &str)],
) -> Result<(), String> {
    let versions = Versions::parse(versions)?;
    let structure = name.strip_suffix('s').ok_or_else(|| format!("{name} is no list"))?;
    let list = Kind::Array(Box::new(Kind::Struct(structure.to_owned())));
    add_to(schemas, message, None, tagged(plain(name, list, versions), tag))?;
    let schema = find(schemas, message)?;
    let fields = fields.iter().map(|(name, kind)| plain(name, Kind::parse(kind), schema.valid));
    let (name, versions) = (structure.to_owned(), schema.valid.and(versions));
    let fields = fields.collect();
    schema.structures.push(Structure { name, fields, versions });
    Ok(())
}

fn int64(name: &str, tag: u32, versions: &str) -> Result<Field, String> {
    let field = plain(name, Kind::parse("int64"), Versions::parse(versions)?);
    Ok(Field { default: Some("-1".to_owned()), ..tagged(field, tag) })
}

fn tagged(field: Field, tag: u32) -> Field {
    Field { tagged: field.versions, tag: Some(tag), ignorable: true, ..field }
}

fn plain(name: &str, kind: Kind, versions: Versions) -> Field {
    Field {
        name: name.to_owned(),
        kind,
        versions,
        nullable: Versions::NONE,
        tagged: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        flexible: None,
    }
}

fn find<'a>(
    schemas: &'a mut BTreeMap<(String, String), Schema>,
    message: &str,
) -> Result<&'a mut Schema, String> {
    let key = ("kafka-clients".to_owned(), message.to_owned());
    schemas.get_mut(&key).ok_or_else(|| format!("there is no {message}"))
}

/// Into a structure of a message, or into the message itself.
fn add_to(
    schemas: &mut BTreeMap<(String, String), Schema>,
    message: &str,
    structure: Option<&str>,
    field: Field,
) -> Result<(), String> {
    let schema = find(schemas, message)?;
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
