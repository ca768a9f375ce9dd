//! What a follower asks, cuts and refuses to cut (I25), step by step.

use super::*;

fn run(epoch: i32, end: i64) -> Run {
    Run { epoch: LeaderEpoch(epoch), end: Offset(end) }
}

/// Epoch 1 from 0, epoch 2 from 5; ends at 8, synced up to 6, committed up to 4.
fn follower(rule: CommitRule) -> Follower {
    #[cfg(feature = "mutants")]
    types::mutant::plant_from_environment();
    let epochs = [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(2), Offset(5))];
    Follower::new(FollowerStart {
        replica: BrokerId(0),
        log: Lineage::new(Offset(0), epochs, Offset(8)),
        durable: Offset(6),
        high_watermark: Offset(4),
        rule,
    })
}

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn step_at(follower: &mut Follower, now: Instant, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    follower.step(now, event, &mut effects);
    effects
}

fn step(follower: &mut Follower, event: Event) -> Vec<Effect> {
    step_at(follower, ms(0), event)
}

fn term(epoch: i32, is_unclean: bool) -> Event {
    Event::Term(Term { epoch: LeaderEpoch(epoch), leader: Some(BrokerId(1)), is_unclean })
}

/// An answer to what it asks now.
fn answered(follower: &Follower, answer: Answer, runs: &[Run]) -> Event {
    let Question { term, position, .. } = follower.question().expect("it asks");
    Event::Answered { term, position, answer, runs: runs.to_vec(), asked_at: ms(0) }
}

fn follows(high_watermark: i64) -> Answer {
    let high_watermark = Offset(high_watermark);
    Answer::Follows { high_watermark, log_start: Offset(0), is_shown: true }
}

fn question(term: i32, epoch: i32, offset: i64, durable: i64) -> Question {
    let position = Position { epoch: Some(LeaderEpoch(epoch)), offset: Offset(offset) };
    let (log_start, durable) = (Offset(0), Offset(durable));
    Question { term: LeaderEpoch(term), position, log_start, durable }
}

#[test]
fn it_asks_when_a_term_begins_and_again_behind_what_came() {
    let mut follower = follower(CommitRule::Durable);
    assert_eq!(follower.question(), None);
    assert_eq!(step(&mut follower, term(3, false)), [Effect::Ask(question(3, 2, 8, 6))]);
    let event = answered(&follower, follows(9), &[run(2, 9), run(3, 11)]);
    assert_eq!(step(&mut follower, event), [Effect::Append]);
    assert_eq!(follower.question(), None, "while it appends");
    assert_eq!(
        step(&mut follower, Event::Appended),
        [Effect::HighWatermark(Offset(9)), Effect::Ask(question(3, 3, 11, 6))]
    );
    assert_eq!(follower.deadline(), None);
}

#[test]
fn a_sync_is_reported_while_the_question_stands() {
    let mut durable = follower(CommitRule::Durable);
    step(&mut durable, term(3, false));
    let report = Effect::Report(question(3, 2, 8, 8));
    assert_eq!(step(&mut durable, Event::Synced(Offset(9))), [report]);
    assert_eq!(step(&mut durable, Event::Synced(Offset(8))), [], "it is told already");
    let mut written = follower(CommitRule::Written);
    step(&mut written, term(3, false));
    assert_eq!(step(&mut written, Event::Synced(Offset(8))), [], "nobody waits for it");
    assert_eq!(step(&mut written, Event::RuleChanged(CommitRule::Durable)), [report]);
    // What is synced while it appends goes with the next question.
    let event = answered(&durable, follows(0), &[run(3, 10)]);
    step(&mut durable, event);
    assert_eq!(step(&mut durable, Event::Synced(Offset(8))), []);
    assert_eq!(step(&mut durable, Event::Appended), [Effect::Ask(question(3, 3, 10, 8))]);
}

#[test]
fn it_cuts_where_epochs_say_and_asks_again() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(5, false));
    // The leader holds no epoch 2: what is shared of epoch 1 ends at 5 here.
    let event = answered(&follower, Answer::Parts(run(1, 7)), &[]);
    assert_eq!(step(&mut follower, event), [Effect::Truncate(Offset(5))]);
    assert_eq!(step(&mut follower, Event::Cut), [Effect::Ask(question(5, 1, 5, 5))]);
    let event = answered(&follower, Answer::Parts(run(1, 4)), &[]);
    assert_eq!(step(&mut follower, event), [Effect::Truncate(Offset(4))]);
}

