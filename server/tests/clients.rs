//! Our own client against a real broker over real sockets: producers through kills, groups that change, offsets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use client::admin::{Admin, NewTopic};
use client::{
    AssignorKind, Client, ClientConfig, Consumer, ConsumerConfig, Delivery, DeliveryReport, Event,
    GroupOffset, Producer, ProducerConfig, ProducerRecord, ResetPolicy,
};
use common::{Scratch, Server};
use server::world::RealEnv;
use types::{ErrorCode, Offset, Timestamp, TopicName, TopicPartition};

const QUICK_GROUPS: [&str; 4] =
    ["--set", "group.min.session.timeout.ms=100", "--set", "group.initial.rebalance.delay.ms=0"];

fn client_of(bootstrap: &str) -> Client<RealEnv> {
    let config = ClientConfig {
        bootstrap: vec![bootstrap.to_owned()],
        request_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    };
    Client::new(RealEnv::new(), config)
}

async fn create(client: &Client<RealEnv>, topic: &str, partitions: i32) {
    let topic = NewTopic { partitions: Some(partitions), ..NewTopic::new(topic) };
    for result in Admin::new(client).create_topics(&[topic], false).await.unwrap().into_values() {
        result.unwrap();
    }
}

async fn publish(client: &Client<RealEnv>, topic: &str, partition: i32, values: &[&str]) {
    let producer = Producer::new(client, ProducerConfig::default()).unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        let record = ProducerRecord {
            partition: Some(partition),
            ..ProducerRecord::new(topic, value.as_bytes().to_vec())
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        let report = delivery.await;
        assert!(matches!(report, DeliveryReport::Ok { .. }), "{report:?}");
    }
    producer.close().await;
}

