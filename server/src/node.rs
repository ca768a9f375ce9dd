//! From configuration keys to a node that can be started.
//!
//! Kafka's names throughout: `foretold dev` and `foretold server` both end up as keys here, so that `--set` works the
//! same on both. Values are checked against the one table of keys (`cluster::config`); this file reads those that
//! concern the process itself: roles, identity, listeners, directories.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use broker::{
    Audience, BrokerConfig, ListenerConfig, ListenerName, ListenerProtocol, QuorumVoter, Roles,
};
use cluster::config::{self, BrokerSettings, split_list};
use types::{ClusterId, NodeId};

use crate::exit::{Code, Failed};
use crate::properties;

/// Keys and values, the later ones of a name winning.
pub type Keys = BTreeMap<String, String>;

/// A node ready to be started.
#[derive(Debug)]
pub struct Node {
    /// What the broker is told.
    pub config: BrokerConfig,
    /// Where it is observed, if anywhere (`metrics.listen`).
    pub observed_at: Option<SocketAddr>,
    /// What the operator should know about keys that have no effect.
    pub notices: Vec<String>,
}

/// Reads a file of keys.
pub fn read_file(path: &Path) -> Result<Keys, Failed> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failed::usage(format!("cannot read the configuration {name}: {error}")))?;
    let text = properties::decode(&bytes);
    let entries =
        properties::parse(&text).map_err(|error| Failed::usage(format!("{name}, {error}")))?;
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

/// Adds `key=value` arguments of the command line.
pub fn apply_overrides(keys: &mut Keys, overrides: &[String]) -> Result<(), Failed> {
    for pair in overrides {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failed::usage(format!("--set {pair}: expected key=value, such as num.partitions=3"))
        })?;
        keys.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(())
}

/// The keys of a node for development.
pub fn dev_keys(listen: &str, data: &Path) -> Result<Keys, Failed> {
    let (host, port) = host_and_port(listen)
        .ok_or_else(|| Failed::usage(format!("--listen {listen}: expected HOST:PORT")))?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host };
    let mut keys = Keys::new();
    for (key, value) in [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "0".to_owned()),
        ("listeners", format!("PLAINTEXT://{shown}:{port}")),
        ("log.dirs", data.display().to_string()),
    ] {
        keys.insert(key.to_owned(), value);
    }
    Ok(keys)
}

/// Checks the keys and makes a node of them.
pub fn plan(keys: &Keys, cluster_id: Option<ClusterId>) -> Result<Node, Failed> {
    let (settings, mut notices) = BrokerSettings::parse(keys.clone()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failed::usage(format!("the configuration has errors:\n  {}", lines.join("\n  ")))
    })?;
    let roles = roles(keys)?;
    let node_id = node_id(keys)?;
    let voters = voters(keys, node_id, roles)?;
    let listeners = listeners(keys, &voters, node_id, roles)?;
    let bootstrap = bootstrap(keys, &voters, &listeners)?;
    if roles == Roles::Broker && voters.is_empty() && bootstrap.is_empty() {
        return Err(Failed::usage(
            "process.roles=broker: this node decides nothing, so name those that do, in controller.quorum.voters or \
             controller.quorum.bootstrap.servers",
        ));
    }
    if roles.is_broker() {
        check_inter_broker(keys, &listeners)?;
    }
    let log_dirs = log_dirs(keys)?;
    let metadata_dir = keys.get("metadata.log.dir").map(|dir| absolute(dir)).transpose()?;
    if voters.iter().all(|voter| voter.node == node_id) && bootstrap.is_empty() {
        notices.extend(lonely(&settings));
    }
    let config = BrokerConfig {
        node_id,
        roles,
        cluster_id,
        listeners,
        log_dirs,
        metadata_dir,
        asks_who_decides: roles.is_controller()
            && voters.is_empty()
            && value(keys, "controller.quorum.bootstrap.servers").is_some(),
        voters,
        bootstrap,
        settings,
    };
    let observed_at = observed_at(keys)?;
    Ok(Node { config, observed_at, notices })
}

/// The value set for `key`, or the table's default.
fn value<'a>(keys: &'a Keys, key: &str) -> Option<&'a str> {
    keys.get(key)
        .map(String::as_str)
        .or_else(|| config::find(config::BROKER, key).and_then(|row| row.default))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