#[test]
fn it_gives_up_nothing_committed_without_an_unclean_election() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(5, false));
    let event = answered(&follower, Answer::Parts(run(1, 3)), &[]);
    assert_eq!(step(&mut follower, event.clone()), [Effect::Parted(Offset(3))]);
    assert!(follower.is_stopped() && follower.question().is_none());
    // The next term is tried; an unclean one takes the watermark back, and the log is cut.
    step(&mut follower, term(6, false));
    let event = answered(&follower, Answer::Parts(run(1, 3)), &[]);
    assert_eq!(step(&mut follower, event), [Effect::Parted(Offset(3))]);
    assert_eq!(
        step(&mut follower, term(7, true)),
        [Effect::HighWatermark(Offset(0)), Effect::Ask(question(7, 2, 8, 6))]
    );
    let event = answered(&follower, Answer::Parts(run(1, 3)), &[]);
    assert_eq!(
        step(&mut follower, event),
        [Effect::GivesUp(Offset(3), Offset(4)), Effect::Truncate(Offset(3))]
    );
}

/// The records of a leader that stood still, and what it took for committed, are written after the unclean election of another.
#[test]
fn a_watermark_of_an_earlier_term_does_not_outlive_it() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    let event = answered(&follower, follows(10), &[run(3, 10)]);
    step(&mut follower, event);
    assert_eq!(step(&mut follower, term(5, true)), [Effect::HighWatermark(Offset(0))]);
    assert_eq!(step(&mut follower, Event::Appended), [Effect::Ask(question(5, 3, 10, 6))]);
    assert_eq!(follower.high_watermark(), Offset(0));
}

#[test]
fn out_of_range_begins_anew_where_the_leader_does() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    let event = answered(&follower, Answer::OutOfRange { log_start: Offset(20) }, &[]);
    assert_eq!(step(&mut follower, event), [Effect::Reset(Offset(20))]);
    let position = Position { epoch: None, offset: Offset(20) };
    let (log_start, durable) = (Offset(20), Offset(20));
    let anew = Question { term: LeaderEpoch(3), position, log_start, durable };
    assert_eq!(step(&mut follower, Event::Cut), [Effect::Ask(anew)]);
    assert_eq!(follower.high_watermark(), Offset(20));
    // Never back behind what is committed.
    let mut other = self::follower(CommitRule::Durable);
    step(&mut other, term(3, false));
    let event = answered(&other, Answer::OutOfRange { log_start: Offset(2) }, &[]);
    assert_eq!(step(&mut other, event), [Effect::Parted(Offset(2))]);
}

#[test]
fn refusals_wait_for_time_or_for_metadata() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    let mut now = 0;
    for pause in [20, 40, 80, 160, 320, 640, 1000, 1000] {
        let refused = Answer::Refused(ErrorCode::UnknownLeaderEpoch);
        let event = answered(&follower, refused, &[]);
        assert_eq!(step_at(&mut follower, ms(now), event), []);
        assert_eq!(follower.deadline(), Some(ms(now + pause)));
        assert_eq!(step_at(&mut follower, ms(now + pause - 1), Event::Tick), []);
        now += pause;
        let asked = step_at(&mut follower, ms(now), Event::Tick);
        assert_eq!(asked, [Effect::Ask(question(3, 2, 8, 6))]);
    }
    let event = answered(&follower, Answer::Refused(ErrorCode::FencedLeaderEpoch), &[]);
    assert_eq!(step(&mut follower, event), []);
    assert_eq!((follower.question(), follower.deadline()), (None, None));
    assert_eq!(step(&mut follower, term(4, false)), [Effect::Ask(question(4, 2, 8, 6))]);
    // No room on the disk for now.
    let event = answered(&follower, follows(0), &[run(3, 10)]);
    step(&mut follower, event);
    step(&mut follower, Event::Busy);
    assert_eq!(follower.deadline(), Some(ms(20)), "a new term begins with short pauses");
    step(&mut follower, Event::Failed);
    assert_eq!(step(&mut follower, term(5, false)), []);
}

