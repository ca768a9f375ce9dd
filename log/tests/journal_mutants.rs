//! The planted bugs that live in the journal are each seen (`--features mutants`).
#![cfg(feature = "mutants")]

mod journal_support;

use journal_support::*;
use log::journal::Frame;
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use sim::plain::block_on;
use types::mutant::{Mutant, plant};

/// Appends until `n` groups are acknowledged or one is refused.
async fn acknowledged(disk: &SimDisk, n: u64) -> Vec<Frame> {
    let mut journal = open(disk).await.expect("opens").journal;
    let mut frames = Vec::new();
    for at in 0..n {
        let frame = data(1, at * 20_000, 20_000, at as u8);
        if journal.append_group(vec![frame.clone()]).await.is_err() {
            break;
        }
        frames.push(frame);
    }
    frames
}

/// Whether everything acknowledged is there after a power cut or is reported.
fn holds(seed: u64, fault: Option<DiskFault>, rots: bool) -> bool {
    block_on(async {
        let disk = disk(seed);
        if let Some(fault) = fault {
            disk.inject(Injection { path: ".journal".into(), op: Op::Sync, skip: 3, fault });
        }
        let frames = acknowledged(&disk, 6).await;
        if rots {
            let path = files(&disk)[0].0.clone();
            disk.rot(&path, 8192 + 300, 4).expect("rots");
        }
        let disk = disk.power_cut();
        let Ok(replayed) = open(&disk).await else { return false };
        let all = steps(&frames);
        let missing = all.len() - replayed.steps().iter().filter(|step| all.contains(step)).count();
        missing == replayed.damages.len() && (rots || missing == 0)
    })
}

/// One test: the planted bug is a property of the process.
#[test]
fn planted_bugs_of_the_journal_are_seen() {
    let rounds: [(Mutant, Option<DiskFault>, bool); 3] = [
        (Mutant::TruncateAtFirstBadCrc, None, true),
        (Mutant::RetryFailedSync, Some(DiskFault::FailedSync), false),
        (Mutant::DirectoryNotSynced, None, false),
    ];
    for (mutant, fault, rots) in rounds {
        plant(None);
        assert!((0..50).all(|seed| holds(seed, fault, rots)), "sound without {}", mutant.name());
        plant(Some(mutant));
        assert!(!(0..50).all(|seed| holds(seed, fault, rots)), "{} is seen", mutant.name());
    }
    plant(None);
}
