//! Stand-ins for neighbours that are not there yet.
#![allow(missing_docs, dead_code)]
use std::time::Duration;
use types::*;
#[derive(Clone, Debug)]
pub struct BrokerSettings;
impl BrokerSettings {
    pub fn connections_max_idle(&self) -> Duration {
        Duration::from_secs(600)
    }
    pub fn socket_request_bytes_max(&self) -> usize {
        100 << 20
    }
    pub fn connections_max(&self) -> usize {
        usize::MAX
    }
    pub fn connections_per_ip_max(&self, _ip: std::net::IpAddr) -> usize {
        usize::MAX
    }
}
#[derive(Debug)]
pub struct Image;
pub struct Controller;
pub struct MetadataRecord;
pub mod replica {
    use types::*;
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum CommitRule {
        Durable,
        Written,
    }
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct LocalEnds {
        pub durable: Offset,
        pub written: Offset,
    }
    pub struct Leader {
        epoch: LeaderEpoch,
        rule: CommitRule,
        ends: LocalEnds,
        high_watermark: Offset,
    }
    impl Leader {
        pub fn new(epoch: LeaderEpoch, rule: CommitRule, ends: LocalEnds) -> Leader {
            let mut leader = Leader { epoch, rule, ends, high_watermark: Offset::ZERO };
            leader.on_local(ends);
            leader
        }
        pub fn epoch(&self) -> LeaderEpoch {
            self.epoch
        }
        pub fn begin_epoch(&mut self, epoch: LeaderEpoch, ends: LocalEnds) {
            self.epoch = epoch;
            self.on_local(ends);
        }
        pub fn set_rule(&mut self, rule: CommitRule, ends: LocalEnds) {
            self.rule = rule;
            self.on_local(ends);
        }
        pub fn on_local(&mut self, ends: LocalEnds) {
            self.ends = ends;
            self.high_watermark = self.high_watermark.max(self.local_end());
        }
        pub fn local_end(&self) -> Offset {
            match self.rule {
                CommitRule::Durable => self.ends.durable,
                CommitRule::Written => self.ends.written,
            }
        }
        pub fn high_watermark(&self) -> Offset {
            self.high_watermark
        }
    }
}