fn roles(keys: &Keys) -> Result<Roles, Failed> {
    // Kafka's 3.x files of nodes with ZooKeeper have none: they hold partitions, and here decide, too.
    let Some(list) = value(keys, "process.roles") else { return Ok(Roles::Both) };
    let has = |role: &str| split_list(list).any(|named| named == role);
    match (has("broker"), has("controller")) {
        (true, false) => Ok(Roles::Broker),
        (false, true) => Ok(Roles::Controller),
        _ => Ok(Roles::Both),
    }
}

/// The nodes that decide (`controller.quorum.voters`); none where this node decides alone and no address says so.
fn voters(keys: &Keys, me: NodeId, roles: Roles) -> Result<Vec<QuorumVoter>, Failed> {
    const KEY: &str = "controller.quorum.voters";
    let mut voters: Vec<QuorumVoter> = Vec::new();
    for item in split_list(value(keys, KEY).unwrap_or_default()) {
        let parsed = item.split_once('@').and_then(|(id, address)| {
            let (host, port) = host_and_port(address)?;
            let node = id.trim().parse().ok().filter(|id| *id >= 0).map(NodeId)?;
            Some(QuorumVoter { node, host, port })
        });
        let voter = parsed.filter(|voter| !voter.host.is_empty() && voter.port != 0);
        let voter = voter.ok_or_else(|| {
            Failed::usage(format!("{KEY}: `{item}` is not of the form ID@HOST:PORT"))
        })?;
        if voters.iter().any(|other| other.node == voter.node) {
            return Err(Failed::usage(format!("{KEY} names node {} twice", voter.node)));
        }
        voters.push(voter);
    }
    let is_named = voters.iter().any(|voter| voter.node == me);
    if roles == Roles::Broker && is_named {
        return Err(Failed::usage(format!(
            "{KEY} names this node ({me}), which by process.roles=broker does not decide: add `controller` to \
             process.roles, or leave it out there"
        )));
    }
    if roles.is_controller() && !voters.is_empty() && !is_named {
        return Err(Failed::usage(format!(
            "{KEY} does not name this node ({me}), which by process.roles decides: name it there, or leave `controller` \
             out of process.roles"
        )));
    }
    Ok(voters)
}

/// Where else it can be asked who decides (`controller.quorum.bootstrap.servers`): nowhere if the voters are named.
fn bootstrap(
    keys: &Keys,
    voters: &[QuorumVoter],
    listeners: &[ListenerConfig],
) -> Result<Vec<(String, u16)>, Failed> {
    const KEY: &str = "controller.quorum.bootstrap.servers";
    let mut servers = Vec::new();
    for item in split_list(value(keys, KEY).unwrap_or_default()) {
        let server = host_and_port(item).filter(|(host, port)| !host.is_empty() && *port != 0);
        servers.push(server.ok_or_else(|| {
            Failed::usage(format!("{KEY}: `{item}` is not of the form HOST:PORT"))
        })?);
    }
    let is_own = |host: &str, port: u16| {
        listeners.iter().filter(|it| it.audience == Audience::Controllers).any(|listener| {
            let told = listener.advertised.as_ref();
            let is_told = told.is_some_and(|(name, at)| name == host && *at == port);
            // Port 0 is any port, and so perhaps that one.
            let is_bound = [port, 0].contains(&listener.bind.port())
                && resolve(host, port).is_some_and(|ip| {
                    ip == listener.bind.ip()
                        || listener.bind.ip().is_unspecified() && ip.is_loopback()
                });
            is_told || is_bound
        })
    };
    servers.retain(|(host, port)| voters.is_empty() && !is_own(host, *port));
    Ok(servers)
}

/// Settings that Kafka takes on one node too, and that then do less than whoever set them may expect.
fn lonely(settings: &BrokerSettings) -> Vec<String> {
    let mut notices = Vec::new();
    let least = settings.topic_defaults.min_insync_replicas;
    if least > 1 {
        notices.push(format!(
            "min.insync.replicas={least}: this node is alone, and no topic needs more replicas in sync than it has: \
             acks=all waits for this node only"
        ));
    }
    let factor = settings.replication_factor;
    if factor > 1 {
        notices.push(format!(
            "default.replication.factor={factor}: this node is alone, so a topic is created only when it is \
             asked for with one replica"
        ));
    }
    notices
}

