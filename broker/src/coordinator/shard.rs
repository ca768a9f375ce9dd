//! One shard: the task that owns the groups of one partition of `__consumer_offsets`.
//!
//! Several requests that are waiting are decided together and appended as one: they share a write and a sync. An answer
//! leaves when the append it rests on is committed. When an append fails, or the partition stops serving, what is
//! in memory is ahead of the log: everybody who waits is told to look for the coordinator again, and the log is
//! replayed from its beginning.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cluster::group::{
    AppendNumber, Effect, Event, GroupRecord, GroupSettings, Groups, Now, Response, Token,
};
use env::{Clock, Env};
use log::Origin;
use record::{BatchBuilder, BatchOptions};
use tokio::sync::{mpsc, oneshot};
use types::mutant::{Mutant, planted};
use types::{ErrorCode, Offset, TopicId};

use super::{Answer, Message, Standing, sleep_until};
use crate::partition::{Append, Partition};
use crate::shared::Shared;

/// Requests decided together at most.
const TOGETHER_MAX: usize = 64;

/// Records of one append are cut into batches of about this size.
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of log read at a time while loading.
const LOAD_BYTES: usize = 1 << 20;

/// What one stored batch may expand to while loading; ours are not compressed.
const EXPANDED_BYTES_MAX: usize = 256 << 20;

/// How long to wait before trying again to load.
const RELOAD_DELAY: Duration = Duration::from_secs(1);

/// One shard.
pub(super) struct Shard<E: Env> {
    pub(super) shared: Shared<E>,
    pub(super) partition: Partition<E>,
    pub(super) settings: GroupSettings,
    pub(super) messages: mpsc::Receiver<Box<Message>>,
    /// Tells the door how this shard stands.
    pub(super) stands: Box<dyn Fn(Standing) + Send + Sync>,
}

/// Who waits for what.
#[derive(Default)]
struct Desk {
    /// Requests without an answer yet.
    open: BTreeMap<Token, oneshot::Sender<Answer>>,
    /// Answers that wait for an append to be committed.
    parked: BTreeMap<(AppendNumber, Token), Response>,
    /// Appends that are not committed, each with the end of its last batch.
    in_flight: VecDeque<(AppendNumber, Offset)>,
    /// Everything up to here is committed.
    committed: AppendNumber,
}

/// Why a shard stopped serving.
enum Ended {
    /// Nobody can reach it any more.
    Closed,
    /// Its state is ahead of its log.
    Failed(ErrorCode),
}

