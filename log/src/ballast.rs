//! Space that a log directory holds for what must go on when the disk is full: group offsets, metadata, deletions,
//! checkpoints. A file whose blocks are reserved and never written: others cannot take them, and the directory gives
//! them up piece by piece where such a write finds no space. It takes them back when the disk has room again.
//!
//! Clients' records never spend it: they are refused before (E11). A file system that cannot reserve blocks has none.

use std::io;
use std::path::PathBuf;

use env::{Disk, File, OpenMode};
use types::mutant::{Mutant, planted};

use crate::layout::BALLAST_FILE;

/// How many pieces it is given up in: enough that one write does not take all, few enough to be quick.
const PIECES: u64 = 16;
/// The smallest piece: a directory, its card and what a file system needs to know of both.
const PIECE_BYTES_MIN: u64 = 64 << 10;

/// A directory's ballast.
pub(crate) struct Ballast<D: Disk> {
    disk: D,
    path: PathBuf,
    /// How much it is to be.
    wanted: u64,
    state: tokio::sync::Mutex<Held<D::File>>,
}

struct Held<F> {
    file: Option<F>,
    bytes: u64,
}

impl<D: Disk> Ballast<D> {
    /// Holds nothing yet.
    pub fn new(disk: D, dir: &std::path::Path, wanted: u64) -> Ballast<D> {
        let state = tokio::sync::Mutex::new(Held { file: None, bytes: 0 });
        Ballast { disk, path: dir.join(BALLAST_FILE), wanted, state }
    }

    /// Takes over what an earlier process held: there may be no room for more.
    pub async fn adopt(&self) -> io::Result<()> {
        let mut held = self.state.lock().await;
        let file = match self.disk.open(&self.path, OpenMode::Write).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let bytes = file.len().await?.min(self.wanted);
        file.set_len(bytes).await?;
        // A power cut may have kept the length and lost the blocks.
        let there = if bytes == 0 { Ok(()) } else { file.allocate(0, bytes).await };
        held.bytes = if there.is_ok() { bytes } else { 0 };
        held.file = Some(file);
        there
    }

    /// Bytes that are missing.
    pub async fn missing(&self) -> u64 {
        self.wanted - self.state.lock().await.bytes
    }

    /// Takes what is missing. An error leaves less than is wanted, and does no harm.
    pub async fn take(&self) -> io::Result<()> {
        let mut held = self.state.lock().await;
        if held.bytes == self.wanted {
            return Ok(());
        }
        let file = match &held.file {
            Some(file) => file.clone(),
            None => self.disk.open(&self.path, OpenMode::Create).await?,
        };
        held.file = Some(file.clone());
        // In this order: its length tells a later process what it may give up.
        file.allocate(0, self.wanted).await?;
        file.set_len(self.wanted).await?;
        held.bytes = self.wanted;
        Ok(())
    }

    /// Gives up a piece; whether there was any.
    pub async fn spend(&self) -> bool {
        let mut held = self.state.lock().await;
        let Some(file) = held.file.clone().filter(|_| held.bytes > 0) else { return false };
        if planted(Mutant::BallastKept) {
            return false;
        }
        let piece = (self.wanted / PIECES).max(PIECE_BYTES_MIN);
        let left = held.bytes.saturating_sub(piece);
        // A file that cannot be cut holds nothing for anybody.
        held.bytes = 0;
        if file.set_len(left).await.is_err() {
            return false;
        }
        held.bytes = left;
        true
    }
}
