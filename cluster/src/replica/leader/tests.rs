//! The high watermark against a model, under both commit rules (I22, I23).

use proptest::prelude::*;

use super::*;
use crate::replica::Position;

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|&id| BrokerId(id)).collect()
}

/// Broker `id` is registered with this epoch in all tests.
fn broker_epoch(id: BrokerId) -> BrokerEpoch {
    BrokerEpoch(100 + i64::from(id.0))
}

fn registered(epoch: i32, isr: &[i32]) -> Registration {
    let peer = |id| Peer { id, epoch: broker_epoch(id), may_lead: true };
    Registration {
        epoch: PartitionEpoch(epoch),
        isr: brokers(isr),
        is_recovering: false,
        peers: brokers(&[0, 1, 2, 3]).into_iter().map(peer).collect(),
    }
}

/// A log of epoch 2 up to 10, where term 3 begins.
fn start(rule: CommitRule, replicas: &[i32], isr: &[i32], min_isr: usize) -> LeaderStart {
    LeaderStart {
        replica: BrokerId(0),
        epoch: LeaderEpoch(3),
        log: Lineage::new(Offset(0), [(LeaderEpoch(2), Offset(0))], Offset(10)),
        high_watermark: Offset::ZERO,
        ends: LocalEnds { durable: Offset(8), written: Offset(10) },
        rule,
        replicas: brokers(replicas),
        registration: registered(1, isr),
        min_isr,
        limits: Limits::default(),
        controller_at: Instant(0),
    }
}

fn begin(rule: CommitRule, replicas: &[i32], isr: &[i32], min_isr: usize) -> Leader {
    Leader::new(Instant(0), start(rule, replicas, isr, min_isr))
}

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn step_at(leader: &mut Leader, now: Instant, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    leader.step(now, event, &mut effects);
    effects
}

fn step(leader: &mut Leader, event: Event) -> Vec<Effect> {
    step_at(leader, Instant(0), event)
}

/// What it asks for, on the registration `base`.
fn proposal(base: i32, isr: &[i32]) -> Effect {
    Effect::ProposeIsr(Proposal {
        term: LeaderEpoch(3),
        base: PartitionEpoch(base),
        isr: brokers(isr).into_iter().map(|id| (id, broker_epoch(id))).collect(),
        is_recovering: false,
    })
}

/// A question at `received`: of epoch 3 if it lies beyond the term's start, else of epoch 2.
fn question(durable: i64, received: i64) -> Question {
    let epoch = match received {
        0 => None,
        1..=10 => Some(LeaderEpoch(2)),
        _ => Some(LeaderEpoch(3)),
    };
    let position = Position { epoch, offset: Offset(received) };
    let (log_start, durable) = (Offset(0), Offset(durable));
    Question { term: LeaderEpoch(3), position, log_start, durable }
}

fn local(durable: i64, written: i64) -> Event {
    Event::Local(LocalEnds { durable: Offset(durable), written: Offset(written) })
}

fn fetched(replica: i32, durable: i64, received: i64) -> Event {
    let replica = BrokerId(replica);
    let question = question(durable, received);
    Event::Fetched { replica, broker_epoch: broker_epoch(replica), question }
}

#[test]
fn alone_the_watermark_is_the_own_end_of_the_rule() {
    let leader = begin(CommitRule::Durable, &[0], &[0], 1);
    assert_eq!(leader.high_watermark(), Offset(8));
    assert_eq!(leader.visible_end(), None, "below the term's start nothing is shown (I24)");
    let leader = begin(CommitRule::Written, &[0], &[0], 1);
    assert_eq!(leader.high_watermark(), Offset(10));
    assert_eq!(leader.visible_end(), Some(Offset(10)));
}

#[test]
fn a_sync_moves_it_and_late_news_do_not_move_it_back() {
    let mut leader = begin(CommitRule::Durable, &[0], &[0], 1);
    assert_eq!(step(&mut leader, local(8, 30)), []);
    assert_eq!(step(&mut leader, local(25, 30)), [Effect::HighWatermark(Offset(25))]);
    assert_eq!(step(&mut leader, local(20, 26)), []);
    assert_eq!(leader.high_watermark(), Offset(25));
}

