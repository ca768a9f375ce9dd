//! Names: directories as the process sees them and as the medium holds them, with the operations in between.
//!
//! A creation, rename or removal is durable once the directories it touches are synced. In a power cut the rest survives
//! either as a prefix, as on a file system with an ordered journal, or each for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Component, Path};

use types::Instant;

use crate::decisions::{Decisions, Kind};
use crate::disk::content::Content;

/// Number of a file or directory.
pub type Ino = u64;
/// The root directory.
pub const ROOT: Ino = 1;

/// One directory, twice.
#[derive(Clone, Default)]
pub struct Dir {
    /// As the process sees it.
    pub view: BTreeMap<String, Ino>,
    medium: BTreeMap<String, Ino>,
}

/// What an inode is.
#[derive(Clone)]
pub enum Body {
    /// A directory.
    Dir(Dir),
    /// A file.
    File(Content),
}

/// A file or directory.
#[derive(Clone)]
pub struct Inode {
    /// Its content.
    pub body: Body,
    /// Open handles.
    pub opens: u32,
    /// Every operation fails (D4).
    pub broken: bool,
    /// Bytes that reads are refused: start and end.
    pub refused: Option<(u64, u64)>,
    /// Which process read or wrote it last, and when.
    pub touched: Option<(u64, Instant)>,
    linked: bool,
}

#[derive(Clone)]
enum Change {
    Create { dir: Ino, name: String },
    Remove { dir: Ino, name: String },
    Rename { from: Ino, from_name: String, to: Ino, to_name: String },
}

/// A change of names that is not durable yet.
#[derive(Clone)]
struct Pending {
    change: Change,
    ino: Ino,
    waits: BTreeSet<Ino>,
}

/// All names and inodes of a file system.
#[derive(Clone)]
pub struct Tree {
    inodes: BTreeMap<Ino, Inode>,
    next: Ino,
    pending: VecDeque<Pending>,
}

impl Tree {
    /// An empty file system.
    pub fn new() -> Tree {
        let root = Inode {
            body: Body::Dir(Dir::default()),
            opens: 0,
            broken: false,
            refused: None,
            touched: None,
            linked: true,
        };
        Tree { inodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, pending: VecDeque::new() }
    }

