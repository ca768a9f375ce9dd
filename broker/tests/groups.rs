//! Groups through the whole broker, over the wire, on a false machine: every version of every request, what a power cut
//! leaves, and what may be said before the disk has spoken (I64, I65, I69, I70, I71, I72, E52, E58).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Audience, Broker, BrokerConfig, ListenerConfig, ListenerProtocol};
use bytes::{Buf, Bytes, BytesMut};
use cluster::config::BrokerSettings;
use env::{Clock, Conn, ConnReader, ConnWriter, Env, Net, Part};
use sim::decisions::Decisions;
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use sim::exec::{self, Limits, World};
use sim::net::{Network, SimNet, ip_of};
use sim::world::SimEnv;
use types::{ErrorCode, NodeId, Str, Uuid};
use wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::delete_groups::DeleteGroupsRequest;
use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use wire::describe_groups::DescribeGroupsRequest;
use wire::find_coordinator::FindCoordinatorRequest;
use wire::heartbeat::HeartbeatRequest;
use wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use wire::list_groups::ListGroupsRequest;
use wire::metadata::{MetadataRequest, MetadataRequestTopic};
use wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use wire::{Message, Reader, Request, ResponseHeader};

const BROKER: u32 = 1;
const CLIENT: u32 = 10;
const PORT: u16 = 9092;
const TOPIC: &str = "t";

type SimConn = <SimNet as Net>::Conn;

/// A machine with a broker, and one for its clients.
#[derive(Clone)]
struct Bench {
    world: World,
    network: Network,
    disk: Arc<Mutex<SimDisk>>,
    settings: Vec<(&'static str, &'static str)>,
}

impl Bench {
    fn disk(&self) -> SimDisk {
        self.disk.lock().expect("no panic holds it").clone()
    }

    fn env(&self, node: u32) -> SimEnv {
        SimEnv::new(&self.world, &self.network, &self.disk(), node)
    }

    /// Starts the broker in a task of its own machine; returns when it serves.
    async fn start(&self) {
        let env = self.env(BROKER);
        let settings = self.settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let (settings, _) = BrokerSettings::parse(settings).expect("sound settings");
        let config = BrokerConfig {
            roles: broker::Roles::default(),
            node_id: NodeId(0),
            cluster_id: None,
            listeners: vec![ListenerConfig {
                name: "PLAINTEXT".into(),
                bind: SocketAddr::new(ip_of(BROKER), PORT),
                advertised: None,
                protocol: ListenerProtocol::Plaintext,
                audience: Audience::Clients,
            }],
            log_dirs: vec![PathBuf::from("/data")],
            metadata_dir: None,
            bootstrap: Vec::new(),
            asks_who_decides: false,
            voters: Vec::new(),
            settings,
        };
        let (ready, serving) = tokio::sync::oneshot::channel();
        self.world.spawn(BROKER, "broker", async move {
            let broker = Broker::start(env, config).await.expect("it starts");
            let _ = ready.send(());
            broker.failed().await;
        });
        serving.await.expect("it serves");
    }

    /// The power fails, and comes back.
    fn power_cut(&self) {
        self.world.kill(BROKER);
        self.network.power_off(BROKER);
        let after = self.disk().power_cut();
        *self.disk.lock().expect("no panic holds it") = after;
        self.network.power_on(BROKER);
        self.world.revive(BROKER);
    }

    /// The next sync of the journal suffers `fault`.
    fn hurt_next_sync(&self, fault: DiskFault) {
        let path = "journal".into();
        self.disk().inject(Injection { path, op: Op::Sync, skip: 0, fault });
    }

    async fn client(&self) -> Client {
        let net = self.env(CLIENT).net().clone();
        let conn = net.connect(SocketAddr::new(ip_of(BROKER), PORT)).await.expect("connects");
        let (reader, writer) = conn.split();
        Client { reader, writer, buffer: BytesMut::new(), sent: 0 }
    }
}

