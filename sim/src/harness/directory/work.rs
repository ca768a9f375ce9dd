//! What the process does with its logs: appends of clients and of a leader's batches, reads, truncation, resets, retention,
//! deletion.

use super::*;

/// Where an append must be acknowledged to, or why it was refused; and what tells that ends have moved.
type Attempt = (Result<Offset, AppendError>, watch::Receiver<u64>);

impl Play {
    /// Starts the workers of one incarnation and keeps creating and deleting logs.
    pub(super) async fn work(&self, env: &SimEnv, dir: &LogDir<SimDisk>) {
        for (name, log) in view::logs_by_name(dir) {
            self.employ(env, dir, &name, &log);
        }
        let dice = self.stage.dice(0);
        loop {
            let names: Vec<String> = lock(&self.ghosts).logs.keys().cloned().collect();
            if (names.len() as u64) < LOGS {
                if !self.create(env, dir, &dice).await {
                    return;
                }
            } else if dice.choose(Kind::Operation, 12) == 0 {
                let victim = &names[dice.choose(Kind::Operation, names.len() as u64) as usize];
                if !self.delete(dir, victim).await {
                    return;
                }
            }
            self.stage.think(&dice, Duration::from_millis(400)).await;
        }
    }

    async fn create(&self, env: &SimEnv, dir: &LogDir<SimDisk>, dice: &Decisions) -> bool {
        let page_cache = dice.choose(Kind::Operation, 1000) < self.stage.scenario.page_cache;
        let (name, spec) = {
            let mut ghosts = lock(&self.ghosts);
            ghosts.topics += 1;
            let number = ghosts.topics;
            // Names come back: a topic deleted and created again is another topic.
            let topic = format!("topic{}", number % (LOGS + 2));
            let name = format!("{topic}-0");
            if ghosts.logs.contains_key(&name) {
                return true;
            }
            let mut id = [number as u8; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            let spec = LogSpec {
                topic: topic.as_str().into(),
                topic_id: TopicId(Uuid::from_random(id)),
                partition: PartitionIndex(0),
                config: self.config(page_cache),
            };
            let mut ghost = Ghost::new(spec.topic_id, page_cache);
            ghost.undated = number.is_multiple_of(3);
            ghosts.logs.insert(name.clone(), (Presence::Creating, ghost));
            (name, spec)
        };
        match dir.create(spec).await {
            Ok(log) => {
                if let Some((presence, _)) = lock(&self.ghosts).logs.get_mut(&name) {
                    *presence = Presence::There;
                }
                self.listen(&name, &log);
                self.employ(env, dir, &name, &log);
                self.stage.done(true, 1);
                true
            }
            Err(error) => {
                self.stage.done(false, 1);
                self.excused_change("create", &name, &error)
            }
        }
    }

    async fn delete(&self, dir: &LogDir<SimDisk>, name: &str) -> bool {
        let Some(log) = view::logs_by_name(dir).remove(name) else { return true };
        if let Some((presence, _)) = lock(&self.ghosts).logs.get_mut(name) {
            *presence = Presence::Deleting;
        }
        match dir.delete(&log).await {
            Ok(()) => {
                lock(&self.ghosts).logs.remove(name);
                self.stage.world.mark("log deleted");
                self.stage.done(true, 2);
                true
            }
            Err(error) => {
                self.stage.done(false, 2);
                self.excused_change("delete", name, &error)
            }
        }
    }

    /// Whether the process goes on after a change was refused.
    pub(super) fn excused_change(&self, what: &str, name: &str, error: &log::ChangeError) -> bool {
        let errors = ["D2", "D3", "D4", "D5", "D6", "D9", "D10"];
        let excused = self.stage.scenario.faults.iter().any(|kind| errors.contains(&kind.code()));
        self.stage.judge(require("L4", excused, || {
            format!("{what} {name} failed without a fault: {error}")
        }));
        false
    }

    fn employ(&self, env: &SimEnv, dir: &LogDir<SimDisk>, name: &str, log: &Log<SimDisk>) {
        let client = lock(&self.ghosts).topics as u32 * 10;
        for worker in 0..3 {
            let (play, env, name, log) = (self.clone(), env.clone(), name.to_owned(), log.clone());
            let failure = dir.failure();
            let dice = self.stage.dice(client + worker);
            self.stage.spawn(
                NODE,
                ["appender", "appender", "reader"][worker as usize],
                async move {
                    loop {
                        play.stage.think(&dice, play.stage.scenario.think).await;
                        let there =
                            lock(&play.ghosts).logs.get(&name).is_some_and(|(presence, ghost)| {
                                *presence == Presence::There && ghost.topic_id == log.topic_id()
                            });
                        if !there || log.is_deleted() {
                            return;
                        }
                        let goes_on = match worker {
                            2 => play.read(&name, &log, &failure, &dice).await,
                            _ => play.append(&env, &name, &log, &dice).await,
                        };
                        if !goes_on {
                            return;
                        }
                        if worker == 1 && dice.choose(Kind::Operation, 20) == 0 {
                            play.administer(&env, &name, &log, &dice).await;
                        }
                    }
                },
            );
        }
    }

    async fn append(&self, env: &SimEnv, name: &str, log: &Log<SimDisk>, dice: &Decisions) -> bool {
        let Some(gate) = lock(&self.ghosts).logs.get(name).map(|(_, ghost)| ghost.gate.clone())
        else {
            return false;
        };
        let guard = gate.read().await;
        // Roles change: a replica follows and leads in turns.
        let attempt = match dice.choose(Kind::Operation, 4) {
            0 => self.follow_now(env, name, log, dice),
            _ => self.append_now(env, name, log, dice),
        };
        drop(guard);
        let Some((answer, mut changed)) = attempt else { return false };
        let Ok(wanted) = answer else {
            self.stage.done(false, 3);
            return answer != Err(AppendError::Offline);
        };
        let written = log.write_out().await;
        let acknowledged = async {
            loop {
                let ends = log.ends();
                let page_cache =
                    lock(&self.ghosts).logs.get(name).is_some_and(|(_, ghost)| ghost.page_cache);
                let end = if page_cache { ends.written } else { ends.durable };
                if end >= wanted {
                    return true;
                }
                if changed.changed().await.is_err() {
                    return false;
                }
            }
        };
        let done = env.timeout(Duration::from_secs(3), acknowledged).await == Some(true)
            && written.is_ok();
        self.stage.done(done, wanted.0 as u64);
        true
    }

    /// Appends batches as their leader stored them, now and then such as do not fit, and judges the answer.
    fn follow_now(
        &self,
        env: &SimEnv,
        name: &str,
        log: &Log<SimDisk>,
        dice: &Decisions,
    ) -> Option<Attempt> {
        let mut ghosts = lock(&self.ghosts);
        let ghosts = &mut *ghosts;
        let (_, ghost) = ghosts.logs.get_mut(name)?;
        let (known, mut end) = (ghost.batches.len(), ghost.end());
        let last = ghost.batches.last().filter(|batch| batch.last >= ghost.start);
        let newest = last.map(|batch| batch.epoch);
        let mut epoch = newest.unwrap_or(0);
        let mut batches = Vec::new();
        for _ in 0..dice.between(Kind::Operation, 1, 4) {
            // Terms may have passed that this replica never heard of, and there may be records of its own.
            if dice.choose(Kind::Operation, 8) == 0 {
                ghost.epoch += 1;
            }
            if dice.choose(Kind::Operation, 4) == 0 {
                epoch = ghost.epoch;
            }
            let batch = self.invent_good(env, ghost, &mut ghosts.next_producer, dice);
            let (base, epoch) = match dice.choose(Kind::Operation, 40) {
                0 => (end + 1, epoch),
                1 => ((end - 1).max(0), epoch),
                2 => (end, epoch - 1),
                _ => (end, epoch),
            };
            let placed = batch.placed(Offset(base), LeaderEpoch(epoch));
            // What comes next follows it, also in its producer's sequence.
            ghost.batches.push(view::seen(&placed));
            batches.push(placed);
            end = batches.last().map_or(end, |last| last.end_offset().0);
        }
        let seen = ghost.batches.split_off(known);
        let now = env.clock().timestamp();
        let before = (log.ends().log_end.0, log.producers().len());
        let append = Replicated { batches: batches.clone(), now, origin: Origin::Client };
        let answer = log.append_replicated(append);
        let fit = i2_fit(ghost.end(), newest, &seen);
        let verdict = match &answer {
            Ok(told) => {
                self.stage.world.mark("followed");
                ghost.appended.extend(seen.iter().map(|batch| (batch.base, now.0)));
                let epoch = seen.last().map(|batch| LeaderEpoch(batch.epoch));
                ghost.batches.extend(seen);
                ghost.sent.extend(batches);
                ghost.sent.drain(..ghost.sent.len().saturating_sub(20));
                require("I2", fit == Fit::Fits && told.0 == end, || {
                    format!(
                        "{name}: a leader's batches were taken to {told}, expected {fit:?} {end}"
                    )
                })
                .and_then(|()| {
                    let newest = log.newest_epoch();
                    require("I4", newest == epoch, || {
                        format!(
                            "{name}: the newest epoch is {newest:?} behind a batch of {epoch:?}"
                        )
                    })
                })
            }
            Err(error) => {
                let after = (log.ends().log_end.0, log.producers().len());
                let right = match *error {
                    AppendError::OutOfPlace { expected, found } => {
                        self.stage.world.mark("a leader's batch out of place");
                        let (expected, found) = (expected.0, found.0);
                        fit == Fit::OutOfPlace { expected, found }
                    }
                    AppendError::LeaderEpochFenced { .. } => {
                        self.stage.world.mark("a leader's batch fenced");
                        fit == Fit::Fenced
                    }
                    AppendError::Offline | AppendError::Deleted => true,
                    AppendError::NoSpace | AppendError::Busy => true,
                    AppendError::TooLarge { .. }
                    | AppendError::OffsetsExhausted
                    | AppendError::ProducerFenced { .. }
                    | AppendError::OutOfOrderSequence { .. } => false,
                };
                i13_unchanged(name, before, after).and_then(|()| {
                    require("I2", right, || {
                        format!("{name}: a leader's batches met {error:?}, expected {fit:?}")
                    })
                })
            }
        };
        let changed = ghost.changed.subscribe();
        self.stage.judge(verdict).then_some((answer, changed))
    }

    /// The append itself and the judgement of its answer; nothing else runs in between.
    fn append_now(
        &self,
        env: &SimEnv,
        name: &str,
        log: &Log<SimDisk>,
        dice: &Decisions,
    ) -> Option<Attempt> {
        let (batch, epoch) = {
            let mut ghosts = lock(&self.ghosts);
            let ghosts = &mut *ghosts;
            let (_, ghost) = ghosts.logs.get_mut(name)?;
            let batch = self.invent(env, ghost, &mut ghosts.next_producer, dice);
            if dice.choose(Kind::Operation, 50) == 0 {
                ghost.epoch += 1;
            }
            (batch, ghost.epoch)
        };
        let stamp = view::seen(&batch).stamp;
        let append = Append {
            batches: vec![batch.clone()],
            leader_epoch: LeaderEpoch(epoch),
            now: env.clock().timestamp(),
            origin: Origin::Client,
        };
        // No await between the question and its answer: what is expected is what the log is now.
        let mut ghosts = lock(&self.ghosts);
        let (_, ghost) = ghosts.logs.get_mut(name)?;
        let expected = stamp.map_or(vec![None], |stamp| ghost.expected(stamp));
        let before = (log.ends().log_end.0, log.producers().len());
        drop(ghosts);
        let answer = log.append(append);
        let mut ghosts = lock(&self.ghosts);
        let (_, ghost) = ghosts.logs.get_mut(name)?;
        let verdict = match &answer {
            Ok(appended) if appended.duplicate => {
                self.stage.world.mark("duplicate answered");
                let base = appended.base_offset.0;
                require("I49", expected.contains(&Some(Expected::Duplicate(base))), || {
                    format!(
                        "{name}: {stamp:?} was called a duplicate of {base}, expected {expected:?}"
                    )
                })
            }
            Ok(appended) => {
                let placed = batch.placed(appended.base_offset, LeaderEpoch(epoch));
                let fresh = expected.iter().any(|e| matches!(e, None | Some(Expected::Fresh)));
                let at = ghost.end();
                let placed = view::seen(&placed);
                ghost.appended.insert(placed.base, appended.append_time.0);
                ghost.batches.push(placed);
                ghost.sent.push(batch.clone());
                if ghost.sent.len() > 20 {
                    ghost.sent.remove(0);
                }
                require("I48", fresh, || {
                    format!("{name}: {stamp:?} was appended, expected {expected:?}")
                })
                .and_then(|()| {
                    require(
                        "I2",
                        placed.base == at && appended.last_offset.0 == placed.last,
                        || format!("{name}: appended at {appended:?}, the log ended at {at}"),
                    )
                })
            }
            Err(error) => {
                let after = (log.ends().log_end.0, log.producers().len());
                i13_unchanged(name, before, after)
                    .and_then(|()| self.judge_refusal(name, stamp, &expected, error))
            }
        };
        let changed = ghost.changed.subscribe();
        drop(ghosts);
        let answer = answer.map(|appended| appended.last_offset.next());
        self.stage.judge(verdict).then_some((answer, changed))
    }

    fn judge_refusal(
        &self,
        name: &str,
        stamp: Option<Stamp>,
        expected: &[Option<Expected>],
        error: &AppendError,
    ) -> Verdict {
        let right = match error {
            AppendError::OutOfOrderSequence { .. } => {
                self.stage.world.mark("out of order sequence");
                expected.iter().any(|e| matches!(e, None | Some(Expected::OutOfOrder)))
            }
            AppendError::ProducerFenced { .. } => {
                self.stage.world.mark("producer fenced");
                expected.contains(&Some(Expected::Fenced))
            }
            AppendError::NoSpace => {
                self.stage.world.mark("append refused for space");
                true
            }
            AppendError::LeaderEpochFenced { .. }
            | AppendError::OutOfPlace { .. }
            | AppendError::OffsetsExhausted => false,
            AppendError::TooLarge { .. } => {
                self.stage.world.mark("batch too large");
                true
            }
            AppendError::Offline | AppendError::Deleted | AppendError::Busy => true,
        };
        require("I47", right, || format!("{name}: {stamp:?} met {error:?}, expected {expected:?}"))
    }

    /// A batch: new, again, ahead of its time, or of an old epoch.
    fn invent(
        &self,
        env: &SimEnv,
        ghost: &mut Ghost,
        next_producer: &mut i64,
        dice: &Decisions,
    ) -> Batch {
        let choice = dice.choose(Kind::Operation, 20);
        if choice == 0 && !ghost.sent.is_empty() {
            let back = dice.choose(Kind::Operation, ghost.sent.len() as u64) as usize;
            return ghost.sent[back].clone();
        }
        self.build(env, ghost, next_producer, choice, dice)
    }

    /// A batch that a leader has stored: a new one, whose sequence follows.
    fn invent_good(
        &self,
        env: &SimEnv,
        ghost: &mut Ghost,
        next_producer: &mut i64,
        dice: &Decisions,
    ) -> Batch {
        let choice = [1, 9, 12][dice.choose(Kind::Operation, 3) as usize];
        self.build(env, ghost, next_producer, choice, dice)
    }

    fn build(
        &self,
        env: &SimEnv,
        ghost: &mut Ghost,
        next_producer: &mut i64,
        choice: u64,
        dice: &Decisions,
    ) -> Batch {
        let count = dice.between(Kind::Operation, 1, 5) as i32;
        let producer =
            if choice < 8 { None } else { Some(self.stamp(ghost, next_producer, choice, dice)) };
        let codec = Codec::from(if dice.choose(Kind::Operation, 10) == 0 {
            Compression::Lz4
        } else {
            Compression::None
        });
        let mut builder =
            BatchBuilder::new(BatchOptions { producer, codec, ..BatchOptions::default() });
        for _ in 0..count {
            let len = dice.choose(Kind::Operation, self.stage.scenario.value_bytes_max) as usize;
            let mut value = vec![b'v'; len.max(8)];
            dice.fill(&mut value[..8]);
            let timestamp = (!ghost.undated).then(|| env.clock().timestamp());
            builder.push(timestamp, None, Some(&value));
        }
        builder.build()
    }

    fn stamp(
        &self,
        ghost: &mut Ghost,
        next: &mut i64,
        choice: u64,
        dice: &Decisions,
    ) -> ProducerStamp {
        if ghost.producers.len() < 3 {
            *next += 1;
            ghost.producers.insert(*next, 0);
        }
        let at = dice.choose(Kind::Operation, ghost.producers.len() as u64) as usize;
        let (id, epoch) =
            ghost.producers.iter().nth(at).map_or((0, 0), |(id, epoch)| (*id, *epoch));
        let newest = ghost.batches.iter().rev().find_map(|b| b.stamp.filter(|s| s.id == id));
        let next = match newest {
            Some(newest) if newest.epoch == epoch => newest.last.wrapping_add(1).max(0),
            Some(_) => 0,
            // A producer that is not known may begin anywhere (P6): some begin right before the numbers begin anew (I47).
            None if id % 4 == 0 => i32::MAX - 5,
            None => 0,
        };
        let (epoch, sequence) = match choice {
            8 => (epoch, next.saturating_add(3)),
            9 => {
                ghost.producers.insert(id, epoch + 1);
                (epoch + 1, 0)
            }
            10 if epoch > 0 => (epoch - 1, 0),
            _ => (epoch, next),
        };
        ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        }
    }

