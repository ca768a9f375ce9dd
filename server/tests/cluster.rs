//! Three real processes: what is acknowledged outlives the death of any of them, and nobody has to do anything but start it
//! again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{Scratch, Server, check_failure, foretold};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the node with this data directory.
fn kill(data: &std::path::Path) {
    let pid: i32 = std::fs::read_to_string(data.join("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Lines `from..to`, one record each.
fn lines(from: u32, to: u32) -> String {
    (from..to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn what_is_acknowledged_outlives_the_death_of_any_node() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let cluster = Server::dev(&data, &["--nodes", "3"]);
    assert_eq!(cluster.bootstrap.split(',').count(), 3, "{}", cluster.ready);
    cluster.ok(&["topic", "create", "t", "--partitions", "3"], "");
    let text = described(&cluster).to_string();
    assert!(text.contains("[0,1,2]") && text.contains("[1,2,0]"), "{text}");
    let mut again = Vec::new();
    let mut sent = 0;
    for node in 1..=3 {
        cluster.ok(&["produce", "t"], &lines(sent, sent + 500));
        kill(&data.join(node.to_string()));
        cluster.ok(&["produce", "t", "--timeout", "60"], &lines(sent + 500, sent + 1000));
        sent += 1000;
        let file = data.join(format!("node{node}.properties"));
        again.push(Server::start(&["server", "--config", file.to_str().unwrap()]));
        all_in_sync(&cluster);
    }
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for line in read.lines() {
        *counts.entry(line.parse().unwrap()).or_default() += 1;
    }
    let expected: BTreeMap<u32, u32> = (0..sent).map(|number| (number, 1)).collect();
    assert_eq!(counts, expected);
    again.into_iter().for_each(Server::stop);
    cluster.stop();
}

/// All die at once, and nobody can tell whether their machines did: what a topic that does not sync holds is found again, and it goes
/// on, without anybody who asks for an election.
#[test]
fn a_topic_that_does_not_sync_goes_on_by_itself_after_the_death_of_all() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let three = ["--nodes", "3"];
    let cluster = Server::dev(&data, &three);
    let paged = ["--partitions", "2", "--set", "durability=page-cache"];
    cluster.ok(&[&["topic", "create", "t"], &paged[..]].concat(), "");
    cluster.ok(&["produce", "t"], &lines(0, 1000));
    ["1", "2", "3"].iter().for_each(|node| kill(&data.join(node)));
    drop(cluster);
    let cluster = Server::dev(&data, &three);
    cluster.ok(&["produce", "t", "--timeout", "30"], &lines(1000, 1500));
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    let mut found: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..1500).collect::<Vec<u32>>());
    all_in_sync(&cluster);
    cluster.stop();
}

/// One bit of one replica flips while its node is down: nobody ever sees it, and it is whole again soon after.
#[test]
fn a_bit_that_flips_in_one_replica_is_repaired_from_another() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let cluster = Server::dev(
        &data,
        &[
            "--nodes",
            "3",
            "--set",
            "log.segment.bytes=1048576",
            "--set",
            "log.scrub.interval.ms=1000",
        ],
    );
    cluster.ok(&["topic", "create", "t", "--partitions", "1"], "");
    let text: String =
        (0..20_000).map(|number| format!("{number} {}\n", "x".repeat(100))).collect();
    cluster.ok(&["produce", "t"], &text);
    all_in_sync(&cluster);
    let segment = |node: &str| {
        let log = data.join(node).join("t-0");
        let files = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).min().unwrap()
    };
    kill(&data.join("2"));
    let path = segment("2");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let file = data.join("node2.properties");
    let again = Server::start(&[
        "server",
        "--config",
        file.to_str().unwrap(),
        "--set",
        "log.segment.bytes=1048576",
        "--set",
        "log.scrub.interval.ms=1000",
    ]);
    let until = Instant::now() + Duration::from_secs(60);
    while std::fs::read(&path).unwrap() != std::fs::read(segment("1")).unwrap() {
        assert!(Instant::now() < until, "the bit is wrong still");
        std::thread::sleep(Duration::from_millis(100));
    }
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read, text);
    again.stop();
    cluster.stop();
}

