//! Real memory for the examples: a range of this process that is reserved once, and then mapped,
//! unmapped and protected piece by piece, as the hooks say. Nearly all `unsafe` code of the
//! examples is here.

// Each example uses a part of this.
#![allow(dead_code)]

use std::ffi::c_void;
use std::io::{Error, Result};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use kvma::{Heap, PageSize, Prot, VmMap, VmaData};

/// A reserved range. Addresses outside it are refused, so that nothing else of the process is hit.
pub struct Host {
    start: u64,
    len: u64,
    /// A file for copies from and to memory, for which the kernel answers `EFAULT` where an access
    /// would fault.
    scratch: OwnedFd,
}

/// Contents of a mapping: zeroes, or a file from an offset on.
pub enum Source<'a> {
    Zeroes,
    File(&'a OwnedFd, u64),
}

fn check(result: i64) -> Result<i64> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

pub fn page_size() -> PageSize {
    // SAFETY: asks for a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PageSize::new(bytes as u64).expect("a page is a power of two")
}

/// Makes a file in memory.
pub fn memory_file(contents: &[u8]) -> Result<OwnedFd> {
    // SAFETY: the name is a string with its zero; the descriptor that comes back is ours.
    let fd = unsafe {
        let fd = check(libc::memfd_create(c"kvma".as_ptr(), libc::MFD_CLOEXEC).into())?;
        OwnedFd::from_raw_fd(fd as i32)
    };
    write_at(&fd, contents, 0)?;
    Ok(fd)
}

fn write_at(fd: &OwnedFd, bytes: &[u8], offset: u64) -> Result<()> {
    // SAFETY: reads `bytes`, which is borrowed.
    let done =
        unsafe { libc::pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset as i64) };
    assert_eq!(check(done as i64)? as usize, bytes.len(), "a memory file takes all");
    Ok(())
}

fn flags(prot: Prot) -> i32 {
    // The values are those of `PROT_*`.
    prot.bits().into()
}

impl Host {
    /// Reserves `len` bytes, at a multiple of `align`, without access.
    pub fn reserve(len: u64, align: u64) -> Result<Host> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let all = len + align;
        // SAFETY: a fresh range that nobody else uses.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), all as usize, libc::PROT_NONE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let (base, start) = (base as u64, (base as u64).next_multiple_of(align));
        for (from, to) in [(base, start), (start + len, base + all)] {
            if from < to {
                // SAFETY: a part of the fresh range, which is not used.
                check(unsafe { libc::munmap(from as *mut c_void, (to - from) as usize) }.into())?;
            }
        }
        Ok(Host { start, len, scratch: memory_file(&[])? })
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the first and the last byte of the range.
    pub fn space(&self) -> RangeInclusive<u64> {
        self.start..=self.start + self.len - 1
    }

    /// Returns the range as a pointer, if it lies in the reserved range.
    fn at(&self, addr: u64, len: u64) -> Result<*mut c_void> {
        let inside = addr >= self.start && len <= self.len && addr - self.start <= self.len - len;
        if inside { Ok(addr as *mut c_void) } else { Err(Error::from_raw_os_error(libc::EFAULT)) }
    }

    /// Maps private memory in place of whatever is there.
    pub fn map(&self, addr: u64, len: u64, prot: Prot, source: Source<'_>) -> Result<()> {
        let fixed = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let (fd, offset, flags_) = match source {
            Source::Zeroes => (-1, 0, fixed | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE),
            Source::File(fd, offset) => (fd.as_raw_fd(), offset, fixed),
        };
        let at = self.at(addr, len)?;
        // SAFETY: the range is ours, and no reference into it exists: it is reached by `peek` and
        // `poke` only.
        let there = unsafe { libc::mmap(at, len as usize, flags(prot), flags_, fd, offset as i64) };
        if there == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(()) }
    }

    /// Unmaps a range, and keeps its addresses reserved.
    pub fn unmap(&self, addr: u64, len: u64) -> Result<()> {
        self.map(addr, len, Prot::NONE, Source::Zeroes)
    }

    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<()> {
        // SAFETY: as for `map`.
        check(unsafe { libc::mprotect(self.at(addr, len)?, len as usize, flags(prot)) }.into())
            .map(drop)
    }

    /// Reads memory as the program would; `EFAULT` where that would fault.
    pub fn peek(&self, addr: u64, bytes: &mut [u8]) -> Result<()> {
        let (fd, at) = (self.scratch.as_raw_fd(), self.at(addr, bytes.len() as u64)?);
        // SAFETY: the kernel checks the range as it reads; the second call writes to `bytes`,
        // borrowed.
        unsafe {
            let copied = check(libc::pwrite(fd, at, bytes.len(), 0) as i64)?;
            if copied as usize != bytes.len() {
                return Err(Error::from_raw_os_error(libc::EFAULT));
            }
            check(libc::pread(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) as i64)?;
        }
        Ok(())
    }

    /// Writes memory as the program would; `EFAULT` where that would fault.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<()> {
        let at = self.at(addr, bytes.len() as u64)?;
        write_at(&self.scratch, bytes, 0)?;
        // SAFETY: the kernel checks the range as it writes, and no reference into it exists.
        let copied =
            check(unsafe { libc::pread(self.scratch.as_raw_fd(), at, bytes.len(), 0) } as i64)?;
        if copied as usize == bytes.len() {
            Ok(())
        } else {
            Err(Error::from_raw_os_error(libc::EFAULT))
        }
    }

    pub fn faults(&self, result: Result<()>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT))
    }

    /// Returns whether /proc/self/maps and `map` agree on this range: page by page the same
    /// protection, and none where nothing is mapped. `offset` is added to the addresses of `map`.
    pub fn agrees<V: VmaData, A>(&self, map: &VmMap<V, A>, offset: u64) -> bool
    where
        A: kvma::NodeAlloc<kvma::VmaNode<V>> + Clone,
    {
        let text = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
        let page = page_size();
        let mut real = VmMap::<(), _>::new(0..=(1 << 56) - 1, page, Heap).expect("an empty map");
        real.adopt_maps(&text, |_, attrs| (attrs, ())).expect("a maps file");
        let prot = |found: Option<Prot>| found.unwrap_or(Prot::NONE);
        (self.start..self.start + self.len).step_by(page.bytes() as usize).all(|addr| {
            let ours = map.find(addr - offset).map(|vma| vma.prot());
            prot(ours) == prot(real.find(addr).map(|vma| vma.prot()))
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: ours, and whoever could reach into it has ended.
        unsafe { libc::munmap(self.start as *mut c_void, self.len as usize) };
    }
}
