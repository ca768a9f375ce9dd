//! Random lives of one group: members join, stall, crash, restart and leave; the log commits late; the coordinator dies.
//!
//! After every step: the log remembers what was decided (I64, in [`World::step`]); no generation goes back (I65); no two
//! members that the coordinator accepts own the same partition (I66); nobody commits offsets in a generation that is
//! not its own (I69); an acknowledged offset is never taken back (I70); a static name has one live member (I72).

use proptest::prelude::*;

use super::*;

const PARTITIONS: usize = 5;
const GROUP: &str = "g";

#[derive(Clone, Copy, Debug)]
enum Op {
    /// The client does what its state asks for.
    Proceed(usize),
    /// It leaves, if it is a member.
    Leave(usize),
    /// It dies; the next one under its static name knows nothing.
    Die(usize),
    /// It commits an offset of a partition it owns, or once owned.
    Commit(usize),
    /// Someone from outside reads all offsets.
    Fetch,
    Pass(u64),
    CommitLog,
    /// The coordinator dies.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS.len();
    prop_oneof![
        12 => client.clone().prop_map(Op::Proceed),
        1 => client.clone().prop_map(Op::Leave),
        1 => client.clone().prop_map(Op::Die),
        3 => client.prop_map(Op::Commit),
        1 => Just(Op::Fetch),
        4 => prop_oneof![Just(100), Just(1_000), Just(3_000), Just(11_000), Just(61_000)].prop_map(Op::Pass),
        5 => Just(Op::CommitLog),
        1 => Just(Op::Crash),
    ]
}

const CLIENTS: [Option<&str>; 5] = [None, None, None, Some("a"), Some("b")];

#[derive(Clone, Debug, Default)]
struct Client {
    member: Option<MemberId>,
    generation: Option<Generation>,
    /// The request it waits for, and what it asked.
    waits: Option<Token>,
    state: State,
    /// From the leader's JoinGroup: whom to assign to.
    members: Vec<MemberId>,
    owned: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
enum State {
    #[default]
    Out,
    Joined,
    Owner,
}

struct Life {
    world: World,
    clients: Vec<Client>,
    /// Replies that wait for the log.
    parked: Vec<(Token, AppendNumber, Response)>,
    /// Offset commits on their way: partition and value.
    commits: BTreeMap<Token, (usize, i64)>,
    /// Newest acknowledged offset per partition.
    acked: [i64; PARTITIONS],
    reads: BTreeMap<Token, [i64; PARTITIONS]>,
    next_offset: i64,
    /// Who was told in which generation that it owns a partition: a client, by its place in the list.
    owners: BTreeMap<(Generation, usize), (usize, MemberId)>,
    /// The newest generation anyone was told of.
    told: Generation,
    newest: Generation,
}

impl Life {
    fn new() -> Life {
        Life {
            world: World::new(GroupSettings::default()),
            clients: vec![Client::default(); CLIENTS.len()],
            parked: Vec::new(),
            commits: BTreeMap::new(),
            acked: [0; PARTITIONS],
            reads: BTreeMap::new(),
            next_offset: 0,
            owners: BTreeMap::new(),
            told: Generation(0),
            newest: Generation(0),
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Proceed(client) => self.proceed(client),
            Op::Leave(client) => self.leave(client),
            Op::Die(client) => self.clients[client] = Client::default(),
            Op::Commit(client) => self.commit(client),
            Op::Fetch => {
                let token = self.world.token();
                self.reads.insert(token, self.acked);
                let request = FetchOffsetsRequest { group: GROUP.into(), topics: None };
                self.event(Event::FetchOffsets(token, request));
            }
            Op::Pass(ms) => {
                let effects = self.world.pass(Duration::from_millis(ms));
                self.take(effects);
            }
            Op::CommitLog => {
                self.world.committed = self.world.groups.appended();
                let parked = std::mem::take(&mut self.parked);
                parked.into_iter().for_each(|(token, _, response)| self.deliver(token, &response));
            }
            Op::Crash => self.crash(),
        }
        self.check();
    }

    fn event(&mut self, event: Event) {
        let effects = self.world.step(event);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Reply { token, after, response } = effect else { continue };
            if after <= self.world.committed {
                self.deliver(token, &response);
            } else {
                self.parked.push((token, after, response));
            }
        }
    }