/// A node that was away while the others changed and forgot much begins with a snapshot of the leader, and so does everybody
/// who starts again.
#[test]
fn a_node_that_was_away_for_long_is_given_a_snapshot_of_the_metadata() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let often = ["--set", "metadata.log.max.record.bytes.between.snapshots=10000"];
    let three = [&["--nodes", "3"], &often[..]].concat();
    let cluster = Server::dev(&data, &three);
    kill(&data.join("3"));
    let is_kept = |number: u32| !number.is_multiple_of(3);
    for number in 0..45 {
        let name = format!("t{number}");
        cluster.ok(&["topic", "create", &name, "--partitions", "8"], "");
        if !is_kept(number) {
            cluster.ok(&["topic", "delete", &name], "");
        }
    }
    let file = data.join("node3.properties");
    let log = scratch.join("node3.log");
    let args = [&["server", "--config", file.to_str().unwrap()], &often[..]].concat();
    let again = Server::start_with_log(&args, std::fs::File::create(&log).unwrap().into());
    let kept: Vec<String> = (0..45).filter(|n| is_kept(*n)).map(|n| format!("t{n}")).collect();
    let knows_all = |server: &Server| {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let topics: serde_json::Value =
                serde_json::from_str(&server.ok(&["topic", "list", "--json"], "")).unwrap();
            let mut known: Vec<String> = topics.as_array().unwrap().iter().map(name_of).collect();
            known.retain(|name| name.starts_with('t'));
            known.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
            if known == kept {
                return;
            }
            assert!(Instant::now() < until, "{known:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    knows_all(&again);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("the metadata go on from a snapshot of the leader"), "{said}");
    cluster.ok(&["produce", "t1"], &lines(0, 100));
    let nodes = ["1", "2", "3"].map(|node| data.join(node));
    for node in &nodes {
        let metadata = std::fs::read_dir(node.join("cluster-metadata")).unwrap();
        let snapshots = metadata.filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "checkpoint")
        });
        assert!(snapshots.count() > 0, "{node:?}");
        kill(node);
    }
    drop(again);
    drop(cluster);
    let cluster = Server::dev(&data, &three);
    knows_all(&cluster);
    let read = cluster.ok(&["consume", "t1", "--from", "earliest", "--until-end"], "");
    assert_eq!(read.lines().count(), 100);
    cluster.stop();
}

/// A node of one role or both, with a listener of each kind that it has, at a free port of its own.
struct Node {
    file: std::path::PathBuf,
    controllers_at: String,
}

impl Node {
    fn new(scratch: &Scratch, id: u32, roles: &str, more: &str) -> Node {
        let port =
            || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (clients, controllers) = (port(), port());
        let mut listeners = Vec::new();
        if roles.contains("broker") {
            listeners.push(format!("PLAINTEXT://127.0.0.1:{clients}"));
        }
        if roles.contains("controller") {
            listeners.push(format!("CONTROLLER://127.0.0.1:{controllers}"));
        }
        let data = scratch.join(&format!("data{id}"));
        let file = scratch.join(&format!("node{id}.properties"));
        let text = format!(
            "node.id={id}\nprocess.roles={roles}\nlisteners={}\ncontroller.listener.names=CONTROLLER\n\
             default.replication.factor=2\noffsets.topic.replication.factor=2\nlog.dirs={}\n{more}\n",
            listeners.join(","),
            data.display()
        );
        std::fs::write(&file, text).unwrap();
        Node { file, controllers_at: format!("127.0.0.1:{controllers}") }
    }

    fn says(&self, more: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        std::fs::write(&self.file, format!("{text}{more}\n")).unwrap();
    }