    /// A walk from anywhere with an odd budget, compared with the ghost (I1, I2, I24).
    async fn read(
        &self,
        name: &str,
        log: &Log<SimDisk>,
        failure: &watch::Receiver<Option<log::Failure>>,
        dice: &Decisions,
    ) -> bool {
        let ends = log.ends();
        let span = (ends.written.0 - ends.log_start.0).max(0) as u64;
        let mut from = ends.log_start.0 + dice.choose(Kind::Operation, span + 1) as i64;
        for _ in 0..dice.between(Kind::Operation, 1, 4) {
            let end = log.ends().written;
            let bytes_max = [1, 61, 500, 5_000, 100_000][dice.choose(Kind::Operation, 5) as usize];
            let read = Read { from: Offset(from), end, bytes_max, at_least_one: true };
            let Some(cuts) = lock(&self.ghosts).logs.get(name).map(|(_, ghost)| ghost.cuts_ended())
            else {
                return false;
            };
            let slice = view::read_slice(log, read).await;
            // A slice is ranges of files, and a sync that failed may have put old bytes back under it (D6): from then on
            // nothing is promised of the directory. A client sees it by the checksum.
            if failure.borrow().is_some() {
                self.stage.world.mark("read while the directory failed");
                return false;
            }
            let ghosts = lock(&self.ghosts);
            let Some((_, ghost)) = ghosts.logs.get(name) else { return false };
            if ghost.topic_id != log.topic_id() {
                return true;
            }
            // What a truncation took while it was read may be anything too (the product reads below the high watermark,
            // which is never cut), but what lies below every cut is as it was.
            let cut = ghost.cuts[cuts..].iter().min().copied();
            let verdict = match slice {
                Ok(polled) => match cut {
                    Some(cut) => judge_below(name, ghost, from, cut.min(end.0), &polled.batches),
                    None => judge_read(name, ghost, from, end.0, &polled),
                }
                .map(|()| from = polled.next),
                Err(ReadError::OffsetOutOfRange { .. }) if cut.is_some_and(|cut| from > cut) => {
                    Ok(())
                }
                Err(ReadError::OffsetOutOfRange { log_start, .. }) => {
                    require("I2", from < log_start.0 || from >= end.0, || {
                        format!(
                            "{name}: offset {from} is called out of range of {log_start}..{end}"
                        )
                    })
                }
                Err(ReadError::Quarantined(_)) if self.stage.scenario.is_beyond_promise() => Ok(()),
                // A device that errs once refuses the range until it is asked again.
                Err(ReadError::Quarantined(range)) if range.is_unreadable => {
                    let rates = &self.stage.scenario.disk;
                    require("I14", rates.error_read > 0 || rates.error_sticky > 0, || {
                        format!("{name}: refused by a device that errs at no read: {range}")
                    })
                }
                Err(ReadError::Quarantined(range)) => {
                    require("I14", false, || format!("{name}: quarantined without rot: {range}"))
                }
                Err(ReadError::Io(_)) => Ok(()),
                Err(ReadError::Deleted | ReadError::Offline) => return false,
            };
            drop(ghosts);
            let excused = self.stage.scenario.is_beyond_promise();
            if verdict.is_err() && excused {
                return true;
            }
            if !self.stage.judge(verdict) {
                return false;
            }
            if cut.is_some() {
                self.stage.world.mark("read beside a truncation");
                return true;
            }
        }
        self.stage.done(true, from as u64);
        true
    }

