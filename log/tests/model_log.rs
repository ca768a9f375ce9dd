//! Logs against a vector: random appends, flushes, cuts, resets, deletions, checkpoints and restarts, with a crash at a
//! random change of the disk. What was announced durable must be there, in order and only once; nothing else may appear but
//! a whole-batch prefix of what was appended (I2, I6, I7, I8, I9, I12). The third log follows the first: it is fed from what
//! that one serves, and wherever it has come is the same log as far as that (I4, I17, I51).

mod support;

use proptest::prelude::*;
use record::Batch;
use support::*;
use types::Offset;

/// The log that is followed.
const LEADER: usize = 0;
/// The one that follows it.
const FOLLOWER: usize = 2;

/// One step of a run. `log` picks one of three logs.
#[derive(Clone, Debug)]
enum Step {
    Append {
        log: usize,
        records: usize,
        size: usize,
        producer: bool,
    },
    /// The follower fetches once.
    Fetch {
        budget: usize,
    },
    /// A new leader.
    Elect,
    Reset {
        log: usize,
        to: i64,
    },
    Flush {
        log: usize,
    },
    Truncate {
        log: usize,
        back: i64,
    },
    Start {
        log: usize,
        part: f64,
    },
    Recreate {
        log: usize,
    },
    Read {
        log: usize,
        budget: usize,
    },
    Idle,
    Restart {
        power: bool,
    },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0..3usize;
    prop_oneof![
        12 => (0..FOLLOWER, 1..4usize, 0..600usize, any::<bool>())
            .prop_map(|(log, records, size, producer)| Step::Append { log, records, size, producer }),
        6 => (1..3000usize).prop_map(|budget| Step::Fetch { budget }),
        1 => Just(Step::Elect),
        1 => (log.clone(), 0..60i64).prop_map(|(log, to)| Step::Reset { log, to }),
        5 => log.clone().prop_map(|log| Step::Flush { log }),
        2 => (log.clone(), 0..12i64).prop_map(|(log, back)| Step::Truncate { log, back }),
        2 => (log.clone(), 0.0..1.0f64).prop_map(|(log, part)| Step::Start { log, part }),
        1 => log.clone().prop_map(|log| Step::Recreate { log }),
        3 => (log, 1..3000usize).prop_map(|(log, budget)| Step::Read { log, budget }),
        1 => Just(Step::Idle),
        2 => any::<bool>().prop_map(|power| Step::Restart { power }),
        1 => Just(Step::Close),
    ]
}

/// What one log must hold.
#[derive(Clone, Default, Debug)]
struct Model {
    /// Batches appended: base offset and values.
    batches: Vec<(i64, Vec<String>)>,
    log_start: i64,
    /// Starts asked for whose answer did not come.
    log_start_maybe: i64,
    durable: i64,
    /// Written, for a page-cache log: survives a kill.
    written: i64,
    /// A cut that was asked for and not answered: either may be found.
    cut_maybe: Option<Vec<(i64, Vec<String>)>>,
    generation: u8,
    /// A reset that was asked for and not answered: either may be found.
    reset_maybe: Option<i64>,
    deleted_maybe: bool,
    exists: bool,
    paged: bool,
    /// Its leader's term.
    epoch: i32,
}

impl Model {
    fn end(&self) -> i64 {
        // A cut in the batch that holds the log start empties the log, which begins again at its start.
        let end = self.batches.last().map_or(0, |(base, values)| base + values.len() as i64);
        end.max(self.log_start)
    }

    /// The log is empty and begins at `to`.
    fn reset(&mut self, to: i64) {
        self.batches.clear();
        (self.log_start, self.log_start_maybe) = (to, to);
        (self.durable, self.written) = (to, to);
        (self.cut_maybe, self.reset_maybe) = (None, None);
    }

    fn values(&self) -> Vec<(i64, String)> {
        flat(&self.batches)
    }
}

fn flat(batches: &[(i64, Vec<String>)]) -> Vec<(i64, String)> {
    batches
        .iter()
        .flat_map(|(base, values)| {
            values.iter().enumerate().map(move |(i, value)| (base + i as i64, value.clone()))
        })
        .collect()
}

struct Run {
    world: World,
    models: Vec<Model>,
    next_value: u64,
    paged: bool,
}

impl Run {
    fn name(log: usize) -> String {
        format!("log{log}")
    }

    fn spec(&self, log: usize) -> log::LogSpec {
        let id = (log as u8) * 64 + self.models[log].generation;
        let mut spec = spec(&Run::name(log), id);
        if self.paged && log == 1 {
            spec.config.durability = log::Durability::PageCache;
        }
        spec
    }

