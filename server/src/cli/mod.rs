//! The command line: what can be asked for, and who does it.
//!
//! One file per group of commands; each takes its parsed arguments and returns what to print or why it failed. Tables
//! are for people, `--json` for scripts, errors go to stderr as one line with an exit code of the contract
//! ([`crate::exit`]).

mod cluster;
mod configs;
mod consume;
mod disks;
mod groups;
mod nodes;
mod output;
mod produce;
mod sim;
mod top;
mod topics;
mod verify;
mod when;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use client::{Client, ClientConfig, ClientError};

use crate::exit::Failed;
use ::cluster::config::split_list;
use broker::{Beginning, BrokerConfig, InitialVoter, QuorumVoter};

use crate::logging::{self, Format};
use crate::world::RealEnv;
use crate::{node, runtime, serve};

/// A durable distributed log that speaks the Kafka protocol.
#[derive(Debug, Parser)]
#[command(name = "foretold", version, about, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How log lines look; they go to standard error.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Logging")]
    log_format: Format,

    /// Which events are logged: error, warn, info, debug, trace, or a list such as info,broker=debug.
    #[arg(long, global = true, help_heading = "Logging")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node for development, or a cluster of several: nothing to configure, formats empty directories itself.
    Dev(Dev),
    /// Run a node from a configuration file with Kafka's keys.
    Server(Server),
    /// Give the data directories of a node an identity before its first start in a cluster.
    Format(FormatDirs),
    /// Create, list, describe, alter and delete topics.
    Topic(topics::Topics),
    /// List, describe, reset and delete consumer groups.
    Group(groups::Groups),
    /// Show and change settings of topics, brokers and groups.
    Config(configs::Configs),
    /// Show who decides in the cluster, and change it.
    Cluster(cluster::Clusters),
    /// List brokers, empty one, forget one.
    Broker(cluster::Brokers),
    /// List partitions, move them, elect leaders.
    Partition(cluster::Partitions),
    /// Show log directories and what lies in them.
    Disk(disks::Disks),
    /// Publish lines from standard input.
    Produce(produce::Produce),
    /// Print records.
    Consume(consume::Consume),
    /// Watch what the cluster does: topics by traffic, groups by lag, disks.
    Top(top::Top),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Run the simulator (foretold-sim, beside this program).
    Sim(sim::Sim),
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
struct Dev {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: String,

    /// The data directory [default: foretold in the user's state folder].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// How many nodes, each a process of its own; their ports follow one another.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(nodes::NODES_MAX)))]
    nodes: u16,

    /// A configuration key and its value, by Kafka's name; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct Server {
    /// The configuration, in the form of Kafka's server.properties.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// A key that counts instead of the file's; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,

    /// Stop when standard input ends: with the process that holds its other end.
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

#[derive(Debug, Args)]
struct FormatDirs {
    /// The cluster's id: any text, the same on all its nodes.
    #[arg(long, value_name = "ID")]
    cluster_id: String,

    /// The node's configuration, in the form of Kafka's server.properties.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The data directory, when there is no configuration file.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,

    /// This node decides alone until others join: the first controller of a cluster whose voters no configuration names.
    #[arg(long, group = "beginning")]
    standalone: bool,

    /// These controllers decide from the beginning: format each with the same list.
    #[arg(long, value_name = "NODE@HOST:PORT:DIRECTORY_ID[,...]", group = "beginning")]
    initial_controllers: Option<String>,

    /// This node joins a cluster, whose controllers are found by controller.quorum.bootstrap.servers.
    #[arg(long, group = "beginning")]
    no_initial_controllers: bool,

    /// A key that counts instead of the file's; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// What every command that talks to a cluster takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connect {
    /// Some brokers of the cluster.
    #[arg(
        long,
        short = 'b',
        value_name = "HOST:PORT[,...]",
        default_value = "127.0.0.1:9092",
        global = true
    )]
    bootstrap: String,

    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,

    /// Give up after so many seconds without success.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, global = true)]
    timeout: u64,
}

/// After so long without an answer a broker is asked again, or another one: it may stand still.
const REQUEST_TIME: Duration = Duration::from_secs(15);

impl Connect {
    /// A client of the cluster.
    pub fn client(&self, creates_topics: bool) -> Client<RealEnv> {
        let timeout = Duration::from_secs(self.timeout.max(1));
        let config = ClientConfig {
            bootstrap: self.bootstrap.split(',').map(|part| part.trim().to_owned()).collect(),
            client_id: "foretold-cli".to_owned(),
            request_timeout: timeout.min(REQUEST_TIME),
            connect_timeout: timeout.min(Duration::from_secs(5)),
            operation_timeout: timeout,
            auto_create_topics: creates_topics,
            ..ClientConfig::default()
        };
        Client::new(RealEnv::new(), config)
    }

