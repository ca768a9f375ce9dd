//! Which partitions this broker serves, and in which directory each log lies: kept in step with the metadata.
//!
//! Owned by the metadata room's task. A log is created before its partition is published, and a partition stops serving
//! before its log is deleted; a log whose topic id the metadata does not know is the rest of a deletion that a crash
//! interrupted, and is deleted (I44: the id, not the name, says whose it is).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::config::BrokerSettings;
use cluster::metadata::{Delta, Image, PartitionInfo, Resource};
use cluster::replica::{Limits, Peer, Registration, Term};
use cluster::telemetry::Subscriptions;
use env::Env;
use log::{ChangeError, Log, LogDir, LogSpec};
use record::ProduceRules;
use types::mutant::{Mutant, planted};
use types::{BrokerId, DirectoryId, ErrorCode, Offset, PartitionIndex, TopicId, TopicPartition};

use super::{Partition, Role, commit_rule, log_config};
use crate::metrics::Metrics;
use crate::replication::{Beginning, Desk, Following};
use crate::shared::{TopicView, View};
use crate::together;

/// The partitions of one broker and their directories.
pub(crate) struct Registry<E: Env> {
    env: E,
    broker: BrokerId,
    dirs: Vec<DataDir<E>>,
    metrics: Arc<Metrics>,
    desk: Arc<Desk<E>>,
    topics: BTreeMap<TopicId, Served<E>>,
    /// Topics with logs that could not be created for want of space: to be tried again.
    unmade: BTreeSet<TopicId>,
}

struct DataDir<E: Env> {
    dir: LogDir<E::Disk>,
    is_offline: bool,
}

/// One topic as it is served.
struct Served<E: Env> {
    view: Arc<TopicView<E>>,
    /// The directory of each partition's log.
    places: Vec<Option<usize>>,
}

impl<E: Env> Registry<E> {
    /// Serves nothing yet.
    pub(crate) fn new(
        env: E,
        broker: BrokerId,
        dirs: Vec<LogDir<E::Disk>>,
        metrics: Arc<Metrics>,
        desk: Arc<Desk<E>>,
    ) -> Registry<E> {
        let dirs = dirs.into_iter().map(|dir| DataDir { dir, is_offline: false }).collect();
        let (topics, unmade) = (BTreeMap::new(), BTreeSet::new());
        Registry { env, broker, dirs, metrics, desk, topics, unmade }
    }

    /// Brings logs and partitions in step with `image` after `delta`, or from nothing if there is none.
    pub(crate) async fn follow(
        &mut self,
        image: &Image,
        settings: &BrokerSettings,
        delta: Option<&Delta>,
    ) {
        let broker = self.broker;
        let changed: BTreeSet<TopicId> = match delta {
            Some(delta)
                if !delta.has_broker_config_changed(broker) || planted(Mutant::DefaultsUnheard) =>
            {
                let configured =
                    delta.topic_configs_changed().filter_map(|name| image.topic_id(name));
                let known = shared_with(image, &delta.brokers_changed);
                delta.topics_changed.iter().copied().chain(configured).chain(known).collect()
            }
            // Topics inherit the broker's values.
            _ => image.topics().map(|topic| topic.id).collect(),
        };
        let removed = match delta {
            Some(delta) => delta.topics_removed.keys().copied().collect(),
            None => {
                self.topics.keys().filter(|id| image.topic_by_id(**id).is_none()).copied().collect()
            }
        };
        self.remove(removed).await;
        // Of what was between two pictures nobody tells: there may have been an unclean election.
        let is_jump = delta.is_none();
        for id in changed {
            self.refresh(image, settings, id, is_jump).await;
        }
    }

    /// Whether logs are missing that a full disk had no space for.
    pub(crate) fn has_unmade(&self) -> bool {
        !self.unmade.is_empty()
    }

    /// Tries again to create what is missing for want of space (E11); whether something is there now that was not.
    pub(crate) async fn make_missing(&mut self, image: &Image, settings: &BrokerSettings) -> bool {
        let before = self.unmade.clone();
        for id in &before {
            self.refresh(image, settings, *id, false).await;
        }
        self.unmade != before
    }

    /// The picture to publish.
    pub(crate) fn view(
        &self,
        image: Arc<Image>,
        offset: Offset,
        settings: Arc<BrokerSettings>,
        subscriptions: Arc<Subscriptions>,
    ) -> View<E> {
        let mut by_name = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        for (id, served) in &self.topics {
            by_name.insert(served.view.name.clone(), served.view.clone());
            by_id.insert(*id, served.view.clone());
        }
        View { image, offset, settings, subscriptions, by_name, by_id }
    }

