//! Repair: what a damaged range held, from another copy of the log, in its place (I14).
//!
//! Replicas hold the same bytes (I17), so that what fits is known before it is written: batches that begin where the damage
//! does, follow one another, are sound by their checksums, bear the epochs that are known, and fill the range to its last byte,
//! or a first part of it. Nothing else of the log is touched; a crash leaves the range damaged, or whole.

use std::io;

use env::{Disk, File};
use record::Batch;
use types::Offset;
use types::mutant::{Mutant, planted};

use super::{Damage, Log, Point};
use crate::ChangeError;
use crate::door::Command;

impl<D: Disk> Log<D> {
    /// Puts `batches` in the place of the damaged range that begins at `start`, or of its first part; answers where damage
    /// begins now, if any of the range is left. Durable when it returns. `Unfit`: they are not what stood there.
    pub async fn heal(
        &self,
        start: Offset,
        batches: Vec<Batch>,
    ) -> Result<Option<Offset>, ChangeError> {
        let log = self.clone();
        self.command(|reply| Command::Heal { log, start, batches, reply }).await
    }

    /// The committer's part: nothing is cut or removed meanwhile.
    pub(crate) async fn put_in_place(
        &self,
        start: Offset,
        batches: Vec<Batch>,
    ) -> io::Result<Result<Option<Offset>, ChangeError>> {
        let (damage, next) = match self.fits(start, &batches) {
            Ok(fits) => fits,
            Err(error) => return Ok(Err(error)),
        };
        // A device may refuse what lies around the bytes as well, and a file may have no space for them: then the range stays
        // as it is, and nothing else is any worse.
        let unwritable = |error: io::Error| {
            Ok(Err(ChangeError::Unwritable { start, reason: error.to_string() }))
        };
        let file = match self.segment_file(damage.start.segment).await {
            Ok(file) => file,
            Err(error) => return unwritable(error),
        };
        let parts = batches.into_iter().flat_map(|batch| {
            let (header, payload) = batch.into_parts();
            [header, payload]
        });
        if let Err(error) = file.write_at(damage.start.position, parts.collect()).await {
            return unwritable(error);
        }
        file.sync_data().await?;
        let mut state = self.lock();
        // Who met the same meanwhile knows no more of it.
        state.damages.retain(|known| *known != damage);
        let is_left = next.offset < damage.end;
        if is_left {
            state.add_damage(Damage { start: next, ..damage });
        }
        if let Some(segment) = state.segment(damage.start.segment) {
            segment.sound.add(damage.start.position, next.position);
        }
        state.drop_partial_index(damage.start.segment);
        tracing::info!(
            partition = %self.inner.partition, start = %damage.start.offset, end = %next.offset,
            "a damaged range is whole again"
        );
        Ok(Ok(is_left.then_some(next.offset)))
    }

    /// The damage that begins at `start`, and where `batches` end in it.
    fn fits(&self, start: Offset, batches: &[Batch]) -> Result<(Damage, Point), ChangeError> {
        let state = self.lock();
        let unfit = ChangeError::Unfit { start };
        let damage = state.damages.iter().find(|damage| damage.start.offset == start).copied();
        let Some(damage) = damage.filter(|_| !state.deleted) else { return Err(unfit) };
        let mut next = damage.start;
        for batch in batches {
            let header = batch.header();
            let is_sound = planted(Mutant::HealsUnchecked)
                || batch.check_crc().is_ok()
                    && header.leader_epoch().is_some()
                    && state.epochs.vouch_for(header);
            if !is_sound || header.base_offset() != next.offset {
                return Err(unfit);
            }
            next.offset = header.end_offset();
            next.position += header.bytes_total() as u64;
        }
        let is_whole = (next.offset, next.position) == (damage.end, damage.end_position);
        let is_part = next.offset < damage.end && next.position < damage.end_position;
        match is_whole || is_part && next.offset > start {
            true => Ok((damage, next)),
            false => Err(unfit),
        }
    }
}