    fn instance(client: usize) -> Option<InstanceId> {
        CLIENTS[client].map(InstanceId::from)
    }

    fn proceed(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.waits.is_some() {
            return;
        }
        let token = self.world.token();
        self.clients[index].waits = Some(token);
        let generation = client.generation;
        let event = match (client.state, client.member.clone()) {
            (State::Joined, Some(member)) => {
                let mut assignments: BTreeMap<MemberId, Vec<u8>> = BTreeMap::new();
                for partition in 0..PARTITIONS {
                    if let Some(to) = client.members.get(partition % client.members.len().max(1)) {
                        assignments.entry(to.clone()).or_default().push(partition as u8);
                    }
                }
                let assignments = assignments.into_iter().map(|(to, owned)| (to, owned.into()));
                let request = sync(GROUP, &member, 0, assignments.collect());
                let instance = Life::instance(index);
                Event::Sync(token, SyncRequest { generation, instance, ..request })
            }
            (State::Owner, Some(member)) => {
                let instance = Life::instance(index);
                let group = GROUP.into();
                Event::Heartbeat(token, HeartbeatRequest { group, member, instance, generation })
            }
            (_, member) => {
                let fresh = self.world.fresh();
                // It gives up what it owned before it joins anew (eager rebalancing).
                self.clients[index].owned.clear();
                let instance = Life::instance(index);
                Event::Join(token, JoinRequest { member, instance, ..join(GROUP, fresh) })
            }
        };
        self.event(event);
    }

    fn leave(&mut self, index: usize) {
        let client = std::mem::take(&mut self.clients[index]);
        let Some(member) = client.member else { return };
        let token = self.world.token();
        let leaving = LeavingMember { member: Some(member), instance: Life::instance(index) };
        let request = LeaveRequest { group: GROUP.into(), members: vec![leaving] };
        self.event(Event::Leave(token, request));
    }

    fn commit(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let (Some(member), Some(partition)) = (client.member, client.owned.first().copied()) else {
            return;
        };
        self.next_offset += 1;
        let token = self.world.token();
        self.commits.insert(token, (partition, self.next_offset));
        let mut request = super::commit(GROUP, self.next_offset);
        request.topics[0].partitions[0].partition = PartitionIndex(partition as i32);
        request.member = Some(member.clone());
        request.instance = Life::instance(index);
        request.generation = client.generation;
        let valid = self.accepts(index);
        let before = self.world.groups.appended();
        self.event(Event::CommitOffsets(token, request));
        let accepted = self.world.groups.appended() > before;
        assert!(valid || !accepted, "{member} commits offsets although it is fenced (I69)");
    }

    /// Whether the coordinator would take this client for a member in its generation.
    fn accepts(&self, index: usize) -> bool {
        let client = &self.clients[index];
        let Some(member) = client.member.clone() else { return false };
        let Some(group) = self.world.groups.groups.get(GROUP) else { return false };
        group.validate_member(member.as_str(), Life::instance(index).as_ref()).is_ok()
            && client.generation == Some(group.generation)
    }

    fn crash(&mut self) {
        self.parked.clear();
        self.commits.clear();
        self.reads.clear();
        for client in &mut self.clients {
            client.waits = None;
        }
        self.world.crash();
        let group = self.world.groups.groups.get(GROUP);
        self.newest = group.map_or(Generation(0), |group| group.generation);
        assert!(
            self.newest >= self.told,
            "generation {} was told, {} is what the log knows (I65)",
            self.told,
            self.newest
        );
        let stored = fetch_all(&mut self.world, GROUP);
        for (partition, acked) in self.acked.iter().enumerate() {
            let stored = stored.get(&("t".into(), partition as i32)).copied().unwrap_or(0);
            assert!(
                stored >= *acked,
                "partition {partition}: {acked} was acknowledged, {stored} is left (I70)"
            );
        }
    }

