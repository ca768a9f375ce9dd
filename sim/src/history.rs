//! What the clients of a run did and saw: plain values in the order in which they ended, judged by `checker::history` and
//! `checker::groups`. The same form can hold the history of a real cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A partition by name. A topic that is deleted and created again gets a name of its own per life here.
pub type Partition = Arc<str>;

/// When an operation began and ended, in true nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Span {
    /// It had not begun before this.
    pub from: u64,
    /// It had ended by this.
    pub to: u64,
}

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// It happened.
    Ok(T),
    /// It did not happen and never will.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// A record sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The producer instance.
    pub producer: u32,
    /// Whether it is idempotent.
    pub idempotent: bool,
    /// Whether success promises that the record survives everything within the fault budget.
    pub promised: bool,
    /// Where to.
    pub partition: Partition,
    /// The unique value.
    pub value: u64,
    /// When.
    pub span: Span,
    /// Offset, if the broker told.
    pub outcome: Outcome<Option<i64>>,
}

/// Records of one partition that one poll returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Polled {
    /// The consumer instance.
    pub consumer: u32,
    /// Changes with each seek, reset and assignment: within a turn a consumer reads on without a gap.
    pub turn: u32,
    /// The partition.
    pub partition: Partition,
    /// Offsets and values.
    pub records: Vec<(i64, u64)>,
    /// When.
    pub span: Span,
}

/// The time of a record of a topic that dates its records itself: as a produce was answered, or as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dated {
    /// The partition.
    pub partition: Partition,
    /// The record.
    pub offset: i64,
    /// The broker's time of the append, in milliseconds.
    pub time: Option<i64>,
    /// Who says so.
    pub how: &'static str,
}

/// An end of a log that a client was told (ListOffsets latest).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndTold {
    /// The partition.
    pub partition: Partition,
    /// The high watermark.
    pub end: i64,
    /// The log start.
    pub start: i64,
    /// When.
    pub span: Span,
}

/// A group's offset written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The group.
    pub group: Arc<str>,
    /// The member that signed it.
    pub member: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The next offset to read.
    pub offset: i64,
    /// When.
    pub span: Span,
    /// What became of it.
    pub outcome: Outcome<()>,
    /// It may have been asked for more than once, so that an earlier attempt may yet arrive.
    pub lingers: bool,
}

/// A group's offset read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetRead {
    /// The group.
    pub group: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The answer.
    pub offset: Option<i64>,
    /// When.
    pub span: Span,
}

/// A member was given partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The group.
    pub group: Arc<str>,
    /// The group's generation.
    pub generation: i32,
    /// The consumer instance, as in [`Polled`].
    pub consumer: u32,
    /// When that consumer began, in true nanoseconds: it joined later.
    pub born: u64,
    /// The member.
    pub member: Arc<str>,
    /// The name of a static member: its successor takes over within one generation.
    pub instance: Option<Arc<str>>,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// When the member learned of it.
    pub at: u64,
}

/// A topic as an admin saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicLife {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity, once known.
    pub id: Option<u128>,
    /// Its creation.
    pub created: (Span, Outcome<()>),
    /// Its deletion, if asked for: from the first time that it was.
    pub deleted: Option<(Span, Outcome<()>)>,
    /// A deletion was left without an answer: it may yet arrive, and end a later life of the name.
    pub lingers: bool,
}

/// The topics, as a client was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicsTold {
    /// Identities by name; not every version of the answer tells them.
    pub topics: BTreeMap<Arc<str>, Option<u128>>,
    /// When.
    pub span: Span,
}

/// A partition's log as read when all was quiet: whose, its start, its records as (offset, value).
pub type LastRead = (Partition, i64, Vec<(i64, u64)>);

impl History {
    /// What was done to, and seen of, records of some partitions.
    pub fn of(&self, is_meant: impl Fn(&str) -> bool) -> History {
        let (sends, polls) = (self.sends.iter(), self.polls.iter());
        let (ends, last) = (self.ends.iter(), self.last.iter());
        History {
            sends: sends.filter(|sent| is_meant(&sent.partition)).cloned().collect(),
            polls: polls.filter(|poll| is_meant(&poll.partition)).cloned().collect(),
            ends: ends.filter(|told| is_meant(&told.partition)).cloned().collect(),
            fetched: self.fetched.iter().filter(|(of, ..)| is_meant(of)).cloned().collect(),
            last: last.filter(|(partition, ..)| is_meant(partition)).cloned().collect(),
            ..History::default()
        }
    }
}

/// Everything.
#[derive(Clone, Default, Debug)]
pub struct History {
    /// Records sent.
    pub sends: Vec<Sent>,
    /// Records polled.
    pub polls: Vec<Polled>,
    /// Times of records, of topics that date them.
    pub dated: Vec<Dated>,
    /// The log of each partition as read from start to end when all was quiet.
    pub last: Vec<LastRead>,
    /// Ends told.
    pub ends: Vec<EndTold>,
    /// High watermarks told with what a fetch gave: partition, watermark, and within when it was asked and answered.
    pub fetched: Vec<(Partition, i64, Span)>,
    /// Group offsets written.
    pub commits: Vec<Committed>,
    /// Group offsets read.
    pub reads: Vec<OffsetRead>,
    /// Assignments.
    pub grants: Vec<Granted>,
    /// Topics, the lives of one name in their order.
    pub topics: Vec<TopicLife>,
    /// Lists of topics.
    pub topics_told: Vec<TopicsTold>,
    /// Producer ids handed out, with epochs.
    pub producers: Vec<(i64, i16)>,
}