/// Runs `test` on a fresh bench.
fn on_bench<F, T>(settings: &[(&'static str, &'static str)], test: T)
where
    F: Future<Output = ()> + Send + 'static,
    T: FnOnce(Bench) -> F,
{
    let decisions = Decisions::new(7);
    let world = World::new(&decisions);
    world.add_node(BROKER, "broker");
    world.add_node(CLIENT, "client");
    let network = Network::new(&world);
    let disk = Arc::new(Mutex::new(SimDisk::of_node(&decisions, BROKER)));
    let mut all = vec![("offsets.topic.num.partitions", "2")];
    all.extend_from_slice(settings);
    let bench = Bench { world: world.clone(), network, disk, settings: all };
    let done = Arc::new(Mutex::new(false));
    let finished = done.clone();
    let main = test(bench);
    exec::run(&world, Limits::default(), async move {
        main.await;
        *finished.lock().expect("no panic holds it") = true;
    });
    assert!(world.violated().is_none(), "{:?}", world.violated());
    assert!(*done.lock().expect("no panic holds it"), "the test reached its end");
}

/// One connection, one request at a time unless sent and received apart.
struct Client {
    reader: <SimConn as Conn>::Reader,
    writer: <SimConn as Conn>::Writer,
    buffer: BytesMut,
    sent: i32,
}

impl Client {
    async fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.sent += 1;
        let frame = wire::request_frame(request, version, self.sent, Some("test".into()));
        let frame = frame.expect("can be said in this version");
        self.writer.send(vec![Part::Mem(frame)]).await.expect("sends");
    }

    async fn receive<R: Message>(&mut self, version: i16) -> R {
        decoded(self.frame().await.expect("the connection lives"), version)
    }

    /// The next frame; `None` when the connection is over.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if self.buffer.len() >= 4 {
                let len = u32::from_be_bytes(self.buffer[..4].try_into().expect("four")) as usize;
                if self.buffer.len() >= 4 + len {
                    self.buffer.advance(4);
                    return Some(self.buffer.split_to(len).freeze());
                }
            }
            match self.reader.read(&mut self.buffer, 64 << 10).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version).await;
        self.receive(version).await
    }

    async fn create_topic(&mut self, name: &str) -> Uuid {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: 4,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        };
        let created = self.call(&request, 7).await;
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        created.topics[0].topic_id
    }

    /// Asks for the coordinator until there is one that has loaded its groups.
    async fn find(&mut self, clock: &impl Clock, group: &str) {
        let request = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        for _ in 0..100 {
            let found = self.call(&request, 0).await;
            let described = self.call(&described(group), 0).await;
            if found.error_code == 0 && described.groups[0].error_code == 0 {
                assert_eq!((found.node_id, found.port), (0, i32::from(PORT)));
                return;
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("no coordinator for {group}");
    }

    /// Joins as a newcomer, in the two steps that version 4 brought.
    async fn join(&mut self, request: &JoinGroupRequest, version: i16) -> JoinGroupResponse {
        let answer = self.call(request, version).await;
        if answer.error_code != ErrorCode::MemberIdRequired.as_i16() {
            return answer;
        }
        let again = JoinGroupRequest { member_id: answer.member_id, ..request.clone() };
        self.call(&again, version).await
    }

    async fn commit(&mut self, request: &OffsetCommitRequest, version: i16) -> ErrorCode {
        let answer = self.call(request, version).await;
        ErrorCode::from_i16(answer.topics[0].partitions[0].error_code).expect("a code")
    }

    /// All committed offsets of a group.
    async fn offsets(&mut self, group: &str) -> BTreeMap<(String, i32), i64> {
        let request =
            OffsetFetchRequest { group_id: group.into(), topics: None, ..Default::default() };
        let answer = self.call(&request, 7).await;
        assert_eq!(answer.error_code, 0);
        let offsets = answer.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            let offset = move |p: &wire::offset_fetch::OffsetFetchResponsePartition| {
                ((name.clone(), p.partition_index), p.committed_offset)
            };
            topic.partitions.iter().map(offset)
        });
        offsets.collect()
    }
}

fn decoded<R: Message>(frame: Bytes, version: i16) -> R {
    let mut reader = Reader::new(frame);
    let header = R::API_KEY.response_header_version(version);
    ResponseHeader::decode(&mut reader, header).expect("a header");
    R::decode(&mut reader, version).expect("an answer")
}