    fn deliver(&mut self, token: Token, response: &Response) {
        match response {
            Response::CommitOffsets(result) => {
                let (partition, offset) = self.commits[&token];
                if result.is_ok() {
                    assert!(offset > self.acked[partition], "acknowledged in the order of the log");
                    self.acked[partition] = offset;
                }
                return;
            }
            Response::FetchOffsets(Ok(topics)) => {
                let floor = self.reads[&token];
                let found = topics.iter().flat_map(|topic| &topic.partitions);
                let mut stored = [0; PARTITIONS];
                for (partition, offset) in found {
                    stored[partition.0 as usize] =
                        offset.as_ref().map_or(0, |offset| offset.offset.0);
                }
                assert!(
                    stored.iter().zip(floor).all(|(stored, floor)| *stored >= floor),
                    "reads go forward (I70)"
                );
                return;
            }
            _ => {}
        }
        // The client may have died since.
        let Some(index) = self.clients.iter().position(|client| client.waits == Some(token)) else {
            return;
        };
        let client = &mut self.clients[index];
        client.waits = None;
        let error = match response {
            Response::Join(join) => {
                match join.error {
                    ErrorCode::None => {
                        let generation = join.generation.expect("joined");
                        client.member = join.member.clone();
                        client.generation = Some(generation);
                        client.members =
                            join.members.iter().map(|member| member.member.clone()).collect();
                        client.state = State::Joined;
                        self.told = self.told.max(generation);
                    }
                    ErrorCode::MemberIdRequired => client.member = join.member.clone(),
                    _ => {}
                }
                join.error
            }
            Response::Sync(sync) => {
                if sync.error.is_none() {
                    client.owned =
                        sync.assignment.iter().map(|partition| usize::from(*partition)).collect();
                    let generation = client.generation.expect("it has joined");
                    let member = client.member.clone().expect("it has joined");
                    for partition in &client.owned {
                        let owner = (index, member.clone());
                        let first = self.owners.entry((generation, *partition)).or_insert(owner);
                        // A static member that restarts gets what it had.
                        let same =
                            first.1 == member || (first.0 == index && CLIENTS[index].is_some());
                        assert!(
                            same,
                            "generation {generation}: partition {partition} was given to {} (I66)",
                            first.1
                        );
                    }
                    client.state = State::Owner;
                }
                sync.error
            }
            Response::Heartbeat(error) => *error,
            _ => ErrorCode::None,
        };
        let owner = matches!(response, Response::Heartbeat(ErrorCode::None));
        assert!(!owner || self.accepts(index), "client {index} is out, and not told so (I66)");
        let client = &mut self.clients[index];
        match error {
            ErrorCode::None | ErrorCode::MemberIdRequired => {}
            ErrorCode::RebalanceInProgress => client.state = State::Out,
            ErrorCode::IllegalGeneration => {
                client.state = State::Out;
                client.owned.clear();
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => *client = Client::default(),
            other => panic!("{other} was not expected"),
        }
    }

    fn check(&mut self) {
        let mut owner = [None; PARTITIONS];
        for index in 0..self.clients.len() {
            if !self.accepts(index) {
                continue;
            }
            for partition in &self.clients[index].owned {
                let other = owner[*partition].replace(index);
                assert_eq!(
                    other, None,
                    "partition {partition} is owned by client {index} too (I66)"
                );
            }
        }
        if let Some(group) = self.world.groups.groups.get(GROUP) {
            assert!(group.generation >= self.newest, "generations go up (I65)");
            self.newest = group.generation;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lives_keep_every_promise(ops in prop::collection::vec(op(), 0..150)) {
        let mut life = Life::new();
        for op in ops {
            life.play(op);
        }
    }
}

/// The random lives are lively: they reach what they are meant to test.
#[test]
fn a_life_reaches_ownership_commits_and_several_generations() {
    let mut life = Life::new();
    for round in 0..40 {
        for client in 0..CLIENTS.len() {
            life.play(Op::Proceed(client));
            life.play(Op::Commit(client));
        }
        life.play(Op::Pass(3_000));
        life.play(Op::CommitLog);
        if round % 13 == 12 {
            life.play(Op::Die(round % CLIENTS.len()));
            life.play(Op::Crash);
        }
    }
    assert!(life.told > Generation(2), "{}", life.told);
    assert!(life.acked.iter().filter(|offset| **offset > 0).count() > 2, "{:?}", life.acked);
}
