//! File descriptors of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::Errno;

use super::open_file::OpenFile;
use crate::user::errno::{EBADF, EINVAL, EMFILE};

/// The number of descriptors that a process may have (`RLIMIT_NOFILE`).
pub const MOST: usize = 1024;

/// The fate of a descriptor at execve(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    Close,
    Keep,
}

/// The table of a process.
#[derive(Clone, Default)]
pub struct Descriptors(Vec<Option<(Arc<OpenFile>, OnExec)>>);

impl Descriptors {
    /// Returns the file of a descriptor.
    pub fn get(&self, number: u64) -> Result<Arc<OpenFile>, Errno> {
        self.entry(number).map(|(file, _)| file.clone())
    }

    fn entry(&self, number: u64) -> Result<&(Arc<OpenFile>, OnExec), Errno> {
        // Programs pass 32 bits.
        self.0.get(number as u32 as usize).and_then(Option::as_ref).ok_or(EBADF)
    }

    pub fn on_exec(&self, number: u64) -> Result<OnExec, Errno> {
        self.entry(number).map(|(_, on_exec)| *on_exec)
    }

    pub fn set_on_exec(&mut self, number: u64, on_exec: OnExec) -> Result<(), Errno> {
        let entry = self.0.get_mut(number as u32 as usize).and_then(Option::as_mut).ok_or(EBADF)?;
        entry.1 = on_exec;
        Ok(())
    }

    /// Gives a file the lowest free descriptor at or above `lowest`.
    pub fn add(&mut self, file: Arc<OpenFile>, on_exec: OnExec, lowest: u64) -> Result<u64, Errno> {
        let lowest = usize::try_from(lowest).ok().filter(|&n| n < MOST).ok_or(EINVAL)?;
        let free = (lowest..MOST)
            .find(|&number| self.0.get(number).is_none_or(Option::is_none))
            .ok_or(EMFILE)?;
        self.put(free, file, on_exec);
        Ok(free as u64)
    }

    /// Gives a file this descriptor. Returns the file that had it.
    pub fn replace(
        &mut self,
        number: u64,
        file: Arc<OpenFile>,
        on_exec: OnExec,
    ) -> Result<Option<Arc<OpenFile>>, Errno> {
        let number = usize::try_from(number).ok().filter(|&n| n < MOST).ok_or(EBADF)?;
        Ok(self.put(number, file, on_exec))
    }

    fn put(
        &mut self,
        number: usize,
        file: Arc<OpenFile>,
        on_exec: OnExec,
    ) -> Option<Arc<OpenFile>> {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number].replace((file, on_exec)).map(|(file, _)| file)
    }

    /// Frees a descriptor. Returns its file, which is closed when it is dropped for the last time.
    pub fn remove(&mut self, number: u64) -> Result<Arc<OpenFile>, Errno> {
        let entry = self.0.get_mut(number as u32 as usize).and_then(Option::take);
        entry.map(|(file, _)| file).ok_or(EBADF)
    }

    /// Returns the numbers in use.
    pub fn numbers(&self) -> Vec<u64> {
        (0..).zip(&self.0).filter(|(_, entry)| entry.is_some()).map(|(number, _)| number).collect()
    }

    pub fn close_for_exec(&mut self) {
        for entry in &mut self.0 {
            entry.take_if(|(_, on_exec)| *on_exec == OnExec::Close);
        }
    }

    pub fn close_all(&mut self) {
        self.0.clear();
    }
}