    /// Deletes the logs that belong to no partition of ours: the rest of deletions that a crash or a failure interrupted. Call
    /// it once, before the first [`Registry::follow`], to which the log of a predecessor would be in the way.
    pub(crate) async fn remove_strays(&self, image: &Image) {
        for DataDir { dir, .. } in &self.dirs {
            for log in dir.logs() {
                let topic = image.topic_by_id(log.topic_id());
                let partition =
                    topic.and_then(|topic| topic.partitions.get(&log.topic_partition().partition));
                if partition.is_none_or(|partition| !partition.replicas.contains(&self.broker)) {
                    tracing::info!(
                        partition = %log.topic_partition(), topic_id = %log.topic_id(),
                        "deleting the log of a topic that does not exist"
                    );
                    self.delete(dir, &log).await;
                }
            }
        }
    }

    /// A directory went offline: its partitions answer so. Returns which it is if another one is left.
    pub(crate) fn on_directory_failed(&mut self, place: usize) -> Option<DirectoryId> {
        self.dirs[place].is_offline = true;
        for served in self.topics.values() {
            for (index, _) in served.places.iter().enumerate().filter(|(_, at)| **at == Some(place))
            {
                if let Some(partition) = &served.view.partitions[index] {
                    partition.close(ErrorCode::KafkaStorageError);
                }
                if let Some(replica) = &served.view.following[index] {
                    replica.fail();
                }
            }
        }
        let is_one_left = self.dirs.iter().any(|dir| !dir.is_offline);
        is_one_left.then(|| self.dirs[place].dir.id())
    }

    async fn remove(&mut self, ids: Vec<TopicId>) {
        for id in ids {
            self.unmade.remove(&id);
            let Some(served) = self.topics.remove(&id) else { continue };
            self.metrics.forget(id);
            for partition in served.view.partitions.iter().flatten() {
                partition.close(ErrorCode::UnknownTopicOrPartition);
            }
            for replica in served.view.following.iter().flatten() {
                replica.end().await;
            }
            // Also those of partitions that are not led here any more, wherever they lie.
            let mut logs = Vec::new();
            for (index, _) in (0..).zip(&served.view.partitions) {
                let (topic, partition) = (served.view.name.clone(), PartitionIndex(index));
                let id_of_log = TopicPartition { topic, partition };
                for DataDir { dir, .. } in &self.dirs {
                    let log = dir.log(&id_of_log).filter(|log| log.topic_id() == id);
                    logs.extend(log.map(|log| (dir, log)));
                }
            }
            let deletions = logs.iter().map(|(dir, log)| self.delete(dir, log)).collect();
            together::all(deletions).await;
        }
    }

    async fn delete(&self, dir: &LogDir<E::Disk>, log: &Log<E::Disk>) {
        if let Err(error) = dir.delete(log).await {
            // The directory is offline, or stopping: the next start finds the stray.
            tracing::warn!(partition = %log.topic_partition(), %error, "a log was not deleted yet");
        }
    }

