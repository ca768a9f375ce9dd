//! Behaviour of groups: stories in `testdata/group_*.txt`, tables here, random lives in `property`.

mod property;
mod transcript;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use types::{ErrorCode, Generation, GroupId, MemberId, Offset, PartitionIndex, Str, TopicId, Uuid};

use super::*;

/// Groups with their log, most of it committed by hand.
pub(super) struct World {
    pub groups: Groups,
    pub now: Now,
    pub log: Vec<(AppendNumber, GroupRecord)>,
    pub committed: AppendNumber,
    pub tokens: u64,
    fresh: u128,
}

impl World {
    pub fn new(settings: GroupSettings) -> World {
        let now =
            Now { instant: types::Instant(1_000_000_000), timestamp: types::Timestamp(1_000_000) };
        let mut world = World {
            groups: Groups::new(settings),
            now,
            log: Vec::new(),
            committed: AppendNumber::NONE,
            tokens: 0,
            fresh: 0,
        };
        world.step(Event::Loaded);
        world
    }

    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    pub fn fresh(&mut self) -> Uuid {
        self.fresh += 1;
        Uuid(self.fresh.to_be_bytes())
    }

    /// One step; what is appended must give the same state back (I64).
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let before = self.groups.appended();
        self.groups.step(self.now, event, &mut effects);
        let mut expected = before.0;
        for effect in &effects {
            if let Effect::Append { number, records } = effect {
                expected += 1;
                assert_eq!(number.0, expected, "appends are numbered without gaps");
                self.log.extend(records.iter().map(|record| (*number, record.clone())));
            }
        }
        let log = self.replayed();
        self.groups.remembered_by(&log).expect("the log remembers what was decided (I64)");
        effects
    }

    /// A coordinator that has read the whole log.
    pub fn replayed(&self) -> Groups {
        let mut groups = Groups::new(self.groups.settings.clone());
        for (_, record) in &self.log {
            groups.replay(&record.key, record.value.as_deref()).expect("our own record");
        }
        groups
    }

    /// The process dies: what is not committed is gone, and so is everything that no log holds.
    pub fn crash(&mut self) {
        let committed = self.committed;
        self.log.retain(|(number, _)| *number <= committed);
        let appended = self.groups.appended;
        self.groups = self.replayed();
        // Numbers go on in this world, so that lost ones are never mistaken for later ones.
        self.groups.appended = appended;
        self.committed = appended;
        self.step(Event::Loaded);
    }

    /// Time passes; timers fire one by one at their own time.
    pub fn pass(&mut self, duration: Duration) -> Vec<Effect> {
        let end = self.now.instant + duration;
        let mut effects = Vec::new();
        while let Some(deadline) = self.groups.next_deadline().filter(|deadline| *deadline <= end) {
            self.set_instant(deadline.max(self.now.instant));
            effects.extend(self.step(Event::Tick));
        }
        self.set_instant(end);
        effects
    }

    fn set_instant(&mut self, instant: types::Instant) {
        let passed = instant - self.now.instant;
        self.now = Now { instant, timestamp: self.now.timestamp.saturating_add(passed) };
    }
}

/// The metadata of a consumer that subscribes to `topics`.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.freeze()
}

pub(super) fn join(group: &str, fresh: Uuid) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member: None,
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: subscription(&["t"]) }],
        requires_known_member: true,
        can_skip_assignment: true,
        fresh,
    }
}

fn commit(group: &str, offset: i64) -> CommitOffsetsRequest {
    CommitOffsetsRequest {
        group: group.into(),
        member: None,
        instance: None,
        generation: None,
        retention: None,
        knows_group_not_found: true,
        topics: vec![CommitTopic {
            topic: "t".into(),
            topic_id: Some(TopicId(Uuid([7; 16]))),
            partitions: vec![CommitPartition {
                partition: PartitionIndex(0),
                offset: Offset(offset),
                leader_epoch: None,
                metadata: Str::EMPTY,
            }],
        }],
    }
}

fn response(effects: &[Effect]) -> &Response {
    let replies: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply { response, .. } => Some(response),
            Effect::Append { .. } => None,
        })
        .collect();
    assert_eq!(replies.len(), 1, "one reply in {effects:?}");
    replies[0]
}