    fn format(&self, more: &[&str]) {
        let file = self.file.to_str().unwrap();
        let args = [&["format", "--cluster-id", "apart", "--config", file], more].concat();
        let output = foretold(&args, "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&self) -> Server {
        Server::start(&["server", "--config", self.file.to_str().unwrap()])
    }
}

#[test]
fn nodes_may_hold_partitions_or_decide() {
    let scratch = Scratch::new();
    let decides = Node::new(&scratch, 1, "controller", "");
    let voters = format!("controller.quorum.voters=1@{}", decides.controllers_at);
    decides.says(&voters);
    let holds = [2, 3].map(|id| Node::new(&scratch, id, "broker", &voters));
    for node in [&decides, &holds[0], &holds[1]] {
        node.format(&[]);
    }
    let controller = decides.start();
    assert!(controller.ready.starts_with("ready controller=127.0.0.1:"), "{}", controller.ready);
    let cluster = holds[0].start();
    let other = holds[1].start();
    cluster.ok(&["topic", "create", "t", "--partitions", "2"], "");
    cluster.ok(&["produce", "t"], &lines(0, 100));
    // Nobody decides, and what was decided goes on.
    controller.kill();
    cluster.ok(&["produce", "t"], &lines(100, 200));
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read.lines().count(), 200);
    let controller = decides.start();
    cluster.ok(&["topic", "create", "u", "--timeout", "30"], "");
    // A broker that dies is followed by the other.
    other.kill();
    cluster.ok(&["produce", "t", "--timeout", "30"], &lines(200, 300));
    let again = holds[1].start();
    let nodes = described_nodes(&cluster);
    assert_eq!(nodes, [(1, true), (2, false), (3, false)]);
    again.stop();
    cluster.stop();
    controller.stop();
}

#[test]
fn nodes_join_and_leave() {
    let scratch = Scratch::new();
    let both = "broker,controller";
    let first = Node::new(&scratch, 1, both, "");
    let asks = format!("controller.quorum.bootstrap.servers={}", first.controllers_at);
    first.says(&asks);
    first.format(&["--standalone"]);
    let joins = format!("{asks}\ncontroller.quorum.auto.join.enable=true");
    let others = [2, 3].map(|id| Node::new(&scratch, id, both, &joins));
    let last = Node::new(&scratch, 4, "broker", &asks);
    let one = first.start();
    for node in others.iter().chain([&last]) {
        node.format(&["--no-initial-controllers"]);
    }
    let mut servers: Vec<Server> = others.iter().map(Node::start).collect();
    let all_vote = [(1, true), (2, true), (3, true)];
    let until = Instant::now() + Duration::from_secs(30);
    while described_nodes(&one) != all_vote {
        assert!(Instant::now() < until, "{:?}", described_nodes(&one));
        std::thread::sleep(Duration::from_millis(100));
    }
    one.ok(&["topic", "create", "t", "--partitions", "6"], "");
    one.ok(&["produce", "t"], &lines(0, 600));
    // A new one receives its share by itself: a fourth of twelve replicas.
    servers.push(last.start());
    let until = Instant::now() + Duration::from_secs(60);
    while replicas_at(&one, 4) < 2 {
        assert!(Instant::now() < until, "broker 4 has {} replicas", replicas_at(&one, 4));
        std::thread::sleep(Duration::from_millis(200));
    }
    // The first is drained, and goes for good.
    let rest = &servers[0];
    let said = rest.ok(&["broker", "drain", "1", "--timeout", "60"], "");
    assert!(said.starts_with("broker 1 takes nothing new until"), "{said}");
    assert_eq!(replicas_at(&one, 1), 0);
    rest.ok(&["cluster", "remove-voter", "1"], "");
    one.stop();
    rest.ok(&["broker", "remove", "1", "--timeout", "30"], "");
    rest.ok(&["produce", "t", "--timeout", "30"], &lines(600, 700));
    let read = rest.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read.lines().count(), 700);
    let held = rest.ok(&["partition", "list", "--topic", "t", "--json"], "");
    let held: serde_json::Value = serde_json::from_str(&held).unwrap();
    for partition in held.as_array().unwrap() {
        let replicas = partition["replicas"].as_array().unwrap();
        assert!(replicas.len() == 2 && !replicas.iter().any(|id| id == 1), "{partition}");
    }
    // Who has joined knows the others by what is written, not by whom it asked first.
    servers.remove(1).stop();
    let again = others[1].start();
    assert_eq!(described_nodes(&servers[0]), [(2, true), (3, true), (4, false)]);
    servers.push(again);
    servers.into_iter().for_each(Server::stop);
}

/// How many replicas a broker holds.
fn replicas_at(server: &Server, broker: i64) -> u64 {
    let text = server.ok(&["broker", "list", "--json"], "");
    let brokers: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut brokers = brokers.as_array().unwrap().iter();
    let found = brokers.find(|it| it["broker"] == broker);
    found.map_or(0, |it| it["replicas"].as_u64().unwrap())
}

