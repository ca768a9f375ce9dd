//! A data directory's identity: whose it is, which cluster it belongs to, and that nobody else uses it.
//!
//! Each directory holds `meta.properties` in the form Kafka's tools read (version, cluster.id, node.id, directory.id),
//! with two lines more: `foretold.format`, the version of everything of ours beside it and what tells our directory from
//! Apache Kafka's, whose partitions lack a journal; `foretold.crc`, a checksum (CRC-32C) of all other values, in the first
//! releases of the three ids alone, which files of the first days lack. The file is written first into an empty directory
//! and atomically, so that a crash leaves an empty directory or a formatted one.
//! `.lock` is held while a process uses the directory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use env::{Disk, Env, Rng};
use types::{ClusterId, DirectoryId, NodeId, Uuid};

use crate::config::BrokerConfig;
use crate::start::StartError;

/// The file that names a directory.
pub(crate) const META_PROPERTIES: &str = "meta.properties";
/// The file whose lock says that a process uses the directory.
const LOCK: &str = ".lock";
/// Version of all our files in a directory.
const FORMAT: u32 = 1;
/// Version of the file's form, which is Kafka's.
const VERSION: u32 = 1;
/// What may lie in a directory that counts as empty: ours from an earlier try, the server's, and the file system's.
pub(crate) const IGNORED: [&str; 4] = [LOCK, "meta.properties.tmp", "pid", "lost+found"];

/// Content of `meta.properties`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: ClusterId,
    /// `node.id`.
    pub node_id: NodeId,
    /// `directory.id`.
    pub directory_id: DirectoryId,
}