fn fetch_all(world: &mut World, group: &str) -> BTreeMap<(String, i32), i64> {
    let token = world.token();
    let request = FetchOffsetsRequest { group: group.into(), topics: None };
    let effects = world.step(Event::FetchOffsets(token, request));
    let Response::FetchOffsets(Ok(topics)) = response(&effects) else {
        panic!("no offsets in {effects:?}")
    };
    let offsets = topics.iter().flat_map(|topic| {
        topic.partitions.iter().filter_map(|(index, offset)| {
            Some(((topic.topic.to_string(), index.0), offset.as_ref()?.offset.0))
        })
    });
    offsets.collect()
}

#[test]
fn sessions_outside_the_bounds_are_refused() {
    let mut world = World::new(GroupSettings::default());
    for (session_ms, error) in [
        (5_999, ErrorCode::InvalidSessionTimeout),
        (6_000, ErrorCode::MemberIdRequired),
        (1_800_000, ErrorCode::MemberIdRequired),
        (1_800_001, ErrorCode::InvalidSessionTimeout),
    ] {
        let (token, fresh) = (world.token(), world.fresh());
        let session_timeout = Duration::from_millis(session_ms);
        let request = JoinRequest { session_timeout, ..join("g", fresh) };
        let effects = world.step(Event::Join(token, request));
        let Response::Join(response) = response(&effects) else { panic!("{effects:?}") };
        assert_eq!(response.error, error, "{session_ms} ms");
    }
}

#[test]
fn an_id_is_refused_where_no_group_knows_it() {
    let mut world = World::new(GroupSettings::default());
    let (token, fresh) = (world.token(), world.fresh());
    let request = JoinRequest { member: Some("stranger".into()), ..join("g", fresh) };
    let effects = world.step(Event::Join(token, request));
    let Response::Join(response) = response(&effects) else { panic!("{effects:?}") };
    assert_eq!(response.error, ErrorCode::UnknownMemberId);
    assert!(world.groups.is_empty(), "no group is made for a stranger");
}

#[test]
fn offset_metadata_is_measured_as_java_measures_it() {
    let mut world =
        World::new(GroupSettings { offset_metadata_max: 4, ..GroupSettings::default() });
    // Four UTF-16 units in twelve bytes; five units in ten bytes.
    for (metadata, error) in
        [("€€€€", ErrorCode::None), ("ééééé", ErrorCode::OffsetMetadataTooLarge)]
    {
        let token = world.token();
        let mut request = commit("g", 1);
        request.topics[0].partitions[0].metadata = metadata.into();
        let effects = world.step(Event::CommitOffsets(token, request));
        let Response::CommitOffsets(Ok(topics)) = response(&effects) else { panic!("{effects:?}") };
        assert_eq!(topics[0].partitions, [(PartitionIndex(0), error)], "{metadata}");
    }
}

/// E58: the topic was deleted and made anew; the offset of its predecessor is not for it.
#[test]
fn an_offset_is_not_returned_for_a_successor_of_its_topic() {
    let mut world = World::new(GroupSettings::default());
    let token = world.token();
    world.step(Event::CommitOffsets(token, commit("g", 5)));
    for (id, offset) in [(Some([7; 16]), Some(5)), (None, Some(5)), (Some([8; 16]), None)] {
        let token = world.token();
        let topic_id = id.map(|id| TopicId(Uuid(id)));
        let partitions = vec![PartitionIndex(0)];
        let topics = Some(vec![FetchTopic { topic: "t".into(), topic_id, partitions }]);
        let request = FetchOffsetsRequest { group: "g".into(), topics };
        let effects = world.step(Event::FetchOffsets(token, request));
        let Response::FetchOffsets(Ok(topics)) = response(&effects) else { panic!("{effects:?}") };
        let found = topics[0].partitions[0].1.as_ref().map(|offset| offset.offset.0);
        assert_eq!(found, offset, "asked for {topic_id:?}");
    }
    world.step(Event::TopicsDeleted(vec![("t".into(), TopicId(Uuid([8; 16])))]));
    assert_eq!(fetch_all(&mut world, "g").len(), 1, "another topic of that name was deleted");
    world.step(Event::TopicsDeleted(vec![("t".into(), TopicId(Uuid([7; 16])))]));
    assert_eq!(fetch_all(&mut world, "g"), BTreeMap::new());
}

