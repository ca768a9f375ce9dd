//! What a peer may send and a node must survive; who votes for whom. Histories of whole quorums are in `sim`.

use types::{DirectoryId, Uuid};

use super::*;

fn key(node: i32) -> ReplicaKey {
    ReplicaKey { node: NodeId(node), directory: DirectoryId(Uuid([node as u8; 16])) }
}

/// Node 1 of three, in epoch 3, with a log of one record of epoch 1 and one of epoch 3.
fn node() -> Quorum {
    let mut log = Shape::default();
    log.append(QuorumEpoch(1), Offset(1));
    log.append(QuorumEpoch(3), Offset(2));
    log.sync(Offset(2));
    let ballot = Ballot { epoch: QuorumEpoch(3), voted: None };
    Quorum::new(key(1), ballot, log, VoterHistory::new(Voters::of([key(1), key(2), key(3)])))
}

fn step(node: &mut Quorum, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    node.step(event, &mut effects);
    effects
}

fn vote(epoch: i32, candidate: i32, last: Position) -> Vote {
    let (epoch, candidate) = (QuorumEpoch(epoch), key(candidate));
    let directory = Some(key(1).directory);
    Vote { epoch, candidate, voter: NodeId(1), directory, last, is_pre: false }
}

fn ask(node: &mut Quorum, request: Request) -> (Vec<Effect>, Answer) {
    let mut effects = step(node, Event::Asked(Ticket(7), request));
    match effects.pop() {
        Some(Effect::Reply(Ticket(7), reply)) => (effects, reply.body),
        other => panic!("no reply, but {other:?}"),
    }
}

#[test]
fn votes_by_the_end_of_the_log() {
    let rows = [
        (vote(4, 2, Position::new(3, 2)), Answer::Vote(true)),
        (vote(4, 2, Position::new(3, 9)), Answer::Vote(true)),
        (vote(4, 2, Position::new(3, 1)), Answer::Vote(false)),
        (vote(4, 2, Position::new(2, 9)), Answer::Vote(false)),
        (vote(3, 2, Position::new(3, 2)), Answer::Vote(true)),
        (vote(2, 2, Position::new(3, 9)), Answer::Refused(Refusal::Fenced)),
        (
            Vote { voter: NodeId(2), ..vote(4, 2, Position::new(3, 2)) },
            Answer::Refused(Refusal::WrongVoter),
        ),
        (
            Vote { directory: Some(key(9).directory), ..vote(4, 2, Position::new(3, 2)) },
            Answer::Refused(Refusal::WrongVoter),
        ),
    ];
    for (vote, expected) in rows {
        assert_eq!(ask(&mut node(), Request::Vote(vote)).1, expected, "{vote:?}");
    }
}

#[test]
fn a_vote_is_stored_before_it_is_given_and_given_once() {
    let mut node = node();
    let (effects, answer) = ask(&mut node, Request::Vote(vote(4, 2, Position::new(3, 2))));
    assert_eq!(answer, Answer::Vote(true));
    let ballot = Ballot { epoch: QuorumEpoch(4), voted: Some(key(2)) };
    assert_eq!(effects[0], Effect::Store(ballot));
    let (_, other) = ask(&mut node, Request::Vote(vote(4, 3, Position::new(3, 2))));
    let (_, again) = ask(&mut node, Request::Vote(vote(4, 2, Position::new(3, 2))));
    assert_eq!((other, again), (Answer::Vote(false), Answer::Vote(true)));
}

#[test]
fn a_pre_vote_changes_nothing() {
    let mut node = node();
    let before = node.clone();
    let asked = Vote { is_pre: true, ..vote(3, 2, Position::new(3, 2)) };
    let (effects, answer) = ask(&mut node, Request::Vote(asked));
    assert_eq!((effects, answer, node), (Vec::new(), Answer::Vote(true), before));
}

/// Node 1 as a follower of node 2 in epoch 3.
fn follower() -> Quorum {
    let mut node = node();
    let begin = Begin { epoch: QuorumEpoch(3), leader: NodeId(2) };
    assert_eq!(ask(&mut node, Request::Begin(begin)).1, Answer::Done);
    node
}

fn answer(node: &mut Quorum, body: Answer) -> Vec<Effect> {
    let fetch = Fetch { epoch: QuorumEpoch(3), replica: key(1), last: node.log().last() };
    let reply = Reply { epoch: QuorumEpoch(3), leader: Some(NodeId(2)), body };
    step(node, Event::Answered { from: NodeId(2), asked: Request::Fetch(fetch), reply })
}

fn records(spans: &[(i32, i64)]) -> Answer {
    let span = |(epoch, end)| Span { epoch: QuorumEpoch(epoch), end: Offset(end), voters: None };
    let spans = spans.iter().copied().map(span).collect();
    Answer::Records(Records { high_watermark: Offset(i64::MAX), spans })
}