fn described(group: &str) -> DescribeGroupsRequest {
    DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() }
}

fn join_request(group: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0"),
        }],
        ..JoinGroupRequest::default()
    }
}

/// What a leader that is alone sends.
fn sync_request(
    group: &str,
    joined: &JoinGroupResponse,
    assignment: &'static [u8],
) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(assignment),
        }],
        ..SyncGroupRequest::default()
    }
}

fn heartbeat_request(group: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    }
}

fn leave_request(group: &str, joined: &JoinGroupResponse, version: i16) -> LeaveGroupRequest {
    let member_id = joined.member_id.clone();
    if version < 3 {
        return LeaveGroupRequest { group_id: group.into(), member_id, ..Default::default() };
    }
    let members = vec![MemberIdentity { member_id, ..Default::default() }];
    LeaveGroupRequest { group_id: group.into(), members, ..Default::default() }
}

fn commit_request(group: &str, topic_id: Uuid, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            topic_id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(Str::EMPTY),
            }],
        }],
        ..OffsetCommitRequest::default()
    }
}

/// A commit by a member in its generation.
fn member_commit(
    group: &str,
    topic_id: Uuid,
    joined: &JoinGroupResponse,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        member_id: joined.member_id.clone(),
        generation_id_or_member_epoch: joined.generation_id,
        ..commit_request(group, topic_id, offset)
    }
}

/// A member's whole life, in the dialect that `pick` chooses from each request's versions.
async fn life(
    client: &mut Client,
    clock: &impl Clock,
    topic_id: Uuid,
    group: &str,
    pick: impl Fn(i16, i16) -> i16,
) {
    macro_rules! version {
        ($request:ty) => {{
            let (first, last) = <$request as Message>::API_KEY.stable_versions();
            pick(first, last)
        }};
    }
    client.find(clock, group).await;
    let version = version!(FindCoordinatorRequest);
    let request = match version {
        0..=3 => FindCoordinatorRequest { key: group.into(), ..Default::default() },
        _ => FindCoordinatorRequest {
            coordinator_keys: vec![group.into(), "other".into()],
            ..Default::default()
        },
    };
    let found = client.call(&request, version).await;
    match version {
        0..=3 => assert_eq!((found.error_code, found.port), (0, i32::from(PORT))),
        _ => {
            let here = |c: &wire::find_coordinator::Coordinator| {
                c.error_code == 0 && c.port == i32::from(PORT)
            };
            assert!(found.coordinators.iter().all(here), "{found:?}");
        }
    }

    let joined = client.join(&join_request(group), version!(JoinGroupRequest)).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1), "{joined:?}");
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    let sync = sync_request(group, &joined, b"all");
    let synced = client.call(&sync, version!(SyncGroupRequest)).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
    let heartbeat = heartbeat_request(group, &joined);
    assert_eq!(client.call(&heartbeat, version!(HeartbeatRequest)).await.error_code, 0);

    let version = version!(OffsetCommitRequest);
    let mut commit = member_commit(group, topic_id, &joined, 42);
    assert_eq!(client.commit(&commit, version).await, ErrorCode::None, "version {version}");
    commit.generation_id_or_member_epoch += 1;
    assert_eq!(client.commit(&commit, version).await, ErrorCode::IllegalGeneration);

    let fetched = fetched(client, group, topic_id, version!(OffsetFetchRequest)).await;
    assert_eq!(fetched, [(0, 42, 0), (3, -1, 0)]);
    let all = client.call(&described(group), version!(DescribeGroupsRequest)).await;
    assert_eq!(all.groups[0].error_code, 0);
    assert_eq!((&*all.groups[0].group_state, all.groups[0].members.len()), ("Stable", 1));
    let listed = client.call(&ListGroupsRequest::default(), version!(ListGroupsRequest)).await;
    assert!(listed.groups.iter().any(|listed| &*listed.group_id == group), "{listed:?}");

    let delete = OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let refused = client.call(&delete, version!(OffsetDeleteRequest)).await;
    let code = refused.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::GroupSubscribedToTopic.as_i16(), "{refused:?}");
    let groups = DeleteGroupsRequest { groups_names: vec![group.into()] };
    let refused = client.call(&groups, version!(DeleteGroupsRequest)).await;
    assert_eq!(refused.results[0].error_code, ErrorCode::NonEmptyGroup.as_i16());

    let version = version!(LeaveGroupRequest);
    let left = client.call(&leave_request(group, &joined, version), version).await;
    assert_eq!(left.error_code, 0, "version {version}");
    assert!(left.members.iter().all(|member| member.error_code == 0));
    let deleted = client.call(&delete, version!(OffsetDeleteRequest)).await;
    assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
    let deleted = client.call(&groups, version!(DeleteGroupsRequest)).await;
    assert_eq!(deleted.results[0].error_code, 0);
}