#[test]
fn bytes_in_the_journal_that_cannot_be_read_yet_do_not_count() {
    let mut leader = begin(CommitRule::Durable, &[0], &[0], 1);
    assert_eq!(step(&mut leader, local(40, 30)), [Effect::HighWatermark(Offset(30))]);
}

#[test]
fn every_member_of_the_committed_and_the_proposed_set_counts() {
    let mut leader = begin(CommitRule::Durable, &[0, 1, 2], &[0, 1], 2);
    step(&mut leader, local(50, 50));
    assert_eq!(leader.high_watermark(), Offset::ZERO, "follower 1 has not fetched in this term");
    assert_eq!(step(&mut leader, fetched(1, 20, 40)), [Effect::HighWatermark(Offset(20))]);
    assert_eq!(step(&mut leader, fetched(2, 30, 30)), [proposal(1, &[0, 1, 2])]);
    assert_eq!(
        step(&mut leader, fetched(1, 50, 50)),
        [Effect::HighWatermark(Offset(30))],
        "2 may count already"
    );
    assert_eq!(step(&mut leader, fetched(2, 45, 50)), [Effect::HighWatermark(Offset(45))]);
    step(&mut leader, Event::Registered(registered(2, &[0, 1])));
    assert_eq!(leader.high_watermark(), Offset(50), "the proposal was settled without 2");
}

#[test]
fn it_stands_still_while_too_few_are_in_sync() {
    let mut leader = begin(CommitRule::Written, &[0, 1], &[0], 2);
    assert!(!leader.has_enough_in_sync());
    assert_eq!(step(&mut leader, local(90, 90)), []);
    assert_eq!(step(&mut leader, Event::MinIsrChanged(1)), [Effect::HighWatermark(Offset(90))]);
}

#[test]
fn more_copies_asked_for_than_replicas_exist_is_all_of_them() {
    let leader = begin(CommitRule::Written, &[0], &[0], 3);
    assert!(leader.has_enough_in_sync());
    assert_eq!(leader.high_watermark(), Offset(10));
}

#[test]
fn a_stricter_rule_never_takes_the_watermark_back() {
    let mut leader = begin(CommitRule::Written, &[0], &[0], 1);
    step(&mut leader, local(8, 30));
    assert_eq!(step(&mut leader, Event::RuleChanged(CommitRule::Durable)), []);
    assert_eq!(leader.high_watermark(), Offset(30));
    assert_eq!(step(&mut leader, local(29, 31)), []);
    assert_eq!(step(&mut leader, local(31, 31)), [Effect::HighWatermark(Offset(31))]);
}

#[test]
fn strangers_count_for_nothing() {
    let mut leader = begin(CommitRule::Durable, &[0], &[0], 1);
    for id in 1..1000 {
        assert_eq!(step(&mut leader, fetched(id, 100, 100)), []);
    }
    assert_eq!(leader.high_watermark(), Offset(8));
}

/// Three replicas in sync, all they have committed, at 1 ms.
fn in_step(min_isr: usize) -> Leader {
    let mut leader = begin(CommitRule::Written, &[0, 1, 2], &[0, 1, 2], min_isr);
    for replica in [1, 2] {
        step_at(&mut leader, ms(1), fetched(replica, 0, 10));
    }
    assert_eq!(leader.high_watermark(), Offset(10));
    assert_eq!(leader.deadline(), None, "nobody lags");
    leader
}

