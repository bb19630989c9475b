//! Inodes: files, directories, symbolic links, and things that look like files.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use spin::mutex::SpinMutex;

use super::device::Device;
use super::pipe::Pipe;
use super::proc;
use crate::user::object::{FILES, Object, new_id};
use crate::user::time;

/// The kind of an inode.
pub enum Kind {
    File(Arc<Object>),
    Directory(SpinMutex<Entries>),
    /// A symbolic link, with its target.
    Link(Vec<u8>),
    Device(Device),
    Fifo(Arc<Pipe>),
    Proc(proc::Node),
}

/// The contents of a directory.
pub struct Entries {
    /// `None` for the root.
    parent: Option<Weak<Inode>>,
    children: BTreeMap<Vec<u8>, Arc<Inode>>,
}

/// An inode.
pub struct Inode {
    pub number: u64,
    pub kind: Kind,
    /// Permissions.
    mode: AtomicU32,
    pub owner: AtomicU32,
    pub group: AtomicU32,
    /// In nanoseconds since 1970.
    pub modified: AtomicU64,
}

impl Inode {
    pub fn new(kind: Kind, mode: u32) -> Arc<Self> {
        let number = match &kind {
            Kind::File(object) => object.id(),
            _ => new_id(),
        };
        Arc::new(Self {
            number,
            kind,
            mode: AtomicU32::new(mode),
            owner: AtomicU32::new(0),
            group: AtomicU32::new(0),
            modified: AtomicU64::new(time::time_of_day()),
        })
    }

    pub fn directory(parent: Option<&Arc<Self>>, mode: u32) -> Arc<Self> {
        let entries = Entries { parent: parent.map(Arc::downgrade), children: BTreeMap::new() };
        Self::new(Kind::Directory(SpinMutex::new(entries)), mode)
    }

    /// Makes an empty file that maps will call by this path.
    pub fn file(path: &[u8], mode: u32) -> Arc<Self> {
        Self::new(
            Kind::File(Object::new(FILES, &alloc::string::String::from_utf8_lossy(path), 0)),
            mode,
        )
    }

    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }

    pub fn set_mode(&self, mode: u32) {
        self.mode.store(mode & 0o7777, Relaxed);
    }

    /// Notes that the contents have changed.
    pub fn touch(&self) {
        self.modified.store(time::time_of_day(), Relaxed);
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
            || matches!(&self.kind, Kind::Proc(node) if node.is_directory())
    }

    /// Returns the pages of a file.
    pub fn object(&self) -> Option<&Arc<Object>> {
        match &self.kind {
            Kind::File(object) => Some(object),
            _ => None,
        }
    }

    fn entries(&self) -> Option<&SpinMutex<Entries>> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns what a directory has by this name.
    pub fn child(&self, name: &[u8]) -> Option<Arc<Self>> {
        match &self.kind {
            Kind::Directory(entries) => entries.lock().children.get(name).cloned(),
            Kind::Proc(node) => node.child(name),
            _ => None,
        }
    }

    /// Puts an inode into a directory. Returns what had the name before.
    pub fn insert(self: &Arc<Self>, name: &[u8], inode: Arc<Self>) -> Option<Arc<Self>> {
        if let Kind::Directory(entries) = &inode.kind {
            entries.lock().parent = Some(Arc::downgrade(self));
        }
        self.touch();
        self.entries()?.lock().children.insert(name.into(), inode)
    }

    /// Removes a name from a directory.
    pub fn remove(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.touch();
        self.entries()?.lock().children.remove(name)
    }

    pub fn is_empty_directory(&self) -> bool {
        self.entries().is_some_and(|entries| entries.lock().children.is_empty())
    }

    /// Returns the directory of this name, which is made if there is none.
    pub fn child_directory(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        self.child(name).unwrap_or_else(|| {
            let child = Self::directory(Some(self), 0o755);
            self.insert(name, child.clone());
            child
        })
    }

    /// Returns the directory that this directory lies in; the root lies in itself.
    pub fn parent(self: &Arc<Self>) -> Arc<Self> {
        let parent = self.entries().and_then(|entries| entries.lock().parent.clone());
        match parent.and_then(|parent| parent.upgrade()) {
            Some(parent) => parent,
            None if self.entries().is_some() => self.clone(),
            None => super::root(),
        }
    }

    /// Returns names and inodes of what lies in a directory.
    pub fn children(&self) -> Vec<(Vec<u8>, Arc<Self>)> {
        match &self.kind {
            Kind::Directory(entries) => entries
                .lock()
                .children
                .iter()
                .map(|(name, inode)| (name.clone(), inode.clone()))
                .collect(),
            Kind::Proc(node) => node.children(),
            _ => Vec::new(),
        }
    }

    /// Returns the path of a directory.
    pub fn path(self: &Arc<Self>) -> Vec<u8> {
        let parent = self.parent();
        if Arc::ptr_eq(&parent, self) {
            return b"/".to_vec();
        }
        let mut path = parent.path();
        let name = parent.children().into_iter().find(|(_, inode)| Arc::ptr_eq(inode, self));
        if path != b"/" {
            path.push(b'/');
        }
        path.extend(name.map_or_else(|| b"(deleted)".to_vec(), |(name, _)| name));
        path
    }

    /// Returns the path of something in this directory.
    pub fn path_of(self: &Arc<Self>, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if path != b"/" {
            path.push(b'/');
        }
        path.extend(name);
        path
    }
}