    /// How long an operation may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }

    /// What a failed operation means to whoever typed it.
    pub fn explain(&self, error: &ClientError) -> Failed {
        let last = match error {
            ClientError::DeadlinePassed { last: Some(last), .. } => last,
            _ => error,
        };
        match last {
            ClientError::Usage(_) => Failed::usage(error.to_string()),
            ClientError::Connect { .. } => Failed::runtime(format!(
                "no broker answers at {}: {error}; start one with `foretold dev`, or name another with --bootstrap",
                self.bootstrap
            )),
            ClientError::Disconnected { .. } | ClientError::BadAnswer { .. } => {
                Failed::runtime(format!(
                    "{error}; if nothing else works there either, see that {} is a plain listener of a broker and not \
                     one with TLS or SASL, or another service",
                    self.bootstrap
                ))
            }
            _ => Failed::runtime(error.to_string()),
        }
    }
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<(), Failed> {
        let serves = matches!(self.command, Command::Dev(_) | Command::Server(_));
        let level = self.log_level.as_deref().unwrap_or(if serves { "info" } else { "error" });
        logging::start(self.log_format, level)?;
        match self.command {
            Command::Dev(dev) => dev.run(),
            Command::Server(server) => server.run(),
            Command::Format(format) => format.run(),
            Command::Topic(topics) => runtime::for_client()?.block_on(topics.run()),
            Command::Group(groups) => runtime::for_client()?.block_on(groups.run()),
            Command::Cluster(clusters) => runtime::for_client()?.block_on(clusters.run()),
            Command::Broker(brokers) => runtime::for_client()?.block_on(brokers.run()),
            Command::Partition(partitions) => runtime::for_client()?.block_on(partitions.run()),
            Command::Disk(disks) => runtime::for_client()?.block_on(disks.run()),
            Command::Config(configs) => runtime::for_client()?.block_on(configs.run()),
            Command::Produce(produce) => produce.run(),
            Command::Consume(consume) => runtime::for_client()?.block_on(consume.run()),
            Command::Top(top) => runtime::for_client()?.block_on(top.run()),
            Command::Completion { shell } => {
                let mut command = Cli::command();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, "foretold", &mut script);
                output::write_all(&script)
            }
            Command::Sim(sim) => sim.run(),
            Command::Version => {
                output::write_all(format!("foretold {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
            }
        }
    }
}

impl Dev {
    fn run(self) -> Result<(), Failed> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => state_folder()?,
        };
        if self.nodes > 1 {
            let (nodes, listen, overrides) = (self.nodes, self.listen, self.overrides);
            let cluster = nodes::Cluster { nodes, listen, data, overrides };
            return runtime::for_client()?.block_on(cluster.run());
        }
        let mut keys = node::dev_keys(&self.listen, &data)?;
        let place = keys.get("log.dirs").cloned();
        node::apply_overrides(&mut keys, &self.overrides)?;
        if self.data.is_some() && keys.get("log.dirs") != place.as_ref() {
            return Err(Failed::usage("--data and --set log.dirs name two places: leave one out"));
        }
        let node = node::plan(&keys, None)?;
        runtime::for_server()?.block_on(serve::run(node))
    }
}

impl Server {
    fn run(self) -> Result<(), Failed> {
        let mut keys = node::read_file(&self.config)?;
        node::apply_overrides(&mut keys, &self.overrides)?;
        let node = node::plan(&keys, None)?;
        if self.until_input_ends {
            std::thread::spawn(|| {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::TERM,
                );
            });
        }
        runtime::for_server()?.block_on(serve::run(node))
    }
}

impl FormatDirs {
    fn run(self) -> Result<(), Failed> {
        let id = self.cluster_id.trim();
        if id.is_empty() {
            return Err(Failed::usage("--cluster-id: the id is empty"));
        }
        let mut keys = match (&self.config, &self.data) {
            (Some(file), _) => node::read_file(file)?,
            (None, Some(data)) => node::dev_keys("127.0.0.1:9092", data)?,
            (None, None) => node::dev_keys("127.0.0.1:9092", &state_folder()?)?,
        };
        node::apply_overrides(&mut keys, &self.overrides)?;
        let cluster_id = types::ClusterId(id.into());
        let node = node::plan(&keys, Some(cluster_id.clone()))?;
        let beginning = self.beginning(&node.config)?;
        let formatting = serve::format(&node.config, cluster_id, &beginning);
        let formatted = runtime::for_client()?.block_on(formatting)?;
        for dir in formatted {
            output::write_all(format!("formatted {}\n", dir.display()).as_bytes())?;
        }
        Ok(())
    }
}

