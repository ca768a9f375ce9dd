//! What an operator's tools are told over HTTP: exact numbers, whether the node serves, and what is wrong with a request.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Mounted, Scratch, Server, check_failure, fill, foretold};
use server::observe::{self, Board, Stage};

/// Sends `request` and gives what comes until the end of the connection.
fn talk(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Who sent more than is read is cut off when the answer is out.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Status and body of a page.
fn get(address: &str, path: &str) -> (u16, String) {
    let answer = talk(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Where a broker that prints `ready` is observed.
fn observed_at(server: &Server) -> String {
    let words = server.ready.split_whitespace();
    words.filter_map(|word| word.strip_prefix("metrics=")).next_back().unwrap().to_owned()
}

/// The value of a sample, named as it stands on the page.
#[track_caller]
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in:\n{page}")).parse().unwrap()
}

#[test]
fn the_page_says_exactly_what_was_done() {
    let data = Scratch::new();
    let more = ["--set", "metrics.listen=0", "--set", "offsets.topic.num.partitions=1"];
    let server = Server::dev(data.path(), &more);
    let at = observed_at(&server);
    assert!(at.starts_with("127.0.0.1:"), "{at}");
    assert_eq!(get(&at, "/health/live"), (200, "alive\n".to_owned()));
    assert_eq!(get(&at, "/health/ready"), (200, "ready\n".to_owned()));

    server.ok(&["topic", "create", "orders", "--partitions", "2"], "");
    server.ok(&["topic", "create", "idle"], "");
    server.ok(&["produce", "orders"], "a\nb\nc\nd\ne\n");
    // The group reads all, then three more come.
    server
        .ok(&["consume", "orders", "--group", "readers", "--from", "earliest", "--count", "5"], "");
    server.ok(&["produce", "orders"], "f\ng\nh\n");
    let lag = server.json(&["group", "describe", "readers"]);

    let (status, page) = get(&at, "/metrics");
    assert_eq!(status, 200);
    for (sample, expected) in [
        ("foretold_ready", 1.0),
        ("kafka_brokers", 1.0),
        ("kafka_server_brokertopicmetrics_messagesin_total", 8.0),
        ("kafka_server_brokertopicmetrics_messagesin_total{topic=\"orders\"}", 8.0),
        ("kafka_server_brokertopicmetrics_messagesin_total{topic=\"idle\"}", 0.0),
        ("kafka_server_brokertopicmetrics_failedproducerequests_total{topic=\"orders\"}", 0.0),
        ("kafka_server_replicamanager_leadercount", 4.0),
        ("kafka_server_replicamanager_partitioncount", 4.0),
        ("kafka_server_replicamanager_underreplicatedpartitions", 0.0),
        ("kafka_server_replicamanager_offlinereplicacount", 0.0),
        ("kafka_controller_kafkacontroller_activecontrollercount", 1.0),
        ("kafka_controller_kafkacontroller_offlinepartitionscount", 0.0),
        ("kafka_log_logmanager_offlinelogdirectorycount", 0.0),
        ("kafka_topic_partitions{topic=\"orders\"}", 2.0),
        ("kafka_topic_partition_oldest_offset{topic=\"orders\",partition=\"0\"}", 0.0),
        ("kafka_topic_partition_leader{topic=\"orders\",partition=\"1\"}", 0.0),
        ("kafka_consumergroup_members{consumergroup=\"readers\"}", 0.0),
        ("kafka_consumergroup_lag_sum{consumergroup=\"readers\",topic=\"orders\"}", 3.0),
        ("kafka_consumergroup_current_offset_sum{consumergroup=\"readers\",topic=\"orders\"}", 5.0),
        ("foretold_group_coordinators_silent", 0.0),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}");
    }
    // Per partition: end, less what was committed, as the group's own description says.
    let of = |name: &str, partition: i32| {
        value(&page, &format!("{name}{{topic=\"orders\",partition=\"{partition}\"}}"))
    };
    let ends: Vec<f64> =
        (0..2).map(|index| of("kafka_topic_partition_current_offset", index)).collect();
    assert_eq!(ends.iter().sum::<f64>(), 8.0);
    for offset in lag["positions"].as_array().unwrap().iter().filter(|of| !of["offset"].is_null()) {
        let partition = &offset["partition"];
        let labels =
            format!("{{consumergroup=\"readers\",topic=\"orders\",partition=\"{partition}\"}}");
        let committed = value(&page, &format!("kafka_consumergroup_current_offset{labels}"));
        let behind = value(&page, &format!("kafka_consumergroup_lag{labels}"));
        assert_eq!(behind, ends[partition.as_u64().unwrap() as usize] - committed);
        assert_eq!(Some(behind), offset["lag"].as_f64());
    }
    let produced = value(&page, "kafka_network_requestmetrics_requests_total{request=\"Produce\"}");
    let timed = value(&page, "foretold_request_seconds_count{request=\"Produce\"}");
    assert!(produced >= 2.0 && produced == timed, "{produced} {timed}");
    assert!(
        value(&page, "kafka_network_requestmetrics_requests_total{request=\"FetchConsumer\"}")
            > 0.0
    );
    let bytes = (0..2).map(|index| of("kafka_log_log_size", index)).sum::<f64>();
    let sent = value(&page, "kafka_server_brokertopicmetrics_bytesin_total{topic=\"orders\"}");
    assert!(bytes > 0.0 && bytes == sent, "{bytes} {sent}");
    let dir = format!("{{dir=\"{}\"}}", data.path().display());
    assert_eq!(value(&page, &format!("foretold_directory_online{dir}")), 1.0);
    assert!(value(&page, &format!("foretold_journal_sync_seconds_count{dir}")) >= 2.0);
    assert!(value(&page, "process_resident_memory_bytes") > 1e6);

    // Each family is whole: its help, its type, then its samples, and no name twice.
    let mut seen = std::collections::BTreeSet::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            family = words.split(' ').next().unwrap();
            assert!(seen.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
    // Counters do not go back.
    let later = get(&at, "/metrics").1;
    for sample in ["process_cpu_seconds_total", "kafka_server_brokertopicmetrics_bytesin_total"] {
        assert!(value(&later, sample) >= value(&page, sample));
    }
    server.stop();
    assert!(TcpStream::connect(&at).is_err());
}

#[test]
fn who_cannot_be_served_is_told_why() {
    let data = Scratch::new();
    let server = Server::dev(data.path(), &["--set", "metrics.listen=:0"]);
    let at = observed_at(&server);
    let (status, text) = get(&at, "/");
    assert_eq!(status, 404);
    assert!(text.contains("/metrics") && text.contains("/health/ready"), "{text}");
    let posted = talk(&at, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("use GET"), "{posted}");
    let head = talk(&at, "HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let nonsense = talk(&at, "\x16\x03\x01 what is this\r\n\r\n");
    assert!(nonsense.is_empty() || nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let huge = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let huge = talk(&at, &huge);
    assert!(huge.is_empty() || huge.starts_with("HTTP/1.1 431 "), "{huge}");
    // Those that say nothing hold their places for a few seconds only, and no client of the broker notices.
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&at).unwrap()).collect();
    server.ok(&["topic", "create", "t"], "");
    let began = Instant::now();
    assert_eq!(get(&at, "/health/live").0, 200);
    assert!(began.elapsed() < Duration::from_secs(25));
    drop(idle);
    // The port is taken: the start says so, by the name of the key.
    let other = Scratch::new();
    let other = other.path().to_str().unwrap();
    let key = format!("metrics.listen={at}");
    let output = foretold(&["dev", "--listen", "127.0.0.1:0", "--data", other, "--set", &key], "");
    check_failure(&output, 3, "metrics.listen: cannot listen on");
    server.stop();
}

/// A node that has not started yet, one whose directories have failed, one that stops: alive, and not ready.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_life_of_a_node() {
    let board = Arc::new(Board::default());
    let listener = observe::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(observe::serve(listener, board.clone()));
    let asked = |path: &'static str| {
        let at = at.clone();
        async move { tokio::task::spawn_blocking(move || get(&at, path)).await.unwrap() }
    };
    for (stage, words) in [
        (Stage::Starting, "starting: log directories are being opened\n"),
        (Stage::Serving, "no log directory works\n"),
        (Stage::Stopping, "stopping\n"),
    ] {
        board.enter(stage);
        assert_eq!(asked("/health/ready").await, (503, words.to_owned()), "{stage:?}");
        assert_eq!(asked("/health/live").await.0, 200);
    }
    let (status, page) = asked("/metrics").await;
    assert_eq!((status, value(&page, "foretold_ready")), (200, 0.0));
    assert!(!page.contains("kafka_brokers"), "nothing is known of a broker yet");
    serving.abort();
}