/// I71: an offset lives as long as its group reads the topic, and its retention begins when the group is empty.
#[test]
fn offsets_expire_by_the_time_their_group_became_empty() {
    let settings = GroupSettings {
        offsets_retention: Duration::from_secs(1_000),
        offsets_check_interval: Duration::from_secs(100),
        ..GroupSettings::default()
    };
    let mut world = World::new(settings);
    let member = stable_member(&mut world, "g");
    let token = world.token();
    let mut request = commit("g", 5);
    request.member = Some(member.clone());
    request.generation = Some(Generation(1));
    world.step(Event::CommitOffsets(token, request));
    // Heartbeats keep it alive far beyond the retention.
    for _ in 0..300 {
        world.pass(Duration::from_secs(8));
        heartbeat(&mut world, "g", &member, 1, ErrorCode::None);
    }
    assert_eq!(fetch_all(&mut world, "g").len(), 1, "live and subscribed");
    world.committed = world.groups.appended();
    world.crash();
    for _ in 0..30 {
        world.pass(Duration::from_secs(8));
        heartbeat(&mut world, "g", &member, 1, ErrorCode::None);
    }
    assert_eq!(fetch_all(&mut world, "g").len(), 1, "live and subscribed after loading");
    world.pass(Duration::from_secs(9));
    // The member falls silent: the group is empty from here on.
    world.pass(Duration::from_secs(2));
    assert_eq!(world.groups.groups["g"].state(), GroupState::Empty);
    world.pass(Duration::from_secs(900));
    world.committed = world.groups.appended();
    world.crash();
    world.pass(Duration::from_secs(90));
    assert_eq!(fetch_all(&mut world, "g").len(), 1, "empty for less than the retention");
    world.pass(Duration::from_secs(200));
    assert_eq!(fetch_all(&mut world, "g").len(), 0);
    assert!(world.groups.is_empty(), "a group without members and offsets is forgotten");
}

#[test]
fn a_simple_groups_offset_expires_by_its_commit_and_by_its_own_retention() {
    let settings = GroupSettings {
        offsets_retention: Duration::from_secs(1_000),
        offsets_check_interval: Duration::from_secs(10),
        ..GroupSettings::default()
    };
    let mut world = World::new(settings);
    let token = world.token();
    world.step(Event::CommitOffsets(token, commit("long", 1)));
    let token = world.token();
    let retention = Some(Duration::from_secs(50));
    world.step(Event::CommitOffsets(
        token,
        CommitOffsetsRequest { retention, ..commit("short", 1) },
    ));
    world.pass(Duration::from_secs(45));
    assert_eq!(world.groups.len(), 2);
    world.pass(Duration::from_secs(15));
    assert_eq!(world.groups.names().map(GroupId::as_str).collect::<Vec<_>>(), ["long"]);
    world.pass(Duration::from_secs(960));
    assert!(world.groups.is_empty());
}

/// Newcomers of one empty group cannot fill the memory.
#[test]
fn pending_newcomers_are_bounded() {
    let mut world = World::new(GroupSettings::default());
    let (token, fresh) = (world.token(), world.fresh());
    world.step(Event::Join(token, join("g", fresh)));
    let group = world.groups.groups.get_mut("g").expect("it was made");
    let ids = (1..PENDING_MEMBERS_MAX).map(|number| MemberId::from(format!("m{number}")));
    group.pending.extend(ids);
    assert_eq!(group.pending.len(), PENDING_MEMBERS_MAX);
    let (token, fresh) = (world.token(), world.fresh());
    let effects = world.step(Event::Join(token, join("g", fresh)));
    let Response::Join(response) = response(&effects) else { panic!("{effects:?}") };
    assert_eq!(response.error, ErrorCode::GroupMaxSizeReached);
}

/// A group too large for one record is told so instead of being lost.
#[test]
fn an_assignment_beyond_the_record_limit_is_refused() {
    let mut world =
        World::new(GroupSettings { group_record_bytes_max: 300, ..GroupSettings::default() });
    let member = joined_member(&mut world, "g");
    let token = world.token();
    let assignments = vec![(member.clone(), Bytes::from(vec![0; 300]))];
    let effects = world.step(Event::Sync(token, sync("g", &member, 1, assignments)));
    let Response::Sync(refused) = response(&effects) else { panic!("{effects:?}") };
    assert_eq!(refused.error, ErrorCode::UnknownServerError);
    heartbeat(&mut world, "g", &member, 1, ErrorCode::RebalanceInProgress);
}