#[test]
fn who_lacks_a_byte_for_too_long_goes_unless_it_is_needed() {
    let mut leader = in_step(2);
    step_at(&mut leader, ms(10_000), local(0, 11));
    step_at(&mut leader, ms(10_001), fetched(1, 0, 11));
    let at = leader.deadline().expect("2 lags");
    assert!(at > ms(10_200) && at <= ms(11_000), "{at:?}");
    assert_eq!(step_at(&mut leader, Instant(at.0 - 1), Event::Tick), []);
    assert_eq!(step_at(&mut leader, at, Event::Tick), [proposal(1, &[0, 1])]);
    assert_eq!(leader.deadline(), None, "one at a time");
    assert_eq!(leader.high_watermark(), Offset(10), "it counts until the metadata say so");
    let accepted = ProposalAnswer::Accepted(PartitionEpoch(2));
    assert_eq!(step_at(&mut leader, at, Event::Proposed(PartitionEpoch(1), accepted)), []);
    let committed = step_at(&mut leader, at, Event::Registered(registered(2, &[0, 1])));
    assert_eq!(committed, [Effect::HighWatermark(Offset(11))]);
    // Of the two that are left both are needed: 1 stays until the upper bound.
    step_at(&mut leader, ms(20_000), local(0, 12));
    assert_eq!(leader.deadline(), Some(ms(50_000)));
    assert_eq!(step_at(&mut leader, ms(49_999), Event::Tick), []);
    assert_eq!(step_at(&mut leader, ms(50_000), Event::Tick), [proposal(2, &[0])]);
}

#[test]
fn a_lost_connection_counts_as_slow_where_a_byte_is_missing() {
    let mut leader = in_step(1);
    step_at(&mut leader, ms(10_000), Event::Disconnected(BrokerId(1)));
    assert_eq!(leader.deadline(), None, "it lacks nothing");
    step_at(&mut leader, ms(10_100), local(0, 11));
    step_at(&mut leader, ms(10_101), fetched(2, 0, 11));
    assert_eq!(leader.deadline(), Some(ms(10_200)));
    assert_eq!(step_at(&mut leader, ms(10_200), Event::Tick), [proposal(1, &[0, 2])]);
    let mut back = in_step(1);
    step_at(&mut back, ms(10_000), Event::Disconnected(BrokerId(1)));
    step_at(&mut back, ms(10_050), fetched(1, 0, 10));
    step_at(&mut back, ms(10_100), local(0, 11));
    assert!(back.deadline() > Some(ms(10_300)), "it is back");
}