/// A directory that did not open, and one that was filled after the start: the node is ready, and says which they are.
#[test]
fn readiness_names_the_directories_that_are_degraded() {
    let scratch = Scratch::new();
    let Some(disk) = Mounted::new(scratch.join("disk"), "size=200m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let (data, broken) = (disk.0.join("data"), scratch.join("a-file"));
    std::fs::write(&broken, "").unwrap();
    let keys = scratch.join("keys");
    let content = format!(
        "node.id=0\nlisteners=PLAINTEXT://127.0.0.1:0\nlog.dirs={},{}\nmetrics.listen=127.0.0.1:0\n",
        data.display(),
        broken.display()
    );
    std::fs::write(&keys, content).unwrap();
    let server = Server::start(&["server", "--config", keys.to_str().unwrap()]);
    let at = observed_at(&server);
    let offline = format!("{}: offline: its partitions are not served\n", broken.display());
    assert_eq!(get(&at, "/health/ready"), (200, format!("ready\n{offline}")));
    server.ok(&["produce", "t"], "x\n");

    let hog = fill(&disk.0);
    let large = "y".repeat(200_000);
    assert!(!server.run(&["produce", "t", "--timeout", "1"], &large).status.success());
    let full = format!("{}: no space: records can be read, but none published\n", data.display());
    assert_eq!(get(&at, "/health/ready"), (200, format!("ready\n{full}{offline}")));
    assert_eq!(server.ok(&["consume", "t", "--from", "earliest", "--until-end"], ""), "x\n");

    std::fs::remove_file(hog).unwrap();
    server.ok(&["produce", "t"], "z\n");
    assert_eq!(get(&at, "/health/ready"), (200, format!("ready\n{offline}")));
    server.stop();
}

/// Many ask at once; each gets the whole page, and one after the other is made.
#[test]
fn pages_are_made_one_at_a_time() {
    let data = Scratch::new();
    let server = Server::dev(data.path(), &["--set", "metrics.listen=0"]);
    server.ok(&["topic", "create", "wide", "--partitions", "300"], "");
    let at = observed_at(&server);
    let asking: Vec<_> = (0..24)
        .map(|_| {
            let at = at.clone();
            std::thread::spawn(move || get(&at, "/metrics"))
        })
        .collect();
    for asked in asking {
        let (status, page) = asked.join().unwrap();
        assert_eq!((status, value(&page, "kafka_topic_partitions{topic=\"wide\"}")), (200, 300.0));
    }
    let mut half = TcpStream::connect(&at).unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    // Who does not finish asking keeps nobody waiting.
    let unfinished: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&at).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(get(&at, "/health/live").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(4), "a probe took {:?}", begun.elapsed());
    drop(unfinished);
    server.stop();
}

