//! A client and its broker, one request after another.

use std::net::Ipv4Addr;

use super::*;
use crate::metadata::{Image, MetadataRecord};
use record::stored::metadata::ConfigRecord;

const BYTES_MAX: usize = 100;

fn subscriptions(resources: &[(&str, &[(&str, &str)])]) -> Arc<Subscriptions> {
    let mut image = Image::default();
    for (resource, values) in resources {
        let records = values.iter().map(|(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: 16,
                resource_name: (*resource).into(),
                name: (*name).into(),
                value: Some((*value).into()),
            })
        });
        image = image.apply(&records.collect::<Vec<_>>()).unwrap().0;
    }
    Arc::new(Subscriptions::of(&image))
}

fn labels(client_id: &str) -> Labels {
    Labels {
        client_id: client_id.to_owned(),
        software_name: "apache-kafka-java".to_owned(),
        software_version: "4.3.1".to_owned(),
        address: Ipv4Addr::LOCALHOST.into(),
        port: 4711,
    }
}

fn id(number: u8) -> Uuid {
    Uuid([number; 16])
}

fn at(millis: u64) -> Instant {
    Instant::default() + Duration::from_millis(millis)
}

fn push(number: u8, subscription: &Subscription, metrics: &'static str) -> Push {
    Push {
        id: id(number),
        subscription_id: subscription.id,
        is_last: false,
        compression: 0,
        metrics: Bytes::from_static(metrics.as_bytes()),
    }
}

/// A client that pushes.
struct Pusher {
    telemetry: Telemetry,
    subscriptions: Arc<Subscriptions>,
}

impl Pusher {
    fn new() -> Pusher {
        let every_second: &[(&str, &str)] = &[("metrics", "org."), ("interval.ms", "1000")];
        let subscriptions = subscriptions(&[("all", every_second)]);
        Pusher { telemetry: Telemetry::default(), subscriptions }
    }

    fn ask(&mut self, millis: u64) -> Result<Subscription, ErrorCode> {
        self.telemetry.on_ask(at(millis), id(7), labels("a"), &self.subscriptions)
    }

    fn push(&mut self, millis: u64, push: Push) -> Result<(), ErrorCode> {
        let subscriptions = &self.subscriptions;
        self.telemetry.on_push(at(millis), push, labels("a"), subscriptions, BYTES_MAX)
    }

    fn kept(&self, millis: u64) -> Vec<Bytes> {
        self.telemetry.kept(at(millis)).map(|(_, _, kept)| kept.metrics.clone()).collect()
    }
}

#[test]
fn a_client_is_asked_for_what_matches_it() {
    let subscriptions = subscriptions(&[
        ("java", &[("metrics", "org.apache.,x"), ("match", "client_software_name=.*-java")]),
        ("often", &[("metrics", "x,y"), ("interval.ms", "500"), ("match", "client_id=a|b")]),
        ("no metrics", &[("interval.ms", "100")]),
        (
            "here",
            &[("metrics", "*"), ("match", "client_source_address=127[.]0[.]0[.]1,client_id=c")],
        ),
    ]);
    let asked = |client: &str| {
        let wanted = subscriptions.for_client(id(1), &labels(client));
        let metrics: Vec<String> = wanted.metrics.iter().map(ToString::to_string).collect();
        (metrics.join(" "), wanted.interval.as_millis())
    };
    assert_eq!(asked("a"), ("org.apache. x y".to_owned(), 500));
    assert_eq!(asked("ab"), ("org.apache. x".to_owned(), 300_000), "the whole label must match");
    assert_eq!(asked("c"), ("*".to_owned(), 300_000));
    let nobody = Subscriptions::default().for_client(id(1), &labels("a"));
    assert_eq!((nobody.metrics.len(), nobody.interval.as_secs()), (0, 300));
    let ids = ["a", "ab", "c"].map(|client| subscriptions.for_client(id(1), &labels(client)).id);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && !ids.contains(&nobody.id), "{ids:?}");
}

