//! Questions to the other nodes of the quorum, and their answers.
//!
//! ```text
//!  room --question--> lane of (node, fetches | the rest) --one at a time--> connection
//!    ^------------------ answered, or not ------------------'
//! ```
//!
//! A fetch waits at the leader for news: votes and the like have a connection of their own. A lane that has not answered yet
//! takes few questions more: the quorum asks again what it still wants to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{ClientError, Connection, ConnectionSettings};
use cluster::quorum::{Reply, Request, Voters};
use env::{Env, Spawn};
use record::Batch;
use tokio::sync::mpsc;
use types::{ClusterId, DirectoryId, ErrorCode, NodeId, Offset};

use super::addresses::Addresses;
use super::messages;
use crate::config::BrokerConfig;

/// Questions that may wait for one node.
const QUESTIONS_MAX: usize = 4;
/// How long a leader keeps a fetch when there is no news, at most, as in Kafka.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// And no longer than this part of the time for which a follower believes in a leader that it does not hear.
const FETCH_WAIT_SHARE: u32 = 4;
/// How long a leader keeps a fetch when there is no news, where followers believe for so long in one that they do not hear.
pub(super) fn fetch_wait(belief: Duration) -> Duration {
    FETCH_WAIT.min(belief / FETCH_WAIT_SHARE)
}

/// More than any answer of the quorum has.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What became of a question.
pub(super) struct Answered {
    pub(super) from: NodeId,
    pub(super) asked: Request,
    /// `None`: no connection, no time, or nothing that makes sense.
    pub(super) reply: Option<(Reply, Vec<Batch>)>,
    /// Nobody listens there: the process is gone.
    pub(super) is_refused: bool,
}

struct Question {
    request: Request,
    address: (Arc<str>, u16),
    directory: Option<DirectoryId>,
    high_watermark: Offset,
}

/// The other nodes.
pub(super) struct Peers<E: Env> {
    env: E,
    config: Arc<BrokerConfig>,
    addresses: Arc<Addresses>,
    cluster: ClusterId,
    patience: Duration,
    lanes: BTreeMap<(NodeId, bool), mpsc::Sender<Question>>,
    answers: mpsc::Sender<Answered>,
}

impl<E: Env> Peers<E> {
    /// Nodes of `cluster`, asked by that of `config`: none of them for longer than its settings say.
    pub(super) fn new(
        env: &E,
        config: Arc<BrokerConfig>,
        addresses: Arc<Addresses>,
        cluster: ClusterId,
    ) -> (Peers<E>, mpsc::Receiver<Answered>) {
        let (answers, answered) = mpsc::channel(QUESTIONS_MAX);
        let patience = config.settings.quorum_request_timeout;
        let lanes = BTreeMap::new();
        (Peers { env: env.clone(), config, addresses, cluster, patience, lanes, answers }, answered)
    }

    /// Asks `node`, which is among `voters`. What cannot be asked now is given back.
    pub(super) fn ask(
        &mut self,
        node: NodeId,
        request: Request,
        voters: &Voters,
        high_watermark: Offset,
    ) -> Result<(), Request> {
        let Some(address) = self.addresses.of(node, voters) else {
            tracing::warn!(%node, "no address of this node of the metadata quorum is known");
            return Err(request);
        };
        let directory = voters.0.get(&node).and_then(|voter| voter.directory);
        let question = Question { request, address, directory, high_watermark };
        let is_fetch = matches!(question.request, Request::Fetch(_));
        let lane = self.lanes.entry((node, is_fetch)).or_insert_with(|| {
            let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
            let lane = Lane {
                env: self.env.clone(),
                node,
                client_id: format!("quorum-{}", self.config.node_id).into(),
                addresses: self.addresses.clone(),
                cluster: self.cluster.clone(),
                patience: self.patience,
                belief: self.config.settings.quorum_fetch_timeout,
                connection: None,
                said: None,
            };
            self.env.spawner().spawn("quorum-peer", lane.run(asked, self.answers.clone()));
            questions
        });
        lane.try_send(question).map_err(|error| error.into_inner().request)
    }

    /// Completes when every question on its way has left and was answered, or had its time.
    pub(super) async fn quiet(self, answered: &mut mpsc::Receiver<Answered>) {
        drop((self.lanes, self.answers));
        while answered.recv().await.is_some() {}
    }
}

/// What is asked of one node, one question after the other.
struct Lane<E: Env> {
    env: E,
    node: NodeId,
    client_id: Arc<str>,
    addresses: Arc<Addresses>,
    cluster: ClusterId,
    patience: Duration,
    /// How long a follower believes in a leader that it does not hear.
    belief: Duration,
    connection: Option<((Arc<str>, u16), Connection)>,
    /// What the log last said of this node.
    said: Option<String>,
}

