//! Stories in `testdata/group_*.txt`: lines that begin with `>` are commands, the others what came of them. To write the
//! outcome anew run with `UPDATE_EXPECT=1`, and read the difference.
//!
//! ```text
//! > join g topics=t                  a newcomer; options: as= static= client= session= rebalance= protocols= topics=
//!                                    type= v=3 (no member id required) v=8 (no skipping of assignments)
//! > sync g m1 1 m1=p0 m2=p1          member, generation, assignments of a leader; static= protocol= type=
//! > heartbeat g m1 1                 static=
//! > leave g m1 static:i              ids and static names
//! > commit g t:0=5 as=m1 generation=1
//! > fetch g | describe g | list | delete g | delete-offsets g t:0
//! > pass 3s | commit-log | crash     time; the log is committed; the process dies and what is not committed is lost
//! ```
//!
//! Ids that the machine makes are called `m1`, `m2`, ... in the order of their making. Each reply shows `(waits)` if it
//! rests on an append that is not committed. After every step the log is replayed and compared (I64).

use std::fmt::Write;

use super::*;

#[test]
fn stories() {
    crate::stories::check("group_", play);
}

fn play(story: &str) -> String {
    let settings = |line: &str| {
        let mut settings = GroupSettings::default();
        for (name, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
            match name {
                "members" => settings.members_max = value.parse().expect("a number"),
                "delay" => settings.initial_rebalance_delay = duration(value),
                other => panic!("no setting {other}"),
            }
        }
        settings
    };
    let mut out = String::new();
    let mut player = Player { world: World::new(GroupSettings::default()), names: Vec::new() };
    for line in story.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            let _ = writeln!(out, "{line}");
            match command.strip_prefix("settings ") {
                Some(line) => {
                    player = Player { world: World::new(settings(line)), names: Vec::new() };
                }
                None => player.command(command, &mut out),
            }
        } else if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

struct Player {
    world: World,
    names: Vec<String>,
}