    /// Creates what is missing of the topic, and tells the rest what has changed.
    async fn refresh(
        &mut self,
        image: &Image,
        settings: &BrokerSettings,
        id: TopicId,
        is_jump: bool,
    ) {
        self.unmade.remove(&id);
        let Some(topic) = image.topic_by_id(id) else { return };
        let own = image.config(&Resource::topic(topic.name.as_str()));
        let producer_id_expiration = settings.producer_id_expiration;
        let limits =
            Limits { lag_max: settings.replica_lag_max, session: settings.broker_session_timeout };
        let settings = settings.topic(&own);
        let rules = Arc::new(settings.produce_rules());
        let config = log_config(&settings, producer_id_expiration);
        let min_isr = settings.min_insync_replicas;
        let throttled = (settings.throttled_leaders, settings.throttled_followers);
        let known = self.topics.remove(&topic.id);
        let mut homeless: Option<(usize, PartitionIndex, DirectoryId)> = None;
        let mut load = self.load();
        let mut plans = Vec::with_capacity(topic.partitions.len());
        for (index, registered) in &topic.partitions {
            let at = usize::try_from(index.0).unwrap_or(usize::MAX);
            let known_place = known.as_ref().and_then(|served| *served.places.get(at)?);
            let spec = LogSpec {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partition: *index,
                config: config.clone(),
            };
            let stance = match () {
                () if registered.leader == Some(self.broker) => Stance::Leads,
                () if registered.replicas.contains(&self.broker) => Stance::Follows,
                () => Stance::Stranger,
            };
            let home = registered.directory_of(self.broker);
            let place = match (known_place, stance) {
                (Some(place), _) => Some(place),
                (None, Stance::Stranger) => None,
                (None, _) => self.place(&spec, home, &mut load),
            };
            // Said when it is met first, not each time that the topic changes.
            if let (None, None, Some(directory)) = (place, &known, home)
                && stance != Stance::Stranger
            {
                let (count, _, _) = homeless.get_or_insert((0, *index, directory));
                *count += 1;
            }
            let of_known = known.as_ref().map(|served| &served.view);
            plans.push(Plan {
                leader: of_known.and_then(|view| view.partition(*index).cloned()),
                follower: of_known.and_then(|view| view.following(*index).cloned()),
                role: Role {
                    replica: self.broker,
                    leader_epoch: registered.leader_epoch,
                    replicas: registered.replicas.clone(),
                    registration: registration(image, registered),
                    min_isr,
                    limits,
                    high_watermark: Offset::ZERO,
                },
                term: Term {
                    epoch: registered.leader_epoch,
                    leader: registered.leader,
                    is_unclean: registered.is_recovering || is_jump && known.is_some(),
                },
                spec,
                place,
                stance,
            });
        }
        if let Some((replicas, first, directory)) = homeless {
            tracing::error!(
                topic = %topic.name, %first, replicas, %directory,
                "their log directory has failed or is not among log.dirs: they are offline until a start with it"
            );
        }
        let elsewhere = plans.iter().map(|plan| plan.stance != Stance::Leads).collect();
        let places =
            plans.iter().map(|plan| plan.place.filter(|_| plan.stance != Stance::Stranger));
        let places = places.collect();
        let mut carried = Vec::with_capacity(plans.len());
        for plan in plans {
            carried.push(self.carry_out(plan, &rules));
        }
        let carried = together::all(carried).await;
        if carried.iter().any(|made| matches!(made, Err(ChangeError::NoSpace))) {
            self.unmade.insert(id);
        }
        let (mut partitions, mut following) = (Vec::new(), Vec::new());
        for made in carried {
            let (leader, follower) = match made {
                Ok(Held::Led(leader)) => (Some(leader), None),
                Ok(Held::Followed(follower)) => (None, Some(follower)),
                Ok(Held::Nothing) | Err(_) => (None, None),
            };
            partitions.push(leader);
            following.push(follower);
        }
        let (name, id) = (topic.name.clone(), topic.id);
        let view = TopicView { name, id, partitions, following, elsewhere, throttled };
        let served = Served { view: Arc::new(view), places };
        self.topics.insert(topic.id, served);
    }

    /// Makes of a replica what the metadata say, on the one log that it has.
    async fn carry_out(
        &self,
        plan: Plan<E>,
        rules: &Arc<ProduceRules>,
    ) -> Result<Held<E>, ChangeError> {
        let Plan { leader, follower, mut role, term, spec, place, stance } = plan;
        if let Some(leader) = &leader {
            role.high_watermark = leader.ends().high_watermark;
        }
        match (stance, &leader, &follower) {
            (Stance::Leads, Some(partition), _) => {
                self.configure(partition.log(), spec).await;
                partition.set_rules(rules.clone(), role.min_isr);
                partition.set_role(role);
                return Ok(Held::Led(partition.clone()));
            }
            (Stance::Follows, _, Some(replica)) => {
                self.configure(replica.log(), spec).await;
                replica.set_rule(commit_rule(replica.log().config().durability_effective()));
                replica.set_term(term);
                return Ok(Held::Followed(replica.clone()));
            }
            _ => {}
        }
        // One tenure on a log ends before the next begins.
        if let Some(partition) = &leader {
            partition.close(ErrorCode::NotLeaderOrFollower);
        }
        if let Some(replica) = &follower {
            role.high_watermark = replica.end().await;
        }
        let Some(place) = place else { return Ok(Held::Nothing) };
        let dir = &self.dirs[place].dir;
        let id = spec.topic_partition();
        if stance == Stance::Stranger {
            if let Some(log) = dir.log(&id).filter(|log| log.topic_id() == spec.topic_id) {
                tracing::info!(partition = %id, "deleting the log of a replica that is on another broker now");
                self.delete(dir, &log).await;
            }
            return Ok(Held::Nothing);
        }
        let created = dir.create(spec).await;
        let log = created.inspect_err(|error| {
            // A full disk says so itself, once; it is asked again and again.
            if *error != ChangeError::NoSpace {
                tracing::error!(partition = %id, %error, "its log cannot be created");
            }
        })?;
        let newest = log.newest_epoch();
        if newest > Some(term.epoch) && stance == Stance::Leads {
            // Better no new records than two histories (I16).
            tracing::error!(partition = %id, ?newest, term = %term.epoch, "the log bears a later term: it is not served");
            return Ok(Held::Nothing);
        }
        let (env, desk) = (self.env.clone(), self.desk.clone());
        let traffic = self.metrics.traffic(log.topic_id());
        tracing::debug!(
            partition = %id, ?stance, term = %term.epoch, leader = ?term.leader, isr = ?role.registration.isr,
            end = %log.ends().log_end, known = %role.high_watermark, "a tenure begins"
        );
        Ok(match stance {
            Stance::Leads => {
                Held::Led(Partition::new(&env, log, role, rules.clone(), traffic, desk))
            }
            _ => Held::Followed(Following::begin(Beginning {
                env,
                replica: self.broker,
                rule: commit_rule(log.config().durability_effective()),
                log,
                term,
                high_watermark: role.high_watermark,
                traffic,
                desk,
            })),
        })
    }