    /// Checks one log against what it must hold; then the model is what was found.
    async fn check(&mut self, dir: &log::LogDir<sim::disk::SimDisk>, at: usize, power: bool) {
        let found = dir.log(&partition(&Run::name(at)));
        let spec = self.spec(at);
        let model = &mut self.models[at];
        let Some(found) = found.filter(|found| found.topic_id() == spec.topic_id) else {
            assert!(!model.exists || model.deleted_maybe, "log {at} is gone: {model:?}");
            *model = Model { generation: model.generation, ..Model::default() };
            return;
        };
        let ends = found.ends();
        let start = ends.log_start.0;
        if let Some(to) = model.reset_maybe.take()
            && (start, ends.log_end.0) == (to, to)
        {
            model.reset(to);
        }
        assert!(
            start == model.log_start || start == model.log_start_maybe,
            "I11: start {start} {model:?}"
        );
        let read = read_all(&found).await;
        let end = ends.log_end.0;
        assert_eq!(read.first().map_or(end, |(offset, _)| *offset), start);
        assert_eq!(read.last().map_or(end, |(offset, _)| offset + 1), end);
        let fits = |batches: &[(i64, Vec<String>)], durable: i64| {
            let all = flat(batches);
            let all_end = batches.last().map_or(0, |(base, values)| base + values.len() as i64);
            let wanted: Vec<_> =
                all.into_iter().filter(|(offset, _)| *offset >= start && *offset < end).collect();
            let whole = batches.iter().any(|(base, values)| base + values.len() as i64 == end);
            wanted == read
                && (whole || end == 0 || end == start)
                && end >= durable
                && end <= all_end.max(start)
        };
        let durable = match (model.paged, power) {
            (true, false) => model.written.min(model.end()),
            _ => model.durable,
        };
        let plain = fits(&model.batches, durable);
        let cut = model.cut_maybe.as_ref().is_some_and(|cut| {
            let cut_end = cut.last().map_or(0, |(base, values)| base + values.len() as i64);
            fits(cut, durable.min(cut_end))
        });
        assert!(plain || cut, "I7: log {at} {start}..{end}, expected {model:?}\nfound {read:?}");
        if !plain && let Some(cut) = model.cut_maybe.clone() {
            model.batches = cut;
        }
        model.batches.retain(|(base, values)| base + values.len() as i64 <= end);
        assert!(model.end() == end || end == start);
        model.log_start = start;
        model.log_start_maybe = start;
        model.durable = if model.paged { ends.durable.0 } else { end };
        model.written = end;
        model.cut_maybe = None;
        model.exists = true;
        model.deleted_maybe = false;
        // Positions before the start are gone from the log, not from the model: keep what lies above.
        if let Some(damage) = found.quarantined().first() {
            panic!("I14: nothing was damaged, but {damage}");
        }
    }

    /// What the process that ends now has announced as durable must be found (I7, I9).
    fn note_announced(&mut self, dir: &log::LogDir<sim::disk::SimDisk>) {
        for (at, model) in self.models.iter_mut().enumerate() {
            let Some(log) = dir.log(&partition(&Run::name(at))) else { continue };
            let is_known = model.cut_maybe.is_none() && model.reset_maybe.is_none();
            if model.exists && !model.deleted_maybe && is_known {
                model.durable = model.durable.max(log.ends().durable.0);
            }
        }
    }

    /// Runs steps until one restarts; the rest is answered.
    async fn steps(&mut self, dir: log::LogDir<sim::disk::SimDisk>, steps: &[Step]) -> usize {
        for (done, step) in steps.iter().enumerate() {
            if dir.failure().borrow().is_some() {
                return done;
            }
            match step {
                Step::Restart { .. } => return done,
                Step::Idle => {
                    env::Clock::sleep(&self.world.clock, std::time::Duration::from_secs(2)).await
                }
                Step::Close => {
                    if dir.close().await.is_ok() {
                        for model in &mut self.models {
                            model.durable = model.end();
                        }
                    }
                    return done;
                }
                Step::Append { log, records, size, producer } => {
                    self.append(&dir, *log, *records, *size, *producer).await
                }
                Step::Fetch { budget } => self.fetch(&dir, *budget).await,
                Step::Elect => self.models[LEADER].epoch += 1,
                other => self.change(&dir, other).await,
            }
        }
        steps.len()
    }

