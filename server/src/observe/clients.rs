//! What clients measured of themselves (KIP-714), on the page of metrics: every number of each client's newest push, under
//! `kafka_client_` and its name, with dots as underscores. That prefix is nobody else's: clients choose their names.

use std::collections::BTreeMap;
use std::fmt::Display;

use broker::ClientSnapshot;

use super::otlp::{self, Malformed, Pushed, Room};
use super::text::Page;

/// What one push may expand to.
const EXPANDED_BYTES_MAX: usize = 4 << 20;
/// Numbers of one push, and the text that names them; more are counted and left out.
const OF_PUSH: Room = Room { points: 2_000, text: 1 << 20 };
/// The same of the whole page.
const OF_PAGE: Room = Room { points: 100_000, text: 32 << 20 };

#[derive(Default)]
struct Family {
    is_counter: bool,
    /// By labels: a client that says something twice is heard once.
    samples: BTreeMap<Vec<(String, String)>, f64>,
}

/// Writes them.
pub fn write(page: &mut Page, clients: &[ClientSnapshot]) {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut unreadable, mut left_out, mut page_room) = (0, 0, OF_PAGE);
    for client in clients {
        let Ok(pushed) = read(client, &mut page_room) else {
            unreadable += 1;
            continue;
        };
        left_out += pushed.left_out;
        for point in pushed.points {
            let family = families.entry(family_name(&point.name)).or_default();
            family.is_counter = point.is_counter;
            family.samples.insert(labels(client, point.labels), point.value);
        }
    }
    let mut info = page.gauge("foretold_client_info", "Clients that push metrics of their own.");
    for client in clients {
        let of = &client.labels;
        info.add(
            &[
                ("client_instance_id", &client.id),
                ("client_id", &of.client_id),
                ("client_software_name", &of.software_name),
                ("client_software_version", &of.software_version),
                ("client_source_address", &of.address),
            ],
            1,
        );
    }
    page.gauge("foretold_client_pushes_unreadable", "Newest pushes that cannot be read.")
        .add(&[], unreadable);
    page.gauge("foretold_client_samples_left_out", "Numbers of clients that are not on this page.")
        .add(&[], left_out);
    for (name, Family { is_counter, samples }) in &families {
        let help = "Measured by clients.";
        let mut family =
            if *is_counter { page.counter(name, help) } else { page.gauge(name, help) };
        for (labels, value) in samples {
            let labels: Vec<(&str, &dyn Display)> =
                labels.iter().map(|(name, value)| (name.as_str(), value as &dyn Display)).collect();
            family.add(&labels, value);
        }
    }
}

fn read(client: &ClientSnapshot, page_room: &mut Room) -> Result<Pushed, Malformed> {
    let kept = &client.kept;
    let data = kept.compression.expand(&kept.metrics, EXPANDED_BYTES_MAX).map_err(|_| Malformed)?;
    let first = Room {
        points: OF_PUSH.points.min(page_room.points),
        text: OF_PUSH.text.min(page_room.text),
    };
    let mut room = first;
    let pushed = otlp::read(&data, &mut room);
    page_room.points -= first.points - room.points;
    page_room.text -= first.text - room.text;
    pushed
}

fn family_name(name: &str) -> String {
    let name = name.strip_prefix("org.apache.kafka.").unwrap_or(name);
    format!("kafka_client_{}", plain(name))
}

/// The client's own labels first; a name that stands twice would spoil the page.
fn labels(client: &ClientSnapshot, more: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut labels = vec![
        ("client_instance_id".to_owned(), client.id.to_string()),
        ("client_id".to_owned(), client.labels.client_id.clone()),
    ];
    for (name, value) in more {
        let mut name = plain(&name);
        if name.starts_with(|first: char| first.is_ascii_digit()) || name.is_empty() {
            name.insert(0, '_');
        }
        if !labels.iter().any(|(known, _)| *known == name) {
            labels.push((name, value));
        }
    }
    labels
}

/// Letters, digits and underscores.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
