//! What can go wrong with a disk (D1 to D10), how often, and how often it did.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One kind of disk fault, numbered as in the fault table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum DiskFault {
    /// D1: an operation takes a hundred times as long.
    Slow,
    /// D2: a sync hangs.
    HangingSync,
    /// D3: one operation fails with EIO.
    ErrorOnce,
    /// D4: from now on every operation on the file fails with EIO.
    ErrorSticky,
    /// D5: no space left.
    NoSpace,
    /// D6: a sync fails, its dirty pages are gone, and the next sync says ok.
    FailedSync,
    /// D7: a power cut loses or tears an unsynced page.
    PowerCut,
    /// D8: a power cut loses a directory entry, rename or removal that was not synced.
    EntryLost,
    /// D9: bits flip, at rest or on a read.
    BitRot,
    /// D10: a write is lost or lands elsewhere although its sync said ok.
    LostWrite,
}

impl DiskFault {
    /// Every kind, in the order of the table.
    pub const ALL: [DiskFault; 10] = [
        DiskFault::Slow,
        DiskFault::HangingSync,
        DiskFault::ErrorOnce,
        DiskFault::ErrorSticky,
        DiskFault::NoSpace,
        DiskFault::FailedSync,
        DiskFault::PowerCut,
        DiskFault::EntryLost,
        DiskFault::BitRot,
        DiskFault::LostWrite,
    ];
}

/// How often each fault strikes, per million chances. All zero by default.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FaultRates {
    /// D1, per operation.
    pub slow: u32,
    /// D2, per sync.
    pub hanging_sync: u32,
    /// How long a sync hangs; for ever when absent.
    pub hang: Option<Duration>,
    /// D3, per read.
    pub error_read: u32,
    /// D3, per write, size change, creation, rename or removal.
    pub error_write: u32,
    /// D4, per write.
    pub error_sticky: u32,
    /// D6, per sync of a file.
    pub failed_sync: u32,
    /// D9, per read: the medium is sound, the answer is not.
    pub rot_read: u32,
    /// D10, per page of a sync.
    pub lost_write: u32,
    /// D10, per sync of a file: one page lands on another page of the same file.
    pub misdirected_write: u32,
}

/// How often each kind of fault has struck.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FaultCounts([u64; 10]);

impl FaultCounts {
    /// Strikes of one kind.
    pub fn of(&self, fault: DiskFault) -> u64 {
        self.0[fault as usize]
    }

    /// Counts strikes.
    pub fn add(&mut self, fault: DiskFault, times: u64) {
        self.0[fault as usize] += times;
    }

    /// Strikes of all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