/// Bytes that a node has given to consumers of the topic.
fn given(server: &Server) -> u64 {
    let mut words = server.ready.split_whitespace();
    let at = words.find_map(|word| word.strip_prefix("metrics=")).unwrap();
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let sample = "kafka_server_brokertopicmetrics_bytesout_total{topic=\"t\"} ";
    page.lines().find_map(|line| line.strip_prefix(sample)).map_or(0, |it| it.parse().unwrap())
}

/// KIP-392, and what becomes of a consumer whose replica nearby dies.
#[test]
fn a_consumer_reads_from_the_replica_in_its_rack() {
    let scratch = Scratch::new();
    let decides = Node::new(&scratch, 1, "controller", "");
    let voters = format!("controller.quorum.voters=1@{}", decides.controllers_at);
    decides.says(&voters);
    let holds = [2, 3].map(|id| {
        let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
        let more = format!(
            "{voters}\nbroker.rack=rack-{id}\nreplica.selector.class={selector}\nmetrics.listen=127.0.0.1:0"
        );
        Node::new(&scratch, id, "broker", &more)
    });
    for node in [&decides, &holds[0], &holds[1]] {
        node.format(&[]);
    }
    let controller = decides.start();
    let [two, three] = holds.each_ref().map(Node::start);
    two.ok(&["topic", "create", "t", "--partitions", "1"], "");
    two.ok(&["produce", "t", "--timeout", "30"], &lines(0, 100));
    let leads = described(&two)[0]["partitions"][0]["leader"].as_i64().unwrap();
    let (leader, follower) = if leads == 2 { (two, three) } else { (three, two) };
    let (own, other) = (format!("rack-{leads}"), format!("rack-{}", 5 - leads));
    let all = ["consume", "t", "--from", "earliest", "--until-end", "--rack"];
    let read = |rack: &str| leader.ok(&[&all[..], &[rack]].concat(), "");
    assert_eq!(read(&other), lines(0, 100));
    assert!(given(&leader) == 0 && given(&follower) > 0, "{} {}", given(&leader), given(&follower));
    let before = given(&follower);
    assert_eq!(read(&own), lines(0, 100));
    assert_eq!(read("elsewhere"), lines(0, 100));
    assert!(given(&leader) > 0 && given(&follower) == before);
    follower.kill();
    leader.ok(&["produce", "t", "--timeout", "30"], &lines(100, 200));
    assert_eq!(read(&other), lines(0, 200));
    leader.stop();
    controller.stop();
}

/// Nodes that are heard of, and whether they vote.
fn described_nodes(server: &Server) -> Vec<(i64, bool)> {
    let text = server.ok(&["cluster", "describe", "--json", "--timeout", "30"], "");
    let cluster: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nodes = cluster["nodes"].as_array().unwrap();
    let node = |it: &serde_json::Value| (it["node"].as_i64().unwrap(), it["votes"] == true);
    let mut nodes: Vec<(i64, bool)> = nodes.iter().map(node).collect();
    nodes.sort_unstable();
    nodes
}

/// What a list says that a topic is called.
fn name_of(topic: &serde_json::Value) -> String {
    topic["topic"].as_str().unwrap().to_owned()
}

/// What whoever is asked knows of the topic. A node may hear of it a moment after it was created by another.
fn described(cluster: &Server) -> serde_json::Value {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let output = cluster.run(&["topic", "describe", "t", "--json"], "");
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no such topic") && Instant::now() < until, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until every partition has all its replicas in sync.
fn all_in_sync(cluster: &Server) {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        let described = described(cluster);
        let partitions = described[0]["partitions"].as_array().unwrap();
        let isr = |it: &serde_json::Value| it["isr"].as_array().map_or(0, Vec::len);
        if partitions.iter().all(|partition| isr(partition) == 3) {
            return;
        }
        assert!(Instant::now() < until, "{described}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_node_of_several_does_not_begin_a_cluster_of_its_own() {
    let scratch = Scratch::new();
    let file = scratch.join("node.properties");
    let data = scratch.join("data");
    let text = format!(
        "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:19999\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.voters=1@127.0.0.1:19999,2@127.0.0.1:19998\nlog.dirs={}\n",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = foretold(&["server", "--config", file.to_str().unwrap()], "");
    check_failure(&output, 2, "foretold format --cluster-id");
}