#[test]
fn the_newest_push_is_kept_until_its_client_is_long_silent() {
    let mut client = Pusher::new();
    let asked = client.ask(0).unwrap();
    assert_eq!(client.push(0, push(7, &asked, "one")), Ok(()), "an answer may come at once");
    assert_eq!(client.push(999, push(7, &asked, "early")), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(client.push(1000, push(7, &asked, "two")), Ok(()));
    assert_eq!(client.kept(1000), ["two"]);
    assert_eq!(client.push(2000, push(7, &asked, "")), Ok(()), "nothing has changed");
    assert_eq!(client.kept(302_000), ["two"]);
    assert_eq!(client.kept(302_001), [""; 0], "five minutes at least");
    _ = client.telemetry.on_ask(at(302_001), id(8), labels("b"), &client.subscriptions);
    assert!(!client.telemetry.clients.contains_key(&id(7)));
    assert_eq!(client.telemetry.kept_bytes, 0);
}

#[test]
fn what_makes_no_sense_is_refused_in_kafkas_order() {
    let mut client = Pusher::new();
    let asked = client.ask(0).unwrap();
    assert_eq!(client.ask(500), Err(ErrorCode::ThrottlingQuotaExceeded));
    for reserved in [Uuid::ZERO, Uuid(1_u128.to_be_bytes())] {
        let pushed = Push { id: reserved, ..push(7, &asked, "x") };
        assert_eq!(client.push(0, pushed), Err(ErrorCode::InvalidRequest));
    }
    let other = Push { subscription_id: asked.id ^ 1, compression: 9, ..push(7, &asked, "x") };
    assert_eq!(client.push(1000, other), Err(ErrorCode::UnknownSubscriptionId));
    assert_eq!(client.ask(1001).unwrap(), asked, "who is sent back may ask at once");
    let codec = Push { compression: 5, ..push(7, &asked, "x") };
    assert_eq!(client.push(1001, codec), Err(ErrorCode::UnsupportedCompressionType));
    assert!(client.ask(1002).is_ok());
    let large = Push { metrics: vec![0; BYTES_MAX + 1].into(), ..push(7, &asked, "") };
    assert_eq!(client.push(1002, large), Err(ErrorCode::TelemetryTooLarge));
    assert_eq!(client.ask(1003), Err(ErrorCode::ThrottlingQuotaExceeded));
    let last = Push { is_last: true, ..push(7, &asked, "last") };
    assert_eq!(client.push(1004, last.clone()), Ok(()), "the last may come at any time");
    assert_eq!(client.push(9000, last), Err(ErrorCode::InvalidRequest));
    assert_eq!(client.kept(9000), ["last"]);
}

#[test]
fn a_changed_subscription_is_told_at_the_next_push() {
    let mut client = Pusher::new();
    let asked = client.ask(0).unwrap();
    client.subscriptions = subscriptions(&[("all", &[("metrics", "com.")])]);
    let pushed = client.push(1000, push(7, &asked, "x"));
    assert_eq!(pushed, Err(ErrorCode::UnknownSubscriptionId));
    let now = client.ask(1001).unwrap();
    assert_ne!(now.id, asked.id);
    assert_eq!(client.push(1001, push(7, &now, "y")), Ok(()));
}

#[test]
fn memory_is_bounded_and_the_longest_silent_goes_first() {
    let subscriptions = subscriptions(&[]);
    let mut telemetry = Telemetry::default();
    let numbered = |number: usize| Uuid((number as u128 + 2).to_be_bytes());
    for number in 0..=CLIENTS_MAX {
        telemetry.on_ask(at(number as u64), numbered(number), labels("a"), &subscriptions).unwrap();
    }
    assert_eq!(telemetry.clients.len(), CLIENTS_MAX);
    assert!(!telemetry.clients.contains_key(&numbered(0)));
    let large = KEPT_BYTES_MAX / 3;
    for number in 1..=4 {
        let id = numbered(number);
        let asked = telemetry.clients[&id].subscription.id;
        let push = Push {
            id,
            subscription_id: asked,
            is_last: false,
            compression: 4,
            metrics: vec![0; large].into(),
        };
        let pushed = telemetry.on_push(at(20_000), push, labels("a"), &subscriptions, large);
        assert_eq!(pushed, Ok(()));
    }
    let held = telemetry.clients.values().map(Client::bytes).sum::<usize>();
    assert_eq!(held, telemetry.kept_bytes);
    assert!(held <= KEPT_BYTES_MAX, "{held}");
    assert!(telemetry.clients.contains_key(&numbered(4)));
    assert_eq!(telemetry.by_use.len(), telemetry.clients.len());
}