impl<E: Env> Lane<E> {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        answers: mpsc::Sender<Answered>,
    ) {
        while let Some(question) = questions.recv().await {
            let answer = self.ask(&question).await;
            let is_refused = matches!(&answer, Err(ClientError::Connect { error, .. })
                if error.kind() == std::io::ErrorKind::ConnectionRefused);
            if is_elsewhere(answer.as_ref().err()) {
                self.addresses.on_missed(self.node, &question.address);
            }
            self.tell(&question, answer.as_ref().err());
            let (from, asked) = (self.node, question.request);
            let answered = Answered { from, asked, reply: answer.ok(), is_refused };
            if answers.send(answered).await.is_err() {
                return;
            }
        }
    }

    /// Says once what is wrong, and once that it is well again.
    fn tell(&mut self, question: &Question, error: Option<&ClientError>) {
        let said = error.map(ToString::to_string);
        if said == self.said {
            return;
        }
        let (node, (host, port)) = (self.node, &question.address);
        match error {
            Some(error) if error.error_code() == Some(ErrorCode::InconsistentClusterId) => {
                let cluster = &self.cluster;
                tracing::error!(
                    %node,
                    "{host}:{port} is of another cluster than {cluster}: check controller.quorum.voters, and that \
                     no data directory is of another cluster"
                );
            }
            Some(error) => {
                tracing::warn!(%node, %error, "a node of the metadata quorum does not answer")
            }
            None => tracing::info!(%node, "a node of the metadata quorum answers again"),
        }
        self.said = said;
    }

    async fn ask(&mut self, question: &Question) -> Result<(Reply, Vec<Batch>), ClientError> {
        let connection = self.connection(&question.address).await?;
        let cluster = &self.cluster.0;
        let alone = |reply: Result<Reply, ErrorCode>| Ok((reply.map_err(broken)?, Vec::new()));
        match &question.request {
            Request::Vote(vote) => {
                let request = messages::vote_request(cluster, vote);
                let response = self.exchange(&connection, &request).await?;
                for at in &response.node_endpoints {
                    self.addresses.hear(NodeId(at.node_id), &at.host, at.port);
                }
                alone(messages::vote_answered(response))
            }
            Request::Begin(begin) => {
                let directory = question.directory;
                let own = self.addresses.of(begin.leader, &Voters::default());
                let request = messages::begin_request(cluster, begin, self.node, directory, own);
                let response = self.exchange(&connection, &request).await?;
                for at in &response.node_endpoints {
                    self.addresses.hear(NodeId(at.node_id), &at.host, at.port);
                }
                alone(messages::begin_answered(response))
            }
            Request::End(end) => {
                let request = messages::end_request(cluster, end);
                alone(messages::end_answered(self.exchange(&connection, &request).await?))
            }
            Request::Fetch(fetch) => {
                let wait = fetch_wait(self.belief).min(self.patience / 2).as_millis() as i32;
                let known = question.high_watermark;
                let request = messages::fetch_request(cluster, fetch, known, wait);
                let response = self.exchange(&connection, &request).await?;
                for at in &response.node_endpoints {
                    if let Ok(port) = u16::try_from(at.port) {
                        self.addresses.hear(NodeId(at.node_id), &at.host, port);
                    }
                }
                messages::fetch_answered(response, fetch.last.offset).map_err(broken)
            }
            Request::Snapshot(_)
            | Request::AddVoter(..)
            | Request::RemoveVoter(_)
            | Request::UpdateVoter(..) => {
                Err(ClientError::Usage("no node asks another for this".into()))
            }
        }
    }

    async fn exchange<R: wire::Request>(
        &self,
        connection: &Connection,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let version = connection.version::<R>(None, i16::MAX)?;
        connection.ask(&self.env, request, version, self.patience).await
    }

    async fn connection(&mut self, address: &(Arc<str>, u16)) -> Result<Connection, ClientError> {
        if let Some((known, connection)) = &self.connection
            && known == address
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let settings = ConnectionSettings {
            client_id: self.client_id.clone(),
            connect_timeout: self.patience,
            request_timeout: self.patience,
            answer_bytes_max: ANSWER_BYTES_MAX,
            versions_version: None,
        };
        let connection = Connection::open(&self.env, &address.0, address.1, &settings).await?;
        self.connection = Some((address.clone(), connection.clone()));
        Ok(connection)
    }
}

/// What an answer with an error code says.
fn broken(code: ErrorCode) -> ClientError {
    match ClientError::check(code.as_i16(), None) {
        Err(error) => error,
        Ok(()) => ClientError::Closed,
    }
}

/// Whether another address of the node, if one is known, may be better.
fn is_elsewhere(error: Option<&ClientError>) -> bool {
    let Some(error) = error else { return false };
    let is_other = matches!(
        error.error_code(),
        Some(ErrorCode::InvalidVoterKey | ErrorCode::InconsistentClusterId)
    );
    is_other || matches!(error, ClientError::Connect { .. })
}
