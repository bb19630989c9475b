//! Open files (Linux' `struct file`): what descriptors refer to.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use kvma::Errno;
use kvma::linux::{OpenFile as MappableFile, Rights, Traits};
use linux_raw_sys::general::{
    O_ACCMODE, O_APPEND, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, POLLERR, POLLHUP, POLLIN, POLLOUT,
    POLLRDNORM, POLLWRNORM,
};
use spin::mutex::SpinMutex;

use super::console;
use super::device::Device;
use super::epoll::Epoll;
use super::events::Events;
use super::inode::{Inode, Kind};
use super::pipe::{End, Pipe, PipeEnd, Wait};
use crate::user::errno::{EBADF, EINVAL, EISDIR, ESPIPE};
use crate::user::object::MappedFile;

/// The thing that is open.
pub enum Opened {
    /// A file, a directory or a device.
    Inode,
    Pipe(PipeEnd),
    /// A text that the kernel has written, such as a file in `/proc`.
    Text(Vec<u8>),
    Events(Events),
    Epoll(Epoll),
}

/// An open file.
pub struct OpenFile {
    pub inode: Arc<Inode>,
    opened: Opened,
    /// `O_*`
    flags: AtomicU32,
    offset: SpinMutex<u64>,
}

/// How far a seek goes, and from where.
#[derive(Clone, Copy, Debug)]
pub enum Seek {
    Start(u64),
    Current(i64),
    End(i64),
}

impl OpenFile {
    pub fn new(inode: Arc<Inode>, opened: Opened, flags: u32) -> Arc<Self> {
        Arc::new(Self { inode, opened, flags: AtomicU32::new(flags), offset: SpinMutex::new(0) })
    }

    /// Opens an inode as it is.
    pub fn open(inode: Arc<Inode>, flags: u32) -> Arc<Self> {
        let opened = match &inode.kind {
            Kind::Proc(node) => node.text().map_or(Opened::Inode, Opened::Text),
            Kind::Fifo(pipe) => {
                let end = if flags & O_ACCMODE == O_RDONLY { End::Read } else { End::Write };
                Opened::Pipe(PipeEnd::new(pipe.clone(), end))
            }
            _ => Opened::Inode,
        };
        Self::new(inode, opened, flags)
    }

    /// Makes a pipe: its end for reading, and that for writing.
    pub fn pipe(flags: u32) -> [Arc<Self>; 2] {
        let pipe = Pipe::new();
        let inode = Inode::new(Kind::Fifo(pipe.clone()), 0o600);
        [(End::Read, O_RDONLY), (End::Write, O_WRONLY)].map(|(end, access)| {
            let opened = Opened::Pipe(PipeEnd::new(pipe.clone(), end));
            Self::new(inode.clone(), opened, access | flags)
        })
    }

    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Changes those flags that fcntl(2) may change.
    pub fn set_flags(&self, flags: u32) {
        const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK;
        let kept = self.flags() & !CHANGEABLE;
        self.flags.store(kept | flags & CHANGEABLE, Relaxed);
    }

    pub fn is_readable(&self) -> bool {
        self.flags() & O_ACCMODE != O_WRONLY
    }