fn node_id(keys: &Keys) -> Result<NodeId, Failed> {
    let number = |key: &str| -> Result<Option<i32>, Failed> {
        let Some(text) = keys.get(key) else { return Ok(None) };
        let id: i32 = text
            .trim()
            .parse()
            .map_err(|_| Failed::usage(format!("{key}={text}: expected a whole number")))?;
        Ok((id >= 0).then_some(id))
    };
    match (number("node.id")?, number("broker.id")?) {
        (Some(node), Some(broker)) if node != broker => Err(Failed::usage(format!(
            "node.id={node} and broker.id={broker} disagree; remove broker.id"
        ))),
        (Some(id), _) | (None, Some(id)) => Ok(NodeId(id)),
        (None, None) => {
            Err(Failed::usage("node.id is missing: give each node a number, such as node.id=1"))
        }
    }
}

fn log_dirs(keys: &Keys) -> Result<Vec<PathBuf>, Failed> {
    // Not the table's default: what is left empty by mistake must not send the data to a temporary folder.
    let list = match keys.get("log.dirs") {
        Some(list) => list,
        None => value(keys, "log.dir").unwrap_or_default(),
    };
    let dirs: Vec<PathBuf> = split_list(list).map(absolute).collect::<Result<_, _>>()?;
    if dirs.is_empty() {
        return Err(Failed::usage("log.dirs is empty: name the directory for the data"));
    }
    for (place, dir) in dirs.iter().enumerate() {
        if dirs[..place].contains(dir) {
            let shown = dir.display();
            return Err(Failed::usage(format!("log.dirs names {shown} twice: name it once")));
        }
    }
    Ok(dirs)
}

fn absolute(dir: &str) -> Result<PathBuf, Failed> {
    std::path::absolute(dir.trim())
        .map_err(|error| Failed::usage(format!("the directory `{dir}` has no full path: {error}")))
}

/// One `NAME://host:port`.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

fn endpoints(key: &str, list: &str) -> Result<Vec<Endpoint>, Failed> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in split_list(list) {
        let bad = || Failed::usage(format!("{key}: `{item}` is not of the form NAME://host:port"));
        let (name, address) = item.split_once("://").ok_or_else(bad)?;
        let (host, port) = host_and_port(address).ok_or_else(bad)?;
        let name = name.trim().to_ascii_uppercase();
        if name.is_empty() {
            return Err(bad());
        }
        if endpoints.iter().any(|other| other.name == name) {
            return Err(Failed::usage(format!("{key}: two listeners are named {name}")));
        }
        endpoints.push(Endpoint { name, host, port });
    }
    Ok(endpoints)
}

/// Two listeners cannot share a port of one address; the system would say only that it is taken.
fn check_ports(endpoints: &[Endpoint]) -> Result<(), Failed> {
    for (place, one) in endpoints.iter().enumerate() {
        let is_shared = |other: &&Endpoint| {
            let is_anywhere = one.host.is_empty() || other.host.is_empty();
            one.port != 0 && one.port == other.port && (is_anywhere || one.host == other.host)
        };
        if let Some(other) = endpoints[..place].iter().find(is_shared) {
            return Err(Failed::usage(format!(
                "listeners: {} and {} both want port {}; give each its own",
                other.name, one.name, one.port
            )));
        }
    }
    Ok(())
}

/// Splits `host:port` or `[v6]:port`; the host may be empty.
pub fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let inner = host.strip_prefix('[').map(|host| host.strip_suffix(']'));
    let host = match inner {
        Some(inner) => inner?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host.to_owned(), port.parse().ok()?))
}

/// The address of `metrics.listen`. Without a host it is for this machine alone: what it shows is nobody else's business
/// unless the operator says so.
fn observed_at(keys: &Keys) -> Result<Option<SocketAddr>, Failed> {
    const KEY: &str = "metrics.listen";
    let Some(text) = value(keys, KEY) else { return Ok(None) };
    let port_alone = text.parse().ok().map(|port| (String::new(), port));
    let (host, port) = port_alone.or_else(|| host_and_port(text)).ok_or_else(|| {
        Failed::usage(format!("{KEY}={text}: expected HOST:PORT, or PORT for this machine alone"))
    })?;
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    let ip = resolve(&host, port).ok_or_else(|| {
        Failed::new(Code::Address, format!("{KEY}={text}: the host `{host}` is not known here"))
    })?;
    Ok(Some(SocketAddr::new(ip, port)))
}

