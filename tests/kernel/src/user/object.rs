//! Objects: the pages of a file, or of memory that processes share.
//!
//! Pages are frames that come when they are first used, whether by read(2), by write(2) or by a
//! page fault in a mapping: so all of them see the same bytes. They stay until the object is
//! truncated or goes, as there is no disk to write them to.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use kvma::Errno;
use kvma::linux::{File, LinuxVma};
use spin::mutex::SpinMutex;

use super::errno::{EFBIG, ENOMEM};
use crate::contents::Contents;
use crate::frames::{self, FRAME_SIZE, Frame, Use};
use crate::page_cache::{self, Missing, Store};

/// The largest length of an object, in bytes: more than there is memory.
const MAX_LEN: u64 = 1 << 40;

/// Numbers are never used again.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Returns a number for an inode, never used again.
pub fn new_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

/// The number of frames that all objects have.
static FRAMES: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of frames that all objects have.
pub fn frames_in_use() -> usize {
    FRAMES.load(Relaxed)
}

/// Returns frames that were taken out of an object.
fn taken(frames: BTreeMap<u64, Frame>) -> Vec<Frame> {
    FRAMES.fetch_sub(frames.len(), Relaxed);
    frames.into_values().collect()
}

/// The objects, by number: `/proc/PID/maps` knows only the numbers of what VMAs show.
static OBJECTS: SpinMutex<BTreeMap<u64, Weak<Object>>> = SpinMutex::new(BTreeMap::new());

/// An object.
pub struct Object {
    id: u64,
    device: (u32, u32),
    /// The name that maps shows.
    name: SpinMutex<String>,
    contents: SpinMutex<Pages>,
}

struct Pages {
    /// The length in bytes.
    len: u64,
    /// The frames that there are, by number of page. All others are zeros.
    frames: BTreeMap<u64, Frame>,
}

/// The device of the in-memory file system, and that of shared memory without a file.
pub const FILES: (u32, u32) = (0, 2);
pub const SHARED_MEMORY: (u32, u32) = (0, 1);

impl Object {
    /// Makes an object of zeros.
    pub fn new(device: (u32, u32), name: &str, len: u64) -> Arc<Self> {
        let id = new_id();
        let pages = Pages { len, frames: BTreeMap::new() };
        let (name, contents) = (SpinMutex::new(name.into()), SpinMutex::new(pages));
        let object = Arc::new(Self { id, device, name, contents });
        let store: Arc<dyn Store> = object.clone();
        let weak: Weak<dyn Store> = Arc::downgrade(&store);
        page_cache::register(id, weak);
        OBJECTS.lock().insert(id, Arc::downgrade(&object));
        object
    }

    /// Returns the number, which is also the inode's.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn len(&self) -> u64 {
        self.contents.lock().len
    }

    /// Says by which path the object is known.
    pub fn rename(&self, name: &str) {
        *self.name.lock() = name.into();
    }

    /// Copies bytes from `offset` on, up to the end. Returns how many.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let contents = self.contents.lock();
        let len = contents.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (at, part) in pages_of(offset, len) {
            let buffer = &mut buffer[part];
            match contents.frames.get(&(at / FRAME_SIZE)) {
                Some(frame) => frame.read(at % FRAME_SIZE, buffer),
                None => buffer.fill(0),
            }
        }
        len
    }

    /// Copies bytes to `offset`, and extends the object if they reach beyond its end.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= MAX_LEN);
        let end = end.ok_or(EFBIG)?;
        let mut contents = self.contents.lock();
        for (at, part) in pages_of(offset, bytes.len()) {
            contents.frame(at / FRAME_SIZE).ok_or(ENOMEM)?.write(at % FRAME_SIZE, &bytes[part]);
        }
        contents.len = contents.len.max(end);
        Ok(bytes.len())
    }

    /// Writes to the end, as one step. Returns the new end.
    pub fn append(&self, bytes: &[u8]) -> Result<u64, Errno> {
        // Only appending threads race here, and each is told where its own bytes ended.
        let end = self.len();
        self.write(end, bytes)?;
        Ok(end + bytes.len() as u64)
    }

    /// Sets the length. Returns the frames beyond it, which mappings may still show: unmap them
    /// everywhere, then free the frames.
    #[must_use]
    pub fn set_len(&self, len: u64) -> Vec<Frame> {
        let mut contents = self.contents.lock();
        contents.len = len;
        let beyond = contents.frames.split_off(&len.div_ceil(FRAME_SIZE));
        let tail = len % FRAME_SIZE;
        if tail != 0
            && let Some(last) = contents.frames.get(&(len / FRAME_SIZE))
        {
            // What is cut off must not come back when the object grows.
            last.write(tail, &[0; FRAME_SIZE as usize][tail as usize..]);
        }
        taken(beyond)
    }

    /// Takes the frames of whole pages in a range out, so that they are zeros from now on. As with
    /// [`set_len`](Self::set_len), mappings may still show them.
    #[must_use]
    pub fn punch(&self, offset: u64, len: u64) -> Vec<Frame> {
        let first = offset.div_ceil(FRAME_SIZE);
        let end = offset.saturating_add(len) / FRAME_SIZE;
        let mut contents = self.contents.lock();
        let mut middle = contents.frames.split_off(&first);
        let mut rest = middle.split_off(&end.max(first));
        contents.frames.append(&mut rest);
        taken(middle)
    }
}

impl Pages {
    /// Returns the frame of a page, which is made if there is none. `None` without memory.
    fn frame(&mut self, page: u64) -> Option<&Frame> {
        let entry = match self.frames.entry(page) {
            Entry::Occupied(there) => return Some(there.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let frame = frames::allocate(Use::Shared)?;
        frame.zero();
        FRAMES.fetch_add(1, Relaxed);
        Some(entry.insert(frame))
    }
}

/// Iterates over the pages that `len` bytes from `offset` on lie in: where each part begins in the
/// object, and which of the bytes it is.
fn pages_of(offset: u64, len: usize) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let part = ((FRAME_SIZE - at % FRAME_SIZE) as usize).min(len - done);
        let range = done..done + part;
        done += part;
        Some((at, range))
    })
}

impl Store for Object {
    fn frame(&self, page: u64) -> Result<Frame, Missing> {
        let mut contents = self.contents.lock();
        if page >= contents.len.div_ceil(FRAME_SIZE) {
            return Err(Missing::BeyondEnd);
        }
        contents.frame(page).map(Frame::duplicate).ok_or(Missing::Memory)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        OBJECTS.lock().remove(&self.id);
        page_cache::unregister(self.id);
        taken(core::mem::take(&mut self.contents.get_mut().frames))
            .into_iter()
            .for_each(frames::free);
    }
}

/// An object, as VMAs refer to it: what they show, or what they are called.
#[derive(Clone)]
pub struct MappedFile(pub Arc<Object>);

impl PartialEq for MappedFile {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl File for MappedFile {
    fn id(&self) -> u64 {
        self.0.id
    }

    fn device(&self) -> (u32, u32) {
        self.0.device
    }

    fn inode(&self) -> u64 {
        self.0.id
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(&self.0.name.lock())
    }

    /// Returns the object of that number, unless nobody has it any more.
    fn from_id(id: u64) -> Option<Self> {
        let object = OBJECTS.lock().get(&id).and_then(Weak::upgrade);
        object.map(Self)
    }
}

impl Contents for LinuxVma<MappedFile> {
    /// Every object is registered with its own pages.
    fn begins_as_zeros(&self) -> bool {
        false
    }
}