#[test]
fn who_flaps_waits_longer_each_time() {
    let mut leader = in_step(1);
    let (mut now, mut end, mut version) = (10_000, 10, 1);
    let mut waits = Vec::new();
    for _ in 0..9 {
        // 1 lacks a byte until it is put out.
        end += 1;
        step_at(&mut leader, ms(now), local(0, end));
        step_at(&mut leader, ms(now), fetched(2, 0, end));
        now += 1000;
        let put_out = step_at(&mut leader, ms(now), Event::Tick);
        assert_eq!(put_out, [proposal(version, &[0, 2])]);
        version += 1;
        step_at(&mut leader, ms(now), Event::Registered(registered(version, &[0, 2])));
        // It keeps up from now on.
        let well = now;
        while step_at(&mut leader, ms(now), fetched(1, 0, end)) != [proposal(version, &[0, 2, 1])] {
            assert!(leader.deadline() > Some(ms(now)), "a quiet follower is waited for, too");
            now += 250;
        }
        waits.push((now - well) / 1000);
        version += 1;
        step_at(&mut leader, ms(now), Event::Registered(registered(version, &[0, 2, 1])));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
}

#[test]
fn who_goes_by_a_proposal_that_nobody_answers_goes_once() {
    let mut leader = in_step(1);
    step_at(&mut leader, ms(10_000), local(0, 11));
    step_at(&mut leader, ms(10_000), fetched(2, 0, 11));
    for now in [11_000, 11_100, 11_200] {
        assert_eq!(step_at(&mut leader, ms(now), Event::Tick), [proposal(1, &[0, 2])]);
        step_at(&mut leader, ms(now), Event::Proposed(PartitionEpoch(1), ProposalAnswer::Unknown));
    }
    step_at(&mut leader, ms(11_300), Event::Registered(registered(2, &[0, 2])));
    assert_eq!(step_at(&mut leader, ms(11_300), fetched(1, 0, 11)), []);
    assert_eq!(step_at(&mut leader, ms(12_300), fetched(1, 0, 11)), [proposal(2, &[0, 2, 1])]);
}

#[test]
fn a_follower_joins_as_it_is_registered_and_not_below_the_start_of_the_term() {
    let leader = || begin(CommitRule::Written, &[0, 1, 2], &[0, 1], 2);
    let fetch = |epoch: i64, received| {
        let (replica, question) = (BrokerId(2), question(0, received));
        Event::Fetched { replica, broker_epoch: BrokerEpoch(epoch), question }
    };
    assert_eq!(step(&mut leader(), fetch(102, 9)), [], "below the term's start (I26)");
    assert_eq!(step(&mut leader(), fetch(101, 10)), [], "a registration that is over");
    assert_eq!(step(&mut leader(), fetch(103, 10)), [], "one that the metadata do not tell of yet");
    assert_eq!(step(&mut leader(), fetch(102, 10)), [proposal(1, &[0, 1, 2])]);
    let mut fenced = leader();
    let mut registration = registered(1, &[0, 1]);
    registration.peers[2].may_lead = false;
    step(&mut fenced, Event::Registered(registration));
    assert_eq!(step(&mut fenced, fetch(102, 10)), [], "it may not lead");
    assert_eq!(
        step(&mut fenced, Event::Registered(registered(1, &[0, 1]))),
        [proposal(1, &[0, 1, 2])]
    );
}

#[test]
fn an_end_counts_only_where_the_logs_agree() {
    let mut leader = begin(CommitRule::Written, &[0, 1], &[0, 1], 1);
    step(&mut leader, local(0, 20));
    // Ten records of epoch 2 more than this log has.
    let position = Position { epoch: Some(LeaderEpoch(2)), offset: Offset(20) };
    let (log_start, durable) = (Offset(0), Offset(20));
    let fork = Question { term: LeaderEpoch(3), position, log_start, durable };
    let (replica, epoch) = (BrokerId(1), BrokerEpoch(101));
    step(&mut leader, Event::Fetched { replica, broker_epoch: epoch, question: fork });
    assert_eq!(leader.high_watermark(), Offset(0));
    let parts = Answer::Parts(Run { epoch: LeaderEpoch(2), end: Offset(10) });
    assert_eq!(leader.answer(replica, epoch, &fork), parts);
    let rows = [
        (replica, epoch, Question { term: LeaderEpoch(2), ..fork }, ErrorCode::FencedLeaderEpoch),
        (replica, epoch, Question { term: LeaderEpoch(4), ..fork }, ErrorCode::UnknownLeaderEpoch),
        (BrokerId(7), epoch, fork, ErrorCode::NotLeaderOrFollower),
        (replica, BrokerEpoch(100), fork, ErrorCode::StaleBrokerEpoch),
    ];
    for (replica, epoch, question, code) in rows {
        assert_eq!(leader.answer(replica, epoch, &question), Answer::Refused(code));
    }
    let (high_watermark, log_start) = (Offset(0), Offset(0));
    let follows = Answer::Follows { high_watermark, log_start, is_shown: false };
    assert_eq!(leader.answer(replica, epoch, &question(0, 15)), follows);
}

#[test]
fn a_proposal_counts_until_it_is_refused_or_the_metadata_move_on() {
    let ask = || {
        let mut leader = begin(CommitRule::Written, &[0, 1], &[0], 1);
        assert_eq!(step(&mut leader, fetched(1, 0, 10)), [proposal(1, &[0, 1])]);
        step(&mut leader, local(0, 20));
        assert_eq!(leader.high_watermark(), Offset(10));
        leader
    };
    let answer = |answer| Event::Proposed(PartitionEpoch(1), answer);
    let mut refused = ask();
    step(&mut refused, answer(ProposalAnswer::Refused(ErrorCode::IneligibleReplica)));
    assert_eq!(refused.high_watermark(), Offset(20));
    assert_eq!(step(&mut refused, fetched(1, 0, 20)), []);
    assert_eq!(refused.deadline(), Some(ms(100)), "asked again after a pause");
    for code in [ErrorCode::InvalidUpdateVersion, ErrorCode::FencedLeaderEpoch] {
        let mut stale = ask();
        step(&mut stale, answer(ProposalAnswer::Refused(code)));
        assert_eq!((stale.high_watermark(), stale.deadline()), (Offset(10), None), "{code:?}");
    }
    let mut unknown = ask();
    step(&mut unknown, answer(ProposalAnswer::Unknown));
    assert_eq!(unknown.high_watermark(), Offset(10), "it may be accepted later");
    assert_eq!(step_at(&mut unknown, ms(100), Event::Tick), [proposal(1, &[0, 1])]);
    step(&mut unknown, Event::Registered(registered(1, &[0])));
    assert_eq!(unknown.high_watermark(), Offset(10), "that is what it knew");
    step(&mut unknown, Event::Registered(registered(2, &[0])));
    assert_eq!(unknown.high_watermark(), Offset(20));
}

#[test]
fn after_an_unclean_election_it_says_that_its_log_counts_once_it_is_synced() {
    let mut unclean = start(CommitRule::Durable, &[0, 1], &[0], 2);
    unclean.registration.is_recovering = true;
    let mut leader = Leader::new(Instant(0), unclean);
    assert_eq!(step(&mut leader, fetched(1, 10, 10)), [], "nobody joins before");
    assert_eq!(step(&mut leader, local(10, 10)), []);
    assert_eq!(leader.deadline(), Some(Instant(0)));
    assert_eq!(step(&mut leader, Event::Tick), [proposal(1, &[0, 1])]);
}

#[test]
fn without_the_controller_it_serves_while_all_who_count_fetch() {
    let mut leader = begin(CommitRule::Written, &[0, 1, 2], &[0, 1], 2);
    assert!(leader.may_serve(ms(9_000)));
    assert!(!leader.may_serve(ms(9_001)));
    step_at(&mut leader, ms(9_000), fetched(1, 0, 10));
    assert!(!leader.may_serve(ms(9_001)), "it may be an old one that is read now");
    let contact = |id, at| Event::FollowerContact(BrokerId(id), ms(at));
    step_at(&mut leader, ms(9_000), contact(1, 9_000));
    assert!(leader.may_serve(ms(18_000)) && !leader.may_serve(ms(18_001)));
    step_at(&mut leader, ms(13_000), contact(1, 12_000));
    assert!(leader.may_serve(ms(21_000)));
    step_at(&mut leader, ms(12_000), fetched(2, 0, 10));
    assert_eq!(leader.isr_maximal().len(), 3);
    step_at(&mut leader, ms(20_000), contact(1, 20_000));
    assert!(!leader.may_serve(ms(21_001)), "whom it has proposed may count");
    step_at(&mut leader, ms(21_000), Event::ControllerContact(ms(21_000)));
    assert!(leader.may_serve(ms(30_000)));
    let mut fewer = begin(CommitRule::Written, &[0, 1, 2], &[0], 2);
    assert!(!fewer.may_serve(ms(9_001)), "others are eligible");
    step(&mut fewer, Event::MinIsrChanged(1));
    assert!(fewer.may_serve(ms(9_001)));
    assert!(begin(CommitRule::Written, &[0], &[0], 1).may_serve(ms(99_999)));
}

#[test]
fn readers_are_sent_to_who_is_near_in_sync_and_holds_most() {
    let mut leader = begin(CommitRule::Written, &[0, 1, 2, 3], &[0, 1, 2], 1);
    step(&mut leader, local(0, 20));
    let contact = |id, at| Event::FollowerContact(BrokerId(id), ms(at));
    for (id, received) in [(1, 15), (2, 20), (3, 20)] {
        step(&mut leader, fetched(id, 0, received));
        step(&mut leader, contact(id, 0));
    }
    let nearest = |leader: &Leader, now, offset, near: &[i32]| {
        let near = brokers(near);
        leader.nearest(ms(now), Offset(offset), |id| near.contains(&id)).map(|id| id.0)
    };
    assert_eq!(nearest(&leader, 0, 15, &[0, 1, 2, 3]), Some(2), "who holds most of those in sync");
    assert_eq!(nearest(&leader, 0, 15, &[1, 3]), Some(1));
    assert_eq!(nearest(&leader, 0, 16, &[1, 3]), None, "it lacks that one, or is not in sync");
    assert_eq!(nearest(&leader, 0, 0, &[0]), None, "never itself");
    assert_eq!(nearest(&leader, 9_001, 15, &[1, 2]), None, "unheard for a session");
    step_at(&mut leader, ms(9_000), contact(1, 9_000));
    assert_eq!(
        nearest(&leader, 9_001, 15, &[1, 2]),
        None,
        "it may be cut off from the controller, too"
    );
    step_at(&mut leader, ms(9_000), Event::ControllerContact(ms(9_000)));
    assert_eq!(nearest(&leader, 9_001, 15, &[1, 2]), Some(1));
    let later = Question { log_start: Offset(5), ..question(0, 20) };
    let (replica, broker_epoch) = (BrokerId(1), broker_epoch(BrokerId(1)));
    step(&mut leader, Event::Fetched { replica, broker_epoch, question: later });
    assert_eq!(nearest(&leader, 0, 4, &[1]), None, "its log begins behind");
    assert_eq!(nearest(&leader, 0, 5, &[1]), Some(1));
    let mut fenced = registered(2, &[0, 1, 2]);
    fenced.peers[1].may_lead = false;
    step(&mut leader, Event::Registered(fenced));
    assert_eq!(nearest(&leader, 0, 5, &[1]), None, "it is fenced");
}

fn any_event() -> impl Strategy<Value = Event> {
    let offset = 0i64..60;
    prop_oneof![
        4 => (offset.clone(), offset.clone()).prop_map(|(d, w)| local(d, w)),
        4 => (0i32..4, offset.clone(), offset).prop_map(|(r, d, e)| fetched(r, d, e)),
        2 => (1i32..60, prop::collection::vec(1i32..4, 0..3)).prop_map(|(epoch, mut isr)| {
            isr.push(0);
            Event::Registered(registered(epoch, &isr))
        }),
        1 => (1i32..60).prop_map(|base| {
            let answer = ProposalAnswer::Refused(ErrorCode::IneligibleReplica);
            Event::Proposed(PartitionEpoch(base), answer)
        }),
        1 => (1i32..60).prop_map(|base| {
            Event::Proposed(PartitionEpoch(base), ProposalAnswer::Unknown)
        }),
        1 => any::<bool>().prop_map(|durable| {
            Event::RuleChanged(if durable { CommitRule::Durable } else { CommitRule::Written })
        }),
        1 => (1usize..4).prop_map(Event::MinIsrChanged),
    ]
}

proptest! {
    /// The watermark equals a model that keeps all history: the running maximum of what the rule allowed while enough
    /// replicas were in sync.
    #[test]
    fn watermark_is_the_running_maximum_of_what_is_allowed(
        events in prop::collection::vec(any_event(), 0..80),
    ) {
        let mut leader = begin(CommitRule::Durable, &[0, 1, 2, 3], &[0, 1], 2);
        let mut model = leader.high_watermark();
        for (index, event) in events.into_iter().enumerate() {
            let is_settled = match &event {
                Event::Registered(new) => new.epoch > leader.registration.epoch,
                _ => false,
            };
            let before = if is_settled { BTreeSet::new() } else { leader.proposed.clone() };
            let effects = step_at(&mut leader, ms(50 * index as u64), event);
            // Whom it proposes by this very event does not count for what the event commits.
            let now = std::mem::take(&mut leader.proposed);
            leader.proposed = now.intersection(&before).copied().collect();
            if leader.isr().count() >= leader.min_isr.min(4) {
                model = model.max(leader.allowed());
            }
            leader.proposed = now;
            prop_assert_eq!(leader.high_watermark(), model);
            let mut told = effects.iter().filter_map(|effect| match effect {
                Effect::HighWatermark(end) => Some(*end),
                Effect::ProposeIsr(_) => None,
            });
            prop_assert!(told.next_back().is_none_or(|end| end == model));
        }
    }
}