/// Partition, offset and error of partitions 0 and 3.
async fn fetched(
    client: &mut Client,
    group: &str,
    topic_id: Uuid,
    version: i16,
) -> Vec<(i32, i64, i16)> {
    let partition_indexes = vec![0, 3];
    if version < 8 {
        let topics = Some(vec![OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes }]);
        let request = OffsetFetchRequest { group_id: group.into(), topics, ..Default::default() };
        let answer = client.call(&request, version).await;
        let partitions = answer.topics[0].partitions.iter();
        return partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code)).collect();
    }
    let topic = OffsetFetchRequestTopics { name: TOPIC.into(), topic_id, partition_indexes };
    let wanted = OffsetFetchRequestGroup {
        group_id: group.into(),
        member_epoch: -1,
        topics: Some(vec![topic]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![wanted], ..Default::default() };
    let answer = client.call(&request, version).await;
    let partitions = answer.groups[0].topics[0].partitions.iter();
    partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code)).collect()
}

#[test]
fn a_member_lives_in_every_version_of_every_request() {
    on_bench(&[("group.initial.rebalance.delay.ms", "0")], |bench| async move {
        bench.start().await;
        let clock = bench.env(CLIENT).clock().clone();
        let mut client = bench.client().await;
        let topic_id = client.create_topic(TOPIC).await;
        // Ten versions are the most that any of these requests has beyond its first.
        for step in 0..=10 {
            let group = format!("from-first-{step}");
            let pick = |first: i16, last: i16| (first + step).min(last);
            life(&mut client, &clock, topic_id, &group, pick).await;
        }
    });
}

/// I64, I65, I70, E52: what was acknowledged is there after the power failed, and the generation goes on.
#[test]
fn a_power_cut_takes_back_nothing_that_was_acknowledged() {
    on_bench(&[("group.initial.rebalance.delay.ms", "0")], |bench| async move {
        bench.start().await;
        let clock = bench.env(CLIENT).clock().clone();
        let mut client = bench.client().await;
        let topic_id = client.create_topic(TOPIC).await;
        client.find(&clock, "g").await;
        for round in 1..=5 {
            let joined = client.join(&join_request("g"), 9).await;
            assert_eq!(joined.error_code, 0, "{joined:?}");
            // The last round's member left in a generation of its own.
            assert_eq!(joined.generation_id, 2 * round - 1, "round {round}");
            let synced = client.call(&sync_request("g", &joined, b"all"), 5).await;
            assert_eq!(synced.error_code, 0);
            let commit = member_commit("g", topic_id, &joined, i64::from(round));
            assert_eq!(client.commit(&commit, 9).await, ErrorCode::None);

            bench.power_cut();
            bench.start().await;
            client = bench.client().await;
            client.find(&clock, "g").await;
            let offsets = client.offsets("g").await;
            assert_eq!(offsets.get(&(TOPIC.into(), 0)), Some(&i64::from(round)));
            let alive = client.call(&heartbeat_request("g", &joined), 4).await;
            assert_eq!(alive.error_code, 0, "the member is still one (round {round})");
            assert_eq!(client.call(&leave_request("g", &joined, 5), 5).await.error_code, 0);
        }
    });
}

