//! The high watermark against a model, under both commit rules (I22, I23).

use proptest::prelude::*;

use super::*;

fn start(rule: CommitRule, replicas: &[i32], isr: &[i32], min_isr: usize) -> LeaderStart {
    LeaderStart {
        replica: BrokerId(0),
        epoch: LeaderEpoch(3),
        epoch_start: Offset(10),
        high_watermark: Offset::ZERO,
        ends: LocalEnds { durable: Offset(8), written: Offset(10) },
        rule,
        replicas: replicas.iter().map(|&id| BrokerId(id)).collect(),
        isr: isr.iter().map(|&id| BrokerId(id)).collect(),
        min_isr,
    }
}

fn step(leader: &mut Leader, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    leader.step(Instant(0), event, &mut effects);
    effects
}

fn local(durable: i64, written: i64) -> Event {
    Event::Local(LocalEnds { durable: Offset(durable), written: Offset(written) })
}

fn fetched(replica: i32, durable: i64, received: i64) -> Event {
    let ends = FollowerEnds { durable: Offset(durable), received: Offset(received) };
    Event::Fetched { replica: BrokerId(replica), ends }
}

#[test]
fn alone_the_watermark_is_the_own_end_of_the_rule() {
    let leader = Leader::new(start(CommitRule::Durable, &[0], &[0], 1));
    assert_eq!(leader.high_watermark(), Offset(8));
    assert_eq!(leader.visible_end(), None, "below the term's start nothing is shown (I24)");
    let leader = Leader::new(start(CommitRule::Written, &[0], &[0], 1));
    assert_eq!(leader.high_watermark(), Offset(10));
    assert_eq!(leader.visible_end(), Some(Offset(10)));
}

#[test]
fn a_sync_moves_it_and_late_news_do_not_move_it_back() {
    let mut leader = Leader::new(start(CommitRule::Durable, &[0], &[0], 1));
    assert_eq!(step(&mut leader, local(8, 30)), []);
    assert_eq!(step(&mut leader, local(25, 30)), [Effect::HighWatermark(Offset(25))]);
    assert_eq!(step(&mut leader, local(20, 26)), []);
    assert_eq!(leader.high_watermark(), Offset(25));
}

#[test]
fn bytes_in_the_journal_that_cannot_be_read_yet_do_not_count() {
    let mut leader = Leader::new(start(CommitRule::Durable, &[0], &[0], 1));
    assert_eq!(step(&mut leader, local(40, 30)), [Effect::HighWatermark(Offset(30))]);
}

#[test]
fn every_member_of_the_committed_and_the_proposed_set_counts() {
    let mut leader = Leader::new(start(CommitRule::Durable, &[0, 1, 2], &[0, 1], 2));
    step(&mut leader, local(50, 50));
    assert_eq!(leader.high_watermark(), Offset::ZERO, "follower 1 has not fetched in this term");
    assert_eq!(step(&mut leader, fetched(1, 20, 40)), [Effect::HighWatermark(Offset(20))]);
    let isr = vec![BrokerId(0), BrokerId(1), BrokerId(2)];
    step(&mut leader, Event::IsrProposed(isr.clone()));
    assert_eq!(step(&mut leader, fetched(1, 50, 50)), [], "2 may count already");
    assert_eq!(step(&mut leader, fetched(2, 45, 50)), [Effect::HighWatermark(Offset(45))]);
    step(&mut leader, Event::IsrCommitted(vec![BrokerId(0), BrokerId(1)]));
    assert_eq!(leader.high_watermark(), Offset(50), "the proposal was settled without 2");
}

#[test]
fn it_stands_still_while_too_few_are_in_sync() {
    let mut leader = Leader::new(start(CommitRule::Written, &[0, 1], &[0], 2));
    assert!(!leader.has_enough_in_sync());
    assert_eq!(step(&mut leader, local(90, 90)), []);
    assert_eq!(step(&mut leader, Event::MinIsrChanged(1)), [Effect::HighWatermark(Offset(90))]);
}

#[test]
fn more_copies_asked_for_than_replicas_exist_is_all_of_them() {
    let leader = Leader::new(start(CommitRule::Written, &[0], &[0], 3));
    assert!(leader.has_enough_in_sync());
    assert_eq!(leader.high_watermark(), Offset(10));
}

#[test]
fn a_stricter_rule_never_takes_the_watermark_back() {
    let mut leader = Leader::new(start(CommitRule::Written, &[0], &[0], 1));
    step(&mut leader, local(8, 30));
    assert_eq!(step(&mut leader, Event::RuleChanged(CommitRule::Durable)), []);
    assert_eq!(leader.high_watermark(), Offset(30));
    assert_eq!(step(&mut leader, local(29, 31)), []);
    assert_eq!(step(&mut leader, local(31, 31)), [Effect::HighWatermark(Offset(31))]);
}

#[test]
fn strangers_count_for_nothing() {
    let mut leader = Leader::new(start(CommitRule::Durable, &[0], &[0], 1));
    for id in 1..1000 {
        assert_eq!(step(&mut leader, fetched(id, 100, 100)), []);
    }
    assert_eq!(leader.high_watermark(), Offset(8));
}

fn any_event() -> impl Strategy<Value = Event> {
    let offset = 0i64..60;
    prop_oneof![
        4 => (offset.clone(), offset.clone()).prop_map(|(d, w)| local(d, w)),
        4 => (0i32..4, offset.clone(), offset).prop_map(|(r, d, e)| fetched(r, d, e)),
        1 => prop::collection::vec(1i32..4, 0..3).prop_map(|isr| {
            let isr = isr.into_iter().map(BrokerId).chain([BrokerId(0)]).collect();
            Event::IsrProposed(isr)
        }),
        1 => prop::collection::vec(1i32..4, 0..3).prop_map(|isr| {
            let isr = isr.into_iter().map(BrokerId).chain([BrokerId(0)]).collect();
            Event::IsrCommitted(isr)
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
        let mut leader = Leader::new(start(CommitRule::Durable, &[0, 1, 2, 3], &[0, 1], 2));
        let mut model = leader.high_watermark();
        for event in events {
            let effects = step(&mut leader, event);
            if leader.isr.len() >= leader.min_isr.min(4) {
                model = model.max(leader.allowed());
            }
            prop_assert_eq!(leader.high_watermark(), model);
            let told = effects.last().map(|Effect::HighWatermark(end)| *end);
            prop_assert!(told.is_none_or(|end| end == model));
        }
    }
}
