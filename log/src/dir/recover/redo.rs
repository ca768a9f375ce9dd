//! What a frame of the journal did, done again. Each is idempotent: recovery may crash and be repeated (I6).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use env::{Disk, File, OpenMode};
use record::Batches;
use types::Offset;

use crate::dir::change::remove_if_there;
use crate::dir::stored::StoredLog;
use crate::journal::Position;
use crate::layout::Kind;
use crate::log::{Damage, Point, SCAN_BYTES};
use crate::walk::{Step, Walk};

/// One log while it is being recovered.
pub(super) struct Redo<F> {
    pub stored: StoredLog,
    /// Where the log ends so far.
    pub end: Point,
    /// Derived files are believed up to here.
    pub trusted: Point,
    pub cut: bool,
    /// Frames of this log were durable and are lost: its segments may hold what the journal does not (I14).
    pub suspect: bool,
    /// How far its lost frames went: segment and byte.
    pub lost: Option<(Offset, u64)>,
    /// Final sizes of segments that were rolled while redoing.
    pub sizes: BTreeMap<Offset, u64>,
    pub touched: BTreeSet<Offset>,
    pub files: BTreeMap<Offset, F>,
    pub oldest: Option<Position>,
    pub deleted: bool,
    pub path: PathBuf,
}

impl<F: File> Redo<F> {
    pub async fn file<D: Disk<File = F>>(&mut self, disk: &D, base: Offset) -> io::Result<F> {
        if let Some(file) = self.files.get(&base) {
            return Ok(file.clone());
        }
        let file = disk.open(&Kind::Log.path(&self.path, base), OpenMode::Create).await?;
        self.files.insert(base, file.clone());
        Ok(file)
    }

    pub fn roll(&mut self, base: Offset) {
        self.sizes.insert(self.end.segment, self.end.position);
        self.end = Point { offset: base, segment: base, position: 0 };
    }