/// Why a data directory cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// It holds something else than a Foretold data directory.
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another process uses it.
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// It was written by a newer release.
    Newer {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It belongs to another cluster or node.
    OtherCluster {
        /// Which directory.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// Its identity cannot be read.
    Damaged {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Foreign { path, reason } => {
                write!(f, "{} is not a Foretold data directory: {reason}", path.display())
            }
            DirectoryError::Locked { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            DirectoryError::Newer { path, reason } => {
                write!(f, "{} was written by a newer release: {reason}", path.display())
            }
            DirectoryError::OtherCluster { path, reason } => {
                write!(f, "{} belongs elsewhere: {reason}", path.display())
            }
            DirectoryError::Damaged { path, reason } => {
                write!(f, "{} cannot be used as it is: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for DirectoryError {}

/// A directory that this process holds, formatted.
pub(crate) struct Directory<D: Disk> {
    pub(crate) path: PathBuf,
    pub(crate) properties: MetaProperties,
    /// Held, never read.
    _lock: D::File,
}

/// A directory that this process holds, formatted or empty.
struct Claimed<D: Disk> {
    path: PathBuf,
    lock: D::File,
    properties: Option<MetaProperties>,
}

/// A log directory that does not work while the others do: its partitions are offline until a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) path: PathBuf,
    /// What happened.
    pub(crate) reason: String,
}

impl Broken {
    /// The directory at `path`, if `error` is its alone: the disk refuses, or what lies there is damaged. Whatever an
    /// operator has mixed up refuses the start, and so does the directory that holds the metadata.
    pub(crate) fn alone(
        path: &Path,
        config: &BrokerConfig,
        error: StartError,
    ) -> Result<Broken, StartError> {
        let reason = match &error {
            StartError::Disk { reason, .. } => reason.clone(),
            StartError::Directory(DirectoryError::Damaged { reason, .. }) => reason.clone(),
            _ => return Err(error),
        };
        if path == config.metadata_dir() {
            return Err(error);
        }
        tracing::error!(
            dir = %path.display(), reason,
            "this log directory does not work: its partitions are offline until it is mended and the node restarted"
        );
        Ok(Broken { path: path.into(), reason })
    }
}

/// Locks all directories of `config`, formats those that are empty, and checks that they belong together. Also those that
/// do not work.
pub(crate) async fn open<E: Env>(
    env: &E,
    config: &BrokerConfig,
) -> Result<(Vec<Directory<E::Disk>>, Vec<Broken>), StartError> {
    let mut claimed = Vec::new();
    let mut broken = Vec::new();
    for path in paths(config) {
        match claim(env.disk(), &path).await {
            Ok(one) => claimed.push(one),
            Err(error) => broken.push(Broken::alone(&path, config, error)?),
        }
    }
    let known =
        claimed.iter().find_map(|dir| dir.properties.as_ref().map(|p| p.cluster_id.clone()));
    let metadata_dir = config.metadata_dir();
    if let Some(cluster) = &known
        && claimed.iter().any(|dir| dir.path == metadata_dir && dir.properties.is_none())
    {
        let reason = format!(
            "it is empty, but other directories of this node belong to cluster {cluster}: the metadata is missing"
        );
        return Err(DirectoryError::Damaged { path: metadata_dir, reason }.into());
    }
    let cluster_id = match config.cluster_id.clone().or(known) {
        Some(id) => id,
        // Each of several would begin a cluster of its own.
        None if config.is_of_several() => {
            return Err(StartError::Config(
                "the directories of a node of several must know its cluster before its first start: run \
                 `foretold format --cluster-id ID --config FILE` on each node, with the same ID"
                    .into(),
            ));
        }
        None => ClusterId(env.rng().uuid().to_string().into()),
    };
    Ok((settle(env, config, claimed, cluster_id, None).await?, broken))
}

/// Formats the directories of `config` for `cluster_id`; that at the path which is told gets the id beside it.
pub(crate) async fn prepare<E: Env>(
    env: &E,
    config: &BrokerConfig,
    cluster_id: ClusterId,
    told: Option<(&Path, DirectoryId)>,
) -> Result<Vec<Directory<E::Disk>>, StartError> {
    let mut claimed = Vec::new();
    for path in paths(config) {
        claimed.push(claim(env.disk(), &path).await?);
    }
    settle(env, config, claimed, cluster_id, told).await
}

/// Every directory of `config`, once.
fn paths(config: &BrokerConfig) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in config.log_dirs.iter().cloned().chain([config.metadata_dir()]) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

async fn settle<E: Env>(
    env: &E,
    config: &BrokerConfig,
    claimed: Vec<Claimed<E::Disk>>,
    cluster_id: ClusterId,
    told: Option<(&Path, DirectoryId)>,
) -> Result<Vec<Directory<E::Disk>>, StartError> {
    for Claimed { path, properties, .. } in &claimed {
        let Some(found) = properties else { continue };
        if found.cluster_id != cluster_id || found.node_id != config.node_id {
            let reason = format!(
                "it holds node {} of cluster {}, and this is node {} of cluster {cluster_id}",
                found.node_id, found.cluster_id, config.node_id
            );
            return Err(DirectoryError::OtherCluster { path: path.clone(), reason }.into());
        }
    }
    let mut directories: Vec<Directory<E::Disk>> = Vec::new();
    for Claimed { path, lock, properties } in claimed {
        let properties = match properties {
            Some(properties) => properties,
            None => {
                let told = told.filter(|(named, _)| *named == path).map(|(_, id)| id);
                let directory_id = told.unwrap_or_else(|| DirectoryId(env.rng().uuid()));
                let cluster_id = cluster_id.clone();
                let properties =
                    MetaProperties { cluster_id, node_id: config.node_id, directory_id };
                let content = content(&path, &properties)?;
                let file = path.join(META_PROPERTIES);
                env.disk().replace(&file, content).await.map_err(|error| failed(&file, &error))?;
                properties
            }
        };
        if let Some(twin) =
            directories.iter().find(|d| d.properties.directory_id == properties.directory_id)
        {
            let reason = format!("it is a copy of {}", twin.path.display());
            return Err(DirectoryError::Damaged { path, reason }.into());
        }
        directories.push(Directory { path, properties, _lock: lock });
    }
    Ok(directories)
}

async fn claim<D: Disk>(disk: &D, path: &Path) -> Result<Claimed<D>, StartError> {
    create(disk, path).await.map_err(|error| failed(path, &error))?;
    // A directory that is somebody else's is left as it was found, without a lock file of ours.
    look(disk, path).await?;
    let lock = match disk.lock(&path.join(LOCK)).await {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(DirectoryError::Locked { path: path.into() }.into());
        }
        Err(error) => return Err(failed(path, &error)),
    };
    // Whoever held the lock may have formatted it meanwhile.
    let properties = look(disk, path).await?;
    Ok(Claimed { path: path.into(), lock, properties })
}

/// Whose the directory is; `None` if it is empty.
async fn look<D: Disk>(disk: &D, path: &Path) -> Result<Option<MetaProperties>, StartError> {
    match disk.read_all(&path.join(META_PROPERTIES)).await {
        Ok(content) => return Ok(Some(parse(path, &content)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(path, &error)),
    }
    let entries = disk.list(path).await.map_err(|error| failed(path, &error))?;
    match entries.iter().find(|entry| !IGNORED.contains(&entry.name.as_str())) {
        None => Ok(None),
        Some(entry) => {
            let reason = format!("it holds {} but no {META_PROPERTIES}", entry.name);
            Err(DirectoryError::Foreign { path: path.into(), reason }.into())
        }
    }
}

/// Creates `path` and makes the entries of all created directories durable.
pub(crate) async fn create<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    let mut created_in = Vec::new();
    let mut at = path;
    while !at.as_os_str().is_empty() && !disk.exists(at).await? {
        let Some(parent) = at.parent() else { break };
        created_in.push(parent);
        at = parent;
    }
    if created_in.is_empty() {
        return Ok(());
    }
    disk.create_dir_all(path).await?;
    for parent in created_in {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        disk.sync_dir(parent).await?;
    }
    Ok(())
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> StartError {
    StartError::Disk { path: path.into(), reason: error.to_string() }
}

fn parse(path: &Path, content: &[u8]) -> Result<MetaProperties, DirectoryError> {
    let damaged = |reason: String| DirectoryError::Damaged {
        path: path.into(),
        reason: format!("{META_PROPERTIES}: {reason}"),
    };
    let text = std::str::from_utf8(content).map_err(|_| damaged("not text".into()))?;
    let entries = properties(text);
    let Some(format) = entries.get("foretold.format") else {
        // Kafka's file always has a version; without one it is nobody's any more, and "not ours" would tell the
        // operator to give up a directory that a copy of this file may save.
        if !entries.contains_key("version") || entries.contains_key("foretold.crc") {
            return Err(damaged("foretold.format is missing".into()));
        }
        let reason = format!("its {META_PROPERTIES} is Apache Kafka's");
        return Err(DirectoryError::Foreign { path: path.into(), reason });
    };
    let format: u32 =
        format.parse().map_err(|_| damaged(format!("foretold.format={format} is not a number")))?;
    let get = |key: &str| entries.get(key).ok_or_else(|| damaged(format!("{key} is missing")));
    let version = get("version")?;
    let is_ours = format == FORMAT && *version == VERSION.to_string();
    // That of the first releases said nothing of the versions, of which there was one.
    let is_early = is_ours && entries.get("foretold.crc") == Some(&checksum(&entries, &IDS));
    let sum = checksum(&entries, &SUMMED);
    if !is_early && entries.get("foretold.crc").is_some_and(|crc| *crc != sum) {
        return Err(damaged(format!(
            "foretold.crc is not the checksum of the other values, which is {sum}: one of them has changed"
        )));
    }
    if format > FORMAT {
        let reason = format!("format {format}, and this release reads up to {FORMAT}");
        return Err(DirectoryError::Newer { path: path.into(), reason });
    }
    if version.parse().is_ok_and(|version: u32| version > VERSION) {
        let reason =
            format!("{META_PROPERTIES} has version {version}, and this release reads {VERSION}");
        return Err(DirectoryError::Newer { path: path.into(), reason });
    }
    if !is_ours {
        return Err(damaged(format!(
            "foretold.format={format} and version={version}, expected {FORMAT} and {VERSION}"
        )));
    }
    let node = get("node.id")?;
    let node_id = node.parse().map_err(|_| damaged(format!("node.id={node} is not a number")))?;
    let directory = get("directory.id")?;
    let directory_id = Uuid::from_str(directory)
        .map_err(|error| damaged(format!("directory.id={directory}: {error}")))?;
    Ok(MetaProperties {
        cluster_id: ClusterId(get("cluster.id")?.as_str().into()),
        node_id: NodeId(node_id),
        directory_id: DirectoryId(directory_id),
    })
}

const IDS: [&str; 3] = ["cluster.id", "directory.id", "node.id"];
/// What the checksum covers: in every version that is to come, too, whatever else it may hold.
const SUMMED: [&str; 5] = ["cluster.id", "directory.id", "foretold.format", "node.id", "version"];

fn checksum(entries: &BTreeMap<String, String>, keys: &[&str]) -> String {
    let value = |key: &&str| entries.get(*key).map_or("", String::as_str);
    let text = keys.iter().map(value).collect::<Vec<_>>().join("\n");
    format!("{:08x}", crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, text.as_bytes()))
}

/// The file for `properties`. A cluster whose name the file cannot hold, such as one of two lines, is refused: the directory
/// would belong to nobody.
fn content(path: &Path, properties: &MetaProperties) -> Result<Bytes, DirectoryError> {
    let content = properties.to_string();
    match parse(path, content.as_bytes()) {
        Ok(read) if read == *properties => Ok(Bytes::from(content)),
        _ => {
            let reason = format!("{META_PROPERTIES} cannot hold {:?}", properties.cluster_id.0);
            Err(DirectoryError::Damaged { path: path.into(), reason })
        }
    }
}

/// The entries of a file in Java's properties form, without line continuation.
fn properties(text: &str) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', '!']) {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            entries.insert(key.trim().to_string(), value.trim().replace('\\', ""));
        }
    }
    entries
}

impl MetaProperties {
    fn entries(&self) -> BTreeMap<String, String> {
        let entries = [
            ("cluster.id", self.cluster_id.0.to_string()),
            ("directory.id", self.directory_id.to_string()),
            ("foretold.format", FORMAT.to_string()),
            ("node.id", self.node_id.to_string()),
            ("version", VERSION.to_string()),
        ];
        entries.map(|(key, value)| (key.to_owned(), value)).into()
    }
}

impl fmt::Display for MetaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Identity of this data directory. Do not edit.")?;
        writeln!(f, "cluster.id={}", escaped(&self.cluster_id.0))?;
        writeln!(f, "directory.id={}", self.directory_id)?;
        writeln!(f, "foretold.crc={}", checksum(&self.entries(), &SUMMED))?;
        writeln!(f, "foretold.format={FORMAT}")?;
        writeln!(f, "node.id={}", self.node_id)?;
        writeln!(f, "version={VERSION}")
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '=' | ':' | '#' | '!') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str) -> Result<MetaProperties, DirectoryError> {
        parse(Path::new("/data"), content.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let properties = MetaProperties {
            cluster_id: ClusterId("a=b:c".into()),
            node_id: NodeId(7),
            directory_id: DirectoryId(Uuid::from_random([5; 16])),
        };
        assert_eq!(check(&properties.to_string()), Ok(properties));
    }

    #[test]
    fn no_flipped_bit_makes_another_directory_of_it() {
        let properties = MetaProperties {
            cluster_id: ClusterId("AAAAAAAAAAAAAAAAAAAAAQ".into()),
            node_id: NodeId(7),
            directory_id: DirectoryId(Uuid::from_random([5; 16])),
        };
        let written = properties.to_string();
        for at in 0..written.len() * 8 {
            let mut rotten = written.clone().into_bytes();
            rotten[at / 8] ^= 1 << (at % 8);
            let Ok(text) = String::from_utf8(rotten) else { continue };
            // What does not change a value is harmless: the comment, the name of the checksum.
            assert!(check(&text).is_err() || check(&text) == Ok(properties.clone()), "{text}");
        }
        let sum = checksum(&properties.entries(), &SUMMED);
        let first_days = written.replace(&format!("foretold.crc={sum}\n"), "");
        assert_eq!(check(&first_days), Ok(properties.clone()));
        let early_sum = checksum(&properties.entries(), &IDS);
        let early = written.replace(&sum, &early_sum);
        assert_eq!(check(&early), Ok(properties));
        for rotten in [early, written] {
            for (value, other) in
                [("version=1", "version=3"), ("format=1", "format=9"), ("format=1", "format=0")]
            {
                let rotten = rotten.replace(value, other);
                assert!(matches!(check(&rotten), Err(DirectoryError::Damaged { .. })), "{rotten}");
            }
        }
    }

    /// Found by fuzzing: the directory belonged to a cluster that nobody had named, and its next start was refused.
    #[test]
    fn a_cluster_that_the_file_cannot_name_is_refused() {
        let written = |cluster: &str| {
            let properties = MetaProperties {
                cluster_id: ClusterId(cluster.into()),
                node_id: NodeId(7),
                directory_id: DirectoryId(Uuid::from_random([5; 16])),
            };
            content(Path::new("/data"), &properties)
        };
        assert!(written("a=b:c#d!").is_ok());
        for cluster in ["two\nlines", "a\\b", " blanks "] {
            assert!(matches!(written(cluster), Err(DirectoryError::Damaged { .. })), "{cluster:?}");
        }
    }

    #[test]
    fn a_newer_release_is_named_by_whole_files_only() {
        for (value, other) in [("format=1", "format=9"), ("version=1", "version=3")] {
            let newer = MetaProperties {
                cluster_id: ClusterId("x".into()),
                node_id: NodeId(7),
                directory_id: DirectoryId(Uuid::from_random([5; 16])),
            }
            .to_string()
            .replace(value, other);
            assert!(matches!(check(&newer), Err(DirectoryError::Damaged { .. })), "{newer}");
            let entries = properties(&newer);
            let whole = newer.replace(&entries["foretold.crc"], &checksum(&entries, &SUMMED));
            assert!(matches!(check(&whole), Err(DirectoryError::Newer { .. })), "{whole}");
        }
    }

    #[test]
    fn others_files_are_named() {
        let kafka = "#\n#Sat Nov 21 07:00:00 UTC 2026\ncluster.id=x\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=1\nversion=1\n";
        assert!(matches!(check(kafka), Err(DirectoryError::Foreign { .. })));
        let newer = format!("{kafka}foretold.format=2\n");
        assert!(matches!(check(&newer), Err(DirectoryError::Newer { .. })));
        let newer = "foretold.format=1\nversion=3";
        assert!(matches!(check(newer), Err(DirectoryError::Newer { .. })));
        let broken_ones = [
            "",
            "no keys",
            "foretold.format=x",
            "foretold.format=1",
            "foretold.format=1\nversion=x",
        ];
        for broken in broken_ones {
            assert!(matches!(check(broken), Err(DirectoryError::Damaged { .. })), "{broken}");
        }
    }
}