#[test]
fn what_answers_another_question_or_makes_no_sense_is_not_taken() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    let late = answered(&follower, Answer::Parts(run(1, 5)), &[]);
    step(&mut follower, term(4, false));
    assert_eq!(step(&mut follower, late), [], "of an earlier term");
    assert_eq!(step(&mut follower, term(3, true)), [], "which is over");
    let rows: [&[Run]; 4] = [&[run(1, 9)], &[run(3, 8)], &[run(5, 9)], &[run(3, 10), run(3, 10)]];
    for runs in rows {
        let event = answered(&follower, follows(0), runs);
        assert_eq!(step(&mut follower, event), [], "{runs:?}");
        let at = follower.deadline().expect("it asks again");
        step_at(&mut follower, at, Event::Tick);
    }
    let event = answered(&follower, Answer::Parts(run(2, 8)), &[]);
    assert_eq!(step(&mut follower, event), [], "that takes nothing away");
}

#[test]
fn metadata_of_old_are_not_followed() {
    let mut follower = follower(CommitRule::Durable);
    assert_eq!(step(&mut follower, term(1, false)), [], "it holds records of term 2");
    assert_eq!(step(&mut follower, term(2, false)), [Effect::Ask(question(2, 2, 8, 6))]);
}

#[test]
fn a_start_of_the_log_follows_the_leader_as_far_as_is_committed() {
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    let answer = |start| Answer::Follows {
        high_watermark: Offset(6),
        log_start: Offset(start),
        is_shown: true,
    };
    let event = answered(&follower, answer(5), &[]);
    assert_eq!(
        step(&mut follower, event),
        [Effect::HighWatermark(Offset(6)), Effect::LogStart(Offset(5))]
    );
    step(&mut follower, Event::Trimmed(Offset(5)));
    assert_eq!(follower.log().start(), Offset(5));
    let event = answered(&follower, answer(7), &[]);
    assert_eq!(step(&mut follower, event), []);
}

#[test]
fn it_serves_readers_while_it_has_known_all_that_is_committed_within_a_session() {
    let session = Duration::from_secs(9);
    let mut follower = follower(CommitRule::Durable);
    step(&mut follower, term(3, false));
    assert!(!follower.is_told() && !follower.may_serve(ms(0), ms(0), session));
    let said = |follower: &Follower, high_watermark, is_shown, runs: &[Run], asked_at| {
        let (high_watermark, log_start) = (Offset(high_watermark), Offset(0));
        let answer = Answer::Follows { high_watermark, log_start, is_shown };
        let Question { term, position, .. } = follower.question().expect("it asks");
        Event::Answered { term, position, answer, runs: runs.to_vec(), asked_at: ms(asked_at) }
    };
    let event = said(&follower, 8, false, &[], 100);
    step(&mut follower, event);
    assert!(!follower.is_told(), "earlier leaders may have shown more (I24)");
    let event = said(&follower, 12, true, &[run(3, 11)], 100);
    step(&mut follower, event);
    step(&mut follower, Event::Appended);
    assert!(!follower.is_told(), "it lacks what is committed");
    let event = said(&follower, 12, true, &[run(3, 12)], 200);
    step(&mut follower, event);
    assert!(!follower.is_told(), "while it appends");
    step(&mut follower, Event::Appended);
    assert!(follower.is_told() && follower.may_serve(ms(9_200), ms(9_200), session));
    assert!(!follower.may_serve(ms(9_201), ms(9_201), session), "its leader is not heard");
    assert!(!follower.may_serve(ms(9_200), ms(199), session), "nor is the controller");
    step(&mut follower, term(4, false));
    assert!(!follower.is_told(), "of a later term it knows nothing yet");
}

#[test]
fn it_tells_its_end_only_once_nothing_of_an_earlier_term_can_change_it() {
    let mut follower = follower(CommitRule::Written);
    let nobody =
        |epoch| Event::Term(Term { epoch: LeaderEpoch(epoch), leader: None, is_unclean: false });
    let end =
        |epoch, offset| Some(Position { epoch: Some(LeaderEpoch(epoch)), offset: Offset(offset) });
    step(&mut follower, term(3, false));
    assert_eq!(follower.rests(LeaderEpoch(3)), None, "it follows");
    let records = answered(&follower, follows(8), &[run(3, 9)]);
    assert_eq!(step(&mut follower, records), [Effect::Append]);
    step(&mut follower, nobody(4));
    assert_eq!(follower.rests(LeaderEpoch(4)), None, "what came before is being appended");
    step(&mut follower, Event::Appended);
    assert_eq!(follower.rests(LeaderEpoch(4)), end(3, 9));
    assert_eq!(follower.rests(LeaderEpoch(5)), None, "it has not heard of that term");
    step(&mut follower, Event::Failed);
    assert_eq!(follower.rests(LeaderEpoch(4)), None, "it has no log");
}