    /// Writes batches where they stood. Bytes that the segment holds already are the same bytes.
    pub async fn data<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: Offset,
        position: u64,
        pieces: Vec<Bytes>,
    ) -> io::Result<()> {
        let bytes = match <[Bytes; 1]>::try_from(pieces) {
            Ok([bytes]) => bytes,
            Err(pieces) => {
                let mut whole = BytesMut::new();
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        let len = bytes.len() as u64;
        let mut span: Option<(Offset, Offset)> = None;
        for batch in Batches::split(bytes.clone()) {
            let batch = batch.map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a frame holds no batch: {error}"),
                )
            })?;
            let first = span.map_or(batch.base_offset(), |(first, _)| first);
            span = Some((first, batch.end_offset()));
        }
        let Some((first, end)) = span else { return Ok(()) };
        if end <= self.stored.log_start && segment < self.end.segment {
            return Ok(());
        }
        let start = Point { offset: first, segment, position };
        let after = Point { offset: end, segment, position: position + len };
        let known = after.offset <= self.end.offset;
        if !known && start != self.end {
            if segment == self.end.offset && position == 0 {
                self.roll(segment);
            } else {
                self.bridge(disk, start).await?;
            }
        }
        let file = self.file(disk, segment).await?;
        file.write_at(position, vec![bytes]).await?;
        self.touched.insert(segment);
        if !known {
            self.end = after;
        }
        Ok(())
    }

    /// The next frame does not begin where the last one ended: frames between were lost (I14). If the segments hold
    /// whole batches there, they are kept; what is not whole is quarantined, never cut.
    async fn bridge<D: Disk<File = F>>(&mut self, disk: &D, start: Point) -> io::Result<()> {
        if (start.segment, start.position) < (self.end.segment, self.end.position) {
            // A truncation was among the lost frames.
            return self.truncate(disk, start).await;
        }
        while self.end != start {
            let here = self.end.segment == start.segment;
            let file = self.file(disk, self.end.segment).await?;
            let limit = if here { start.position } else { file.len().await? };
            let mut walk =
                Walk::new(file, self.end.position, limit.max(self.end.position), SCAN_BYTES)
                    .verified();
            while let Step::Batch(position, header) = walk.next().await? {
                let wanted = self.end.offset;
                let end = position + header.bytes_total() as u64;
                if header.base_offset() != wanted || header.end_offset() > start.offset {
                    break;
                }
                self.end.offset = header.end_offset();
                self.end.position = end;
            }
            self.touched.insert(self.end.segment);
            if here {
                if self.end != start {
                    self.damage_to(start.offset, start.position);
                }
                self.end = start;
            } else {
                // The segment that follows: the one of the next frame, if nothing else is known.
                let next = match disk.exists(&Kind::Log.path(&self.path, self.end.offset)).await? {
                    true if self.end.offset > self.end.segment => self.end.offset,
                    _ => start.segment,
                };
                if self.end.offset != next {
                    self.damage_to(next, limit.max(self.end.position));
                }
                self.roll(next);
            }
        }
        Ok(())
    }

    pub fn damage_to(&mut self, end: Offset, end_position: u64) {
        let start = self.end;
        self.stored.damages.push(Damage { start, end, end_position, is_unreadable: false });
        self.end.position = end_position;
        self.end.offset = end;
    }

    /// The log begins anew: whatever it was before counts no more.
    pub async fn reset<D: Disk<File = F>>(&mut self, disk: &D, start: Offset) -> io::Result<()> {
        for entry in disk.list(&self.path).await? {
            if Kind::parse(&entry.name).is_some() {
                remove_if_there(disk, &self.path.join(&entry.name)).await?;
            }
        }
        self.files.clear();
        self.sizes.clear();
        self.touched.clear();
        self.stored.epochs.clear();
        self.stored.damages.clear();
        self.stored.log_start = start;
        self.end = Point { offset: start, segment: start, position: 0 };
        self.trusted = self.end;
        self.lost = None;
        self.cut = true;
        Ok(())
    }

    /// The directory goes at once: the next CREATE may be of the same name.
    pub async fn delete<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        self.deleted = true;
        self.files.clear();
        match disk.remove_dir_all(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Bytes that went straight to the segment and were synced there before the frame was written.
    pub async fn extent<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: Offset,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        if (segment, position + len) <= (self.end.segment, self.end.position) {
            return Ok(());
        }
        if segment == self.end.offset && position == 0 {
            self.roll(segment);
        }
        let file = self.file(disk, segment).await?;
        let mut walk = Walk::new(file, position, position + len, SCAN_BYTES).verified();
        while let Step::Batch(at, header) = walk.next().await? {
            self.end = Point {
                offset: header.end_offset(),
                segment,
                position: at + header.bytes_total() as u64,
            };
        }
        Ok(())
    }

    pub async fn truncate<D: Disk<File = F>>(&mut self, disk: &D, cut: Point) -> io::Result<()> {
        for entry in disk.list(&self.path).await? {
            if let Some((kind, base)) = Kind::parse(&entry.name)
                && base > cut.segment
                && (kind != Kind::Snapshot || base > cut.offset)
            {
                self.files.remove(&base);
                self.sizes.remove(&base);
                self.touched.remove(&base);
                remove_if_there(disk, &self.path.join(&entry.name)).await?;
            }
        }
        let file = self.file(disk, cut.segment).await?;
        if file.len().await? > cut.position {
            file.set_len(cut.position).await?;
        }
        self.sizes.remove(&cut.segment);
        self.touched.insert(cut.segment);
        // The journal does not know how much of a page-cache log below the cut is on the medium.
        if cut.offset < self.end.offset {
            self.end = cut;
        }
        self.cut = true;
        if cut.offset < self.trusted.offset {
            self.trusted = cut;
        }
        self.stored.damages.retain(|damage| damage.start.offset < cut.offset);
        Ok(())
    }
}