fn listeners(
    keys: &Keys,
    voters: &[QuorumVoter],
    me: NodeId,
    roles: Roles,
) -> Result<Vec<ListenerConfig>, Failed> {
    let all = endpoints("listeners", value(keys, "listeners").unwrap_or_default())?;
    check_ports(&all)?;
    let controllers: Vec<String> = value(keys, "controller.listener.names")
        .map(|list| split_list(list).map(str::to_ascii_uppercase).collect())
        .unwrap_or_default();
    // A slip here would open the controller's listener to clients.
    let is_open = |name: &&String| all.iter().any(|listener| listener.name == **name);
    match roles {
        Roles::Broker => {
            if let Some(name) = controllers.iter().find(is_open) {
                return Err(Failed::usage(format!(
                    "listeners has {name}, a listener for controllers, and by process.roles=broker this node is none: \
                     leave it out"
                )));
            }
        }
        Roles::Both | Roles::Controller => {
            if let Some(name) = controllers.iter().find(|name| !is_open(name)) {
                return Err(Failed::usage(format!(
                    "controller.listener.names names {name}, which listeners does not have"
                )));
            }
        }
    }
    let advertised =
        endpoints("advertised.listeners", value(keys, "advertised.listeners").unwrap_or_default())?;
    let protocols = protocols(keys, &controllers)?;
    for endpoint in &advertised {
        if !all.iter().any(|listener| listener.name == endpoint.name) {
            return Err(Failed::usage(format!(
                "advertised.listeners names {}, which listeners does not have",
                endpoint.name
            )));
        }
    }
    let mut listeners = Vec::new();
    for endpoint in all {
        check_protocol(&endpoint.name, protocols.get(&endpoint.name).map(String::as_str))?;
        let is_for_controllers = controllers.contains(&endpoint.name);
        let told = advertised.iter().find(|other| other.name == endpoint.name);
        if is_for_controllers {
            let bind = bind_address(&endpoint)?;
            listeners.push(ListenerConfig {
                advertised: advertise(&endpoint, told, bind)?,
                name: ListenerName::from(endpoint.name.as_str()),
                bind,
                protocol: ListenerProtocol::Plaintext,
                audience: Audience::Controllers,
            });
            continue;
        }
        if !roles.is_broker() {
            return Err(Failed::usage(format!(
                "listeners has {}, a listener for clients, and by process.roles=controller this node serves none: name it in \
                 controller.listener.names, or add `broker` to process.roles",
                endpoint.name
            )));
        }
        let bind = bind_address(&endpoint)?;
        listeners.push(ListenerConfig {
            advertised: advertise(&endpoint, told, bind)?,
            name: ListenerName::from(endpoint.name.as_str()),
            bind,
            protocol: ListenerProtocol::Plaintext,
            audience: Audience::Clients,
        });
    }
    check_reachable(voters, me, &listeners)?;
    let for_clients = |listener: &ListenerConfig| listener.audience == Audience::Clients;
    if roles.is_broker() && !listeners.iter().any(for_clients) {
        return Err(Failed::usage(
            "listeners has no listener for clients: add one, such as PLAINTEXT://:9092",
        ));
    }
    Ok(listeners)
}

/// The other voters call this one where the list of voters says.
fn check_reachable(
    voters: &[QuorumVoter],
    me: NodeId,
    listeners: &[ListenerConfig],
) -> Result<(), Failed> {
    let Some(own) = voters.iter().find(|voter| voter.node == me) else { return Ok(()) };
    let mut theirs = listeners.iter().filter(|it| it.audience == Audience::Controllers);
    if theirs.any(|listener| listener.bind.port() == own.port) {
        return Ok(());
    }
    Err(Failed::usage(format!(
        "controller.quorum.voters says that node {me} listens at {}:{}, and no listener for controllers does: add \
         CONTROLLER://:{} to listeners, and controller.listener.names=CONTROLLER",
        own.host, own.port, own.port
    )))
}

