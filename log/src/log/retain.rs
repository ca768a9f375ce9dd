//! Retention: what may go, judged by size, by time and by the log start, never at or above the high watermark (I81).
//!
//! A segment's age is the older of two clocks: its largest record timestamp and the broker's time of its last append.
//! Timestamps from the future therefore keep nothing for longer than the broker has had it (E37, E38), and records dated
//! in the past age as Kafka's do. Without record timestamps the broker's time counts alone; a time that was lost with a
//! rebuilt index counts as "now", never as "long ago".

use env::Disk;
use types::mutant::{Mutant, planted};
use types::{Offset, Timestamp};

use super::{Log, Retained, Segment};
use crate::ChangeError;
use crate::door::Command;

/// What retention wants to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expired {
    /// The log start that it wants.
    pub start: Offset,
    /// The active segment goes, too: it is rolled first.
    pub roll: bool,
    /// Of the log that was looked at.
    pub generation: u64,
}

impl<D: Disk> Log<D> {
    /// Deletes what retention no longer wants, below `high_watermark` only; an expired active segment is rolled first.
    /// `now` is the broker's wall clock. Also forgets expired producers (P6).
    pub async fn retain(
        &self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Retained, ChangeError> {
        let (nothing, generation) = {
            let mut state = self.lock();
            if state.deleted {
                return Err(ChangeError::Deleted);
            }
            let expiration = state.config.producer_id_expiration;
            state.producers.expire(now, expiration);
            let nothing = Retained { segments: 0, bytes: 0, log_start: state.log_start };
            (nothing, state.generation)
        };
        let Some((start, roll)) = self.expired_end(now, high_watermark).await else {
            return Ok(nothing);
        };
        let (log, expired) = (self.clone(), Expired { start, roll, generation });
        self.command(|reply| Command::Retain { log, expired, reply }).await
    }

    /// The log start that retention wants, and whether the active segment must be rolled for it.
    async fn expired_end(&self, now: Timestamp, high_watermark: Offset) -> Option<(Offset, bool)> {
        let bases: Vec<Offset> = self.lock().segments.iter().map(|segment| segment.base).collect();
        let mut start = None;
        for base in bases {
            // The time index is needed only if the cheaper reasons do not decide.
            let mut loaded = false;
            let gone = loop {
                let (load, gone, end, active) = {
                    let mut state = self.lock();
                    let newer = state.segments.iter().filter(|segment| segment.base > base);
                    let newer = newer.map(|segment| segment.size).sum::<u64>();
                    let log_start = state.log_start;
                    let active = state.segments.back().map(|segment| segment.base) == Some(base);
                    let config = state.config.clone();
                    let segment = state.segment(base)?;
                    let (size, end) = (segment.size, segment.end);
                    if size == 0 || end > high_watermark {
                        (false, false, end, active) // I81
                    } else if !active
                        && (end <= log_start
                            || config.retention_bytes.is_some_and(|keep| newer >= keep))
                    {
                        (false, true, end, active)
                    } else if let Some(keep) = config.retention_ms {
                        if segment.index.is_none() && !loaded {
                            (true, false, end, active)
                        } else {
                            let age = segment.dated(now);
                            (false, age.saturating_add(keep) < now, end, active)
                        }
                    } else {
                        (false, false, end, active)
                    }
                };
                if load {
                    loaded = true;
                    self.load_index(base).await.ok()?;
                    continue;
                }
                break gone.then_some((end, active));
            };
            let Some((end, active)) = gone else { break };
            start = Some((end, active));
        }
        start
    }
}

impl<F> Segment<F> {
    /// When the segment's last record counts as made.
    fn dated(&self, now: Timestamp) -> Timestamp {
        let latest = self.index.as_ref().and_then(|index| index.latest());
        let appended = self.ages.last_append;
        if planted(Mutant::RetentionUnknownTimestamp) {
            return latest.map_or(Timestamp(0), |latest| latest.timestamp);
        }
        match (latest.map(|latest| latest.timestamp), appended) {
            (Some(record), Some(appended)) => record.min(appended),
            (Some(record), None) => record.min(now),
            (None, Some(appended)) => appended,
            (None, None) => now,
        }
    }
}