    async fn log(
        &mut self,
        dir: &log::LogDir<sim::disk::SimDisk>,
        at: usize,
    ) -> Option<log::Log<sim::disk::SimDisk>> {
        if !self.models[at].exists {
            let spec = self.spec(at);
            let paged = spec.config.durability == log::Durability::PageCache;
            // Whatever the answer, it may exist from now on.
            self.models[at].deleted_maybe = true;
            self.models[at].exists = true;
            self.models[at].paged = paged;
            let log = dir.create(spec).await.ok()?;
            self.models[at].deleted_maybe = false;
            return Some(log);
        }
        dir.log(&partition(&Run::name(at)))
    }

    async fn append(
        &mut self,
        dir: &log::LogDir<sim::disk::SimDisk>,
        at: usize,
        records: usize,
        size: usize,
        producer: bool,
    ) {
        let Some(log) = self.log(dir, at).await else { return };
        let values: Vec<String> = (0..records)
            .map(|_| {
                self.next_value += 1;
                format!("{:08}{}", self.next_value, "x".repeat(size))
            })
            .collect();
        let refs: Vec<&str> = values.iter().map(String::as_str).collect();
        let batch = if producer {
            let known = log.producers().first().and_then(|known| known.last_sequence);
            stamped(&refs, 7, 0, known.map_or(0, |last| last.0 + 1))
        } else {
            batch(&refs)
        };
        let epoch = self.models[at].epoch.max(log.newest_epoch().map_or(0, |epoch| epoch.0));
        if let Ok(appended) = try_append(&log, vec![batch], epoch) {
            assert_eq!(
                appended.base_offset.0,
                self.models[at].end().max(self.models[at].log_start),
                "I2"
            );
            self.models[at].batches.push((appended.base_offset.0, values));
        }
        if log.write_out().await.is_ok() {
            self.models[at].written = self.models[at].end();
        }
    }

    /// The follower fetches as followers do: it cuts what its leader does not have, begins anew where that is too far away,
    /// and appends what comes.
    async fn fetch(&mut self, dir: &log::LogDir<sim::disk::SimDisk>, budget: usize) {
        let Some(leader) = self.log(dir, LEADER).await else { return };
        let Some(follower) = self.log(dir, FOLLOWER).await else { return };
        let (theirs, ours) = (leader.ends(), follower.ends());
        let same = self.common_end();
        if ours.log_end < theirs.log_start || theirs.written < ours.log_start {
            let to =
                if ours.log_end < theirs.log_start { theirs.log_start } else { theirs.written };
            return self.reset(&follower, FOLLOWER, to.0).await;
        }
        if same < ours.log_end.0 {
            return self.truncate(&follower, FOLLOWER, same).await;
        }
        let read = log::Read {
            from: ours.log_end,
            end: theirs.written,
            bytes_max: budget,
            at_least_one: true,
        };
        let Ok(batches) = leader.batches(read).await else {
            assert!(self.world.disk.has_crashed() || ours.log_end > theirs.written);
            return;
        };
        // A follower that stands inside a batch of its leader begins with the next one.
        if let Some(first) = batches.first().filter(|first| first.base_offset() < ours.log_end) {
            let to = first.end_offset().0;
            return self.reset(&follower, FOLLOWER, to).await;
        }
        let values = |batch: &Batch| -> Vec<String> {
            let text = |record: record::Record| {
                String::from_utf8(record.value.expect("a value").to_vec()).expect("text")
            };
            batch.records(1 << 20).map(|record| text(record.expect("readable"))).collect()
        };
        let fetched: Vec<_> =
            batches.iter().map(|batch| (batch.base_offset().0, values(batch))).collect();
        let append = log::Replicated { batches, now: NOW, origin: log::Origin::Client };
        if let Ok(end) = follower.append_replicated(append) {
            self.models[FOLLOWER].batches.extend(fetched);
            assert_eq!(end.0, self.models[FOLLOWER].end());
        }
        if follower.write_out().await.is_ok() {
            self.models[FOLLOWER].written = self.models[FOLLOWER].end();
        }
        self.compare(&leader, &follower).await;
    }

    /// How far the follower holds what its leader holds.
    fn common_end(&self) -> i64 {
        let (theirs, ours) = (&self.models[LEADER], &self.models[FOLLOWER]);
        let start = ours.log_start.max(theirs.log_start);
        let above = |model: &Model| -> Vec<(i64, Vec<String>)> {
            let all = model.batches.iter().filter(|(base, _)| *base >= start);
            all.cloned().collect()
        };
        let (theirs, ours) = (above(theirs), above(ours));
        let same = theirs.iter().zip(&ours).take_while(|(a, b)| a == b).last();
        same.map_or(start, |((base, values), _)| base + values.len() as i64)
    }

