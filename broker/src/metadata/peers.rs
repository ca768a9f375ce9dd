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

use super::messages;

/// Questions that may wait for one node.
const QUESTIONS_MAX: usize = 4;
/// How long a leader keeps a fetch when there is no news, as in Kafka.
pub(super) const FETCH_WAIT: Duration = Duration::from_millis(500);
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
    me: NodeId,
    cluster: ClusterId,
    patience: Duration,
    lanes: BTreeMap<(NodeId, bool), mpsc::Sender<Question>>,
    answers: mpsc::Sender<Answered>,
}

impl<E: Env> Peers<E> {
    /// Nodes of `cluster`, asked by `me`: none of them for longer than `patience`.
    pub(super) fn new(
        env: &E,
        me: NodeId,
        cluster: ClusterId,
        patience: Duration,
    ) -> (Peers<E>, mpsc::Receiver<Answered>) {
        let (answers, answered) = mpsc::channel(QUESTIONS_MAX);
        let lanes = BTreeMap::new();
        (Peers { env: env.clone(), me, cluster, patience, lanes, answers }, answered)
    }

    /// Asks `node`, which is among `voters`. What cannot be asked now is given back.
    pub(super) fn ask(
        &mut self,
        node: NodeId,
        request: Request,
        voters: &Voters,
        high_watermark: Offset,
    ) -> Result<(), Request> {
        let voter = voters.0.get(&node);
        let Some(endpoint) = voter.and_then(|voter| voter.endpoints.first()) else {
            tracing::warn!(%node, "no address of this node of the metadata quorum is known");
            return Err(request);
        };
        let address = (Arc::from(endpoint.host.as_str()), endpoint.port);
        let directory = voter.and_then(|voter| voter.directory);
        let question = Question { request, address, directory, high_watermark };
        let is_fetch = matches!(question.request, Request::Fetch(_));
        let lane = self.lanes.entry((node, is_fetch)).or_insert_with(|| {
            let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
            let lane = Lane {
                env: self.env.clone(),
                node,
                client_id: format!("quorum-{}", self.me).into(),
                cluster: self.cluster.clone(),
                patience: self.patience,
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
    cluster: ClusterId,
    patience: Duration,
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
                alone(messages::vote_answered(self.exchange(&connection, &request).await?))
            }
            Request::Begin(begin) => {
                let directory = question.directory;
                let request = messages::begin_request(cluster, begin, self.node, directory);
                alone(messages::begin_answered(self.exchange(&connection, &request).await?))
            }
            Request::End(end) => {
                let request = messages::end_request(cluster, end);
                alone(messages::end_answered(self.exchange(&connection, &request).await?))
            }
            Request::Fetch(fetch) => {
                let wait = FETCH_WAIT.min(self.patience / 2).as_millis() as i32;
                let known = question.high_watermark;
                let request = messages::fetch_request(cluster, fetch, known, wait);
                let response = self.exchange(&connection, &request).await?;
                messages::fetch_answered(response, fetch.last.offset).map_err(broken)
            }
            Request::Snapshot(_) | Request::AddVoter(..) | Request::RemoveVoter(_) => {
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