    /// Rare changes: truncation, log start, retention, a new epoch, a new setting.
    async fn administer(&self, env: &SimEnv, name: &str, log: &Log<SimDisk>, dice: &Decisions) {
        let Some(gate) = lock(&self.ghosts).logs.get(name).map(|(_, ghost)| ghost.gate.clone())
        else {
            return;
        };
        match dice.choose(Kind::Operation, 6) {
            0 => {
                let _alone = gate.write().await;
                self.truncate(name, log, dice).await;
            }
            4 => {
                let _alone = gate.write().await;
                self.reset(name, log, dice).await;
            }
            1 => {
                let durable = log.ends().durable;
                let start = log.ends().log_start.0;
                let to = start
                    + dice.choose(Kind::Operation, (durable.0 - start).max(0) as u64 + 1) as i64;
                self.ask_start(name, to);
                if let Ok(now) = log.set_log_start(Offset(to), durable).await {
                    self.stage.world.mark("log start raised");
                    self.judge_start(name, start, now.0, durable.0, Some(to));
                }
            }
            2 | 3 => {
                let (durable, start) = (log.ends().durable, log.ends().log_start.0);
                self.ask_start(name, durable.0);
                let now = env.clock().timestamp();
                if let Some((_, ghost)) = lock(&self.ghosts).logs.get_mut(name) {
                    ghost.may_expire(now.saturating_sub(log.config().producer_id_expiration));
                }
                if let Ok(retained) = log.retain(now, durable).await {
                    if retained.segments > 0 {
                        self.stage.world.mark("retention deleted segments");
                    }
                    self.judge_retained(env, name, log, start, retained.log_start.0);
                    self.judge_start(name, start, retained.log_start.0, durable.0, None);
                }
            }
            _ => {
                let _alone = gate.write().await;
                let mut ghosts = lock(&self.ghosts);
                let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
                ghost.epoch += 1;
                let epoch = ghost.epoch;
                drop(ghosts);
                _ = log.begin_epoch(LeaderEpoch(epoch));
            }
        }
    }