impl<E: Env> Shard<E> {
    /// Serves until all doors are gone, the partition is, or the broker stops.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        tokio::select! {
            biased;
            () = shared.stopping() => {}
            () = self.load_and_serve() => {}
        }
    }

    async fn load_and_serve(&mut self) {
        let mut told = None;
        loop {
            let failed = match self.load(&mut told).await {
                Ok(groups) => {
                    tracing::debug!(partition = %self.partition.id(), groups = groups.len(), "groups loaded");
                    (self.stands)(Standing::Serves);
                    let ended = self.serve(groups).await;
                    (self.stands)(Standing::Loads);
                    match ended {
                        Ended::Closed => return,
                        Ended::Failed(code) => code,
                    }
                }
                Err(code) => {
                    (self.stands)(Standing::Waits);
                    code
                }
            };
            if self.messages.is_closed() {
                return;
            }
            if let Some(gone) = self.partition.gone()
                && !planted(Mutant::OneShardHidesAll)
            {
                // Where another broker leads, it coordinates.
                if gone.code != ErrorCode::NotLeaderOrFollower {
                    tracing::error!(
                        partition = %self.partition.id(), failed = %gone.code,
                        "its groups are without a coordinator until the next start"
                    );
                }
                return;
            }
            // Of damage it was said once, and what to do.
            if told.is_none() {
                tracing::warn!(partition = %self.partition.id(), %failed, "groups will be loaded again");
            }
            self.shared.env().clock().sleep(RELOAD_DELAY).await;
            // Whoever slipped in between is told to come again.
            while let Ok(message) = self.messages.try_recv() {
                answer(message.asker, Err(ErrorCode::CoordinatorLoadInProgress));
            }
            if self.messages.is_closed() {
                return;
            }
        }
    }

    /// Replays the log up to its end, all of which is committed by then. Of damage in it nobody knows which groups it held, so
    /// all of them wait: a position may have been committed there that is newer than the one before (I70). Unless the
    /// operator would rather go on from there. `told` is where damage begins that the log has a line of.
    async fn load(&self, told: &mut Option<Offset>) -> Result<Groups, ErrorCode> {
        let mut groups = Groups::new(self.settings.clone());
        let end = self.partition.ends().log_end;
        self.partition.committed(end).await.map_err(|gone| gone.code)?;
        let mut from = self.partition.ends().log_start;
        while from < end {
            let batches = match self.partition.batches(from, LOAD_BYTES).await? {
                Ok(batches) => batches,
                Err(range)
                    if self.shared.settings().is_offsets_damage_accepted
                        && range.contains(from) =>
                {
                    tracing::error!(
                        %range,
                        "groups go on from what they committed before the damage, as offsets.damage.accept says"
                    );
                    from = range.end;
                    continue;
                }
                Err(range) => {
                    if told.replace(range.start) != Some(range.start) {
                        tracing::error!(
                            %range,
                            "groups wait, because what they committed last may be in the damage; \
                             offsets.damage.accept=true lets them go on from what they committed before"
                        );
                    }
                    return Err(ErrorCode::KafkaStorageError);
                }
            };
            let Some(last) = batches.last() else { break };
            from = last.header().end_offset();
            for batch in &batches {
                // Markers of transactions end what does not exist here yet.
                if !batch.header().is_control() {
                    self.replay(&mut groups, batch);
                }
            }
        }
        *told = None;
        Ok(groups)
    }

    /// Replays one batch. What cannot be read is passed over: it must not keep the other groups away.
    fn replay(&self, groups: &mut Groups, batch: &record::Batch) {
        for record in batch.records(EXPANDED_BYTES_MAX) {
            let replayed = match &record {
                Ok(record) => match &record.key {
                    Some(key) => groups
                        .replay(key, record.value.as_deref())
                        .map(|_| ())
                        .map_err(|error| (record.offset, error.to_string())),
                    None => Err((record.offset, "a record without a key".into())),
                },
                Err(error) => Err((batch.header().base_offset(), error.to_string())),
            };
            if let Err((offset, error)) = replayed {
                tracing::warn!(partition = %self.partition.id(), %offset, %error, "record passed over");
            }
        }
    }

    async fn serve(&mut self, mut groups: Groups) -> Ended {
        let clock = self.shared.env().clock().clone();
        let mut desk = Desk::default();
        let mut effects = Vec::new();
        let mut messages = Vec::with_capacity(TOGETHER_MAX);
        groups.step(now(&clock), Event::Loaded, &mut effects);
        let vanished = self.vanished_topics(&groups);
        if !vanished.is_empty() {
            groups.step(now(&clock), Event::TopicsDeleted(vanished), &mut effects);
        }
        loop {
            if let Err(code) = self.carry_out(&mut effects, &mut desk).await {
                return self.give_up(desk, code);
            }
            let partition = &self.partition;
            let in_flight = desk.in_flight.front().map(|(_, end)| *end);
            let committed = async {
                match in_flight {
                    Some(end) => partition.committed(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                outcome = committed => match outcome {
                    Ok(()) => desk.release(self.partition.ends().high_watermark),
                    Err(gone) => return self.give_up(desk, gone.code),
                },
                count = self.messages.recv_many(&mut messages, TOGETHER_MAX) => {
                    if count == 0 {
                        return Ended::Closed;
                    }
                }
                () = sleep_until(&clock, groups.next_deadline()) => {}
            }
            let now = now(&clock);
            for message in messages.drain(..) {
                if let Some((token, asker)) = message.asker {
                    desk.open.insert(token, asker);
                }
                groups.step(now, message.event, &mut effects);
            }
            if groups.next_deadline().is_some_and(|deadline| deadline <= now.instant) {
                groups.step(now, Event::Tick, &mut effects);
            }
        }
    }

    /// Appends what was decided, in one go, and sends or parks the answers.
    async fn carry_out(&self, effects: &mut Vec<Effect>, desk: &mut Desk) -> Result<(), ErrorCode> {
        let mut records = Vec::new();
        let mut newest = None;
        let mut replies = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { number, records: more } => {
                    newest = Some(number);
                    records.extend(more);
                }
                Effect::Reply { token, after, response } => replies.push((token, after, response)),
            }
        }
        if let Some(number) = newest {
            let end = self.append(&records).await?;
            desk.in_flight.push_back((number, end));
        }
        for (token, after, response) in replies {
            desk.reply(token, after, response);
        }
        Ok(())
    }

    async fn append(&self, records: &[GroupRecord]) -> Result<Offset, ErrorCode> {
        let timestamp = Some(self.shared.env().clock().timestamp());
        let mut batches = Vec::new();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for record in records {
            if !builder.is_empty() && builder.bytes_total() + record.bytes() > BATCH_BYTES {
                let full =
                    std::mem::replace(&mut builder, BatchBuilder::new(BatchOptions::default()));
                batches.push(full.build());
            }
            builder.push(timestamp, Some(&record.key), record.value.as_deref());
        }
        batches.push(builder.build());
        let append = Append { batches, origin: Origin::Coordinator, needs_enough_in_sync: true };
        match self.partition.append(append).await {
            Ok(appended) => Ok(appended.last_offset.next()),
            Err(refused) => Err(refused.code),
        }
    }

    /// Topics with offsets that are no longer what they were when this shard last looked.
    fn vanished_topics(&self, groups: &Groups) -> Vec<(types::TopicName, TopicId)> {
        let view = self.shared.view();
        let vanished = groups.offset_topics().into_iter().filter(|(name, id)| {
            view.topic(name.as_str()).is_none_or(|topic| id.is_some_and(|id| id != topic.id))
        });
        vanished.map(|(name, id)| (name, id.unwrap_or_default())).collect()
    }

    fn give_up(&self, desk: Desk, code: ErrorCode) -> Ended {
        let told = match code {
            ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => {
                ErrorCode::NotCoordinator
            }
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                ErrorCode::UnknownServerError
            }
            other => other,
        };
        for (_, asker) in desk.open {
            // The asker may have left.
            let _ = asker.send(Err(told));
        }
        Ended::Failed(code)
    }
}