impl FormatDirs {
    /// Who is to decide.
    fn beginning(&self, config: &BrokerConfig) -> Result<Beginning, Failed> {
        let is_said = self.standalone || self.initial_controllers.is_some();
        if is_said && !config.voters.is_empty() {
            return Err(Failed::usage(
                "controller.quorum.voters says who decides: leave it out of the file, or leave out --standalone and \
                 --initial-controllers",
            ));
        }
        if self.no_initial_controllers && config.voters.is_empty() && config.bootstrap.is_empty() {
            return Err(Failed::usage(
                "--no-initial-controllers: controller.quorum.bootstrap.servers names no other node to join",
            ));
        }
        // A node that lost its disk must not begin the cluster anew by mistake.
        if config.asks_who_decides && !is_said && !self.no_initial_controllers {
            return Err(Failed::usage(
                "controller.quorum.bootstrap.servers is set, so say who decides: --standalone if the cluster begins with this \
                 node, --initial-controllers if it begins with several, --no-initial-controllers if this node joins",
            ));
        }
        let Some(list) = &self.initial_controllers else {
            return Ok(if self.standalone { Beginning::Standalone } else { Beginning::Configured });
        };
        let initial: Vec<InitialVoter> =
            split_list(list).map(initial_voter).collect::<Result<_, _>>()?;
        let nodes: BTreeSet<types::NodeId> = initial.iter().map(|one| one.voter.node).collect();
        let directories: BTreeSet<types::DirectoryId> =
            initial.iter().map(|one| one.directory).collect();
        if nodes.len() < initial.len() || directories.len() < initial.len() {
            return Err(Failed::usage("--initial-controllers names a node or a directory twice"));
        }
        let is_named = nodes.contains(&config.node_id);
        if config.roles.is_controller() && !is_named {
            return Err(Failed::usage(format!(
                "--initial-controllers does not name this node ({}): name it, or format it with --no-initial-controllers",
                config.node_id
            )));
        }
        Ok(Beginning::Together(initial))
    }
}

/// `NODE@HOST:PORT:DIRECTORY_ID`.
fn initial_voter(text: &str) -> Result<InitialVoter, Failed> {
    let parsed = text.split_once('@').and_then(|(node, rest)| {
        let (address, directory) = rest.rsplit_once(':')?;
        let (host, port) =
            node::host_and_port(address).filter(|(host, port)| !host.is_empty() && *port != 0)?;
        let node = node.trim().parse().ok().filter(|id| *id >= 0).map(types::NodeId)?;
        let directory: types::Uuid = directory.trim().parse().ok()?;
        let directory = Some(types::DirectoryId(directory)).filter(|id| !id.0.is_zero())?;
        Some(InitialVoter { voter: QuorumVoter { node, host, port }, directory })
    });
    parsed.ok_or_else(|| {
        Failed::usage(format!(
            "--initial-controllers: `{text}` is not of the form NODE@HOST:PORT:DIRECTORY_ID"
        ))
    })
}

/// Where `dev` keeps its data: in the user's state folder.
fn state_folder() -> Result<PathBuf, Failed> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local").join("state")));
    let unknown = || Failed::usage("HOME is not set: name the data directory with --data DIR");
    Ok(state.ok_or_else(unknown)?.join("foretold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_a_cluster_may_stand_anywhere() {
        for line in [
            "foretold topic list --bootstrap h:1 --json",
            "foretold topic --bootstrap h:1 list --json",
            "foretold group describe g -b h:1",
            "foretold consume t --from earliest --count 3 --bootstrap h:1",
            "foretold consume t --group g --from 2026-01-01T00:00:00Z",
            "foretold produce t --bootstrap h:1",
            "foretold config set topic t retention.ms=1000",
            "foretold top --interval 0.5 --count 3 --json -b h:1",
            "foretold dev --listen 127.0.0.1:0 --data /tmp/x --set a=b --set c=d",
            "foretold server --config f --set a=b --log-format json",
            "foretold format --cluster-id x --config f",
            "foretold format --cluster-id x --config f --standalone",
            "foretold format --cluster-id x --config f --initial-controllers 1@h:1:AAAAAAAAAAAAAAAAAAAAAQ",
            "foretold sim run --seeds 0..10",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