#[test]
fn what_is_fetched_is_reported_when_it_is_synced() {
    let mut node = follower();
    let effects = answer(&mut node, records(&[(3, 5)]));
    let asks = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Send(..)));
    assert!(effects.contains(&Effect::AppendFetched) && !asks(&effects), "{effects:?}");
    assert_eq!(node.high_watermark(), Offset(5), "no further than its own log");
    assert!(!asks(&step(&mut node, Event::Synced(Offset(4)))));
    assert!(asks(&step(&mut node, Event::Synced(Offset(5)))));
}

#[test]
fn a_leader_that_makes_no_sense_is_asked_again_later() {
    let nonsense = [
        records(&[(4, 5)]),
        records(&[(2, 5)]),
        records(&[(3, 2)]),
        records(&[(3, 5), (3, 4)]),
        records(&[(3, i64::MAX)]),
        Answer::Records(Records {
            high_watermark: Offset(0),
            spans: vec![Span {
                epoch: QuorumEpoch(3),
                end: Offset(3),
                voters: Some(Voters::default()),
            }],
        }),
        Answer::Diverging(Position::new(0, -5)),
        Answer::Snapshot(Position::new(0, -5)),
        Answer::Snapshot(Position::new(9, 9)),
        Answer::Diverging(Position::new(9, 9)),
        Answer::Done,
        Answer::Vote(true),
        Answer::Refused(Refusal::NotLeader),
    ];
    for body in nonsense {
        let mut node = follower();
        let log = node.log().clone();
        let effects = answer(&mut node, body.clone());
        assert_eq!(effects, [Effect::Arm(Timer::Retry)], "{body:?}");
        assert_eq!(*node.log(), log, "{body:?}");
    }
}

#[test]
fn what_is_committed_is_not_cut() {
    let mut node = follower();
    answer(&mut node, records(&[]));
    assert_eq!(node.high_watermark(), Offset(2));
    let effects = answer(&mut node, Answer::Diverging(Position::new(1, 1)));
    assert!(matches!(effects.last(), Some(Effect::Halt(_))), "{effects:?}");
    assert_eq!(node.log().end(), Offset(2));
}

#[test]
fn any_request_is_survived() {
    let extremes = [i32::MIN, -1, 0, 3, i32::MAX];
    for epoch in extremes {
        for last in [Position::new(epoch, i64::MIN), Position::new(epoch, i64::MAX)] {
            for mut node in [node(), follower()] {
                let epoch = QuorumEpoch(epoch);
                ask(&mut node, Request::Vote(Vote { epoch, ..vote(0, 2, last) }));
                ask(&mut node, Request::Fetch(Fetch { epoch, replica: key(2), last }));
                ask(&mut node, Request::Snapshot(Fetch { epoch, replica: key(2), last }));
                ask(&mut node, Request::Begin(Begin { epoch, leader: NodeId(1) }));
                let successors = vec![NodeId(1)];
                ask(&mut node, Request::End(End { epoch, leader: NodeId(2), successors }));
                step(&mut node, Event::Timeout(Timer::Election));
            }
        }
    }
}

#[test]
fn who_has_no_leader_goes_by_what_it_is_told() {
    let told = |node: i32, epoch: i32| Event::Told(NodeId(node), QuorumEpoch(epoch));
    let mut node = follower();
    assert_eq!(step(&mut node, told(9, 7)), [], "it has one");
    step(&mut node, Event::Timeout(Timer::Fetch));
    assert_eq!(node.leader(), None);
    assert_eq!(step(&mut node, told(9, 2)), [], "that is over");
    assert_eq!(step(&mut node, told(1, 7)), [], "this is itself");
    assert_eq!(step(&mut node, told(9, i32::MAX)), [], "of no quorum");
    let effects = step(&mut node, told(9, 7));
    assert_eq!((node.leader(), node.epoch()), (Some(NodeId(9)), QuorumEpoch(7)));
    let asks = |effect: &Effect| matches!(effect, Effect::Send(NodeId(9), Request::Fetch(_)));
    assert!(effects.iter().any(asks), "{effects:?}");
}

/// Node 1 as the sole voter, elected and with its first record committed.
fn alone() -> Quorum {
    let voters = VoterHistory::new(Voters::of([key(1)]));
    let mut node = Quorum::new(key(1), Ballot::default(), Shape::default(), voters);
    step(&mut node, Event::Start);
    step(&mut node, Event::Synced(Offset(1)));
    assert!(node.may_decide(), "{node}");
    node
}

fn fetch_by(node: &mut Quorum, replica: i32, last: Position) -> Answer {
    let fetch = Fetch { epoch: node.epoch(), replica: key(replica), last };
    ask(node, Request::Fetch(fetch)).1
}

