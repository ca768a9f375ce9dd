//! How fast groups commit on the disk under the target directory. Not a test of behaviour: run it by name.
//!
//! `cargo test --release -p foretold-log --test journal_speed -- --ignored --nocapture`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this measures the real disk and clock"
)]

mod journal_support;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use env::{DirEntry, Disk, File, OpenMode, Space};
use journal_support::{DIRECTORY, data};
use log::journal::{Frame, Journal, JournalOptions, Position};
use sim::plain::block_on;

#[derive(Clone)]
struct RealDisk;

#[derive(Clone)]
struct RealFile(Arc<std::fs::File>);

impl Disk for RealDisk {
    type File = RealFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        options.create(mode == OpenMode::Create).create_new(mode == OpenMode::CreateNew);
        Ok(RealFile(Arc::new(options.open(path)?)))
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::other("name"))?;
            entries.push(DirEntry { name, is_dir: meta.is_dir(), len: meta.len() });
        }
        entries.sort();
        Ok(entries)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    async fn sync_all(&self, _path: &Path) -> io::Result<()> {
        Err(io::Error::other("not needed here"))
    }

    async fn space(&self, _path: &Path) -> io::Result<Space> {
        Err(io::Error::other("not needed here"))
    }

    async fn lock(&self, path: &Path) -> io::Result<RealFile> {
        self.open(path, OpenMode::Create).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(path.exists())
    }
}

impl File for RealFile {
    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        // One call, as the product's vectored write is; the copy is this file's own.
        self.0.write_all_at(&data.concat(), offset)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.0.read_at(&mut bytes[filled..], offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(Bytes::from(bytes))
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        // FALLOC_FL_KEEP_SIZE, without unsafe code and without a crate for it.
        let status = std::process::Command::new("fallocate")
            .args(["-n", "-o", &offset.to_string(), "-l", &len.to_string(), "/dev/stdin"])
            .stdin(self.0.try_clone()?)
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("fallocate failed")) }
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_micros();
    format!("p50 {:>5} us  p99 {:>6} us  max {:>6} us", at(500), at(990), at(1000))
}

/// Commits `groups` groups of `bytes` and reports; the journal is checkpointed as it asks to be.
async fn commit(journal: &mut Journal<RealDisk>, what: &str, groups: u64, bytes: usize) {
    let frames: Vec<Frame> = match bytes {
        0..=100_000 => vec![data(1, 0, bytes, 1)],
        _ => (0..bytes / 65_536).map(|at| data(at as u64, 0, 65_536, at as u8)).collect(),
    };
    let mut times = Vec::new();
    let start = Instant::now();
    for _ in 0..groups {
        let one = Instant::now();
        journal.append_group(frames.clone()).await.expect("appends");
        times.push(one.elapsed());
        if journal.needs_checkpoint() {
            journal.checkpoint(journal.checkpoint_target()).await.expect("checkpoints");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "  {what:<9} {bytes:>8} B groups: {:>7.0} /s {:>7.1} MB/s  {}",
        groups as f64 / seconds,
        groups as f64 * bytes as f64 / seconds / 1e6,
        percentiles(times)
    );
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("journal-speed")
}

#[test]
#[ignore = "measures the disk"]
fn group_commit() {
    for file_bytes in [4u64 << 20, 16 << 20, 64 << 20] {
        let dir = place().join(format!("{file_bytes}"));
        let _ = std::fs::remove_dir_all(&dir);
        let options = JournalOptions { file_bytes, total_bytes: 256 << 20, secret: 1 };
        block_on(async {
            println!("files of {} MiB", file_bytes >> 20);
            let start = Instant::now();
            let recovery = Journal::recover(&RealDisk, &dir, DIRECTORY, options).await;
            let (mut journal, _) = recovery.expect("opens").finish().await.expect("opens");
            println!("  first start {:?}", start.elapsed());
            commit(&mut journal, "fresh", 2000, 300).await;
            commit(&mut journal, "fresh", 300, 65_536).await;
            commit(&mut journal, "fresh", 150, 1 << 20).await;
            // From here on every file was written once.
            commit(&mut journal, "filling", 400, 1 << 20).await;
            commit(&mut journal, "recycled", 2000, 300).await;
            commit(&mut journal, "recycled", 2000, 4000).await;
            commit(&mut journal, "recycled", 1000, 65_536).await;
            commit(&mut journal, "recycled", 150, 1 << 20).await;
            commit(&mut journal, "recycled", 40, 4 << 20).await;
            journal.checkpoint(Position(0)).await.expect("marks");
            let live = journal.bytes_live();
            drop(journal);
            let start = Instant::now();
            let recovery = Journal::recover(&RealDisk, &dir, DIRECTORY, options).await;
            let mut recovery = recovery.expect("opens");
            while recovery.next().await.expect("reads").is_some() {}
            let read = start.elapsed();
            let (_, report) = recovery.finish().await.expect("opens");
            println!(
                "  replay of {} MiB ({} frames): {read:?}, with finish {:?}",
                live >> 20,
                report.frames,
                start.elapsed()
            );
        });
        let _ = std::fs::remove_dir_all(&dir);
    }
}
