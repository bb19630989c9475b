//! The answer of stat(2).

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, STATX_BASIC_STATS,
};

use super::inode::{Inode, Kind};
use crate::user::bytes::Bytes;
use crate::user::object::FILES;

const BLOCK: u64 = 4096;
const NANOSECONDS: u64 = 1_000_000_000;

impl Inode {
    /// Returns the kind, as in `st_mode` (`S_IFMT`).
    pub fn file_type(&self) -> u32 {
        match &self.kind {
            Kind::File(_) => S_IFREG,
            Kind::Directory(_) => S_IFDIR,
            Kind::Link(_) => S_IFLNK,
            Kind::Device(_) => S_IFCHR,
            Kind::Fifo(_) => S_IFIFO,
            Kind::Proc(node) if node.is_directory() => S_IFDIR,
            Kind::Proc(node) if node.link().is_some() => S_IFLNK,
            Kind::Proc(_) => S_IFREG,
        }
    }

    /// Returns the kind, as in directories (`DT_*`).
    pub fn directory_type(&self) -> u8 {
        const { assert!(S_IFBLK >> 12 == 6) };
        (self.file_type() >> 12) as u8
    }

    pub fn len(&self) -> u64 {
        match &self.kind {
            Kind::File(object) => object.len(),
            Kind::Link(target) => target.len() as u64,
            Kind::Directory(_) => BLOCK,
            _ => 0,
        }
    }

    fn links(&self) -> u32 {
        if self.is_directory() { 2 } else { 1 }
    }

    fn device_numbers(&self) -> (u32, u32) {
        match &self.kind {
            Kind::Device(device) => device.numbers(),
            _ => (0, 0),
        }
    }

    /// Returns `struct stat`.
    pub fn stat(&self) -> Bytes {
        let (owner, group) = (self.owner.load(Relaxed), self.group.load(Relaxed));
        let (major, minor) = self.device_numbers();
        let modified = self.modified.load(Relaxed);
        let time = |bytes: Bytes| bytes.u64(modified / NANOSECONDS).u64(modified % NANOSECONDS);
        let bytes = Bytes::new().u64(u64::from(FILES.0 << 8 | FILES.1)).u64(self.number);
        let mode = self.file_type() | self.mode();
        let device = u64::from(major << 8 | minor);
        let bytes = stat_head(bytes, mode, self.links()).u32(owner).u32(group);
        let bytes = stat_middle(bytes, device).u64(self.len());
        let bytes = stat_blocks(bytes, BLOCK).u64(self.len().div_ceil(512));
        time(time(time(bytes))).up_to(STAT_LEN)
    }

    /// Returns `struct statx`.
    pub fn statx(&self) -> Bytes {
        let (owner, group) = (self.owner.load(Relaxed), self.group.load(Relaxed));
        let (major, minor) = self.device_numbers();
        let modified = self.modified.load(Relaxed);
        let time = |bytes: Bytes| {
            bytes.u64(modified / NANOSECONDS).u32((modified % NANOSECONDS) as u32).u32(0)
        };
        let mode = (self.file_type() | self.mode()) as u16;
        let bytes = Bytes::new().u32(STATX_BASIC_STATS).u32(BLOCK as u32).u64(0);
        let bytes = bytes.u32(self.links()).u32(owner).u32(group).u16(mode).u16(0);
        let bytes = bytes.u64(self.number).u64(self.len()).u64(self.len().div_ceil(512)).u64(0);
        let bytes = time(time(time(time(bytes))));
        bytes.u32(major).u32(minor).u32(FILES.0).u32(FILES.1).up_to(256)
    }
}

// The order of fields in `struct stat` depends on the architecture.
#[cfg(target_arch = "x86_64")]
mod layout {
    use super::Bytes;

    pub const STAT_LEN: usize = 144;

    pub fn stat_head(bytes: Bytes, mode: u32, links: u32) -> Bytes {
        bytes.u64(u64::from(links)).u32(mode)
    }

    pub fn stat_middle(bytes: Bytes, device: u64) -> Bytes {
        bytes.u32(0).u64(device)
    }

    pub fn stat_blocks(bytes: Bytes, block: u64) -> Bytes {
        bytes.u64(block)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod layout {
    use super::Bytes;

    pub const STAT_LEN: usize = 128;

    pub fn stat_head(bytes: Bytes, mode: u32, links: u32) -> Bytes {
        bytes.u32(mode).u32(links)
    }

    pub fn stat_middle(bytes: Bytes, device: u64) -> Bytes {
        bytes.u64(device).u64(0)
    }

    pub fn stat_blocks(bytes: Bytes, block: u64) -> Bytes {
        bytes.u32(block as u32).u32(0)
    }
}

use layout::{STAT_LEN, stat_blocks, stat_head, stat_middle};
