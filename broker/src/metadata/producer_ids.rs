//! Producer ids, handed out from blocks that the metadata log has given to this broker for good (I45).
//!
//! A block is durable before its first id leaves; what a crash leaves unused of it is never used.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use env::Env;
use types::mutant::{Mutant, planted};
use types::{BrokerId, ProducerId};

use super::Metadata;
use crate::error_map::Refused;

/// Ids that the planted bug takes without asking.
const BLOCK_IDS: i64 = 1000;

/// The ids this broker may hand out.
#[derive(Default)]
pub(crate) struct ProducerIds {
    blocks: Mutex<VecDeque<Range<i64>>>,
}

impl ProducerIds {
    /// An id that nobody has or had.
    pub(crate) async fn next<E: Env>(
        &self,
        metadata: &Metadata<E>,
        broker: BrokerId,
    ) -> Result<ProducerId, Refused> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            if planted(Mutant::ProducerIdNotDurable) {
                let first = metadata.view().image.next_producer_id();
                self.add(first..first + BLOCK_IDS);
                continue;
            }
            let epoch = metadata.view().image.broker(broker).map(|known| known.epoch);
            let block = metadata
                .change(move |controller| {
                    controller.allocate_producer_ids(broker, epoch.unwrap_or_default())
                })
                .await??;
            self.add(block.first.0..block.first.0 + block.count);
        }
    }

    fn take(&self) -> Option<ProducerId> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let block = blocks.front_mut()?;
            match block.next() {
                Some(id) => return Some(ProducerId(id)),
                None => blocks.pop_front(),
            };
        }
    }

    fn add(&self, block: Range<i64>) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).push_back(block);
    }
}
