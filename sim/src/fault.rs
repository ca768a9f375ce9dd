//! The table of the 30 kinds of fault. `foretold-sim list` prints it with how often each has struck.

use serde::{Deserialize, Serialize};

use crate::disk::DiskFault;
use crate::net::NetFault;

macro_rules! table {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum FaultKind {
            $(#[doc = $text] #[serde(rename = $code)] $name,)*
        }

        impl FaultKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [FaultKind] = &[$(FaultKind::$name,)*];

            /// Its number in the table.
            pub const fn code(self) -> &'static str {
                match self { $(FaultKind::$name => $code,)* }
            }

            /// What it does.
            pub const fn text(self) -> &'static str {
                match self { $(FaultKind::$name => $text,)* }
            }
        }
    };
}

table! {
    Loss = "N1", "a packet is lost and comes later as a retransmission";
    Delay = "N2", "a packet takes long";
    Reorder = "N3", "packets of two connections change places";
    Clog = "N4", "a link delivers nothing for a while";
    Partition = "N5", "two groups of nodes do not hear each other";
    OneWay = "N6", "one direction of a link is cut";
    Isolate = "N7", "one node hears nobody";
    HalfOpen = "N8", "a machine lost power and its peers have not heard";
    Reset = "N9", "a connection is reset";
    ConnectTimeout = "N10", "a connection attempt is never answered";
    SlowLink = "N11", "a link has little bandwidth";
    LateBytes = "N12", "bytes arrive on an old connection after its client has connected again";
    Crash = "K1", "a process is killed at any await or I/O and restarted";
    Pause = "K2", "a process stands still while time runs";
    Wipe = "K3", "a broker loses its disks and joins again (needs a cluster)";
    DuplicateId = "K4", "a second process claims the same broker id (needs a cluster)";
    VersionMix = "K5", "versions run side by side (needs a second version)";
    WallOffset = "C1", "a node's wall clock is off";
    Drift = "C2", "a node's clocks run fast or slow";
    WallStep = "C3", "a node's wall clock steps forward or back";
    SlowDisk = "D1", "a disk operation takes a hundred times as long";
    HangingSync = "D2", "a sync hangs";
    ErrorOnce = "D3", "a disk operation fails once";
    ErrorSticky = "D4", "a file fails until it is mended";
    NoSpace = "D5", "somebody else fills the disk";
    FailedSync = "D6", "a sync fails, its pages are gone, the next sync says ok";
    PowerCut = "D7", "a power cut loses or tears unsynced pages and sectors";
    EntryLost = "D8", "a power cut loses a name that was not synced";
    BitRot = "D9", "bits flip, at rest or on a read";
    LostWrite = "D10", "a write is lost or lands elsewhere although its sync said ok";
}

impl From<DiskFault> for FaultKind {
    fn from(fault: DiskFault) -> FaultKind {
        match fault {
            DiskFault::Slow => FaultKind::SlowDisk,
            DiskFault::HangingSync => FaultKind::HangingSync,
            DiskFault::ErrorOnce => FaultKind::ErrorOnce,
            DiskFault::ErrorSticky => FaultKind::ErrorSticky,
            DiskFault::NoSpace => FaultKind::NoSpace,
            DiskFault::FailedSync => FaultKind::FailedSync,
            DiskFault::PowerCut => FaultKind::PowerCut,
            DiskFault::EntryLost => FaultKind::EntryLost,
            DiskFault::BitRot => FaultKind::BitRot,
            DiskFault::LostWrite => FaultKind::LostWrite,
        }
    }
}

impl From<NetFault> for FaultKind {
    fn from(fault: NetFault) -> FaultKind {
        FaultKind::ALL[fault as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_thirty_and_each_maps_to_its_own() {
        assert_eq!(FaultKind::ALL.len(), 30);
        let net: Vec<_> = NetFault::ALL.iter().map(|f| FaultKind::from(*f).code()).collect();
        assert_eq!(net.first(), Some(&"N1"));
        assert_eq!(net.last(), Some(&"N12"));
        let disk: Vec<_> = DiskFault::ALL.iter().map(|f| FaultKind::from(*f).code()).collect();
        assert_eq!(disk, ["D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "D10"]);
    }
}