    /// What both logs hold is the same, bytes and epochs; of logs that are complete, so are the producers.
    async fn compare(
        &self,
        leader: &log::Log<sim::disk::SimDisk>,
        follower: &log::Log<sim::disk::SimDisk>,
    ) {
        let (theirs, ours) = (leader.ends(), follower.ends());
        let start = theirs.log_start.max(ours.log_start);
        let end = theirs.written.min(ours.written);
        let read = log::Read { from: start, end, bytes_max: 1 << 20, at_least_one: true };
        let (Ok(led), Ok(followed)) = (leader.batches(read).await, follower.batches(read).await)
        else {
            assert!(start > end || self.world.disk.has_crashed());
            return;
        };
        assert_eq!(led, followed, "I17");
        for batch in &followed {
            assert_eq!(follower.epoch_at(batch.last_offset()), batch.leader_epoch(), "I4");
        }
        if (theirs.log_start, theirs.log_end) == (ours.log_start, ours.log_end) {
            assert_eq!(leader.epochs(), follower.epochs(), "I4");
            // A log start takes records and leaves their producers.
            if start == Offset(0) {
                assert_eq!(leader.producers(), follower.producers(), "I51");
            }
        }
    }

    async fn truncate(&mut self, log: &log::Log<sim::disk::SimDisk>, at: usize, to: i64) {
        let mut cut = self.models[at].batches.clone();
        cut.retain(|(base, values)| base + values.len() as i64 <= to);
        self.models[at].cut_maybe = Some(cut.clone());
        if log.truncate(Offset(to)).await.is_ok() {
            let model = &mut self.models[at];
            model.batches = cut;
            model.durable = model.durable.min(model.end());
            model.written = model.written.min(model.end());
            model.cut_maybe = None;
            assert_eq!(log.ends().log_end.0, model.end().max(log.ends().log_start.0));
        }
    }

    async fn reset(&mut self, log: &log::Log<sim::disk::SimDisk>, at: usize, to: i64) {
        self.models[at].reset_maybe = Some(to);
        if log.reset(Offset(to)).await.is_ok() {
            self.models[at].reset(to);
            let ends = log.ends();
            assert_eq!((ends.log_start.0, ends.durable.0, ends.log_end.0), (to, to, to));
            assert!(log.producers().is_empty() && log.epochs().is_empty());
        }
    }

    async fn change(&mut self, dir: &log::LogDir<sim::disk::SimDisk>, step: &Step) {
        match *step {
            Step::Flush { log: at } => {
                let Some(log) = self.log(dir, at).await else { return };
                if let Ok(ends) = log.flush().await {
                    let model = &mut self.models[at];
                    assert!(ends.durable.0 >= model.end());
                    model.durable = model.end();
                }
            }
            Step::Truncate { log: at, back } => {
                let Some(log) = self.log(dir, at).await else { return };
                let model = &mut self.models[at];
                let to = (model.end() - back).max(model.log_start).max(0);
                self.truncate(&log, at, to).await;
            }
            Step::Reset { log: at, to } => {
                let Some(log) = self.log(dir, at).await else { return };
                self.reset(&log, at, to).await;
            }
            Step::Start { log: at, part } => {
                let Some(log) = self.log(dir, at).await else { return };
                let model = &mut self.models[at];
                let end = if model.paged { model.end() } else { log.ends().durable.0 };
                let to = model.log_start + ((end - model.log_start) as f64 * part) as i64;
                model.log_start_maybe = to;
                if let Ok(start) = log.set_log_start(Offset(to), Offset(end)).await {
                    assert_eq!(start.0, to.max(model.log_start));
                    model.log_start = start.0;
                    model.log_start_maybe = start.0;
                }
            }
            Step::Recreate { log: at } => {
                let Some(log) = self.log(dir, at).await else { return };
                self.models[at].deleted_maybe = true;
                if dir.delete(&log).await.is_ok() {
                    self.models[at] = Model {
                        generation: (self.models[at].generation + 1) % 64,
                        ..Model::default()
                    };
                }
            }
            Step::Read { log: at, budget } => {
                let Some(log) = self.log(dir, at).await else { return };
                let ends = log.ends();
                let read = read_from(&log, ends.log_start, ends.written, budget).await;
                match read {
                    Ok(read) => {
                        let model = &self.models[at];
                        let wanted: Vec<_> = model
                            .values()
                            .into_iter()
                            .filter(|(offset, _)| {
                                *offset >= ends.log_start.0 && *offset < ends.written.0
                            })
                            .collect();
                        assert_eq!(read, wanted);
                    }
                    Err(error) => assert!(self.world.disk.has_crashed(), "{error}"),
                }
            }
            _ => {}
        }
    }
}