    async fn configure(&self, log: &Log<E::Disk>, spec: LogSpec) {
        if let Err(error) = log.set_config(spec.config).await {
            tracing::warn!(partition = %log.topic_partition(), %error, "its settings did not change");
        }
    }

    /// Logs per directory.
    fn load(&self) -> Vec<usize> {
        let mut load = vec![0; self.dirs.len()];
        for place in self.topics.values().flat_map(|served| &served.places).flatten() {
            load[*place] += 1;
        }
        load
    }

    /// The directory it was assigned to if that has the log, else one that has it, else again the one it was assigned to; the
    /// least loaded one that works if it was assigned to none. A log whose directory is not there (it failed, a disk was not
    /// mounted, a path left out) is not made anew elsewhere: what it holds would be gone without a word (E8).
    fn place(
        &self,
        spec: &LogSpec,
        home: Option<DirectoryId>,
        load: &mut [usize],
    ) -> Option<usize> {
        let id = spec.topic_partition();
        let all = 0..self.dirs.len();
        let holds = |place: &usize| {
            let log = self.dirs[*place].dir.log(&id);
            log.is_some_and(|log| log.topic_id() == spec.topic_id)
        };
        let works = |place: &usize| !self.dirs[*place].is_offline;
        let is_home = |place: &usize| works(place) && Some(self.dirs[*place].dir.id()) == home;
        let holders: Vec<usize> = all.clone().filter(holds).collect();
        let mut place = holders.iter().copied().find(is_home);
        place = place.or(holders.first().copied()).or_else(|| all.clone().find(is_home));
        if place.is_none() && (home.is_none() || planted(Mutant::HomeForgotten)) {
            place = all.filter(works).min_by_key(|place| load[*place]);
        }
        if let [_, _, ..] = holders[..] {
            let dirs = holders.iter().map(|place| self.dirs[*place].dir.path());
            tracing::error!(partition = %id, dirs = ?dirs.collect::<Vec<_>>(), "it lies in several directories");
        }
        if let Some(place) = place {
            load[place] += 1;
        }
        place
    }

    /// The names of topics whose partitions are not all served.
    pub(crate) fn incomplete(&self) -> BTreeSet<&str> {
        let views = self.topics.values().map(|served| &served.view);
        let incomplete = views.filter(|view| view.is_incomplete());
        incomplete.map(|view| view.name.as_str()).collect()
    }
}

/// The topics with partitions that one of `brokers` holds with others: leaders go by what is registered of each.
fn shared_with<'a>(
    image: &'a Image,
    brokers: &'a BTreeSet<BrokerId>,
) -> impl Iterator<Item = TopicId> + 'a {
    let is_shared = |partition: &PartitionInfo| {
        partition.replicas.len() > 1 && partition.replicas.iter().any(|id| brokers.contains(id))
    };
    let topics = image.topics().filter(move |_| !brokers.is_empty());
    topics.filter(move |topic| topic.partitions.values().any(is_shared)).map(|topic| topic.id)
}

/// What a leader knows of its partition.
fn registration(image: &Image, partition: &PartitionInfo) -> Registration {
    let peer = |id: &BrokerId| {
        let known = image.broker(*id)?;
        let home = partition.directory_of(*id);
        let has_home = home.is_none_or(|home| known.directories.contains(&home));
        let may_lead = !known.is_fenced && !known.is_stopping && has_home;
        Some(Peer { id: *id, epoch: known.epoch, may_lead })
    };
    Registration {
        epoch: partition.epoch,
        isr: partition.isr.clone(),
        is_recovering: partition.is_recovering,
        peers: partition.replicas.iter().filter_map(peer).collect(),
    }
}

/// What this broker is to a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stance {
    Leads,
    Follows,
    /// It holds no replica.
    Stranger,
}

/// What it holds of one.
enum Held<E: Env> {
    Led(Partition<E>),
    Followed(Following<E>),
    Nothing,
}

/// What is to be done about one partition.
struct Plan<E: Env> {
    /// What it was.
    leader: Option<Partition<E>>,
    follower: Option<Following<E>>,
    /// What it is to be.
    stance: Stance,
    role: Role,
    term: Term,
    spec: LogSpec,
    place: Option<usize>,
}
