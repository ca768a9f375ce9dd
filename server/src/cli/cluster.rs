//! `foretold cluster`, `foretold broker`, `foretold partition`: who decides, who holds what, and how that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use client::admin::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, DescribedCluster, DescribedQuorum, Election,
    Move, QuorumReplica,
};
use client::{ClientError, Topic};
use serde_json::json;
use types::{BrokerId, ErrorCode, NodeId, PartitionIndex, TopicName, TopicPartition};

use super::{Connect, output};
use crate::exit::Failed;
use crate::node::host_and_port;
use crate::world::RealEnv;

/// How often it is looked whether replicas have arrived.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// What keeps a broker from being given anything new (KIP-1066).
const CORDONED: &str = "cordoned.log.dirs";
/// Partitions that are moved with one request.
const MOVES_AT_ONCE: usize = 500;

#[derive(Debug, Args)]
pub(super) struct Clusters {
    #[command(subcommand)]
    action: ClusterAction,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum ClusterAction {
    /// Show the nodes: who decides, who holds partitions, and how far each is.
    Describe,
    /// Let a controller decide that follows the metadata already.
    AddVoter {
        /// Its node id.
        node: i32,
        /// Its metadata directory, as `cluster describe` shows it; if it is left out, the one that follows.
        #[arg(long, value_name = "ID")]
        directory: Option<String>,
        /// Where it listens for the other controllers.
        #[arg(long, value_name = "HOST:PORT")]
        listens_at: String,
        /// What that listener is called.
        #[arg(long, value_name = "NAME", default_value = "CONTROLLER")]
        listener: String,
    },
    /// Let a controller decide no more.
    RemoveVoter {
        /// Its node id.
        node: i32,
        /// Its metadata directory; if it is left out, the one that votes.
        #[arg(long, value_name = "ID")]
        directory: Option<String>,
        /// Also if those that are left are no majority now.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Brokers {
    #[command(subcommand)]
    action: BrokerAction,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum BrokerAction {
    /// List brokers: where they are, what they lead and hold.
    List,
    /// Move everything that a broker holds to the others, and wait until it is there. It takes nothing new from then on.
    Drain {
        /// The broker.
        broker: i32,
        /// Show what would be moved, and move nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget a broker that will not come back. It must hold nothing: drain it first.
    Remove {
        /// The broker.
        broker: i32,
        /// Also if partitions have replicas there: they go on without them.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Partitions {
    #[command(subcommand)]
    action: PartitionAction,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum PartitionAction {
    /// List partitions with their leaders and replicas.
    List {
        /// Of this topic only.
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        /// Only those of which a replica is not in sync.
        #[arg(long)]
        under_replicated: bool,
        /// Only those that nobody leads.
        #[arg(long)]
        offline: bool,
    },
    /// Move a partition to these brokers.
    Move {
        /// The partition, such as orders:0.
        #[arg(value_name = "TOPIC:PARTITION")]
        partition: String,
        /// Where its replicas are to be, the preferred leader first.
        #[arg(long, value_name = "ID[,...]")]
        to: String,
        /// Do not wait until it is there.
        #[arg(long)]
        no_wait: bool,
    },
    /// List partitions that are on their way.
    Moves,
    /// Leave partitions that are on their way where they were.
    Cancel {
        /// The partitions; all that are on their way if none is named.
        #[arg(value_name = "TOPIC:PARTITION")]
        partitions: Vec<String>,
    },
    /// Let the first replica of each lead again, if it is in sync.
    Elect {
        /// The partitions; all if none is named.
        #[arg(value_name = "TOPIC:PARTITION")]
        partitions: Vec<String>,
        /// Let any replica lead where none in sync is there: what only others have is lost.
        #[arg(long, requires = "partitions")]
        unclean: bool,
    },
}

impl Clusters {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let explain = |error: ClientError| self.connect.explain(&error);
        let quorum = admin.describe_quorum().await.map_err(explain)?;
        match self.action {
            ClusterAction::Describe => {
                let cluster = admin.describe_cluster().await.map_err(explain)?;
                describe(&cluster, &quorum, self.connect.json)
            }
            ClusterAction::AddVoter { node, directory, listens_at, listener } => {
                let (host, port) =
                    host_and_port(&listens_at).filter(|(host, _)| !host.is_empty()).ok_or_else(
                        || Failed::usage(format!("--listens-at {listens_at}: expected HOST:PORT")),
                    )?;
                let directory =
                    directory_of(&quorum.observers, node, directory, "follows the metadata")?;
                let at = (&*listener, &*host, port);
                change_voter(&admin, &self.connect, NodeId(node), directory, Some(at)).await?;
                output::write_all(format!("node {node} decides, too\n").as_bytes())
            }
            ClusterAction::RemoveVoter { node, directory, force } => {
                let directory = directory_of(&quorum.voters, node, directory, "votes")?;
                if !force && !goes_on_without(&quorum, NodeId(node)) {
                    return Err(Failed::usage(format!(
                        "without node {node} the controllers that are heard are no majority of those that are left: nothing could be \
                         decided any more; start the others first, or use --force"
                    )));
                }
                change_voter(&admin, &self.connect, NodeId(node), directory, None).await?;
                output::write_all(format!("node {node} decides no more\n").as_bytes())
            }
        }
    }
}

/// Changes the voters; asks again while another change is under way, or the new one has not caught up.
async fn change_voter(
    admin: &Admin<RealEnv>,
    connect: &Connect,
    node: NodeId,
    directory: types::Uuid,
    at: Option<(&str, &str, u16)>,
) -> Result<(), Failed> {
    let until = Instant::now() + connect.timeout();
    let mut was_asked = false;
    loop {
        let Err(error) = admin.change_voter(node, directory, at).await else { return Ok(()) };
        // What was answered too late may have come true.
        let is_done = match at {
            Some(_) => ErrorCode::DuplicateVoter,
            None => ErrorCode::VoterNotFound,
        };
        if was_asked && error.error_code() == Some(is_done) {
            return Ok(());
        }
        let waits = error.error_code() == Some(ErrorCode::RequestTimedOut);
        if !waits || Instant::now() >= until {
            return Err(connect.explain(&error));
        }
        was_asked = true;
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Whether a majority of the voters that are left has all that is committed.
fn goes_on_without(quorum: &DescribedQuorum, node: NodeId) -> bool {
    let left = quorum.voters.iter().filter(|voter| voter.node != node);
    let (all, level): (Vec<_>, Vec<_>) = left.map(|voter| (voter, voter.end)).unzip();
    let level = level.into_iter().flatten().filter(|end| *end >= quorum.high_watermark).count();
    level > all.len() / 2
}

/// The directory that was named, or the only one of that node among `replicas`.
fn directory_of(
    replicas: &[QuorumReplica],
    node: i32,
    named: Option<String>,
    what: &str,
) -> Result<types::Uuid, Failed> {
    if let Some(text) = named {
        let parsed = text.parse();
        return parsed
            .map_err(|_| Failed::usage(format!("--directory {text}: expected a directory's id")));
    }
    let of_node = replicas.iter().filter(|replica| replica.node.0 == node);
    let known: Vec<types::Uuid> = of_node.filter_map(|replica| replica.directory).collect();
    match known[..] {
        [one] => Ok(one),
        [] => Err(Failed::usage(format!("no directory of node {node} {what}"))),
        _ => Err(Failed::usage(format!(
            "several directories of node {node}: name one with --directory"
        ))),
    }
}

fn describe(
    cluster: &DescribedCluster,
    quorum: &DescribedQuorum,
    is_json: bool,
) -> Result<(), Failed> {
    let replicas = quorum.voters.iter().map(|replica| (replica, true));
    let replicas = replicas.chain(quorum.observers.iter().map(|replica| (replica, false)));
    let replicas: Vec<(&QuorumReplica, bool)> = replicas.collect();
    let behind =
        |replica: &QuorumReplica| replica.end.map(|end| (quorum.high_watermark - end).max(0));
    let broker = |node: NodeId| cluster.brokers.get(&BrokerId(node.0));
    if is_json {
        let nodes = replicas.iter().map(|(replica, votes)| {
            json!({
                "node": replica.node.0,
                "directory": replica.directory.map(|id| id.to_string()),
                "votes": votes,
                "leads": replica.node == quorum.leader,
                "controller_address": quorum.addresses.get(&replica.node),
                "broker_address": broker(replica.node).map(|(host, port, _)| format!("{host}:{port}")),
                "rack": broker(replica.node).and_then(|(_, _, rack)| rack.clone()),
                "records_behind": behind(replica),
            })
        });
        return output::json(&json!({
            "cluster": cluster.id,
            "controller": quorum.leader.0,
            "epoch": quorum.epoch,
            "committed": quorum.high_watermark,
            "nodes": nodes.collect::<Vec<_>>(),
        }));
    }
    let head = format!(
        "cluster {}: node {} decides in epoch {}; {} records are committed\n",
        cluster.id, quorum.leader, quorum.epoch, quorum.high_watermark
    );
    output::write_all(head.as_bytes())?;
    let rows = replicas.iter().map(|(replica, votes)| {
        let own = broker(replica.node);
        let role = match (replica.node == quorum.leader, votes) {
            (true, _) => "active controller",
            (false, true) => "controller",
            (false, false) => "follows",
        };
        vec![
            replica.node.to_string(),
            role.to_owned(),
            quorum.addresses.get(&replica.node).cloned().unwrap_or_default(),
            own.map(|(host, port, _)| format!("{host}:{port}")).unwrap_or_default(),
            own.and_then(|(_, _, rack)| rack.clone()).unwrap_or_default(),
            behind(replica).map_or("not heard".to_owned(), |count| count.to_string()),
            replica.directory.map(|id| id.to_string()).unwrap_or_default(),
        ]
    });
    let columns =
        [">node", "metadata", "controllers at", "clients at", "rack", ">behind", "directory"];
    output::table(&columns, rows.collect())
}

/// All topics.
type Layout = BTreeMap<TopicName, Topic>;

impl Brokers {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let explain = |error: ClientError| self.connect.explain(&error);
        let cluster = admin.describe_cluster().await.map_err(explain)?;
        let layout = admin.list_topics().await.map_err(explain)?;
        match self.action {
            BrokerAction::List => list(&cluster, &layout, self.connect.json),
            BrokerAction::Drain { broker, dry_run } => {
                let id = BrokerId(broker);
                let is_known =
                    cluster.brokers.contains_key(&id) || replicas(&layout, id).next().is_some();
                if !is_known {
                    return Err(Failed::usage(format!("there is no broker {broker}")));
                }
                if cluster.brokers.contains_key(&id) && !dry_run {
                    cordon(&admin, &self.connect, id).await?;
                }
                let cordoned = cordoned(&admin, &cluster).await;
                // What was on its way there when it was cordoned is met in another round.
                loop {
                    let layout = admin.list_topics().await.map_err(explain)?;
                    let on_way = admin.list_moves().await.map_err(explain)?;
                    let layout = settled(layout, &on_way);
                    let moves = drain(&cluster, &cordoned, &layout, id)
                        .map_err(|partition| stuck(&partition, broker))?;
                    if dry_run {
                        return show_moves(&moves, self.connect.json);
                    }
                    if moves.is_empty() {
                        return Ok(());
                    }
                    carry_out(&admin, &self.connect, moves).await?;
                }
            }
            BrokerAction::Remove { broker, force } => {
                if cluster.brokers.contains_key(&BrokerId(broker)) {
                    return Err(Failed::usage(format!(
                        "broker {broker} is alive, and would be back at once: stop it first"
                    )));
                }
                let held = replicas(&layout, BrokerId(broker)).count();
                if held > 0 && !force {
                    return Err(Failed::usage(format!(
                        "{held} partitions have a replica at broker {broker}: move them with `foretold broker drain {broker}`, \
                         or go on without them with --force"
                    )));
                }
                admin.unregister_broker(BrokerId(broker)).await.map_err(explain)?;
                output::write_all(format!("broker {broker} is forgotten\n").as_bytes())
            }
        }
    }
}

/// Nothing new comes to a broker that is being emptied. A Kafka broker that does not know of that yet is emptied all the same.
async fn cordon(admin: &Admin<RealEnv>, connect: &Connect, broker: BrokerId) -> Result<(), Failed> {
    let all = ConfigChange::Set(CORDONED.to_owned(), "*".to_owned());
    let said = match admin.alter_configs(&ConfigResource::Broker(broker), &[all], false).await {
        Ok(()) => format!(
            "broker {broker} takes nothing new until `foretold config unset broker {broker} {CORDONED}`\n"
        ),
        Err(error) if error.error_code() == Some(ErrorCode::InvalidConfig) => {
            format!("broker {broker} may be given something new meanwhile: {error}\n")
        }
        Err(error) => return Err(connect.explain(&error)),
    };
    if connect.json { Ok(()) } else { output::write_all(said.as_bytes()) }
}

/// The brokers that take nothing new.
async fn cordoned(admin: &Admin<RealEnv>, cluster: &DescribedCluster) -> BTreeSet<BrokerId> {
    let mut cordoned = BTreeSet::new();
    for id in cluster.brokers.keys() {
        let told =
            admin.describe_configs(&ConfigResource::Broker(*id), false).await.unwrap_or_default();
        let is_all = |it: &ConfigEntry| it.name == CORDONED && it.value.as_deref() == Some("*");
        if told.iter().any(is_all) {
            cordoned.insert(*id);
        }
    }
    cordoned
}

fn list(cluster: &DescribedCluster, layout: &Layout, is_json: bool) -> Result<(), Failed> {
    let counts = cluster.brokers.iter().map(|(id, place)| {
        let held: Vec<_> = replicas(layout, *id).collect();
        let leads = held.iter().filter(|(_, partition)| partition.leader == Some(*id)).count();
        let lags = held.iter().filter(|(_, partition)| !partition.isr.contains(id)).count();
        (*id, place, held.len(), leads, lags)
    });
    if is_json {
        let brokers = counts.map(|(id, (host, port, rack), held, leads, lags)| {
            json!({
                "broker": id.0, "address": format!("{host}:{port}"), "rack": rack,
                "replicas": held, "leads": leads, "not_in_sync": lags,
            })
        });
        return output::json(&brokers.collect::<Vec<_>>());
    }
    let rows = counts.map(|(id, (host, port, rack), held, leads, lags)| {
        vec![
            id.to_string(),
            format!("{host}:{port}"),
            rack.clone().unwrap_or_default(),
            held.to_string(),
            leads.to_string(),
            lags.to_string(),
        ]
    });
    let columns = [">broker", "clients at", "rack", ">replicas", ">leads", ">not in sync"];
    output::table(&columns, rows.collect())
}

/// The partitions of which a broker has a replica.
fn replicas(
    layout: &Layout,
    broker: BrokerId,
) -> impl Iterator<Item = (TopicPartition, &client::Partition)> {
    let all = layout.iter().flat_map(|(name, topic)| {
        let of_topic = topic.partitions.iter();
        of_topic.map(|(index, partition)| (TopicPartition::new(name.clone(), index.0), partition))
    });
    all.filter(move |(_, partition)| partition.replicas.contains(&broker))
}

/// The same topics when those that are on their way have arrived.
fn settled(mut layout: Layout, on_way: &BTreeMap<TopicPartition, Move>) -> Layout {
    for (id, on_way) in on_way {
        let topic = layout.get_mut(&id.topic);
        if let Some(partition) = topic.and_then(|topic| topic.partitions.get_mut(&id.partition)) {
            let stays = |id: &BrokerId| !on_way.removing.contains(id);
            partition.replicas = on_way.replicas.iter().copied().filter(stays).collect();
        }
    }
    layout
}

/// Where partitions are to lie.
type Moves = BTreeMap<TopicPartition, Vec<BrokerId>>;

/// Where everything goes that lies at `leaving`: each time to the broker that has least and is not cordoned, in another rack than the
/// other replicas if there is one. Names a partition that nobody can take.
fn drain(
    cluster: &DescribedCluster,
    cordoned: &BTreeSet<BrokerId>,
    layout: &Layout,
    leaving: BrokerId,
) -> Result<Moves, TopicPartition> {
    let rack = |id: &BrokerId| cluster.brokers.get(id).and_then(|(_, _, rack)| rack.clone());
    let takes_new = |id: &BrokerId| *id != leaving && !cordoned.contains(id);
    let others = cluster.brokers.keys().copied().filter(takes_new);
    let mut held: BTreeMap<BrokerId, usize> =
        others.map(|id| (id, replicas(layout, id).count())).collect();
    let mut moves = Moves::new();
    for (id, partition) in replicas(layout, leaving) {
        let stay: Vec<BrokerId> =
            partition.replicas.iter().copied().filter(|id| *id != leaving).collect();
        let racks: BTreeSet<Option<String>> = stay.iter().map(rack).collect();
        let free = held.iter().filter(|(id, _)| !stay.contains(id));
        let best = free.min_by_key(|(id, count)| (racks.contains(&rack(id)), **count, **id));
        let Some(heir) = best.map(|(id, _)| *id) else { return Err(id) };
        *held.entry(heir).or_default() += 1;
        let replace = |old: &BrokerId| if *old == leaving { heir } else { *old };
        moves.insert(id, partition.replicas.iter().map(replace).collect());
    }
    Ok(moves)
}

fn stuck(partition: &TopicPartition, broker: i32) -> Failed {
    Failed::usage(format!(
        "every other broker has a replica of {partition}: add a broker, or give the topic fewer replicas with `foretold partition \
         move {}:{} --to ...`, before broker {broker} is drained",
        partition.topic, partition.partition
    ))
}

fn show_moves(moves: &Moves, is_json: bool) -> Result<(), Failed> {
    if is_json {
        let moves = moves.iter().map(|(partition, to)| {
            json!({
                "topic": partition.topic.as_str(), "partition": partition.partition.0,
                "to": to.iter().map(|id| id.0).collect::<Vec<_>>(),
            })
        });
        return output::json(&moves.collect::<Vec<_>>());
    }
    let rows = moves.iter().map(|(partition, to)| vec![partition.to_string(), ids(to)]);
    output::table(&["partition", "to"], rows.collect())
}

fn ids(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Moves partitions, and says how many are still on their way until none is.
async fn carry_out(admin: &Admin<RealEnv>, connect: &Connect, moves: Moves) -> Result<(), Failed> {
    let explain = |error: ClientError| connect.explain(&error);
    let all: Vec<(TopicPartition, Option<Vec<BrokerId>>)> =
        moves.into_iter().map(|(partition, to)| (partition, Some(to))).collect();
    let mut failed = Vec::new();
    for some in all.chunks(MOVES_AT_ONCE) {
        let results =
            admin.move_replicas(&some.iter().cloned().collect()).await.map_err(explain)?;
        failed.extend(results.into_iter().filter_map(|(id, result)| Some((id, result.err()?))));
    }
    if !failed.is_empty() {
        return output::failures(failed.iter().map(|(id, error)| (id.to_string(), error)));
    }
    let wanted: Moves = all.into_iter().filter_map(|(id, to)| Some((id, to?))).collect();
    let asked: BTreeSet<&TopicPartition> = wanted.keys().collect();
    let (mut said, began) = (None, Instant::now());
    loop {
        let left = admin.list_moves().await.map_err(explain)?;
        let left = left.keys().filter(|id| asked.contains(*id)).count();
        if said != Some(left) && !connect.json {
            let line = format!("{} of {} partitions are there\n", asked.len() - left, asked.len());
            output::write_all(line.as_bytes())?;
        }
        said = Some(left);
        if left == 0 {
            let layout = admin.list_topics().await.map_err(explain)?;
            let lies = |id: &TopicPartition| {
                Some(&layout.get(&id.topic)?.partitions.get(&id.partition)?.replicas)
            };
            let astray = wanted.iter().filter(|(id, to)| lies(id).is_some_and(|at| at != *to));
            let astray: Vec<String> = astray.map(|(id, _)| id.to_string()).collect();
            if !astray.is_empty() {
                return Err(Failed::runtime(format!(
                    "somebody else has moved, or cancelled: {}",
                    astray.join(", ")
                )));
            }
            let seconds = began.elapsed().as_secs_f64();
            if connect.json {
                output::json(&json!({ "moved": asked.len(), "seconds": seconds }))?;
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

impl Partitions {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.connect.client(false);
        let admin = Admin::new(&client);
        let explain = |error: ClientError| self.connect.explain(&error);
        match self.action {
            PartitionAction::List { topic, under_replicated, offline } => {
                let mut layout = admin.list_topics().await.map_err(explain)?;
                if let Some(topic) = topic {
                    layout.retain(|name, _| name.as_str() == topic);
                    if layout.is_empty() {
                        return Err(Failed::usage(format!("{topic}: there is no such topic")));
                    }
                }
                let wanted = |partition: &client::Partition| {
                    let lags = partition.isr.len() < partition.replicas.len();
                    let is_wanted =
                        under_replicated && lags || offline && partition.leader.is_none();
                    is_wanted || !under_replicated && !offline
                };
                list_partitions(&layout, wanted, self.connect.json)
            }
            PartitionAction::Move { partition, to, no_wait } => {
                let partition = named(&partition)?;
                let to = brokers(&to)?;
                if !no_wait {
                    return carry_out(&admin, &self.connect, Moves::from([(partition, to)])).await;
                }
                let moves = BTreeMap::from([(partition, Some(to))]);
                told(admin.move_replicas(&moves).await.map_err(explain)?)
            }
            PartitionAction::Moves => {
                let moves = admin.list_moves().await.map_err(explain)?;
                if self.connect.json {
                    let moves = moves.iter().map(|(id, on_way)| {
                        let numbers =
                            |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
                        json!({
                            "topic": id.topic.as_str(), "partition": id.partition.0,
                            "replicas": numbers(&on_way.replicas),
                            "adding": numbers(&on_way.adding),
                            "removing": numbers(&on_way.removing),
                        })
                    });
                    return output::json(&moves.collect::<Vec<_>>());
                }
                let rows = moves.iter().map(|(id, on_way)| {
                    vec![
                        id.to_string(),
                        ids(&on_way.replicas),
                        ids(&on_way.adding),
                        ids(&on_way.removing),
                    ]
                });
                output::table(&["partition", "replicas", "coming", "going"], rows.collect())
            }
            PartitionAction::Cancel { partitions } => {
                let chosen = match partitions.is_empty() {
                    true => admin.list_moves().await.map_err(explain)?.into_keys().collect(),
                    false => {
                        partitions.iter().map(|text| named(text)).collect::<Result<Vec<_>, _>>()?
                    }
                };
                let moves = chosen.into_iter().map(|partition| (partition, None)).collect();
                told(admin.move_replicas(&moves).await.map_err(explain)?)
            }
            PartitionAction::Elect { partitions, unclean } => {
                let chosen: Vec<TopicPartition> =
                    partitions.iter().map(|text| named(text)).collect::<Result<_, _>>()?;
                let election = if unclean { Election::Unclean } else { Election::Preferred };
                let chosen = Some(&chosen[..]).filter(|chosen| !chosen.is_empty());
                let mut results = admin.elect_leaders(election, chosen).await.map_err(explain)?;
                // Whoever leads already as it should.
                results.retain(|_, result| {
                    let code = result.as_ref().err().and_then(ClientError::error_code);
                    code != Some(ErrorCode::ElectionNotNeeded)
                });
                let elected = results.values().filter(|result| result.is_ok()).count();
                output::write_all(
                    format!("{elected} partitions have another leader\n").as_bytes(),
                )?;
                told(results)
            }
        }
    }
}

fn list_partitions(
    layout: &Layout,
    wanted: impl Fn(&client::Partition) -> bool,
    is_json: bool,
) -> Result<(), Failed> {
    let all = layout.iter().flat_map(|(name, topic)| {
        topic.partitions.iter().map(move |(index, partition)| (name, index, partition))
    });
    let shown = all.filter(|(_, _, partition)| wanted(partition));
    if is_json {
        let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let partitions = shown.map(|(name, index, partition)| {
            json!({
                "topic": name.as_str(), "partition": index.0,
                "leader": partition.leader.map(|id| id.0),
                "replicas": numbers(&partition.replicas),
                "isr": numbers(&partition.isr),
                "offline": numbers(&partition.offline),
            })
        });
        return output::json(&partitions.collect::<Vec<_>>());
    }
    let rows = shown.map(|(name, index, partition)| {
        vec![
            format!("{name}:{index}"),
            partition.leader.map_or("none".to_owned(), |id| id.to_string()),
            ids(&partition.replicas),
            ids(&partition.isr),
            ids(&partition.offline),
        ]
    });
    output::table(&["partition", ">leader", "replicas", "in sync", "offline"], rows.collect())
}

/// Failures only: nothing is said of what has worked.
fn told(results: BTreeMap<TopicPartition, Result<(), ClientError>>) -> Result<(), Failed> {
    let failed =
        results.iter().filter_map(|(id, result)| Some((id.to_string(), result.as_ref().err()?)));
    output::failures(failed)
}

/// `TOPIC:PARTITION`.
fn named(text: &str) -> Result<TopicPartition, Failed> {
    let parsed = text.rsplit_once(':').and_then(|(topic, index)| {
        let index: i32 = index.parse().ok().filter(|index| *index >= 0)?;
        Some(TopicPartition { topic: topic.into(), partition: PartitionIndex(index) })
    });
    parsed
        .ok_or_else(|| Failed::usage(format!("{text}: expected TOPIC:PARTITION, such as orders:0")))
}

/// `ID[,...]`.
fn brokers(text: &str) -> Result<Vec<BrokerId>, Failed> {
    let parsed = text.split(',').map(|id| id.trim().parse().map(BrokerId));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|_| Failed::usage(format!("--to {text}: expected brokers' ids, such as 1,2,3")))
}

#[cfg(test)]
mod tests {
    use types::LeaderEpoch;

    use super::*;

    fn layout(replicas: &[&[i32]]) -> Layout {
        let partition = |ids: &&[i32]| client::Partition {
            leader: ids.first().copied().map(BrokerId),
            leader_epoch: Some(LeaderEpoch(0)),
            replicas: ids.iter().copied().map(BrokerId).collect(),
            isr: ids.iter().copied().map(BrokerId).collect(),
            offline: Vec::new(),
        };
        let partitions = (0..).map(PartitionIndex).zip(replicas.iter().map(partition)).collect();
        let topic = Topic {
            id: None,
            is_internal: false,
            error: None,
            partitions,
            learnt: types::Instant::default(),
        };
        Layout::from([("t".into(), topic)])
    }

    fn cluster(racks: &[(i32, Option<&str>)]) -> DescribedCluster {
        let broker = |(id, rack): &(i32, Option<&str>)| {
            (BrokerId(*id), ("h".to_owned(), 1, rack.map(str::to_owned)))
        };
        let brokers = racks.iter().map(broker).collect();
        DescribedCluster { id: "c".into(), controller: None, brokers }
    }

    #[test]
    fn a_drain_spreads_what_leaves_over_those_that_have_least() {
        let four = cluster(&[(1, None), (2, None), (3, None), (4, None)]);
        let none = BTreeSet::new();
        let moves =
            drain(&four, &none, &layout(&[&[1, 2], &[2, 1], &[1, 3], &[2, 3]]), BrokerId(1));
        let moves: Vec<String> = moves.unwrap().values().map(|to| ids(to)).collect();
        // Broker 4 has nothing, then 3 and 4 take turns.
        assert_eq!(moves, ["4,2", "2,4", "4,3"]);
        let three = cluster(&[(1, None), (2, None), (3, None)]);
        let stuck = drain(&three, &none, &layout(&[&[1, 2, 3]]), BrokerId(3)).unwrap_err();
        assert_eq!(stuck.to_string(), "t-0");
        let cordoned = BTreeSet::from([BrokerId(4)]);
        let moves = drain(&four, &cordoned, &layout(&[&[1, 2]]), BrokerId(1)).unwrap();
        assert_eq!(moves.values().map(|to| ids(to)).collect::<Vec<_>>(), ["3,2"]);
    }

    #[test]
    fn a_drain_keeps_racks_apart() {
        let racks = [(1, Some("a")), (2, Some("b")), (3, Some("b")), (4, Some("a"))];
        let none = BTreeSet::new();
        let layout = layout(&[&[1, 2], &[4, 3]]);
        let moves = drain(&cluster(&racks), &none, &layout, BrokerId(1)).unwrap();
        assert_eq!(moves.values().map(|to| ids(to)).collect::<Vec<_>>(), ["4,2"]);
    }

    #[test]
    fn partitions_and_brokers_are_read_from_the_line() {
        assert_eq!(named("a:b:3").unwrap(), TopicPartition::new("a:b", 3));
        for bad in ["orders", "orders:", "orders:-1", "orders:x"] {
            assert!(named(bad).is_err(), "{bad}");
        }
        assert_eq!(brokers("1, 2").unwrap(), [BrokerId(1), BrokerId(2)]);
        assert!(brokers("1,,2").is_err());
    }
}
