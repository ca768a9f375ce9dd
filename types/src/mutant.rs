//! Planted bugs: each proves that a checker of the simulator bites (SIMULATION.md section 8; SPEC.md section 9).
//!
//! A place in the product asks [`planted`]; without the `mutants` feature the answer is a constant `false` and the
//! compiler removes the wrong branch. With it the simulator chooses one bug per run.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// Every planted bug.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$name => $text,)*
                }
            }
        }
    };
}

mutants! {
    /// M1: produce is acknowledged before the sync that covers it.
    AckBeforeSync = "ack-before-sync",
    /// M5, KAFKA-10533: a metadata record counts as committed before its own sync.
    MetadataAckBeforeSync = "metadata-ack-before-sync",
    /// M6: a vote is not stored before it is given.
    VoteNotStored = "vote-not-stored",
    /// I19: a vote for a candidate whose log is shorter.
    VoteForShorterLog = "vote-for-shorter-log",
    /// I39: a leader of the quorum counts its own log before it is synced.
    QuorumCountsUnsynced = "quorum-counts-unsynced",
    /// I39: a follower of the quorum asks for more, and so reports its end, before that is synced.
    FetchBeforeSync = "fetch-before-sync",
    /// I38, Raft figure 8: a leader commits records of earlier epochs by counting.
    CommitsOldEpoch = "commits-old-epoch",
    /// L1: a voter's removal counts for itself before it is committed.
    RemovalCountsAtOnce = "removal-counts-at-once",
    /// I42: voters change again before the last change is committed.
    VoterChangesOverlap = "voter-changes-overlap",
    /// I11: a checkpoint frees a journal group whose frames no log has counted yet.
    UncountedGroupFreed = "uncounted-group-freed",
    /// M7: recovery truncates at the first bad checksum although a later group names a durable point beyond it.
    TruncateAtFirstBadCrc = "truncate-at-first-bad-crc",
    /// M8: a failed sync is tried again and its success believed.
    RetryFailedSync = "retry-failed-sync",
    /// KAFKA-10778: appends are accepted between an I/O error and the directory going offline.
    AppendAfterIoError = "append-after-io-error",
    /// M24, KAFKA-3968: a directory is not synced after creating or renaming a file in it.
    DirectoryNotSynced = "directory-not-synced",
    /// KAFKA-9892: the producer snapshot is not forced before the log it summarises is retired.
    SnapshotNotForced = "snapshot-not-forced",
    /// M15: an index is trusted ahead of its log after a crash.
    StaleIndexKept = "stale-index-kept",
    /// M16: the epoch cache keeps entries past a truncation.
    EpochCacheNotTruncated = "epoch-cache-not-truncated",
    /// A read moves on to the next segment when a batch does not fit the byte budget.
    ReadSkipsSegment = "read-skips-segment",
    /// Retention takes an unknown timestamp for an old one after a restart.
    RetentionUnknownTimestamp = "retention-unknown-timestamp",
    /// Retention that nothing calls.
    RetentionNotCalled = "retention-not-called",
    /// An address may have as many connections as it likes.
    AddressLimitIgnored = "address-limit-ignored",
    /// A topic's configuration is accepted and stored, and its logs never hear of it.
    ConfigIgnored = "config-ignored",
    /// I38, I46: a node serves by metadata that are written and not committed.
    UncommittedApplied = "uncommitted-applied",
    /// L1: a node that waits for an election does not stand when its time is up.
    ElectionUntimed = "election-untimed",
    /// I39: what topics inherit from the broker reaches their logs with the next start only.
    DefaultsUnheard = "defaults-unheard",
    /// I39: AlterConfigs leaves values that it does not name.
    UnnamedSettingsStay = "unnamed-settings-stay",
    /// I39: a feature may have any level.
    FeatureLevelUnchecked = "feature-level-unchecked",
    /// I39: what is set for all brokers counts before what is set for one.
    WrongLevelCounts = "wrong-level-counts",
    /// I2, I8: bytes truncated before a completed sync come back, because TRUNCATE was not durable first.
    TruncateNotJournaled = "truncate-not-journaled",
    /// I12: RESET is not durable before a log is emptied.
    ResetNotJournaled = "reset-not-journaled",
    /// I6, I12: what a frame removes is removed again before the frame is known to be durable.
    UndurableRedone = "undurable-redone",
    /// I8, I14: a segment that recovery removed behind the end counts when a power cut has put it back among later ones.
    DeadSegmentsReturn = "dead-segments-return",
    /// I8: what one recovery has cut, and the next finds cut, is taken for synced.
    CutForgotten = "cut-forgotten",
    /// I4: recovery takes epochs from records below the log's start.
    EpochsOfTheDead = "epochs-of-the-dead",
    /// I36: a broker serves by the controller's word before it knows the metadata that it rests on.
    ContactBeforeMetadata = "contact-before-metadata",
    /// I36: a leader that stood still takes a fetch for new that was sent long ago.
    OldFetchCounts = "old-fetch-counts",
    /// I16, I17: a follower's batches bear the newest epoch of those that came with them.
    ReplicatedRestamped = "replicated-restamped",
    /// I47: what a producer without state sent behind a batch that was refused for now is stored before it.
    TurnedAwayForgotten = "turned-away-forgotten",
    /// L1: who votes is not written to the log when all are known by their directories.
    VotersUnwritten = "voters-unwritten",
    /// L1: nobody remembers where a leader of the quorum says that it is.
    LeaderUnplaced = "leader-unplaced",
    /// L1: a node that is no broker waits for its own registration.
    ControllerAwaitsItself = "controller-awaits-itself",
    /// I40: a snapshot of the metadata lacks settings.
    SnapshotLacksConfigs = "snapshot-lacks-configs",
    /// I1: what a process has written or checked once is believed for ever.
    BelievedForEver = "believed-for-ever",
    /// L9: what is damaged in one replica is left so.
    DamageLeft = "damage-left",
    /// I14: what another replica gives is put in the place of a damaged range without a look at it.
    HealsUnchecked = "heals-unchecked",
    /// I4: the epoch that is none (-1) is answered as one that is older than all.
    NoEpochAnswered = "no-epoch-answered",
    /// E8: a log whose directory is not there is made anew in another.
    HomeForgotten = "home-forgotten",
    /// E10: a process that stood still takes its disk for broken.
    PauseBlamedOnDisk = "pause-blamed-on-disk",
    /// E10: one log directory that fails takes the node with it.
    OneTakesAll = "one-takes-all",
    /// E10: groups are listed only when every shard can load.
    OneShardHidesAll = "one-shard-hides-all",
    /// E10: a directory that failed is given new partitions.
    FailedStillChosen = "failed-still-chosen",
    /// E11: what must go on without space does not get what was kept for it.
    BallastKept = "ballast-kept",
    /// E11: a journal whose files are whole or not there at all: a start on a full disk finds no space for one.
    WholeFilesOnly = "whole-files-only",
    /// E11: a disk that was full once is full for good.
    FullForGood = "full-for-good",
    /// I14: the scrubber walks cold segments and does not look at checksums.
    ScrubberBlind = "scrubber-blind",
    /// I14: a start gives up all that lies behind a rotten batch in the last segment.
    TailGivenUp = "tail-given-up",
    /// I3, I14: a start believes every leader epoch of a page-cache log, which no checksum covers.
    EpochRotBelieved = "epoch-rot-believed",
    /// The scrubber reads as fast as it can.
    ScrubberUnpaced = "scrubber-unpaced",
    /// I14: what the device refuses to read is an I/O error to whoever asks, and hides the rest of its segment.
    RefusalHidesRest = "refusal-hides-rest",
    /// I14: what the device refused to read once is not asked for again.
    RefusedForGood = "refused-for-good",
    /// I14: look-ups by time believe headers whose checksums nobody has looked at.
    TimesByHeaders = "times-by-headers",
    /// I81: DELETE of a log is not durable before its segments are unlinked.
    DeleteNotJournaled = "delete-not-journaled",
    /// I20, P12: a change of `min.insync.replicas` leaves eligible who was.
    MinIsrChangeUnheard = "min-isr-change-unheard",
    /// P12: `min.insync.replicas` of all brokers can be taken away, and each node's file counts again.
    MinIsrOfFile = "min-isr-of-file",
    /// I28: a replica that has lost what it reported stays in sync or eligible.
    LostStaysEligible = "lost-stays-eligible",
    /// P11, M25: of replicas that may all have lost records the one that led last is elected.
    LastLeaderElected = "last-leader-elected",
    /// P11: of replicas that may all have lost records one is elected while others may hold more.
    RecoversWithoutAll = "recovers-without-all",
    /// P11: a replica that may have lost records is forgotten while the others are in sync, dead or alive.
    LostForgotten = "lost-forgotten",
    /// L4, P11: nobody is asked how far the logs reach of which all may have lost records.
    LogEndsUnasked = "log-ends-unasked",
    /// P11: what an empty directory in the place of a replica's own may hold is waited for.
    EmptiedAwaited = "emptied-awaited",
    /// L3: replicas whose disk was replaced are left where they were.
    HomesUnasked = "homes-unasked",
    /// L3: what a throttled replica was given at once is never paid for.
    ThrottleUnpaid = "throttle-unpaid",
    /// Automatic balance leaves everything where it lies.
    UnevenUnseen = "uneven-unseen",
    /// Automatic balance takes replicas together in one rack.
    BalanceForgetsRacks = "balance-forgets-racks",
    /// I27: a leader that is none any more changes who is in sync.
    DeposedChangesIsr = "deposed-changes-isr",
    /// I34: a reassignment ends before those that it adds are in sync.
    MoveEndsEarly = "move-ends-early",
    /// I26: a replica joins that is registered otherwise than its leader knows.
    StaleReplicaJoins = "stale-replica-joins",
    /// I35: what an older registration of a broker says is believed.
    StaleBrokerBelieved = "stale-broker-believed",
    /// I43: a second process of a broker id registers while the first one lives.
    TwinRegisters = "twin-registers",
    /// L2: a new controller, which has heard nobody yet, fences all at once.
    NewControllerFences = "new-controller-fences",
    /// I15: a broker may lead before it has applied its own registration.
    UnfencedBehind = "unfenced-behind",
    /// E31: a broker stops before the others know that they lead what it led.
    StopsUnheard = "stops-unheard",
    /// M2: a leader commits over the in-sync set it knows, and forgets those it has proposed.
    ProposedForgotten = "proposed-forgotten",
    /// M3, I26: a replica joins that lacks what the term began with.
    JoinsBelowEpochStart = "joins-below-epoch-start",
    /// M26, I29: a leader goes on with a smaller in-sync set before anybody has agreed.
    ShrinkCountsAtOnce = "shrink-counts-at-once",
    /// I29: a leader takes the in-sync set from the answer to its proposal.
    AnswerCountsAsMetadata = "answer-counts-as-metadata",
    /// KIP-101: a follower cuts its log at the high watermark when a term begins.
    TruncateToHighWatermark = "truncate-to-high-watermark",
    /// I25: a follower gives up what is committed to whoever leads.
    CommittedGivenUp = "committed-given-up",
    /// KIP-279: a follower cuts where the leader's epoch ends, whatever its own log holds there.
    CutByLeaderAlone = "cut-by-leader-alone",
    /// I9, I22: a follower tells the end of its log as synced.
    UnsyncedReportedDurable = "unsynced-reported-durable",
    /// I30: an election that nobody needs is told to have been held.
    NeedlessElection = "needless-election",
    /// M9: no duplicate detection.
    NoDeduplication = "no-deduplication",
    /// M10: a duplicate is answered before the original is committed.
    DuplicateBeforeCommit = "duplicate-before-commit",
    /// I49: a topic that dates its records tells a duplicate when it came.
    DuplicateDatedAnew = "duplicate-dated-anew",
    /// A batch that its topic recompresses keeps its payload and bears the other codec's name.
    RecompressedInName = "recompressed-in-name",
    /// Sequence wrap-around is off by one.
    SequenceWrapOffByOne = "sequence-wrap-off-by-one",
    /// Producer state is not rebuilt by recovery.
    ProducerStateNotRebuilt = "producer-state-not-rebuilt",
    /// I44: a fetch or produce by name reaches the successor of a deleted topic.
    TopicIdIgnored = "topic-id-ignored",
    /// I39: a topic that one request names and means by id is deleted.
    MeantTwiceDeleted = "meant-twice-deleted",
    /// I45: a producer id block is handed out before it is durable.
    ProducerIdNotDurable = "producer-id-not-durable",
    /// I24: a consumer reads past the high watermark.
    ReadPastHighWatermark = "read-past-high-watermark",
    /// I24: a follower gives consumers all that it holds.
    FollowerShowsAll = "follower-shows-all",
    /// I36: a follower serves consumers however long ago its leader and the controller were heard.
    FollowerServesForEver = "follower-serves-for-ever",
    /// M17: an offset commit of a fenced member is accepted.
    FencedMemberCommits = "fenced-member-commits",
    /// M18: two members own one partition in one generation.
    TwoOwners = "two-owners",
    /// KAFKA-8069, KAFKA-13636: offsets expire early after the coordinator loads.
    OffsetsExpireEarly = "offsets-expire-early",
    /// I70: an offset commit is answered before it is committed.
    OffsetCommitBeforeSync = "offset-commit-before-sync",
    /// Lag takes a group's offset for that of the last record it has read.
    LagOffByOne = "lag-off-by-one",
    /// What a client pushes of its metrics is accepted and not kept.
    TelemetryLost = "telemetry-lost",
    /// Clients may push as often as they like.
    TelemetryUnthrottled = "telemetry-unthrottled",
    /// I65: a generation goes back after the coordinator reloads.
    GenerationRegresses = "generation-regresses",
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(u32::MAX);

/// Whether `mutant` is planted in this run.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u32
}

/// Whether `mutant` is planted in this run: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}

/// Plants the bug that `FORETOLD_MUTANT` names, if it names one: `cargo sim mutants` runs tests with each bug that seeds do not
/// find.
#[cfg(feature = "mutants")]
#[allow(clippy::disallowed_methods, reason = "whoever runs the tests says which bug to plant")]
pub fn plant_from_environment() {
    if let Ok(name) = std::env::var("FORETOLD_MUTANT") {
        plant(Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name));
    }
}

/// Chooses the planted bug of this process; `None` for the sound product.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    let value = mutant.map_or(u32::MAX, |m| m as u32);
    PLANTED.store(value, std::sync::atomic::Ordering::Relaxed);
}