impl Desk {
    fn reply(&mut self, token: Token, after: AppendNumber, response: Response) {
        let early = planted(Mutant::OffsetCommitBeforeSync)
            && matches!(response, Response::CommitOffsets(_));
        if after <= self.committed || early {
            self.send(token, response);
        } else {
            self.parked.insert((after, token), response);
        }
    }

    /// Sends what rests on appends below `high_watermark`.
    fn release(&mut self, high_watermark: Offset) {
        while let Some((number, end)) = self.in_flight.front().copied()
            && end <= high_watermark
        {
            self.committed = number;
            self.in_flight.pop_front();
        }
        while let Some(parked) = self.parked.first_entry()
            && parked.key().0 <= self.committed
        {
            let ((_, token), response) = parked.remove_entry();
            self.send(token, response);
        }
    }

    fn send(&mut self, token: Token, response: Response) {
        if let Some(asker) = self.open.remove(&token) {
            // The asker may have left.
            let _ = asker.send(Ok(response));
        }
    }
}

fn answer(asker: Option<(Token, oneshot::Sender<Answer>)>, with: Answer) {
    if let Some((_, asker)) = asker {
        let _ = asker.send(with);
    }
}

fn now<C: Clock>(clock: &C) -> Now {
    Now { instant: clock.now(), timestamp: clock.timestamp() }
}
