//! Producer ids, handed out from blocks that the metadata log has given to this broker for good (I45).
//!
//! A block is durable before its first id leaves; what a crash leaves unused of it is never used.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use cluster::controller::ProducerIdBlock;
use env::Env;
use types::mutant::{Mutant, planted};
use types::{ErrorCode, ProducerId};
use wire::allocate_producer_ids::AllocateProducerIdsRequest;

use super::MetadataUnavailable;
use crate::error_map::Refused;
use crate::shared::Shared;

/// Ids that the planted bug takes without asking.
const BLOCK_IDS: i64 = 1000;

/// The ids this broker may hand out.
#[derive(Default)]
pub(crate) struct ProducerIds {
    blocks: Mutex<VecDeque<Range<i64>>>,
}

impl ProducerIds {
    /// An id that nobody has or had.
    pub(crate) async fn next<E: Env>(&self, broker: &Shared<E>) -> Result<ProducerId, Refused> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            if planted(Mutant::ProducerIdNotDurable) {
                let first = broker.image().next_producer_id();
                self.add(first..first + BLOCK_IDS);
                continue;
            }
            let block = allocate(broker).await?;
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

/// A block of this broker's own, from the active controller.
async fn allocate<E: Env>(broker: &Shared<E>) -> Result<ProducerIdBlock, Refused> {
    let id = broker.broker_id();
    let epoch = broker.image().broker(id).map(|known| known.epoch).unwrap_or_default();
    let allocating =
        broker.metadata().change(move |controller| controller.allocate_producer_ids(id, epoch));
    match allocating.await {
        Err(MetadataUnavailable::NotController) => {}
        outcome => return Ok(outcome??),
    }
    let request = AllocateProducerIdsRequest { broker_id: id.0, broker_epoch: epoch.0 };
    let patience = broker.settings().quorum_request_timeout;
    // Clients ask again.
    let answer = broker.own_way().ask(broker, &request, patience).await;
    let answer = answer.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
    match ErrorCode::from_i16(answer.error_code) {
        Some(ErrorCode::None) => Ok(ProducerIdBlock {
            first: ProducerId(answer.producer_id_start),
            count: i64::from(answer.producer_id_len),
        }),
        _ => Err(ErrorCode::CoordinatorLoadInProgress.into()),
    }
}