    /// The inode at a path.
    pub fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for name in names(path)? {
            let dir = self.dir(at)?;
            at = *dir.view.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that holds the path, and the name within.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for name in names {
            at = *self.dir(at)?.view.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    /// An inode that must be there.
    pub fn inode(&self, ino: Ino) -> io::Result<&Inode> {
        self.inodes.get(&ino).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// An inode that must be there.
    pub fn inode_mut(&mut self, ino: Ino) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A directory.
    pub fn dir(&self, ino: Ino) -> io::Result<&Dir> {
        match &self.inode(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// A file's bytes.
    pub fn file(&self, ino: Ino) -> io::Result<&Content> {
        match &self.inode(ino)?.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// A file's bytes.
    pub fn file_mut(&mut self, ino: Ino) -> io::Result<&mut Content> {
        match &mut self.inode_mut(ino)?.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Every file.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (Ino, &mut Content)> {
        self.inodes.iter_mut().filter_map(|(ino, inode)| match &mut inode.body {
            Body::File(content) => Some((*ino, content)),
            Body::Dir(_) => None,
        })
    }

    /// Blocks in use by files that still have a name or a handle.
    pub fn blocks(&self) -> u64 {
        let alive = self.inodes.values().filter(|inode| inode.linked || inode.opens > 0);
        alive.map(|inode| if let Body::File(file) = &inode.body { file.blocks() } else { 1 }).sum()
    }

    /// Creates a file or directory that is not there.
    pub fn create(&mut self, dir: Ino, name: &str, is_dir: bool) -> io::Result<Ino> {
        let ino = self.next;
        self.next += 1;
        let body = if is_dir { Body::Dir(Dir::default()) } else { Body::File(Content::default()) };
        self.view_mut(dir)?.insert(name.to_owned(), ino);
        self.inodes.insert(
            ino,
            Inode { body, opens: 0, broken: false, refused: None, touched: None, linked: true },
        );
        self.push(Change::Create { dir, name: name.to_owned() }, ino, [dir, dir]);
        Ok(ino)
    }

    /// Removes a name.
    pub fn remove(&mut self, dir: Ino, name: &str) -> io::Result<()> {
        let ino = self.view_mut(dir)?.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.inode_mut(ino)?.linked = false;
        self.push(Change::Remove { dir, name: name.to_owned() }, ino, [dir, dir]);
        Ok(())
    }

    /// Gives an inode another name; a file that had it loses it.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str)) -> io::Result<()> {
        let ino = *self.dir(from.0)?.view.get(from.1).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = self.dir(to.0)?.view.get(to.1).copied().filter(|old| *old != ino) {
            let empty = self.dir(old).is_ok_and(|dir| dir.view.is_empty());
            if self.dir(old).is_ok() && !(empty && self.dir(ino).is_ok()) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            self.inode_mut(old)?.linked = false;
        }
        self.view_mut(from.0)?.remove(from.1);
        self.view_mut(to.0)?.insert(to.1.to_owned(), ino);
        let change = Change::Rename {
            from: from.0,
            from_name: from.1.to_owned(),
            to: to.0,
            to_name: to.1.to_owned(),
        };
        self.push(change, ino, [from.0, to.0]);
        Ok(())
    }

    /// Makes the changes in a directory durable.
    pub fn sync_dir(&mut self, dir: Ino) {
        for change in &mut self.pending {
            change.waits.remove(&dir);
        }
        self.commit();
    }

    /// Makes all changes durable but those in these directories.
    pub fn sync_all_but(&mut self, dirs: &BTreeSet<Ino>) {
        for change in &mut self.pending {
            change.waits.retain(|dir| dirs.contains(dir));
        }
        self.commit();
    }

    /// The root and all that lies in its directories but `volume`.
    pub fn outside(&self, volume: Ino) -> BTreeSet<Ino> {
        let volumes = self.dir(ROOT).map(|root| root.view.values()).into_iter().flatten();
        let others = volumes.filter(|other| **other != volume && volume != ROOT);
        let mut outside: BTreeSet<Ino> = others.flat_map(|other| self.below(*other)).collect();
        outside.extend((volume != ROOT).then_some(ROOT));
        outside
    }

    /// A directory and everything below it, by the names that the process sees.
    pub fn below(&self, top: Ino) -> BTreeSet<Ino> {
        let mut found = BTreeSet::new();
        let mut todo = vec![top];
        while let Some(ino) = todo.pop() {
            if found.insert(ino)
                && let Ok(dir) = self.dir(ino)
            {
                todo.extend(dir.view.values());
            }
        }
        found
    }

    fn commit(&mut self) {
        let (done, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(|change| change.waits.is_empty());
        self.pending = pending;
        for change in &done {
            self.apply(change);
        }
        for change in done {
            self.forget_if_gone(change.ino);
        }
    }

    /// Whether the whole way from the root to the path would survive a power cut now.
    pub fn is_durable(&self, path: &Path) -> bool {
        let Ok(names) = names(path) else { return false };
        let mut at = ROOT;
        for name in names {
            let Ok(dir) = self.dir(at) else { return false };
            let touched = self.pending.iter().any(|pending| match &pending.change {
                Change::Create { dir, name: n } | Change::Remove { dir, name: n } => {
                    *dir == at && n == name
                }
                Change::Rename { from, from_name, to, to_name } => {
                    (*from == at && from_name == name) || (*to == at && to_name == name)
                }
            });
            match dir.medium.get(name) {
                Some(ino) if !touched && dir.view.get(name) == Some(ino) => at = *ino,
                _ => return false,
            }
        }
        true
    }

    /// The power fails: names become what the medium has plus the changes that happen to survive. Returns how many did
    /// not.
    pub fn power_cut(&mut self, decisions: &Decisions) -> u64 {
        let pending = std::mem::take(&mut self.pending);
        let ordered = decisions.choose(Kind::Survival, 2) == 1;
        let prefix = decisions.choose(Kind::Survival, pending.len() as u64 + 1);
        let mut lost = 0;
        for (position, change) in pending.iter().enumerate() {
            let survives = if ordered {
                (position as u64) < prefix
            } else {
                decisions.choose(Kind::Survival, 2) == 1
            };
            if survives {
                self.apply(change);
            } else {
                lost += 1;
            }
        }
        self.revert_to_medium();
        lost
    }

    /// The process ends: handles close, names stay.
    pub fn close_all(&mut self) {
        let mut gone = Vec::new();
        for (ino, inode) in &mut self.inodes {
            inode.opens = 0;
            if !inode.linked {
                gone.push(*ino);
            }
        }
        for ino in gone {
            self.forget_if_gone(ino);
        }
    }

    /// A handle closes.
    pub fn close(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.opens = inode.opens.saturating_sub(1);
            self.forget_if_gone(ino);
        }
    }

    fn revert_to_medium(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(at) = todo.pop() {
            let Some(Inode { body: Body::Dir(dir), .. }) = self.inodes.get_mut(&at) else {
                continue;
            };
            dir.view = dir.medium.clone();
            for ino in dir.view.values() {
                if reached.insert(*ino) {
                    todo.push(*ino);
                }
            }
        }
        self.inodes.retain(|ino, _| reached.contains(ino));
        for inode in self.inodes.values_mut() {
            inode.linked = true;
            inode.opens = 0;
        }
    }

    fn apply(&mut self, pending: &Pending) {
        let ino = pending.ino;
        match &pending.change {
            Change::Create { dir, name } => {
                if self.inodes.contains_key(&ino) {
                    self.with_medium(*dir, |medium| _ = medium.insert(name.clone(), ino));
                }
            }
            Change::Remove { dir, name } => self.with_medium(*dir, |medium| {
                if medium.get(name) == Some(&ino) {
                    medium.remove(name);
                }
            }),
            Change::Rename { from, from_name, to, to_name } => {
                let mut moved = false;
                self.with_medium(*from, |medium| {
                    moved = medium.get(from_name) == Some(&ino);
                    if moved {
                        medium.remove(from_name);
                    }
                });
                if moved {
                    let mut replaced = None;
                    self.with_medium(*to, |medium| replaced = medium.insert(to_name.clone(), ino));
                    if let Some(old) = replaced {
                        self.forget_if_gone(old);
                    }
                }
            }
        }
    }

    /// Drops an inode that nothing can reach, now or after a power cut.
    fn forget_if_gone(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get(&ino) else { return };
        if inode.linked || inode.opens > 0 || self.pending.iter().any(|p| p.ino == ino) {
            return;
        }
        let replaced_later =
            self.pending.iter().any(|p| matches!(&p.change, Change::Rename { .. }));
        let on_medium =
            replaced_later && self.dirs().any(|dir| dir.medium.values().any(|i| *i == ino));
        if !on_medium {
            self.inodes.remove(&ino);
        }
    }

    fn dirs(&self) -> impl Iterator<Item = &Dir> {
        self.inodes.values().filter_map(|inode| match &inode.body {
            Body::Dir(dir) => Some(dir),
            Body::File(_) => None,
        })
    }

    fn push(&mut self, change: Change, ino: Ino, dirs: [Ino; 2]) {
        self.pending.push_back(Pending { change, ino, waits: BTreeSet::from(dirs) });
    }

    fn view_mut(&mut self, ino: Ino) -> io::Result<&mut BTreeMap<String, Ino>> {
        match &mut self.inode_mut(ino)?.body {
            Body::Dir(dir) => Ok(&mut dir.view),
            Body::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn with_medium(&mut self, ino: Ino, act: impl FnOnce(&mut BTreeMap<String, Ino>)) {
        if let Some(Inode { body: Body::Dir(dir), .. }) = self.inodes.get_mut(&ino) {
            act(&mut dir.medium);
        }
    }
}

/// The names along a path; the current directory is the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?)
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
