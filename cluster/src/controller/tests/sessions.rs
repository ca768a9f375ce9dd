//! Commands for stories about sessions: `register` asks as `broker` does, but through the session of a process.

use std::time::Duration;

use types::{BrokerId, DirectoryId, Offset, Uuid};

use super::{Teller, numbered, option};
use crate::controller::{Heartbeat, Sessions};

pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(9);

impl Teller {
    pub(super) fn session(&mut self, verb: &str, words: &[&str]) {
        let broker = || BrokerId(words[0].parse().unwrap());
        match verb {
            "wait" => {
                let millis = words[0].strip_suffix("ms").unwrap().parse().unwrap();
                self.now = self.now + Duration::from_millis(millis);
            }
            "beat" => self.beat(broker(), words),
            "refused" => {
                let epoch = self.epoch(broker(), words);
                let controller = &self.controller;
                let records = self.sessions.on_connection_refused(controller, broker(), epoch);
                self.take(records, false);
            }
            "expire" => {
                let records = self.sessions.expire(self.now, &self.controller);
                self.take(records, false);
                let deadline = self.sessions.deadline(self.controller.image());
                let left = deadline.map(|end| format!("in {} ms", (end - self.now).as_millis()));
                self.say("next", Ok(left.as_deref().unwrap_or("never")));
            }
            "controller" => {
                let process = option(words, "process").map(|p| p.parse::<u128>().unwrap());
                let own = process.map(|process| (broker(), Uuid(process.to_be_bytes())));
                let image = self.controller.image();
                self.sessions = Sessions::new(self.now, SESSION_TIMEOUT, own, image);
            }
            _ => panic!("no command {verb}"),
        }
    }

    fn beat(&mut self, id: BrokerId, words: &[&str]) {
        let at = |name: &str| option(words, name).map(|end| Offset(end.parse().unwrap()));
        let failed = option(words, "failed").into_iter().flat_map(|ids| ids.split(','));
        let epoch = self.epoch(id, words);
        let beat = Heartbeat {
            cordoned_directories: None,
            id,
            epoch,
            metadata_end: at("has").unwrap_or(Offset(epoch.0 + 1)),
            wants_fence: words.contains(&"fence"),
            wants_stop: words.contains(&"stop"),
            failed_directories: failed
                .map(|id| DirectoryId(numbered(id.parse().unwrap())))
                .collect(),
            log_ends: Vec::new(),
        };
        let end = at("end").unwrap_or_default();
        let Teller { sessions, controller, recovery, .. } = self;
        let (records, answer) = sessions.on_heartbeat(self.now, controller, recovery, end, &beat);
        let text = answer.map(|answer| {
            let caught_up = if answer.is_caught_up { "caught up" } else { "behind" };
            let fenced = if answer.is_fenced { ", fenced" } else { "" };
            let stop = if answer.should_stop { ", may stop" } else { "" };
            let asked = match answer.questions.len() {
                0 => String::new(),
                count => format!(", asked for {count} ends"),
            };
            format!("{caught_up}{fenced}{stop}{asked}")
        });
        self.say("broker", text.as_deref().map_err(Clone::clone));
        self.take(records, false);
    }
}