/// Which protocol each listener name stands for. Without a map of the operator's own the controller's listeners are plain,
/// as in Kafka.
fn protocols(keys: &Keys, controllers: &[String]) -> Result<BTreeMap<String, String>, Failed> {
    const MAP: &str = "listener.security.protocol.map";
    let mut protocols = BTreeMap::new();
    if !keys.contains_key(MAP) {
        let plain = |name: &String| (name.clone(), "PLAINTEXT".to_owned());
        protocols.extend(controllers.iter().map(plain));
    }
    for pair in split_list(value(keys, MAP).unwrap_or_default()) {
        let (name, protocol) = pair.split_once(':').ok_or_else(|| {
            Failed::usage(format!("{MAP}: `{pair}` is not of the form NAME:PROTOCOL"))
        })?;
        let protocol = protocol.trim().to_ascii_uppercase();
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            return Err(Failed::usage(format!(
                "{MAP}: `{protocol}` is no protocol; use PLAINTEXT where that is safe"
            )));
        }
        protocols.insert(name.trim().to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

fn check_protocol(name: &str, protocol: Option<&str>) -> Result<(), Failed> {
    match protocol {
        Some("PLAINTEXT") => Ok(()),
        Some(protocol) => Err(Failed::usage(format!(
            "listener {name} uses {protocol}, which is not there yet: without it the listener \
             would be open to everyone; use PLAINTEXT where that is safe"
        ))),
        None => Err(Failed::usage(format!(
            "listener {name} has no protocol: add {name}:PLAINTEXT to listener.security.protocol.map"
        ))),
    }
}

/// A sole node talks to no broker, but a name that is no listener's is a slip in a file that will once serve a cluster.
fn check_inter_broker(keys: &Keys, listeners: &[ListenerConfig]) -> Result<(), Failed> {
    let Some(name) = value(keys, "inter.broker.listener.name") else { return Ok(()) };
    if keys.contains_key("security.inter.broker.protocol") {
        return Err(Failed::usage(
            "inter.broker.listener.name and security.inter.broker.protocol exclude each other; \
             remove the latter",
        ));
    }
    let for_clients = listeners.iter().filter(|it| it.audience == Audience::Clients);
    let names: Vec<&str> = for_clients.map(|listener| listener.name.as_str()).collect();
    if names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Failed::usage(format!(
        "inter.broker.listener.name={name} is none of the listeners for clients and brokers: {}",
        names.join(", ")
    )))
}

fn bind_address(endpoint: &Endpoint) -> Result<SocketAddr, Failed> {
    let ip = match endpoint.host.as_str() {
        "" => wildcard(),
        host => resolve(host, endpoint.port).ok_or_else(|| {
            Failed::new(
                Code::Address,
                format!("listener {}: the host `{host}` is not known here", endpoint.name),
            )
        })?,
    };
    Ok(SocketAddr::new(ip, endpoint.port))
}

/// An address of `host`, if it is known.
fn resolve(host: &str, port: u16) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    // One name may stand for both families; version 4 is what more clients try first.
    found.iter().find(|address| address.is_ipv4()).or(found.first()).map(SocketAddr::ip)
}