    pub fn is_writable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    fn wait(&self) -> Wait {
        if self.flags() & O_NONBLOCK != 0 { Wait::No } else { Wait::Yes }
    }

    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Reads from where the file is at.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let offset = *self.offset.lock();
        let len = self.read_at(offset, buffer)?;
        *self.offset.lock() = offset + len as u64;
        Ok(len)
    }

    /// Reads from an offset, where the file has such.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        if !self.is_readable() {
            return Err(EBADF);
        }
        match &self.opened {
            Opened::Pipe(end) => end.pipe.read(buffer, self.wait()),
            Opened::Text(text) => {
                let rest = text.get(offset as usize..).unwrap_or_default();
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            }
            Opened::Events(events) => events.read(buffer, self.wait()),
            Opened::Epoll(_) => Err(EINVAL),
            Opened::Inode => match &self.inode.kind {
                Kind::File(object) => Ok(object.read(offset, buffer)),
                Kind::Directory(_) | Kind::Proc(_) => Err(EISDIR),
                Kind::Device(Device::Zero) => {
                    buffer.fill(0);
                    Ok(buffer.len())
                }
                Kind::Device(Device::Random) => {
                    console::random(buffer);
                    Ok(buffer.len())
                }
                // Nobody types.
                Kind::Device(Device::Null | Device::Console) => Ok(0),
                Kind::Link(_) | Kind::Fifo(_) => Err(EBADF),
            },
        }
    }

    /// Writes to where the file is at.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        if self.flags() & O_APPEND != 0
            && let Some(object) = self.inode.object()
        {
            *self.offset.lock() = object.append(bytes)?;
            self.inode.touch();
            return Ok(bytes.len());
        }
        let offset = *self.offset.lock();
        let len = self.write_at(offset, bytes)?;
        *self.offset.lock() = offset + len as u64;
        Ok(len)
    }

    /// Writes to an offset, where the file has such.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        match &self.opened {
            Opened::Pipe(end) => end.pipe.write(bytes, self.wait()),
            Opened::Text(_) => Ok(bytes.len()),
            Opened::Events(events) => events.write(bytes, self.wait()),
            Opened::Epoll(_) => Err(EINVAL),
            Opened::Inode => match &self.inode.kind {
                Kind::File(object) => {
                    self.inode.touch();
                    object.write(offset, bytes)
                }
                Kind::Device(Device::Console) => {
                    console::write(bytes);
                    Ok(bytes.len())
                }
                Kind::Device(_) => Ok(bytes.len()),
                _ => Err(EBADF),
            },
        }
    }

    /// Moves to another place in the file. Returns the new offset.
    pub fn seek(&self, seek: Seek) -> Result<u64, Errno> {
        let len = match (&self.opened, &self.inode.kind) {
            (Opened::Pipe(_) | Opened::Events(_) | Opened::Epoll(_), _) => return Err(ESPIPE),
            (_, Kind::Device(Device::Console)) => return Err(ESPIPE),
            (Opened::Text(text), _) => text.len() as u64,
            (_, Kind::File(object)) => object.len(),
            _ => 0,
        };
        let mut offset = self.offset.lock();
        let to = match seek {
            Seek::Start(to) => Some(to),
            Seek::Current(by) => offset.checked_add_signed(by),
            Seek::End(by) => len.checked_add_signed(by),
        };
        *offset = to.filter(|&to| to <= i64::MAX as u64).ok_or(EINVAL)?;
        Ok(*offset)
    }

    /// Returns true if there is something to read.
    fn has_input(&self) -> bool {
        match &self.opened {
            Opened::Pipe(end) => end.end == End::Read && end.pipe.is_readable(),
            Opened::Events(events) => events.is_readable(),
            Opened::Epoll(epoll) => epoll.has_reports(),
            Opened::Text(_) | Opened::Inode => true,
        }
    }

    /// Returns true if there is room for what is written.
    fn has_room(&self) -> bool {
        match &self.opened {
            Opened::Pipe(end) => end.end == End::Write && end.pipe.is_writable(),
            Opened::Events(events) => events.is_writable(),
            Opened::Epoll(_) => false,
            Opened::Text(_) | Opened::Inode => true,
        }
    }

    /// Returns true if the other end of a pipe is closed.
    fn is_hung_up(&self) -> bool {
        matches!(&self.opened, Opened::Pipe(end) if end.pipe.is_broken(end.end))
    }

    /// Returns those events that have come, of those wanted (`POLL*`).
    pub fn events(&self, wanted: u32) -> u32 {
        let mut come = 0;
        if self.has_input() {
            come |= wanted & (POLLIN | POLLRDNORM);
        }
        if self.has_room() {
            come |= wanted & (POLLOUT | POLLWRNORM);
        }
        if self.is_hung_up() {
            come |= if self.is_writable() { POLLERR } else { POLLHUP };
        }
        come
    }

    /// Returns a number that is another one after each change of what has come.
    pub fn changes(&self) -> u64 {
        match &self.opened {
            Opened::Pipe(end) => end.pipe.changes(),
            Opened::Events(events) => events.changes(),
            Opened::Epoll(_) | Opened::Text(_) | Opened::Inode => 0,
        }
    }

    /// Returns the file as mmap(2) sees it.
    pub fn mappable(&self) -> MappableFile<MappedFile> {
        let mut rights = Rights::empty();
        rights.set(Rights::READ, self.is_readable());
        rights.set(Rights::WRITE, self.is_writable());
        match self.inode.object() {
            Some(object) => MappableFile::new(MappedFile(object.clone()), rights),
            None => {
                let nothing = crate::user::object::Object::new((0, 0), "", 0);
                MappableFile::new(MappedFile(nothing), rights).with_traits(Traits::UNMAPPABLE)
            }
        }
    }
}