    /// What retention took was too much or too old (E37). Clocks that step may age a segment as they like.
    fn judge_retained(&self, env: &SimEnv, name: &str, log: &Log<SimDisk>, old: i64, new: i64) {
        if self.stage.scenario.has(FaultKind::WallStep) {
            return;
        }
        let (config, now) = (log.config(), env.clock().timestamp());
        let ghosts = lock(&self.ghosts);
        let Some((_, ghost)) = ghosts.logs.get(name) else { return };
        let kept = ghost.batches.iter().filter(|batch| batch.base >= new);
        let retention = Retention {
            bytes_wanted: config.retention_bytes,
            ms_wanted: config.retention_ms.map(|keep| keep.as_millis() as i64),
            now: now.0,
            youngest_taken: ghost.appended.range(old..new).map(|(_, at)| *at).max(),
            bytes_kept: kept.map(Seen::bytes).sum(),
        };
        drop(ghosts);
        self.stage.judge(e37_retained(name, retention));
    }

    fn ask_start(&self, name: &str, to: i64) {
        if let Some((_, ghost)) = lock(&self.ghosts).logs.get_mut(name) {
            ghost.start_asked = ghost.start_asked.max(to);
        }
    }

    fn judge_start(
        &self,
        name: &str,
        old: i64,
        new: i64,
        high_watermark: i64,
        wanted: Option<i64>,
    ) {
        let verdict = i81_start(name, old, new, high_watermark.max(old)).and_then(|()| {
            require("I81", wanted.is_none_or(|to| new >= to), || {
                format!("{name}: start {new}, not {wanted:?}")
            })
        });
        if let Some((_, ghost)) = lock(&self.ghosts).logs.get_mut(name) {
            ghost.start = ghost.start.max(new);
        }
        self.stage.judge(verdict);
    }