/// I70: while the disk does not answer, nobody is told that an offset is committed, nor what is not committed.
#[test]
fn an_offset_commit_waits_for_the_disk() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let env = bench.env(CLIENT);
        let clock = env.clock().clone();
        let mut client = bench.client().await;
        let topic_id = client.create_topic(TOPIC).await;
        client.find(&clock, "g").await;
        assert_eq!(client.commit(&commit_request("g", topic_id, 1), 9).await, ErrorCode::None);
        bench.hurt_next_sync(DiskFault::HangingSync);
        client.send(&commit_request("g", topic_id, 2), 9).await;
        let mut other = bench.client().await;
        clock.sleep(Duration::from_millis(100)).await;
        let fetch = OffsetFetchRequest { group_id: "g".into(), topics: None, ..Default::default() };
        other.send(&fetch, 7).await;
        let early = env.timeout(Duration::from_secs(4), client.frame()).await;
        assert!(early.is_none(), "the commit was answered before it was on disk");
        let early = env.timeout(Duration::from_secs(5), other.frame()).await;
        assert!(early.is_none(), "an offset that may be lost was told");
        // After offsets.commit.timeout.ms (5 s) the client hears that nobody knows, and may ask again.
        let frame = env.timeout(Duration::from_millis(1), client.frame()).await.flatten();
        let late: OffsetCommitResponse = decoded(frame.expect("an answer"), 9);
        let code = late.topics[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::CoordinatorNotAvailable.as_i16());
        bench.power_cut();
        bench.start().await;
        let mut client = bench.client().await;
        client.find(&clock, "g").await;
        let left = client.offsets("g").await[&(TOPIC.to_string(), 0)];
        assert!((1..=2).contains(&left), "{left}");
    });
}

/// A failed sync is final: the commit is not acknowledged, then or later.
#[test]
fn an_offset_commit_whose_sync_fails_is_not_acknowledged() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let env = bench.env(CLIENT);
        let mut client = bench.client().await;
        let topic_id = client.create_topic(TOPIC).await;
        client.find(env.clock(), "g").await;
        bench.hurt_next_sync(DiskFault::FailedSync);
        client.send(&commit_request("g", topic_id, 2), 9).await;
        // Either an error, or the connection ends with the broker.
        let frame = env.timeout(Duration::from_secs(120), client.frame()).await;
        let frame = frame.expect("within two minutes somebody says something");
        if let Some(frame) = frame {
            let answer: OffsetCommitResponse = decoded(frame, 9);
            let code = answer.topics[0].partitions[0].error_code;
            assert_eq!(code, ErrorCode::NotCoordinator.as_i16(), "{answer:?}");
        }
    });
}

/// E58: a topic made anew under the same name begins without the offsets of its predecessor.
#[test]
fn offsets_do_not_outlive_their_topic() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let clock = bench.env(CLIENT).clock().clone();
        let mut client = bench.client().await;
        let topic_id = client.create_topic(TOPIC).await;
        client.find(&clock, "g").await;
        assert_eq!(client.commit(&commit_request("g", topic_id, 1), 9).await, ErrorCode::None);
        let topics = vec![DeleteTopicState { name: Some(TOPIC.into()), topic_id: Uuid::ZERO }];
        let delete = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        assert_eq!(client.call(&delete, 6).await.responses[0].error_code, 0);
        let late = commit_request("g", topic_id, 2);
        assert_eq!(client.commit(&late, 9).await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(client.commit(&late, 10).await, ErrorCode::UnknownTopicId);
        let successor = client.create_topic(TOPIC).await;
        assert_ne!(successor, topic_id);
        assert_eq!(client.offsets("g").await, BTreeMap::new());
        assert_eq!(client.commit(&commit_request("g", successor, 7), 10).await, ErrorCode::None);
        clock.sleep(Duration::from_secs(2)).await;
        let expected = BTreeMap::from([((TOPIC.to_string(), 0), 7)]);
        assert_eq!(client.offsets("g").await, expected);
        bench.power_cut();
        bench.start().await;
        let mut client = bench.client().await;
        client.find(&clock, "g").await;
        assert_eq!(client.offsets("g").await, expected);
    });
}