#[test]
fn who_has_fallen_silent_becomes_no_voter() {
    let mut node = alone();
    fetch_by(&mut node, 2, Position::new(1, 1));
    step(&mut node, Event::Timeout(Timer::Announce));
    step(&mut node, Event::Timeout(Timer::Announce));
    let add = Request::AddVoter(key(2), Vec::new());
    assert_eq!(ask(&mut node, add.clone()).1, Answer::Refused(Refusal::Lags));
    fetch_by(&mut node, 2, Position::new(1, 1));
    let effects = step(&mut node, Event::Asked(Ticket(8), add));
    assert!(matches!(effects[..], [Effect::AppendControl(Control::Voters(_))]), "{effects:?}");
}

#[test]
fn who_fetches_a_snapshot_is_heard() {
    let mut node = follower();
    let vote = Vote { is_pre: true, ..vote(3, 2, Position::new(3, 2)) };
    step(&mut node, Event::Timeout(Timer::Fetch));
    let reply = Reply { epoch: QuorumEpoch(3), leader: None, body: Answer::Vote(true) };
    let own = Vote { candidate: key(1), voter: NodeId(2), ..vote };
    step(&mut node, Event::Answered { from: NodeId(2), asked: Request::Vote(own), reply });
    let own = Vote { epoch: QuorumEpoch(4), is_pre: false, ..own };
    let reply = Reply { epoch: QuorumEpoch(4), leader: None, body: Answer::Vote(true) };
    step(&mut node, Event::Answered { from: NodeId(2), asked: Request::Vote(own), reply });
    let fetch = Fetch { epoch: QuorumEpoch(4), replica: key(3), last: Position::default() };
    let (effects, answer) = ask(&mut node, Request::Snapshot(fetch));
    assert_eq!((effects, answer), (vec![Effect::Arm(Timer::CheckQuorum)], Answer::Done));
}

#[test]
fn who_does_not_lead_decides_nothing() {
    let mut node = follower();
    assert_eq!(step(&mut node, Event::Decided(3)), []);
    assert_eq!(node.log().end(), Offset(2));
}

#[test]
fn an_older_snapshot_of_its_own_is_no_news() {
    let mut node = follower();
    answer(&mut node, Answer::Snapshot(Position::new(3, 20)));
    step(&mut node, Event::Loaded(Position::new(3, 19), Voters::of([key(1)])));
    assert_eq!(node.log().start().offset, Offset(0), "not the one that it waits for");
    step(&mut node, Event::Loaded(Position::new(3, 20), Voters::of([key(1), key(2)])));
    step(&mut node, Event::Trimmed(Offset(8)));
    assert_eq!(node.log().start(), Position::new(3, 20));
}

#[test]
fn its_removal_counts_when_it_is_committed() {
    let mut log = Shape::default();
    log.append(QuorumEpoch(1), Offset(2));
    log.sync(Offset(2));
    let ballot = Ballot { epoch: QuorumEpoch(1), voted: Some(key(1)) };
    let mut voters = VoterHistory::new(Voters::of([key(1), key(2)]));
    voters.push(Offset(1), Voters::of([key(2)]));
    let mut node = Quorum::new(key(1), ballot, log, voters);
    let effects = step(&mut node, Event::Start);
    assert!(matches!(node.role(), Role::Prospective(_)), "{node}, {effects:?}");
}

#[test]
fn a_log_says_who_votes_from_its_beginning_on() {
    let voters = VoterHistory::unwritten(Voters::of([key(1)]));
    let mut node = Quorum::new(key(1), Ballot::default(), Shape::default(), voters);
    step(&mut node, Event::Start);
    let effects = step(&mut node, Event::Synced(Offset(1)));
    let written = Effect::AppendControl(Control::Voters(Voters::of([key(1)])));
    assert!(effects.contains(&written), "{effects:?}");
    let effects = step(&mut node, Event::Synced(Offset(2)));
    assert!(!effects.contains(&written), "{effects:?}");
}

#[test]
fn a_broker_alone_stands_for_no_election() {
    let voters = VoterHistory::new(Voters::of([key(1), key(2)]));
    let node = Quorum::new(key(1), Ballot::default(), Shape::default(), voters);
    let mut node = node.never_standing();
    let effects = step(&mut node, Event::Start);
    let asks = |effect: &Effect| matches!(effect, Effect::Send(_, Request::Fetch(_)));
    assert!(effects.iter().any(asks), "{effects:?}");
    assert!(!node.may_stand());
}

#[test]
fn nobody_follows_into_an_epoch_out_of_reach() {
    let mut node = alone();
    let begin = Begin { epoch: QuorumEpoch(i32::MAX), leader: NodeId(9) };
    let (_, answer) = ask(&mut node, Request::Begin(begin));
    assert_eq!(answer, Answer::Refused(Refusal::Inconsistent));
    assert_eq!(node.epoch(), QuorumEpoch(1));
}
