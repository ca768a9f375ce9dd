//! Who is let in: the decision on a new connection, and how often the log says what was decided.
//!
//! Kafka's meaning: at `max.connections` new ones wait (it exempts the listener between brokers, of which a single node
//! has none); beyond `max.connections.per.ip`, or what an override says of the address, they are closed at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use types::Instant;
use types::mutant::{Mutant, planted};

/// The open connections, counted.
#[derive(Default, Debug)]
pub(super) struct Counts {
    total: usize,
    per_ip: BTreeMap<IpAddr, usize>,
}

/// How many there may be, now: the settings may change while connections are open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `max.connections`.
    pub(super) total: usize,
    /// What the address of the new one may have.
    pub(super) of_address: usize,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// It is served, and counted.
    Admit,
    /// It waits until another ends or the limit is raised.
    Wait,
    /// It is closed.
    Refuse,
}

impl Counts {
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Decides on a new connection from `ip`.
    pub(super) fn decide(&mut self, ip: IpAddr, limits: Limits) -> Decision {
        if self.total >= limits.total {
            return Decision::Wait;
        }
        let of_address = self.per_ip.get(&ip).copied().unwrap_or(0);
        if of_address >= limits.of_address && !planted(Mutant::AddressLimitIgnored) {
            return Decision::Refuse;
        }
        self.per_ip.insert(ip, of_address + 1);
        self.total += 1;
        Decision::Admit
    }

    /// A connection from `ip` that was admitted has ended.
    pub(super) fn end(&mut self, ip: IpAddr) {
        self.total -= 1;
        let of_address = self.per_ip.get_mut(&ip).expect("who ends was admitted");
        *of_address -= 1;
        if *of_address == 0 {
            self.per_ip.remove(&ip);
        }
    }
}

/// Lets through so many lines of one kind in each period: a flood must not fill the disk with words about it.
#[derive(Default, Debug)]
pub(super) struct Sparing {
    period_start: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Sparing {
    const PERIOD: Duration = Duration::from_secs(10);

    /// Whether a line may be said now, if `lines_max` may in each period: then with the number of those before it that were
    /// not.
    pub(super) fn line(&mut self, now: Instant, lines_max: u32) -> Option<u64> {
        if self.period_start.is_none_or(|start| now >= start + Self::PERIOD) {
            self.period_start = Some(now);
            self.said = 0;
        }
        if self.said >= lines_max {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_address_at_its_limit_is_refused_and_others_are_not() {
        let mut counts = Counts::default();
        let limits = Limits { total: 9, of_address: 2 };
        let decided = [HERE, HERE, HERE, THERE].map(|ip| counts.decide(ip, limits));
        assert_eq!(decided, [Decision::Admit, Decision::Admit, Decision::Refuse, Decision::Admit]);
        // Who was refused is not counted; the place of one that ends is free.
        assert_eq!(counts.total(), 3);
        counts.end(HERE);
        assert_eq!(counts.decide(HERE, limits), Decision::Admit);
        // An override of zero keeps an address out.
        assert_eq!(counts.decide(THERE, Limits { of_address: 0, ..limits }), Decision::Refuse);
    }

    #[test]
    fn at_the_limit_of_all_who_comes_waits_until_one_ends_or_the_limit_is_raised() {
        let mut counts = Counts::default();
        let limits = Limits { total: 1, of_address: 9 };
        assert_eq!(counts.decide(HERE, limits), Decision::Admit);
        assert_eq!(counts.decide(THERE, limits), Decision::Wait);
        assert_eq!(counts.decide(THERE, Limits { total: 2, ..limits }), Decision::Admit);
        counts.end(HERE);
        // A limit that was lowered closes nobody.
        assert_eq!(counts.decide(HERE, limits), Decision::Wait);
        counts.end(THERE);
        assert_eq!(counts.decide(HERE, limits), Decision::Admit);
        assert_eq!((counts.total(), counts.per_ip.len()), (1, 1));
    }

    #[test]
    fn a_flood_is_told_in_few_lines_with_the_number_of_the_others() {
        let mut sparing = Sparing::default();
        let said = (0..1000).filter(|_| sparing.line(Instant(1), 10).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(sparing.line(Instant(1) + Sparing::PERIOD, 10), Some(990));
        assert_eq!(sparing.line(Instant(1) + Sparing::PERIOD, 10), Some(0));
        assert_eq!(sparing.line(Instant(1) + Sparing::PERIOD, 1), None);
    }
}