    /// The log begins anew, at what it held or elsewhere.
    async fn reset(&self, name: &str, log: &Log<SimDisk>, dice: &Decisions) {
        let to = {
            let mut ghosts = lock(&self.ghosts);
            let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
            let (start, end) = (ghost.start, ghost.end());
            // Of an empty one it would not be told whether it was.
            if start == end {
                return;
            }
            let held = ghost.batches.len() as u64;
            let to = match dice.choose(Kind::Operation, 3) {
                0 => end + dice.choose(Kind::Operation, 50) as i64,
                1 => ghost.batches[dice.choose(Kind::Operation, held) as usize].base,
                _ => dice.choose(Kind::Operation, end as u64) as i64,
            };
            ghost.resetting = Some(to);
            ghost.cuts.push(i64::MIN);
            to
        };
        let result = log.reset(Offset(to)).await;
        let mut ghosts = lock(&self.ghosts);
        let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
        match result {
            Ok(()) => {}
            // How far it came shows after the restart.
            Err(ChangeError::Offline) => return,
            Err(_) => {
                ghost.resetting = None;
                return;
            }
        }
        self.stage.world.mark("reset");
        ghost.reset(to);
        let ends = view::ends_seen(&log.ends());
        let wanted = EndsSeen { start: to, stable: to, durable: to, written: to, end: to };
        let (epochs, producers) = (log.epochs(), log.producers());
        let verdict =
            require("I12", ends == wanted && epochs.is_empty() && producers.is_empty(), || {
                format!("{name}: reset to {to}, and is {ends:?} with {epochs:?} and {producers:?}")
            });
        drop(ghosts);
        self.stage.judge(verdict);
    }