/// All interfaces: both families where the machine has version 6.
fn wildcard() -> IpAddr {
    let has_v6 = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if has_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// What clients are told. A wildcard address is no address to connect to: the host's name stands in.
fn advertise(
    endpoint: &Endpoint,
    told: Option<&Endpoint>,
    bind: SocketAddr,
) -> Result<Option<(String, u16)>, Failed> {
    let is_wildcard = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if let Some(told) = told {
        if is_wildcard(&told.host) {
            return Err(Failed::usage(format!(
                "advertised.listeners: clients cannot connect to {}; name this host",
                told.host
            )));
        }
        let host = if told.host.is_empty() { host_name() } else { told.host.clone() };
        return Ok(Some((host, told.port)));
    }
    if bind.ip().is_unspecified() {
        return Ok(Some((host_name(), endpoint.port)));
    }
    Ok(Some((endpoint.host.clone(), endpoint.port)))
}

/// This host's name if it can be resolved, else `localhost`.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_known = !name.is_empty() && (name.as_str(), 0).to_socket_addrs().is_ok();
    if is_known { name } else { "localhost".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        properties::parse(text).unwrap().into_iter().map(|e| (e.key, e.value)).collect()
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let failed = plan(&keys(text), None).map(|node| node.config).unwrap_err();
        assert_eq!(failed.code, Code::Usage, "{failed}");
        assert!(failed.message.contains(words), "{failed}");
    }

    const SOUND: &str = "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:0\nlog.dirs=/tmp/x\n";

    #[test]
    fn the_stock_file_of_kafka_makes_a_node() {
        let node = plan(&keys(include_str!("../testdata/stock-server.properties")), None).unwrap();
        assert_eq!(node.config.node_id, NodeId(1));
        assert_eq!(node.config.log_dirs, [PathBuf::from("/tmp/kraft-combined-logs")]);
        let [listener, other] = &node.config.listeners[..] else {
            panic!("{:?}", node.config.listeners)
        };
        assert_eq!(listener.bind.port(), 9092);
        assert!(listener.bind.ip().is_unspecified());
        assert_eq!(listener.advertised, Some(("localhost".to_owned(), 9092)));
        assert_eq!((other.bind.port(), other.audience), (9093, Audience::Controllers));
    }

    #[test]
    fn dev_is_the_same_with_other_keys() {
        let mut dev = dev_keys("127.0.0.1:0", Path::new("/tmp/d")).unwrap();
        apply_overrides(&mut dev, &["num.partitions=3".into()]).unwrap();
        let node = plan(&dev, None).unwrap();
        assert_eq!(node.config.node_id, NodeId(0));
        assert_eq!(node.config.settings.partitions_count, 3);
        assert_eq!(node.config.listeners[0].advertised, Some(("127.0.0.1".to_owned(), 0)));
        assert!(dev_keys("9092", Path::new("/tmp/d")).is_err());
        assert!(apply_overrides(&mut dev, &["num.partitions".into()]).is_err());
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_hint() {
        refused("listeners=PLAINTEXT://:1\nlog.dirs=/x", "node.id is missing");
        refused(&format!("{SOUND}broker.id=2"), "disagree");
        refused(
            &format!("{SOUND}controller.quorum.voters=1@a:1,2@b:1"),
            "no listener for controllers",
        );
        refused(&format!("{SOUND}controller.quorum.voters=2@a:1,3@b:1"), "does not name this node");
        refused(&format!("{SOUND}controller.quorum.voters=2@a:1"), "does not name this node");
        refused(&format!("{SOUND}controller.quorum.voters=1@a:1,1@b:1"), "twice");
        refused(&format!("{SOUND}controller.quorum.voters=1@a"), "ID@HOST:PORT");
        refused(&format!("{SOUND}controller.quorum.bootstrap.servers=a"), "HOST:PORT");
        refused(&format!("{SOUND}num.partitons=1"), "num.partitions");
        refused("node.id=1\nlog.dirs=/x\nlisteners=SSL://:1", "not there yet");
        refused("node.id=1\nlog.dirs=/x\nlisteners=EDGE://:1", "listener.security.protocol.map");
        refused("node.id=1\nlog.dirs=/x\nlisteners=nonsense", "NAME://host:port");
        refused(&format!("{SOUND}advertised.listeners=OTHER://h:1"), "does not have");
        refused(&format!("{SOUND}advertised.listeners=PLAINTEXT://0.0.0.0:1"), "cannot connect");
        refused("node.id=1\nlog.dirs=/x,/y,/x/\nlisteners=PLAINTEXT://:1", "/x/ twice");
        refused("node.id=1\nlog.dirs=\nlisteners=PLAINTEXT://:1", "log.dirs is empty");
    }

    #[test]
    fn listeners_are_checked_against_one_another() {
        let with = |more: &str| format!("node.id=1\nlog.dirs=/x\n{more}");
        let two = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n";
        // Without a map of one's own the controller's listener is plain, as in Kafka; with one it must be in it.
        let node = plan(&keys(&with(&format!("{two}controller.listener.names=CONTROLLER"))), None);
        assert_eq!(node.unwrap().config.listeners.len(), 2);
        refused(
            &with(&format!(
                "{two}controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT"
            )),
            "CONTROLLER has no protocol",
        );
        refused(&with(two), "CONTROLLER has no protocol");
        // A slip in the name would open the controller's listener to clients.
        let map = "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n";
        refused(&with(&format!("{two}{map}controller.listener.names=CONTROLER")), "CONTROLER");
        refused(&with("listeners=A://:1\nlistener.security.protocol.map=A:PLAIN"), "no protocol");
        refused(&with("listeners=A://:1\nlistener.security.protocol.map=A"), "NAME:PROTOCOL");
        let ab = "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\n";
        refused(&with(&format!("{ab}listeners=A://:7,B://127.0.0.1:7")), "both want port 7");
        plan(&keys(&with(&format!("{ab}listeners=A://127.0.0.1:7,B://127.0.0.2:7"))), None)
            .unwrap();
        refused(&format!("{SOUND}inter.broker.listener.name=INSIDE"), "none of the listeners");
        refused(
            &with(&format!(
                "{two}{map}controller.listener.names=CONTROLLER\ninter.broker.listener.name=CONTROLLER"
            )),
            "none of the listeners",
        );
        refused(
            &format!(
                "{SOUND}inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT"
            ),
            "exclude each other",
        );
    }

    #[test]
    fn a_node_may_hold_partitions_or_decide_alone() {
        let of = |id: i32, more: &str| format!("node.id={id}\nlog.dirs=/x\n{more}");
        let voters = "controller.quorum.voters=1@a:1\ncontroller.listener.names=CONTROLLER\n";
        let (broker, controller) = ("process.roles=broker\n", "process.roles=controller\n");
        let (clients, others) =
            ("listeners=PLAINTEXT://127.0.0.1:0\n", "listeners=CONTROLLER://127.0.0.1:1\n");
        let node = plan(&keys(&of(2, &format!("{voters}{broker}{clients}"))), None).unwrap();
        assert_eq!(node.config.roles, Roles::Broker);
        let node = plan(&keys(&of(1, &format!("{voters}{controller}{others}"))), None).unwrap();
        assert_eq!((node.config.roles, node.config.listeners.len()), (Roles::Controller, 1));
        refused(&of(1, &format!("{voters}{broker}{clients}")), "names this node");
        refused(&of(2, &format!("{voters}{controller}{others}")), "does not name this node");
        let two = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:1\n";
        refused(&of(1, &format!("{voters}{controller}{two}")), "for clients");
        refused(&of(2, &format!("{voters}{broker}{others}")), "a listener for controllers");
        refused(&of(2, &format!("{broker}{clients}")), "controller.quorum.bootstrap.servers");
    }

    #[test]
    fn its_own_address_is_nobody_to_ask() {
        let asked = |servers: &str, listeners: &str| {
            let text = format!(
                "node.id=1\nlog.dirs=/x\ncontroller.listener.names=CONTROLLER\nlisteners=PLAINTEXT://127.0.0.1:0,{listeners}\n\
                 controller.quorum.bootstrap.servers={servers}\n"
            );
            plan(&keys(&text), None).unwrap().config.bootstrap
        };
        assert_eq!(asked("localhost:9093", "CONTROLLER://:9093"), []);
        assert_eq!(asked("127.0.0.1:9093", "CONTROLLER://127.0.0.1:9093"), []);
        let other = [("127.0.0.1".to_owned(), 9094)];
        assert_eq!(asked("127.0.0.1:9093,127.0.0.1:9094", "CONTROLLER://127.0.0.1:9093"), other);
    }

    #[test]
    fn metrics_are_for_this_machine_unless_a_host_is_named() {
        let at = |text: &str| {
            let node = plan(&keys(&format!("{SOUND}metrics.listen={text}")), None).unwrap();
            node.observed_at.map(|address| address.to_string())
        };
        assert_eq!(plan(&keys(SOUND), None).unwrap().observed_at, None);
        assert_eq!(at(""), None);
        assert_eq!(at("9404").as_deref(), Some("127.0.0.1:9404"));
        assert_eq!(at(":0").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(at("0.0.0.0:9404").as_deref(), Some("0.0.0.0:9404"));
        assert_eq!(at("[::1]:9404").as_deref(), Some("[::1]:9404"));
        refused(&format!("{SOUND}metrics.listen=yes"), "expected HOST:PORT");
    }

    #[test]
    fn addresses_of_both_families_are_understood() {
        assert_eq!(host_and_port("h:1"), Some(("h".into(), 1)));
        assert_eq!(host_and_port(":1"), Some((String::new(), 1)));
        assert_eq!(host_and_port("[::1]:1"), Some(("::1".into(), 1)));
        for bad in ["::1:1", "h", "h:x", "[::1:1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