/// Two members share; one falls silent and is thrown out; what it says afterwards is refused (I66, I69).
#[test]
fn a_silent_member_loses_its_place() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let clock = bench.env(CLIENT).clock().clone();
        let (mut first, mut second) = (bench.client().await, bench.client().await);
        let topic_id = first.create_topic(TOPIC).await;
        first.find(&clock, "g").await;
        first.send(&join_request("g"), 3).await;
        second.send(&join_request("g"), 3).await;
        let one: JoinGroupResponse = first.receive(3).await;
        let two: JoinGroupResponse = second.receive(3).await;
        assert_eq!((one.generation_id, two.generation_id, &one.leader), (1, 1, &two.leader));
        let leads = one.leader == one.member_id;
        let (leader, follower, mut l, mut f) =
            if leads { (one, two, first, second) } else { (two, one, second, first) };
        assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
        let mut sync = sync_request("g", &leader, b"leader");
        sync.assignments.push(SyncGroupRequestAssignment {
            member_id: follower.member_id.clone(),
            assignment: Bytes::from_static(b"follower"),
        });
        let asks = SyncGroupRequest { assignments: vec![], ..sync_request("g", &follower, b"") };
        f.send(&asks, 5).await;
        assert_eq!(&l.call(&sync, 5).await.assignment[..], b"leader");
        let synced: SyncGroupResponse = f.receive(5).await;
        assert_eq!(&synced.assignment[..], b"follower");

        for _ in 0..3 {
            clock.sleep(Duration::from_secs(4)).await;
            l.call(&heartbeat_request("g", &leader), 4).await;
        }
        let alone = l.call(&heartbeat_request("g", &leader), 4).await;
        assert_eq!(alone.error_code, ErrorCode::RebalanceInProgress.as_i16());
        let rejoin = JoinGroupRequest { member_id: leader.member_id.clone(), ..join_request("g") };
        let again = l.call(&rejoin, 9).await;
        assert_eq!((again.error_code, again.generation_id, again.members.len()), (0, 2, 1));
        assert_eq!(l.call(&sync_request("g", &again, b"all"), 5).await.error_code, 0);

        let late = member_commit("g", topic_id, &follower, 99);
        assert_eq!(f.commit(&late, 9).await, ErrorCode::UnknownMemberId);
        let refused = f.call(&heartbeat_request("g", &follower), 4).await;
        assert_eq!(refused.error_code, ErrorCode::UnknownMemberId.as_i16());
        assert_eq!(l.offsets("g").await, BTreeMap::new());
    });
}

/// The first group of a cluster makes the topic that remembers groups; Metadata shows it as internal.
#[test]
fn the_offsets_topic_makes_itself() {
    on_bench(&[("offsets.topic.num.partitions", "50")], |bench| async move {
        bench.start().await;
        let mut client = bench.client().await;
        let list = client.call(&ListGroupsRequest::default(), 5).await;
        assert_eq!((list.error_code, list.groups.len()), (0, 0), "nothing to list");
        let topic_id = client.create_topic(TOPIC).await;
        let commit = client.commit(&commit_request("g", topic_id, 1), 9).await;
        assert_eq!(commit, ErrorCode::NotCoordinator, "the group is looked after nowhere yet");
        let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
        assert_eq!(client.call(&request, 2).await.error_code, 0);
        let name = Some("__consumer_offsets".into());
        let topics = Some(vec![MetadataRequestTopic { name, ..Default::default() }]);
        let request = MetadataRequest { topics, ..Default::default() };
        let metadata = client.call(&request, 12).await;
        let topic = &metadata.topics[0];
        assert_eq!((topic.is_internal, topic.partitions.len()), (true, 50));
        for (key_type, version, code) in [
            (1, 4, ErrorCode::UnsupportedVersion),
            (2, 4, ErrorCode::InvalidRequest),
            (2, 6, ErrorCode::UnsupportedVersion),
            (9, 6, ErrorCode::InvalidRequest),
        ] {
            let request = FindCoordinatorRequest {
                key_type,
                coordinator_keys: vec!["x".into()],
                ..FindCoordinatorRequest::default()
            };
            let found = client.call(&request, version).await;
            assert_eq!(found.coordinators[0].error_code, code.as_i16(), "key type {key_type}");
            assert_eq!((found.coordinators[0].node_id, found.coordinators[0].port), (-1, -1));
            // Java clients print these words and nothing else.
            let words = found.coordinators[0].error_message.as_deref().unwrap_or_default();
            let is_missing = code == ErrorCode::UnsupportedVersion;
            assert_eq!(words.ends_with("not supported by this broker yet"), is_missing, "{words}");
        }
        // librdkafka asked until its time-out, with nothing said about the reason.
        let request = FindCoordinatorRequest { key_type: 1, key: "x".into(), ..Default::default() };
        let found = client.call(&request, 2).await;
        assert_eq!(found.error_code, ErrorCode::TransactionalIdAuthorizationFailed.as_i16());
        let words = found.error_message.as_deref();
        assert_eq!(words, Some("transactions are not supported by this broker yet"));
    });
}