struct Words<'a> {
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl Player {
    fn command(&mut self, command: &str, out: &mut String) {
        let mut words = Words { plain: Vec::new(), options: BTreeMap::new() };
        let mut rest = command.split_whitespace();
        let verb = rest.next().expect("a command");
        for word in rest {
            match word.split_once('=') {
                Some((name, value)) if verb != "commit" || !name.contains(':') => {
                    words.options.insert(name, value);
                }
                _ => words.plain.push(word),
            }
        }
        let group = words.plain.first().copied().unwrap_or_default().to_owned();
        let effects = match verb {
            "pass" => self.world.pass(duration(words.plain[0])),
            "commit-log" => {
                self.world.committed = self.world.groups.appended();
                Vec::new()
            }
            "crash" => {
                self.world.crash();
                let text = self.world.groups.to_string();
                let _ = write!(out, "{}", self.named(&text));
                return;
            }
            _ => {
                let event = self.event(verb, &words);
                self.world.step(event)
            }
        };
        for effect in &effects {
            let text = self.effect(effect);
            let _ = writeln!(out, "{text}");
        }
        match verb {
            "pass" => {
                let text = self.world.groups.to_string();
                let _ = write!(out, "{}", self.named(&text));
            }
            "fetch" | "describe" | "list" | "commit-log" => {}
            _ => {
                if let Some(line) = self.world.groups.line(&group) {
                    let _ = writeln!(out, "{group}: {}", self.named(&line));
                }
            }
        }
    }

    fn event(&mut self, verb: &str, words: &Words<'_>) -> Event {
        let token = self.world.token();
        let group = words.plain.first().copied().unwrap_or_default();
        let instance = words.options.get("static").map(|name| InstanceId::from(*name));
        let member = |player: &Player, at: usize| player.id(words.plain[at]);
        let generation = |at: usize| Some(Generation(words.plain[at].parse().expect("a number")));
        match verb {
            "join" => {
                let version: i32 =
                    words.options.get("v").map_or(9, |v| v.parse().expect("a number"));
                let topics: Vec<&str> =
                    words.options.get("topics").map_or("t", |t| t).split(',').collect();
                let protocols = words.options.get("protocols").map_or("range", |p| p);
                let protocol =
                    |name: &str| Protocol { name: name.into(), metadata: subscription(&topics) };
                let fresh = self.world.fresh();
                let defaults = join(group, fresh);
                let timeout =
                    |name: &str, default| words.options.get(name).map_or(default, |t| duration(t));
                Event::Join(
                    token,
                    JoinRequest {
                        member: words.options.get("as").map(|name| self.id(name)),
                        instance,
                        client_id: words.options.get("client").map_or("c", |c| c).into(),
                        session_timeout: timeout("session", defaults.session_timeout),
                        rebalance_timeout: timeout("rebalance", defaults.rebalance_timeout),
                        protocol_type: words.options.get("type").map_or("consumer", |t| t).into(),
                        protocols: protocols.split(',').map(protocol).collect(),
                        requires_known_member: version >= 4,
                        can_skip_assignment: version >= 9,
                        ..defaults
                    },
                )
            }
            "sync" => {
                let assigned = words
                    .options
                    .iter()
                    .filter(|(name, _)| !matches!(**name, "static" | "protocol" | "type"));
                let assignments = assigned
                    .map(|(name, what)| (self.id(name), Bytes::copy_from_slice(what.as_bytes())));
                Event::Sync(
                    token,
                    SyncRequest {
                        group: group.into(),
                        member: member(self, 1),
                        instance,
                        generation: generation(2),
                        protocol_type: words.options.get("type").map(|t| Str::from(*t)),
                        protocol: words.options.get("protocol").map(|p| Str::from(*p)),
                        assignments: assignments.collect(),
                    },
                )
            }
            "heartbeat" => Event::Heartbeat(
                token,
                HeartbeatRequest {
                    group: group.into(),
                    member: member(self, 1),
                    instance,
                    generation: generation(2),
                },
            ),
            "leave" => {
                let leaving = |word: &&str| match word.strip_prefix("static:") {
                    Some(name) => LeavingMember { member: None, instance: Some(name.into()) },
                    None => LeavingMember { member: Some(self.id(word)), instance: None },
                };
                let members = words.plain[1..].iter().map(leaving).collect();
                Event::Leave(token, LeaveRequest { group: group.into(), members })
            }
            "commit" => {
                let mut request = commit(group, 0);
                request.member = words.options.get("as").map(|name| self.id(name));
                request.instance = instance;
                request.generation = words
                    .options
                    .get("generation")
                    .map(|g| Generation(g.parse().expect("a number")));
                request.knows_group_not_found = words.options.get("v") != Some(&"8");
                request.topics = words.plain[1..]
                    .iter()
                    .map(|word| {
                        let (place, offset) = word.split_once('=').expect("topic:partition=offset");
                        let (topic, partition) = place.split_once(':').expect("topic:partition");
                        CommitTopic {
                            topic: topic.into(),
                            topic_id: None,
                            partitions: vec![CommitPartition {
                                partition: PartitionIndex(partition.parse().expect("a number")),
                                offset: Offset(offset.parse().expect("a number")),
                                leader_epoch: None,
                                metadata: Str::EMPTY,
                            }],
                        }
                    })
                    .collect();
                Event::CommitOffsets(token, request)
            }
            "fetch" => Event::FetchOffsets(
                token,
                FetchOffsetsRequest { group: group.into(), topics: None },
            ),
            "delete-offsets" => {
                let topics = words.plain[1..].iter().map(|word| {
                    let (topic, partition) = word.split_once(':').expect("topic:partition");
                    (topic.into(), vec![PartitionIndex(partition.parse().expect("a number"))])
                });
                Event::DeleteOffsets(
                    token,
                    DeleteOffsetsRequest { group: group.into(), topics: topics.collect() },
                )
            }
            "describe" => Event::Describe(token, group.into()),
            "list" => {
                let set = |name: &str| {
                    words.options.get(name).map(|list| list.split(',').map(str::to_owned).collect())
                };
                Event::List(
                    token,
                    ListRequest {
                        states: set("states").unwrap_or_default(),
                        types: set("types").unwrap_or_default(),
                    },
                )
            }
            "survey" => Event::Survey(token),
            "delete" => Event::Delete(token, group.into()),
            other => panic!("no command {other}"),
        }
    }

    /// The machine's id for `m3`; other names stand for themselves.
    fn id(&self, name: &str) -> MemberId {
        let number = name.strip_prefix('m').and_then(|number| number.parse::<usize>().ok());
        let known = number.and_then(|number| self.names.get(number.checked_sub(1)?));
        known.map_or_else(|| MemberId::from(name), |id| MemberId::from(id.as_str()))
    }

    /// The text with the short names of ids; ids that appear for the first time get theirs.
    fn named(&mut self, text: &str) -> String {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            let is_id = word.len() > 36 && word.contains("-00000000-0000-");
            if is_id && !self.names.iter().any(|name| name == word) {
                self.names.push(word.to_owned());
            }
        }
        let mut text = text.to_owned();
        for (index, id) in self.names.iter().enumerate() {
            text = text.replace(id.as_str(), &format!("m{}", index + 1));
        }
        text
    }

    fn effect(&mut self, effect: &Effect) -> String {
        let (token, after, response) = match effect {
            Effect::Append { number, records } => {
                return format!("  append {}: {} record(s)", number.0, records.len());
            }
            Effect::Reply { token, after, response } => (token, after, response),
        };
        let waits = if *after > self.world.committed { " (waits)" } else { "" };
        let text = match response {
            Response::Join(join) => describe_join(join),
            Response::Sync(sync) if sync.error.is_none() => {
                let owned = String::from_utf8_lossy(&sync.assignment).into_owned();
                format!("owns '{owned}' by {}", sync.protocol.clone().unwrap_or_default())
            }
            Response::Sync(sync) => sync.error.to_string(),
            Response::Heartbeat(error) | Response::Delete(error) => error.to_string(),
            Response::Leave(leave) => {
                let names = leave.members.iter().map(|(who, error)| {
                    let member = who.member.as_ref().map(MemberId::to_string);
                    let instance = who.instance.as_ref().map(InstanceId::to_string);
                    format!("{} {error}", member.or(instance).unwrap_or_default())
                });
                names.collect::<Vec<_>>().join(", ")
            }
            Response::CommitOffsets(result) | Response::DeleteOffsets(result) => match result {
                Ok(topics) => {
                    let each = topics.iter().flat_map(|topic| {
                        topic
                            .partitions
                            .iter()
                            .map(|(p, error)| format!("{}:{p} {error}", topic.topic))
                    });
                    each.collect::<Vec<_>>().join(", ")
                }
                Err(error) => error.to_string(),
            },
            Response::FetchOffsets(Ok(topics)) => {
                let each = topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|(p, offset)| {
                        format!(
                            "{}:{p}={}",
                            topic.topic,
                            offset.as_ref().map_or(-1, |o| o.offset.0)
                        )
                    })
                });
                format!("[{}]", each.collect::<Vec<_>>().join(" "))
            }
            Response::FetchOffsets(Err(error)) | Response::Describe(Err(error)) => {
                error.to_string()
            }
            Response::Describe(Ok(group)) => {
                let members = group.members.iter().map(|member| {
                    format!(
                        "{} owns '{}'",
                        member.member,
                        String::from_utf8_lossy(&member.assignment)
                    )
                });
                format!(
                    "{} '{}' '{}' {}",
                    group.state,
                    group.protocol_type,
                    group.protocol,
                    members.collect::<Vec<_>>().join(", ")
                )
            }
            Response::Survey(groups) => {
                let each = groups.iter().map(|group| {
                    let offsets = group
                        .offsets
                        .iter()
                        .map(|of| format!(" {}-{}={}", of.topic, of.partition, of.offset));
                    let offsets: String = offsets.collect();
                    format!("{} {} {}{offsets}", group.group, group.state, group.members_count)
                });
                each.collect::<Vec<_>>().join(", ")
            }
            Response::List(groups) => {
                let each = groups.iter().map(|group| {
                    format!("{} {} '{}'", group.group, group.state, group.protocol_type)
                });
                each.collect::<Vec<_>>().join(", ")
            }
        };
        self.named(&format!("  #{} {text}{waits}", token.0))
    }
}

fn describe_join(join: &JoinResponse) -> String {
    let member = join.member.as_ref().map_or("nobody", |member| member.as_str());
    if join.error.is_some() {
        return format!("{} {member}", join.error);
    }
    let leader = join.leader.as_ref().map_or("nobody", |leader| leader.as_str());
    let generation = join.generation.map_or(-1, |generation| generation.0);
    let protocol = join.protocol.clone().unwrap_or_default();
    let mut text = format!("{member} joined generation {generation} by {protocol}, {leader} leads");
    if !join.members.is_empty() {
        let names: Vec<_> = join.members.iter().map(|member| member.member.as_str()).collect();
        let _ = write!(text, ", members {}", names.join(" "));
    }
    if join.skip_assignment {
        text.push_str(", skips the assignment");
    }
    text
}

fn duration(text: &str) -> Duration {
    let number = text.trim_end_matches(|c: char| c.is_alphabetic());
    let value: u64 = number.parse().expect("a number");
    match &text[number.len()..] {
        "ms" => Duration::from_millis(value),
        "s" => Duration::from_secs(value),
        "m" => Duration::from_secs(60 * value),
        "h" => Duration::from_secs(3600 * value),
        other => panic!("no unit {other}"),
    }
}
