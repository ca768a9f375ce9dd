//! Other projects' own test suites, where the checkout has them beside it (`../shared/suites`). What fails there for a
//! reason we know stands in `xtask/clients/known-failures.txt`; anything else is ours to mend.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::broker::Broker;
use super::tools::Tools;

/// What all of them like: tests do not wait for members that might still come.
const SETTINGS: &[&str] =
    &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=8", "num.partitions=4"];
/// The suites, and what their tests want of a broker beside that.
const SUITES: &[(&str, &[&str])] = &[
    // One group's members have sessions of 3 s, half of the least Kafka grants by default; kafka-go wants them refused.
    ("kafka-python", &["group.min.session.timeout.ms=3000"]),
    ("java-tools", &[]),
    (
        "kafka-go",
        // The tests name the broker and its address; the suite forwards the port while it runs.
        &[
            "node.id=1",
            "advertised.listeners=PLAINTEXT://localhost:9092",
            "message.max.bytes=200000000",
        ],
    ),
    // The tests count the partitions of topics that made themselves.
    ("rust-rdkafka", &["num.partitions=3"]),
];

/// Whether `name` is one of the suites.
pub fn is_one(name: &str) -> bool {
    SUITES.iter().any(|(suite, _)| *suite == name)
}

/// Runs one suite; `Ok(None)`: the suite is not there.
pub fn run(
    root: &Path,
    tools: &Tools,
    binary: &Path,
    name: &str,
) -> Result<Option<String>, String> {
    let place = Path::new("shared/suites").join(name).join("run");
    let Some(suite) = root.ancestors().map(|dir| dir.join(&place)).find(|path| path.exists())
    else {
        return Ok(None);
    };
    let path = tools.programs.join("known-failures.txt");
    let known =
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let own = SUITES.iter().find(|(suite, _)| *suite == name).map_or(&[][..], |(_, own)| own);
    let settings: Vec<&str> = SETTINGS.iter().chain(own).copied().collect();
    let mut broker = Broker::start(binary, &tools.work.join(format!("{name}-data")), &settings)?;
    let output = Command::new("bash")
        .arg(&suite)
        .arg(broker.bootstrap())
        .current_dir(&tools.work)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    broker.stop()?;
    let last = text.lines().last().unwrap_or_default().to_owned();
    if !last.contains("passed=") {
        return Err(format!("{name} gave no result: {last}"));
    }
    let verdict = judge(name, &known, &text);
    for test in &verdict.gone {
        println!("  {test} did not fail; its line in known-failures.txt may go");
    }
    if verdict.unknown.is_empty() {
        Ok(Some(last))
    } else {
        Err(format!("{last}\n{}", verdict.unknown.join("\n")))
    }
}

/// What the failures of a run are worth.
struct Verdict {
    /// Lines that tell of failures without a reason.
    unknown: Vec<String>,
    /// Tests with a reason to fail that did not.
    gone: Vec<String>,
}

/// Holds the failures in `output` against the lines `SUITE TEST REASON` of `known`.
fn judge(suite: &str, known: &str, output: &str) -> Verdict {
    let known: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(suite)).then(|| words.next())?
        })
        .collect();
    let failed: Vec<(&str, &str)> =
        output.lines().filter_map(|line| Some((failed_test(line)?, line))).collect();
    Verdict {
        unknown: failed
            .iter()
            .filter(|(test, _)| !known.contains(test))
            .map(|(_, line)| (*line).to_owned())
            .collect(),
        gone: known
            .iter()
            .filter(|test| failed.iter().all(|(name, _)| name != *test))
            .map(|test| (*test).to_owned())
            .collect(),
    }
}

/// The test that a line tells the failure of, in the words of whichever program counted.
///
/// ```text
/// FAIL  acls-add rc=1 18s: The node does not support DESCRIBE_ACLS
/// # fail      0.1s tests.admin::test_acls: 'IncompatibleBrokerVersion'
/// # fail   tests::transactions
/// # hung          TestReader (no result: the run was cut or the process died)
/// ```
fn failed_test(line: &str) -> Option<&str> {
    let rest = ["FAIL ", "# fail ", "# hung "].iter().find_map(|start| line.strip_prefix(start))?;
    let is_duration = |word: &str| word.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok());
    let test = rest.split_whitespace().find(|word| !is_duration(word))?;
    Some(test.trim_end_matches(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_without_a_reason_are_told() {
        let known = "# why\n\njava-tools acls-add no authorizer\nkafka-go TestConn/one never\n\
            kafka-python test.integration.test_admin::test_elect_leaders no elections\n";
        let java = "# suite java-tools against 127.0.0.1:1; log /tmp/log\nok    topics-create 10s\n\
            FAIL  acls-add rc=1 18s: The node does not support DESCRIBE_ACLS\n\
            FAIL  topics-create-dup! rc=1 63s: \npassed=1 failed=2 skipped=0";
        let verdict = judge("java-tools", known, java);
        assert_eq!(verdict.unknown, ["FAIL  topics-create-dup! rc=1 63s: "]);
        assert!(verdict.gone.is_empty());
        let python = "# fail      0.0s test.integration.test_admin::test_elect_leaders: \"Error 35\"\n\
            # skip  test.integration.test_sasl::test_admin[PLAIN]: 'external'\n\
            # fail     15.1s test.integration.test_consumer::test_group: 'timeout waiting for s '\n";
        let unknown = judge("kafka-python", known, python).unknown;
        assert_eq!(unknown.len(), 1);
        assert_eq!(failed_test(&unknown[0]), Some("test.integration.test_consumer::test_group"));
        // Another suite's reason is no reason.
        assert_eq!(judge("kafka", known, python).unknown.len(), 2);
        // A reason that is not needed any more is told.
        assert_eq!(judge("kafka-go", known, "passed=1 failed=0 skipped=0").gone, ["TestConn/one"]);
    }

    #[test]
    fn every_counter_is_understood() {
        assert_eq!(
            failed_test("# fail   transactions::test_transaction_abort"),
            Some("transactions::test_transaction_abort")
        );
        assert_eq!(failed_test("# fail      0.1s TestConn/one"), Some("TestConn/one"));
        assert_eq!(
            failed_test("# hung          TestReader (no result: the run was cut)"),
            Some("TestReader")
        );
        assert_eq!(failed_test("# skip      0.0s TestConn"), None);
        assert_eq!(failed_test("ok    topics-create 10s"), None);
    }
}