/// Fifty members that start together share within three and a half seconds, Kafka's delay of three included.
#[test]
fn fifty_members_share_soon() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let clock = bench.env(CLIENT).clock().clone();
        let mut client = bench.client().await;
        client.find(&clock, "g").await;
        let begin = clock.now();
        let mut members = Vec::new();
        for _ in 0..50 {
            let mut member = bench.client().await;
            let answer = member.call(&join_request("g"), 9).await;
            assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.as_i16());
            let again = JoinGroupRequest { member_id: answer.member_id, ..join_request("g") };
            member.send(&again, 9).await;
            members.push(member);
        }
        let mut joined = Vec::new();
        for member in &mut members {
            let answer: JoinGroupResponse = member.receive(9).await;
            assert_eq!((answer.error_code, answer.generation_id), (0, 1));
            joined.push(answer);
        }
        let assignments = joined.iter().map(|member| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: Bytes::from(member.member_id.to_string()),
        });
        let assignments: Vec<_> = assignments.collect();
        for (member, joined) in members.iter_mut().zip(&joined) {
            let leads = joined.leader == joined.member_id;
            assert_eq!(joined.members.len(), if leads { 50 } else { 0 });
            let assignments = if leads { assignments.clone() } else { Vec::new() };
            let sync = SyncGroupRequest { assignments, ..sync_request("g", joined, b"") };
            member.send(&sync, 5).await;
        }
        for (member, joined) in members.iter_mut().zip(&joined) {
            let synced: SyncGroupResponse = member.receive(5).await;
            assert_eq!(&synced.assignment[..], joined.member_id.as_bytes());
        }
        let took = clock.now() - begin;
        assert!(took <= Duration::from_millis(3_500), "{took:?}");
    });
}

/// What a request names twice is told once, or not at all: a short request never asks for an endless answer.
#[test]
fn what_is_named_twice_is_answered_once() {
    on_bench(&[], |bench| async move {
        bench.start().await;
        let mut client = bench.client().await;
        client.create_topic(TOPIC).await;
        client.find(bench.env(CLIENT).clock(), "g").await;
        let groups = vec!["g".into(), "h".into(), "g".into()];
        let described =
            client.call(&DescribeGroupsRequest { groups, ..Default::default() }, 5).await;
        let names: Vec<&str> = described.groups.iter().map(|group| &*group.group_id).collect();
        assert_eq!(names, ["g", "h"]);
        let all = |group: &str| OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: None,
            ..Default::default()
        };
        let groups = vec![all("g"), all("g"), all("h")];
        let fetched = client.call(&OffsetFetchRequest { groups, ..Default::default() }, 8).await;
        assert_eq!(fetched.groups.len(), 2, "{fetched:?}");

        use wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
        let topic = DescribeConfigsResource {
            resource_type: 2,
            resource_name: TOPIC.into(),
            ..Default::default()
        };
        let resources = vec![topic.clone(), topic];
        let configs =
            client.call(&DescribeConfigsRequest { resources, ..Default::default() }, 4).await;
        assert_eq!(configs.results.len(), 1);

        use wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            current_leader_epoch: -1,
            timestamp: -2,
        };
        let topic = |partitions: Vec<i32>| ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: partitions.into_iter().map(partition).collect(),
        };
        let topics = vec![topic(vec![0, 1, 1]), topic(vec![0, 2])];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let listed = client.call(&request, 7).await;
        let partitions = listed.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
        let twice = ErrorCode::InvalidRequest.as_i16();
        assert_eq!(codes, [twice, twice, twice, twice, 0], "Kafka refuses each place");
    });
}