#[test]
fn records_of_unknown_kinds_and_bad_records_change_nothing() {
    let mut world = World::new(GroupSettings::default());
    stable_member(&mut world, "g");
    let before = world.replayed();
    let mut after = world.replayed();
    assert_eq!(after.replay(b"\x00\x63 later", Some(b"x")), Ok(Replayed::Unknown(99)));
    let (_, record) = world.log.last().cloned().expect("the assignment");
    let value = record.value.expect("not a tombstone");
    for cut in 0..value.len() {
        assert!(after.replay(&record.key, Some(&value[..cut])).is_err(), "cut at {cut}");
    }
    for cut in 0..record.key.len() {
        assert!(after.replay(&record.key[..cut], Some(&value)).is_err(), "key cut at {cut}");
    }
    assert_eq!(before.remembered_by(&after), Ok(()));
}

/// The bytes that Apache Kafka 4.3 wrote for the same facts.
#[test]
fn values_of_older_versions_are_read() {
    let mut groups = Groups::new(GroupSettings::default());
    let key = b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x02";
    let v0 = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x01m\x00\x00\x00\x00\x00\x00\x00\x07";
    groups.replay(key, Some(v0)).expect("version 0");
    let offset = &groups.groups["g"].offsets["t"][&PartitionIndex(2)];
    assert_eq!((offset.offset, &*offset.metadata), (Offset(42), "m"));
    let v3 = b"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x2b\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07";
    groups.replay(key, Some(v3)).expect("version 3");
    let offset = &groups.groups["g"].offsets["t"][&PartitionIndex(2)];
    assert_eq!((offset.offset, offset.leader_epoch), (Offset(43), Some(types::LeaderEpoch(5))));
    assert_eq!(
        groups.replay(key, Some(b"\x00\x05")),
        Err(RecordError::Decode(types::encoding::DecodeError::UnsupportedVersion(5)))
    );
    groups.replay(key, None).expect("a tombstone");
    assert!(groups.groups["g"].offsets.is_empty());
}

pub(super) fn sync(
    group: &str,
    member: &MemberId,
    generation: i32,
    assignments: Vec<(MemberId, Bytes)>,
) -> SyncRequest {
    SyncRequest {
        group: group.into(),
        member: member.clone(),
        instance: None,
        generation: Some(Generation(generation)),
        protocol_type: None,
        protocol: None,
        assignments,
    }
}

/// The only member of `group`, which has joined generation 1.
fn joined_member(world: &mut World, group: &str) -> MemberId {
    let (token, fresh) = (world.token(), world.fresh());
    let request = JoinRequest { requires_known_member: false, ..join(group, fresh) };
    world.step(Event::Join(token, request));
    let effects = world.pass(Duration::from_secs(3));
    let Response::Join(joined) = response(&effects) else { panic!("{effects:?}") };
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, Some(Generation(1))));
    joined.member.clone().expect("it has an id")
}

/// The only member of `group`, which owns everything in generation 1.
fn stable_member(world: &mut World, group: &str) -> MemberId {
    let member = joined_member(world, group);
    let token = world.token();
    let assignments = vec![(member.clone(), Bytes::from_static(b"all"))];
    world.step(Event::Sync(token, sync(group, &member, 1, assignments)));
    member
}

fn heartbeat(world: &mut World, group: &str, member: &MemberId, generation: i32, error: ErrorCode) {
    let token = world.token();
    let request = HeartbeatRequest {
        group: group.into(),
        member: member.clone(),
        instance: None,
        generation: Some(Generation(generation)),
    };
    let effects = world.step(Event::Heartbeat(token, request));
    assert_eq!(response(&effects), &Response::Heartbeat(error), "{member} at {generation}");
}

