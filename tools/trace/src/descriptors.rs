//! The file descriptors that a trace has named.

use heapless::LinearMap;
use kvma::linux::Rights;

use crate::line::{Access, Descriptor, FileKind};

/// Numbers below this one, which are those that programs really use, have a slot each.
const NEAR: usize = 4096;
/// So many larger numbers can be kept. Only random calls use them.
const FAR: usize = 64;

#[derive(Debug)]
pub(crate) struct Descriptors {
    near: [Option<Descriptor>; NEAR],
    far: LinearMap<u32, Descriptor, FAR>,
}

impl Descriptors {
    pub(crate) const fn new() -> Self {
        Self { near: [None; NEAR], far: LinearMap::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.near.fill(None);
        self.far.clear();
    }

    /// Remembers a descriptor. `None` if there are too many with large numbers.
    pub(crate) fn set(&mut self, number: u32, descriptor: Descriptor) -> Option<()> {
        match self.near.get_mut(number as usize) {
            Some(slot) => *slot = Some(descriptor),
            None => {
                self.far.insert(number, descriptor).ok()?;
            }
        }
        Some(())
    }

    pub(crate) fn get(&self, number: u32) -> Option<Descriptor> {
        match self.near.get(number as usize) {
            Some(slot) => *slot,
            None => self.far.get(&number).copied(),
        }
    }
}

impl Descriptor {
    pub(crate) fn rights(self) -> Rights {
        match self.access {
            Access::Read => Rights::READ,
            Access::Write => Rights::WRITE,
            Access::ReadWrite => Rights::READ | Rights::WRITE,
        }
    }

    /// Returns Linux' largest offset for the kind of file.
    pub(crate) fn max_bytes(self) -> u64 {
        match self.kind {
            FileKind::Regular | FileKind::Memory => i64::MAX as u64,
            FileKind::Directory | FileKind::Other => u64::MAX,
        }
    }
}