#[test]
fn lag_has_an_age() {
    let data = Scratch::new();
    let more = ["--set", "metrics.listen=0", "--set", "offsets.topic.num.partitions=1"];
    let server = Server::dev(data.path(), &more);
    let at = observed_at(&server);
    server.ok(&["topic", "create", "t"], "");
    server.ok(&["produce", "t"], "a\n");
    server.ok(&["consume", "t", "--group", "g", "--from", "earliest", "--count", "1"], "");
    let sample = "kafka_consumergroup_lag_seconds{consumergroup=\"g\",topic=\"t\",partition=\"0\"}";
    assert_eq!(value(&get(&at, "/metrics").1, sample), 0.0);
    let before = Instant::now();
    server.ok(&["produce", "t"], "b\n");
    let produced = Instant::now();
    std::thread::sleep(Duration::from_millis(1100));
    let asked = produced.elapsed().as_secs_f64();
    let told = value(&get(&at, "/metrics").1, sample);
    // To the millisecond, as timestamps are.
    assert!((asked - 0.002..=before.elapsed().as_secs_f64()).contains(&told), "{told} s");
    server.ok(&["produce", "t"], "c\n");
    let later = value(&get(&at, "/metrics").1, sample);
    assert!(later >= told, "the first unread record counts: {told} s, then {later} s");
}

#[test]
fn slow_requests_have_a_line_and_long_polls_have_none() {
    let data = Scratch::new();
    let log = data.path().with_extension("log");
    let (path, file) = (data.path().to_str().unwrap(), std::fs::File::create(&log).unwrap());
    let args = ["dev", "--listen", "127.0.0.1:0", "--data", path];
    let args = [&args[..], &["--set", "request.slow.log.ms=-1"]].concat();
    let server = Server::start_with_log(&args, file.into());
    server.ok(&["topic", "create", "t"], "");
    let lines = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains("was slow")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(), [""; 0], "-1 is never");
    server.ok(&["config", "set", "broker", "default", "request.slow.log.ms=200"], "");
    // Polls of half a second each find nothing, until something comes.
    std::thread::scope(|scope| {
        let consumes = || server.ok(&["consume", "t", "--from", "earliest", "--count", "1"], "");
        let reader = scope.spawn(consumes);
        std::thread::sleep(Duration::from_millis(2200));
        server.ok(&["produce", "t"], "a\n");
        assert_eq!(reader.join().unwrap(), "a\n");
    });
    let polls: Vec<String> = lines().into_iter().filter(|line| line.contains("Fetch")).collect();
    assert_eq!(polls, [""; 0], "waiting for records is no slowness");
    server.ok(&["config", "set", "broker", "default", "request.slow.log.ms=0"], "");
    // Nobody makes five hundred directories in a millisecond. Another line may have taken this one's turn.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut n = 0;
    while !lines().iter().any(|line| line.contains("CreateTopics")) {
        assert!(Instant::now() < deadline, "no line for a slow request: {:?}", lines());
        n += 1;
        server.ok(&["topic", "create", &format!("many-{n}"), "--partitions", "500"], "");
        std::thread::sleep(Duration::from_millis(500));
    }
}
