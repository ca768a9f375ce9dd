//! Before a node's first start: its directories get an identity, and where a cluster begins, who decides is written down.

use std::path::PathBuf;

use cluster::quorum::{Endpoint, Voter, Voters};
use env::Env;
use types::{ClusterId, DirectoryId};

use crate::config::{Audience, BrokerConfig, CONTROLLER, QuorumVoter};
use crate::directory::{self, DirectoryError};
use crate::metadata;
use crate::start::StartError;

/// Who decides in a cluster that begins, where `controller.quorum.voters` names nobody (KIP-853).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// As the configuration says: who is named there, whoever decides already, or this node alone.
    Configured,
    /// This node, and others when they have joined.
    Standalone,
    /// These, each formatted with the same list.
    Together(Vec<InitialVoter>),
}

/// One of those who decide from the beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialVoter {
    /// Where it listens for the others.
    pub voter: QuorumVoter,
    /// What its metadata directory is to be called.
    pub directory: DirectoryId,
}

/// Formats the directories of `config` for `cluster_id` without starting a broker. Directories formatted before for the
/// same cluster and node are left alone. Returns the paths.
pub async fn format<E: Env>(
    env: &E,
    config: &BrokerConfig,
    cluster_id: ClusterId,
    beginning: &Beginning,
) -> Result<Vec<PathBuf>, StartError> {
    let metadata_dir = config.metadata_dir();
    let own = match beginning {
        Beginning::Together(all) => {
            let own = all.iter().find(|initial| initial.voter.node == config.node_id);
            own.map(|initial| initial.directory)
        }
        Beginning::Configured | Beginning::Standalone => None,
    };
    let told = own.map(|id| (metadata_dir.as_path(), id));
    let directories = directory::prepare(env, config, cluster_id, told).await?;
    let directory = directories.iter().find(|directory| directory.path == metadata_dir);
    let directory = directory.map(|known| known.properties.directory_id).unwrap_or_default();
    if let Some(id) = own.filter(|id| *id != directory) {
        let reason =
            format!("its directory id is {directory}, and the list of controllers says {id}");
        return Err(DirectoryError::OtherCluster { path: metadata_dir, reason }.into());
    }
    if let Some(voters) = beginning.voters(config, directory)? {
        let path = metadata_dir.join(metadata::DIRECTORY);
        directory::create(env.disk(), &path)
            .await
            .map_err(|error| directory::failed(&path, &error))?;
        metadata::begin_with(env, &path, &voters)
            .await
            .map_err(|error| directory::failed(&path, &error))?;
    }
    Ok(directories.into_iter().map(|directory| directory.path).collect())
}

impl Beginning {
    /// Who votes, if that is to be written down; this node's metadata directory is `directory`.
    fn voters(
        &self,
        config: &BrokerConfig,
        directory: DirectoryId,
    ) -> Result<Option<Voters>, StartError> {
        let voter = |directory: DirectoryId, host: &str, port: u16| Voter {
            directory: Some(directory),
            endpoints: vec![Endpoint { listener: CONTROLLER.into(), host: host.into(), port }],
        };
        match self {
            Beginning::Configured => Ok(None),
            Beginning::Standalone => {
                let mut listeners = config.listeners.iter();
                let own = listeners.find(|listener| listener.audience == Audience::Controllers);
                let own = own.ok_or_else(|| {
                    StartError::Config(
                        "a node that others are to join needs a listener for them: name one in controller.listener.names"
                            .into(),
                    )
                })?;
                let bound = || (own.bind.ip().to_string(), own.bind.port());
                let (host, port) = own.advertised.clone().unwrap_or_else(bound);
                let voters = [(config.node_id, voter(directory, &host, port))];
                Ok(Some(Voters(voters.into())))
            }
            Beginning::Together(all) => {
                let voters = all.iter().map(|InitialVoter { voter: known, directory }| {
                    (known.node, voter(*directory, &known.host, known.port))
                });
                Ok(Some(Voters(voters.collect())))
            }
        }
    }
}