    async fn truncate(&self, name: &str, log: &Log<SimDisk>, dice: &Decisions) {
        let to = {
            let mut ghosts = lock(&self.ghosts);
            let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
            let kept = ghost.batches.iter().filter(|batch| batch.base >= ghost.start).rev().take(4);
            let choices: Vec<i64> = kept.map(|batch| batch.base).collect();
            let Some(to) =
                choices.get(dice.choose(Kind::Operation, choices.len().max(1) as u64) as usize)
            else {
                return;
            };
            ghost.truncating = Some(*to);
            ghost.cuts.push(*to);
            *to
        };
        let result = log.truncate(Offset(to)).await;
        let mut ghosts = lock(&self.ghosts);
        let Some((_, ghost)) = ghosts.logs.get_mut(name) else { return };
        match result {
            Ok(()) => {}
            // How far it came shows after the restart.
            Err(ChangeError::Offline) => return,
            Err(_) => {
                ghost.truncating = None;
                return;
            }
        }
        self.stage.world.mark("truncation");
        ghost.batches.retain(|batch| batch.base < to);
        ghost.sent.clear();
        ghost.truncating = None;
        ghost.ends = None;
        ghost.durable = ghost.durable.min(to);
        ghost.written = ghost.written.min(to);
        let ends = log.ends();
        let end = ends.log_end.0;
        let verdict = require("I8", end == to.max(ends.log_start.0), || {
            format!("{name}: truncated to {to}, ends at {end}")
        })
        .and_then(|()| {
            let start = ends.log_start.0;
            let kept: Vec<Seen> =
                ghost.batches.iter().filter(|batch| batch.last >= start).copied().collect();
            judge_epochs(name, log, &kept)
        });
        drop(ghosts);
        self.stage.judge(verdict);
    }
}