/// All values of a topic's only partition, from the start to the end as it is now.
async fn read_all(client: &Client<RealEnv>, topic: &str) -> Vec<String> {
    let partition = TopicPartition::new(topic, 0);
    let wanted = BTreeMap::from([(partition.clone(), client::OffsetSpec::Latest)]);
    let ends =
        Admin::new(client).list_offsets(&wanted, client::Isolation::default()).await.unwrap();
    let end = ends[&partition].as_ref().unwrap().unwrap().offset;
    let config = ConsumerConfig { reset: ResetPolicy::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config).unwrap();
    consumer.assign(vec![partition.clone()]).unwrap();
    let mut values = Vec::new();
    let mut next = Offset::ZERO;
    while consumer.position(&partition).is_none_or(|position| position < end) {
        for record in consumer.poll(Duration::from_secs(1)).await.unwrap().records {
            assert_eq!(record.offset, next, "every read is a contiguous walk");
            next = next.next();
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

/// Polls until `done` says so; all values and events on the way.
async fn poll_until(
    consumer: &mut Consumer<RealEnv>,
    mut done: impl FnMut(&[String], &[Event]) -> bool,
) -> (Vec<String>, Vec<Event>) {
    let (mut values, mut events) = (Vec::new(), Vec::new());
    let limit = Instant::now() + Duration::from_secs(30);
    while !done(&values, &events) {
        assert!(Instant::now() < limit, "still waiting; values {values:?}, events {events:?}");
        let polled = consumer.poll(Duration::from_millis(100)).await.unwrap();
        events.extend(polled.events);
        values.extend(
            polled
                .records
                .into_iter()
                .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()),
        );
    }
    (values, events)
}

fn is_assigned(events: &[Event], count: usize) -> bool {
    events.iter().any(
        |event| matches!(event, Event::Assigned { partitions, .. } if partitions.len() == count),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_gets_through_kills_without_loss_or_duplicate() {
    let scratch = Scratch::new();
    let mut server = Server::dev(scratch.path(), &[]);
    let address = server.bootstrap.clone();
    let client = client_of(&address);
    create(&client, "t", 1).await;
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    let mut deliveries: Vec<(String, Delivery)> = Vec::new();
    for round in 0..6 {
        for number in 0..400 {
            let value = format!("{round}-{number}");
            let record = ProducerRecord::new("t", value.clone());
            deliveries.push((value, producer.send(record).await.unwrap()));
        }
        server.kill();
        let data = scratch.path().to_str().unwrap().to_owned();
        let again = address.clone();
        let start = move || Server::start(&["dev", "--listen", &again, "--data", &data]);
        server = tokio::task::spawn_blocking(start).await.unwrap();
    }
    let mut acknowledged = Vec::new();
    let mut unknown = BTreeSet::new();
    for (value, delivery) in deliveries {
        match delivery.await {
            DeliveryReport::Ok { .. } => acknowledged.push(value),
            DeliveryReport::Unknown(_) => drop(unknown.insert(value)),
            DeliveryReport::Failed(error) => panic!("{value}: {error}"),
        }
    }
    let mut stored = read_all(&client, "t").await;
    stored.retain(|value| !unknown.contains(value));
    assert_eq!(stored, acknowledged, "each once, in order");
    assert!(unknown.len() < 100, "{} of 2400 unknown", unknown.len());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_a_topic_and_take_over_from_each_other() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &QUICK_GROUPS);
    let client = client_of(&server.bootstrap);
    create(&client, "t", 4).await;
    for kind in [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::Sticky] {
        let config = ConsumerConfig {
            group: Some(format!("g-{}", kind.name()).into()),
            assignors: vec![kind],
            reset: ResetPolicy::Earliest,
            auto_commit: Some(Duration::from_secs(60)),
            heartbeat_interval: Duration::from_millis(50),
            session_timeout: Duration::from_secs(1),
            rebalance_timeout: Duration::from_secs(5),
            ..ConsumerConfig::default()
        };
        let member = || Consumer::new(&client_of(&server.bootstrap), config.clone()).unwrap();
        let topic = || vec![TopicName::from("t")];

        let mut first = member();
        first.subscribe(topic()).await.unwrap();
        poll_until(&mut first, |_, events| is_assigned(events, 4)).await;

        // A second member: two partitions each. Both must poll for the rebalance to end.
        let mut second = member();
        second.subscribe(topic()).await.unwrap();
        let joining = tokio::spawn(async move {
            poll_until(&mut second, |_, events| is_assigned(events, 2)).await;
            second
        });
        let (_, events) = poll_until(&mut first, |_, events| is_assigned(events, 2)).await;
        let revoked = |event: &Event| matches!(event, Event::Revoked { partitions, .. } if partitions.len() == 4);
        assert!(events.iter().any(revoked), "{events:?}");
        let mut second = joining.await.unwrap();
        let owned: BTreeSet<_> =
            first.assignment().into_iter().chain(second.assignment()).collect();
        assert_eq!(owned.len(), 4, "each partition has one owner");

        // What each of them owns it reads; what it has read is committed when it leaves.
        for partition in 0..4 {
            let value = format!("{}-{partition}", kind.name());
            publish(&client, "t", partition, &[&value]).await;
        }
        let read = |values: &[String]| {
            values.iter().filter(|value| value.starts_with(kind.name())).count()
        };
        let (from_second, _) = poll_until(&mut second, |values, _| read(values) == 2).await;
        second.close().await.unwrap();
        let (from_first, _) =
            poll_until(&mut first, |values, events| read(values) == 2 && is_assigned(events, 4))
                .await;
        let all: BTreeSet<_> = from_first.iter().chain(&from_second).collect();
        assert_eq!(all.iter().filter(|value| value.starts_with(kind.name())).count(), 4);

        // A crash: nobody says goodbye, the session ends.
        drop(first);
        let mut third = member();
        third.subscribe(topic()).await.unwrap();
        poll_until(&mut third, |_, events| is_assigned(events, 4)).await;
        third.close().await.unwrap();
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_comes_back_to_what_it_had() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &QUICK_GROUPS);
    let client = client_of(&server.bootstrap);
    create(&client, "t", 2).await;
    let config = |instance: &str| ConsumerConfig {
        group: Some("g".into()),
        instance_id: Some(instance.to_owned()),
        heartbeat_interval: Duration::from_millis(50),
        session_timeout: Duration::from_secs(20),
        ..ConsumerConfig::default()
    };
    let mut one = Consumer::new(&client, config("one")).unwrap();
    one.subscribe(vec!["t".into()]).await.unwrap();
    poll_until(&mut one, |_, events| is_assigned(events, 2)).await;
    let generation = one.generation();
    let member = one.member_id().map(str::to_owned);
    one.close().await.unwrap();

    let mut again = Consumer::new(&client, config("one")).unwrap();
    again.subscribe(vec!["t".into()]).await.unwrap();
    poll_until(&mut again, |_, events| is_assigned(events, 2)).await;
    assert_eq!(again.generation(), generation, "no rebalance");
    assert_ne!(again.member_id().map(str::to_owned), member);

    // A second one of the same name takes its place; the first is told.
    let mut twin = Consumer::new(&client_of(&server.bootstrap), config("one")).unwrap();
    twin.subscribe(vec!["t".into()]).await.unwrap();
    poll_until(&mut twin, |_, events| is_assigned(events, 2)).await;
    let fenced = loop {
        match again.poll(Duration::from_millis(100)).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(fenced.error_code(), Some(ErrorCode::FencedInstanceId));
    twin.close().await.unwrap();
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_sought_committed_and_reset() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &[]);
    let client = client_of(&server.bootstrap);
    create(&client, "t", 1).await;
    publish(&client, "t", 0, &["a", "b", "c", "d"]).await;
    let partition = TopicPartition::new("t", 0);
    let config = ConsumerConfig {
        group: Some("g".into()),
        reset: ResetPolicy::Earliest,
        poll_records_max: 1,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(&client, config.clone()).unwrap();
    consumer.assign(vec![partition.clone()]).unwrap();
    let (values, _) = poll_until(&mut consumer, |values, _| values.len() == 2).await;
    assert_eq!(values, ["a", "b"]);
    consumer.commit().await.unwrap();
    let stored = consumer.committed(std::slice::from_ref(&partition)).await.unwrap();
    assert_eq!(stored[&partition].as_ref().unwrap().offset, Offset(2));

    consumer.seek(&partition, Offset(3)).unwrap();
    assert_eq!(poll_until(&mut consumer, |values, _| !values.is_empty()).await.0, ["d"]);
    consumer.seek_to_timestamp(&partition, Timestamp(0)).unwrap();
    assert_eq!(poll_until(&mut consumer, |values, _| !values.is_empty()).await.0, ["a"]);
    consumer.seek_to_end(&partition).unwrap();
    publish(&client, "t", 0, &[]).await;
    poll_until(&mut consumer, |_, events| !events.is_empty()).await;
    publish(&client, "t", 0, &["e"]).await;
    assert_eq!(poll_until(&mut consumer, |values, _| !values.is_empty()).await.0, ["e"]);
    consumer.close().await.unwrap();

    // Another one of the group goes on at the stored position.
    let mut next = Consumer::new(&client, config.clone()).unwrap();
    next.assign(vec![partition.clone()]).unwrap();
    assert_eq!(poll_until(&mut next, |values, _| values.len() == 3).await.0, ["c", "d", "e"]);

    // Records below the position are deleted: nothing happens. Records it stands on: the reset policy decides.
    let admin = Admin::new(&client);
    let starts = admin
        .delete_records(&BTreeMap::from([(partition.clone(), Some(Offset(4)))]))
        .await
        .unwrap();
    assert_eq!(starts[&partition].as_ref().unwrap(), &Offset(4));
    next.seek(&partition, Offset(1)).unwrap();
    let (values, events) = poll_until(&mut next, |values, _| !values.is_empty()).await;
    assert_eq!(values, ["e"]);
    let to = Offset(4);
    let reset = Event::Reset { partition: partition.clone(), from: Some(Offset(1)), to };
    assert!(events.contains(&reset), "{events:?}");

    let config = ConsumerConfig { reset: ResetPolicy::None, ..config };
    let mut strict = Consumer::new(&client, config).unwrap();
    strict.assign(vec![partition.clone()]).unwrap();
    strict.seek(&partition, Offset(0)).unwrap();
    let error = loop {
        match strict.poll(Duration::from_millis(100)).await {
            Ok(polled) => assert!(polled.records.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, client::ClientError::NoOffset(_)), "{error}");

    // An admin moves the group.
    let offsets = BTreeMap::from([(partition.clone(), GroupOffset::at(Offset(5)))]);
    for result in admin.alter_group_offsets(&"g".into(), &offsets).await.unwrap().into_values() {
        result.unwrap();
    }
    assert_eq!(admin.group_offsets(&"g".into()).await.unwrap()[&partition].offset, Offset(5));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_and_created_again_is_another_topic() {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &["--set", "auto.create.topics.enable=false"]);
    let client = client_of(&server.bootstrap);
    let admin = Admin::new(&client);
    create(&client, "t", 1).await;
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    for round in 0..3 {
        for number in 0..3 {
            let record = ProducerRecord::new("t", format!("{round}-{number}"));
            let report = producer.send(record).await.unwrap().await;
            let DeliveryReport::Ok { offset, .. } = report else { panic!("{report:?}") };
            assert_eq!(offset, Some(Offset(number)), "the new topic begins at 0");
        }
        let expected: Vec<String> = (0..3).map(|number| format!("{round}-{number}")).collect();
        assert_eq!(read_all(&client, "t").await, expected);
        for result in admin.delete_topics(&["t".into()]).await.unwrap().into_values() {
            result.unwrap();
        }
        create(&client, "t", 1).await;
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_the_common_requests_is_spoken() {
    use wire::{ApiKey, Request};
    fn versions<R: Request>() -> (i16, std::ops::RangeInclusive<i16>) {
        let (low, high) = R::API_KEY.stable_versions();
        (R::API_KEY.as_i16(), low..=high)
    }
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &QUICK_GROUPS);
    let admin = client_of(&server.bootstrap);
    let keys = [
        versions::<wire::produce::ProduceRequest>(),
        versions::<wire::fetch::FetchRequest>(),
        versions::<wire::list_offsets::ListOffsetsRequest>(),
        versions::<wire::metadata::MetadataRequest>(),
        versions::<wire::offset_commit::OffsetCommitRequest>(),
        versions::<wire::offset_fetch::OffsetFetchRequest>(),
        versions::<wire::find_coordinator::FindCoordinatorRequest>(),
        versions::<wire::join_group::JoinGroupRequest>(),
        versions::<wire::heartbeat::HeartbeatRequest>(),
        versions::<wire::leave_group::LeaveGroupRequest>(),
        versions::<wire::sync_group::SyncGroupRequest>(),
        versions::<wire::init_producer_id::InitProducerIdRequest>(),
    ];
    for (key, range) in keys {
        let mut running = tokio::task::JoinSet::new();
        for version in range {
            let topic = format!("{}-{version}", ApiKey::from_i16(key).unwrap().name());
            create(&admin, &topic, 1).await;
            running.spawn(speak(server.bootstrap.clone(), key, version, topic));
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
    }
    server.stop();
}

/// Publishes, reads as a member of a group, commits and leaves, with one kind of request in one fixed version.
async fn speak(bootstrap: String, key: i16, version: i16, topic: String) {
    let config = ClientConfig {
        bootstrap: vec![bootstrap],
        request_timeout: Duration::from_secs(5),
        pinned: BTreeMap::from([(key, version)]),
        ..ClientConfig::default()
    };
    let client = Client::new(RealEnv::new(), config);
    publish(&client, &topic, 0, &["x"]).await;
    let config = ConsumerConfig {
        group: Some(topic.as_str().into()),
        reset: ResetPolicy::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(&client, config).unwrap();
    consumer.subscribe(vec![topic.as_str().into()]).await.unwrap();
    let (values, _) = poll_until(&mut consumer, |values, _| !values.is_empty()).await;
    assert_eq!(values, ["x"], "{topic}");
    consumer.commit().await.unwrap_or_else(|error| panic!("{topic}: {error}"));
    let partition = TopicPartition::new(topic.as_str(), 0);
    let stored = consumer.committed(std::slice::from_ref(&partition)).await.unwrap();
    assert_eq!(stored[&partition].as_ref().unwrap().offset, Offset(1), "{topic}");
    consumer.close().await.unwrap();
}