fn scenario(
    seed: u64,
    steps: &[Step],
    crash_at: Option<u64>,
    crash_power: bool,
    paged: bool,
) -> bool {
    let mut world = World::new(seed);
    world.options.log_config.segment_bytes = 1 << 12;
    let mut run = Run { world, models: vec![Model::default(); 3], next_value: 0, paged };
    if let Some(n) = crash_at {
        run.world.disk.crash_at(n);
    }
    let mut rest = steps;
    let mut has_crashed = false;
    let mut power = false;
    loop {
        let clock = run.world.clock.clone();
        let done = sim::plain::run(&clock, async {
            let dir = match run.world.open().await {
                Ok(dir) => dir,
                Err(error) => {
                    assert!(run.world.disk.has_crashed(), "opens: {error}");
                    return 0;
                }
            };
            let body = async {
                for at in 0..3 {
                    if run.models[at].exists && !run.world.disk.has_crashed() {
                        run.check(&dir, at, power).await;
                    }
                }
                let done = run.steps(dir.clone(), rest).await;
                run.note_announced(&dir);
                done
            };
            sim::plain::beside(body, dir.run(clock.clone())).await
        });
        // What listeners were told is what counts; the model took only answered flushes.
        let crashed = run.world.disk.has_crashed();
        has_crashed |= crashed;
        power = match rest.get(done) {
            _ if crashed => crash_power,
            Some(Step::Restart { power }) => *power,
            _ => true,
        };
        if power {
            run.world.power_cut();
        } else {
            run.world.kill();
        }
        if !crashed && done >= rest.len() {
            break;
        }
        rest = &rest[(done + usize::from(!crashed)).min(rest.len())..];
    }
    // After the last crash twice: recovery of a recovery finds the same (I6).
    for _ in 0..2 {
        let clock = run.world.clock.clone();
        sim::plain::run(&clock, async {
            let dir = run.world.open().await.expect("opens");
            let body = async {
                for at in 0..3 {
                    if run.models[at].exists {
                        run.check(&dir, at, power).await;
                    }
                }
            };
            sim::plain::beside(body, dir.run(clock.clone())).await;
        });
        run.world.power_cut();
        power = true;
    }
    has_crashed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(300), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_holds_what_it_announced(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
        crash_at in prop::option::of(0..400u64),
        crash_power in any::<bool>(),
        paged in any::<bool>(),
    ) {
        scenario(seed, &steps, crash_at, crash_power, paged);
    }
}

/// A story that touches everything, crashed at each change of the disk, both ways.
#[test]
fn a_crash_at_every_change_loses_nothing_announced() {
    use Step::*;
    let story = |log: usize| {
        vec![
            Append { log, records: 3, size: 100, producer: true },
            Append { log, records: 1, size: 900, producer: false },
            Flush { log },
            Append { log, records: 2, size: 1500, producer: true },
            Append { log, records: 2, size: 1500, producer: true },
            Flush { log },
            Truncate { log, back: 3 },
            Append { log, records: 1, size: 3000, producer: false },
            Append { log, records: 1, size: 3000, producer: false },
            Flush { log },
            Start { log, part: 0.7 },
            Idle,
        ]
    };
    let mut steps: Vec<Step> = (0..3).flat_map(story).collect();
    steps.extend([Close, Recreate { log: 0 }]);
    steps.extend(story(0));
    steps.extend([Restart { power: true }, Recreate { log: 1 }, Close]);
    steps.extend([Fetch { budget: 900 }, Fetch { budget: 900 }, Fetch { budget: 9000 }]);
    for to in [50, 3] {
        let append = Append { log: 1, records: 2, size: 900, producer: true };
        steps.extend([Reset { log: 1, to }, append.clone(), Flush { log: 1 }, append, Idle]);
    }
    steps.extend(story(2));
    for power in [true, false] {
        for paged in [true, false] {
            for n in 0.. {
                let crashed = scenario(n, &steps, Some(n), power, paged);
                if !crashed {
                    break;
                }
            }
        }
    }
}
