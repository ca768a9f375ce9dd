//! Recovery of a journal from any bytes: it invents nothing, and doing it again changes nothing (I6, I14).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use env::{Disk, File, OpenMode};
use log::journal::{Frame, FrameKind, Item, Journal, JournalError, JournalOptions};
use sim::decisions::Decisions;
use sim::disk::SimDisk;
use sim::plain::block_on;
use types::{DirectoryId, LogId, Offset, Uuid};

const DIR: &str = "/journal";
const DIRECTORY: DirectoryId = DirectoryId(Uuid([5; 16]));

fn options() -> JournalOptions {
    JournalOptions { file_bytes: 64 << 10, total_bytes: 256 << 10, secret: 77 }
}

fn frame(log: u64, position: u64, bytes: usize) -> Frame {
    let mut batch = vec![log as u8; bytes];
    batch[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
    batch[16] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let kind = FrameKind::Data(vec![Bytes::from(batch)]);
    Frame { log: LogId(log), segment_base: Offset(0), position, kind }
}

/// A journal of several laps and what was written to it.
fn template() -> &'static (SimDisk, Vec<Frame>) {
    static TEMPLATE: OnceLock<(SimDisk, Vec<Frame>)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let disk = SimDisk::new(&Decisions::new(1));
        let mut frames = Vec::new();
        block_on(async {
            let recovery = Journal::recover(&disk, Path::new(DIR), DIRECTORY, options()).await;
            let (mut journal, _) = recovery.expect("opens").finish().await.expect("opens");
            for at in 0..12u64 {
                let group = vec![frame(at, at * 9000, 9000), frame(at + 100, 0, 80)];
                frames.extend(group.clone());
                journal.append_group(group).await.expect("appends");
                if at % 5 == 4 {
                    journal.mark().await.expect("marks");
                }
            }
        });
        (disk.power_cut(), frames)
    })
}

async fn recover(disk: &SimDisk) -> Result<Vec<Frame>, JournalError> {
    let mut recovery = Journal::recover(disk, Path::new(DIR), DIRECTORY, options()).await?;
    let mut frames = Vec::new();
    while let Some(item) = recovery.next().await? {
        if let Item::Frame { frame, .. } = item {
            frames.push(frame);
        }
    }
    recovery.finish().await?;
    Ok(frames)
}

async fn overwrite(disk: &SimDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Write).await.expect("a file of the template");
    file.write_at(offset, vec![Bytes::copy_from_slice(bytes)]).await.expect("the disk is sound");
}

/// The first byte chooses: the rest is the content of a file, or a list of edits of six bytes to a good journal.
pub(crate) fn log_journal(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (template, written) = template();
    let disk = template.fork(1);
    let paths: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    block_on(async {
        if choice % 4 == 0 {
            let path = &paths[usize::from(choice / 4) % paths.len()];
            overwrite(&disk, path, u64::from(choice % 3) * 4096, rest).await;
        } else {
            for edit in rest.chunks_exact(6) {
                let path = &paths[usize::from(edit[0]) % paths.len()];
                let block = u64::from(edit[1]) % 16 * 4096;
                let at = block + u64::from(u16::from_le_bytes([edit[2], edit[3]]) % 512);
                overwrite(&disk, path, at, &edit[4..]).await;
            }
        }
        let Ok(frames) = recover(&disk).await else { return };
        for frame in &frames {
            assert!(written.contains(frame), "invented {:?}", (frame.log, frame.position));
        }
        let again = recover(&disk.kill()).await.expect("what was recovered opens");
        assert!(again == frames, "recovery changed what it recovered");
    });
}