/// A read must be exactly what was appended, whole batches, nothing at or above `end`.
pub(super) fn judge_read(
    name: &str,
    ghost: &Ghost,
    from: i64,
    end: i64,
    polled: &view::Polled,
) -> Verdict {
    let view::Polled { batches, whole, next } = polled;
    require("I1", *whole, || format!("{name}: a read from {from} is not whole batches"))?;
    let reached = batches.last().map_or(from, |batch| batch.last + 1);
    require("I2", *next == reached, || {
        format!("{name}: read {from}..{reached}, told to go on at {next}")
    })?;
    require("I24", reached <= end, || format!("{name}: read to {reached}, beyond {end}"))?;
    require("I2", !batches.is_empty() || from >= end, || {
        format!("{name}: a read from {from} below {end} gives nothing")
    })?;
    judge_batches(name, ghost, from, batches)
}

/// A read beside truncations: below `sure`, the lowest cut or the end asked for, it must be what was appended.
fn judge_below(name: &str, ghost: &Ghost, from: i64, sure: i64, batches: &[Seen]) -> Verdict {
    let below = batches.iter().take_while(|batch| batch.last < sure).count();
    require("I2", below > 0 || from >= sure, || {
        format!("{name}: a read from {from} below the cut at {sure} gives nothing")
    })?;
    judge_batches(name, ghost, from, &batches[..below])
}

fn judge_batches(name: &str, ghost: &Ghost, from: i64, batches: &[Seen]) -> Verdict {
    i1_checksums(name, batches)?;
    i2_contiguous(name, from, batches)?;
    for batch in batches.iter().filter(|batch| batch.base >= ghost.start) {
        let known = ghost.batches.binary_search_by_key(&batch.base, |known| known.base);
        let known = known.ok().map(|at| ghost.batches[at]);
        require("I18", known.as_ref() == Some(batch), || {
            format!("{name}: read {batch:?}, the log has {known:?}")
        })?;
    }
    Ok(())
}