/// Logs of `__consumer_offsets` as Apache Kafka 4.3.1 left them, and what they say record by record.
#[test]
fn kafkas_own_logs_are_read() {
    let logs: [(&str, &[u8]); 3] = [
        ("1", include_bytes!("../../../testdata/kafka_consumer_offsets_1.log")),
        ("3", include_bytes!("../../../testdata/kafka_consumer_offsets_3.log")),
        ("7", include_bytes!("../../../testdata/kafka_consumer_offsets_7.log")),
    ];
    let mut story = String::new();
    for (name, log) in logs {
        let mut groups = Groups::new(GroupSettings::default());
        for batch in record::Batches::split(Bytes::from_static(log)) {
            for record in batch.expect("a whole batch").records(1 << 20) {
                let record = record.expect("a record");
                let key = record.key.expect("every record here has a key");
                groups.replay(&key, record.value.as_deref()).expect("a record of Kafka's");
                groups.check(None);
                let state = groups.to_string();
                story.push_str(&format!(
                    "{name}@{}: {}\n",
                    record.offset,
                    state.trim().replace('\n', "; ")
                ));
            }
        }
    }
    let expected = include_str!("../../../testdata/kafka_consumer_offsets.txt");
    assert!(story == expected, "{story}");
}

/// The first rebalance waits for a whole delay after the last newcomer, but no longer than a rebalance may take.
#[test]
fn the_first_rebalance_waits_for_newcomers_within_reason() {
    // Milliseconds at which members come, and at which all are answered.
    let table: [(&[u64], u64); 5] = [
        (&[0], 3_000),
        (&[0, 100, 200], 3_200),
        (&[0, 2_900, 5_800], 8_800),
        (&[0, 2_900, 5_800, 8_700], 10_000),
        (&[0, 3_000], 3_000),
    ];
    for (arrivals, answered) in table {
        let mut world = World::new(GroupSettings::default());
        let begin = world.now.instant;
        let mut replies = Vec::new();
        for arrival in arrivals {
            let until = begin + Duration::from_millis(*arrival);
            replies.extend(world.pass(until - world.now.instant));
            if !replies.is_empty() {
                break;
            }
            let (token, fresh) = (world.token(), world.fresh());
            let rebalance_timeout = Duration::from_secs(10);
            let request =
                JoinRequest { requires_known_member: false, rebalance_timeout, ..join("g", fresh) };
            world.step(Event::Join(token, request));
        }
        while replies.is_empty() {
            replies = world.pass(Duration::from_millis(100));
        }
        let passed = world.now.instant - begin;
        assert_eq!(passed, Duration::from_millis(answered), "members come at {arrivals:?}");
    }
}

/// A static member that gives a rebalance no time, absent and alone: the group waits for it or for the end of its session,
/// but not by looking again and again at one moment.
#[test]
fn an_absent_static_member_without_patience_does_not_stop_the_clock() {
    let mut world = World::new(GroupSettings::default());
    let (hasty, fresh) = (world.token(), world.fresh());
    let hasty_join = JoinRequest {
        instance: Some("i".into()),
        rebalance_timeout: Duration::ZERO,
        ..join("g", fresh)
    };
    world.step(Event::Join(hasty, hasty_join));
    let (other, fresh) = (world.token(), world.fresh());
    world
        .step(Event::Join(other, JoinRequest { requires_known_member: false, ..join("g", fresh) }));
    let effects = world.pass(Duration::from_secs(3));
    let joined: BTreeMap<Token, JoinResponse> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Reply { token, response: Response::Join(response), .. } => {
                Some((token, response))
            }
            _ => None,
        })
        .collect();
    for (token, response) in &joined {
        assert_eq!(response.error, ErrorCode::None);
        let sync = SyncRequest {
            group: "g".into(),
            member: response.member.clone().expect("a member"),
            instance: (*token == hasty).then(|| "i".into()),
            generation: response.generation,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        let token = world.token();
        world.step(Event::Sync(token, sync));
    }
    assert_eq!(world.groups.groups["g"].state(), GroupState::Stable);
    let token = world.token();
    let leaves = LeavingMember { member: joined[&other].member.clone(), instance: None };
    world.step(Event::Leave(token, LeaveRequest { group: "g".into(), members: vec![leaves] }));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.groups.groups["g"].members.len(), 1, "its session lasts");
    world.pass(Duration::from_secs(10));
    assert_eq!(world.groups.groups["g"].state(), GroupState::Empty);
}
