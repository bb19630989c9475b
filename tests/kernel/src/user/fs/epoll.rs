//! Lists of files that are waited for (epoll(7)).

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use kvma::Errno;
use linux_raw_sys::general::{EPOLLET, EPOLLONESHOT, POLLERR, POLLHUP};
use spin::mutex::SpinMutex;

use super::open_file::OpenFile;
use crate::user::errno::{EEXIST, ENOENT};

/// A list.
#[derive(Default)]
pub struct Epoll(SpinMutex<Vec<Watched>>);

/// A file in a list, by its descriptor, until it is closed.
struct Watched {
    descriptor: u32,
    file: Weak<OpenFile>,
    request: Request,
    /// The file's changes at the last report.
    reported: Option<u64>,
}

/// The events that somebody waits for, and the word that stands for the file (`epoll_event`).
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub events: u32,
    pub data: u64,
}

impl Watched {
    fn is(&self, descriptor: u32, file: &Arc<OpenFile>) -> bool {
        self.descriptor == descriptor && core::ptr::eq(self.file.as_ptr(), Arc::as_ptr(file))
    }

    /// Returns the events that have come and are to be reported, and the file's changes.
    fn come(&self) -> Option<(u32, u64)> {
        let file = self.file.upgrade()?;
        let events = self.request.events;
        if events & !(EPOLLET | EPOLLONESHOT) == 0 {
            return None;
        }
        // Before the look: what changes after it is reported by the next wait.
        let changes = file.changes();
        if events & EPOLLET != 0 && self.reported == Some(changes) {
            return None;
        }
        let events = file.events(events | POLLERR | POLLHUP);
        (events != 0).then_some((events, changes))
    }

    /// Returns what has come and is to be reported, and notes that it was.
    fn report(&mut self) -> Option<Request> {
        let (events, changes) = self.come()?;
        self.reported = Some(changes);
        if self.request.events & EPOLLONESHOT != 0 {
            self.request.events = EPOLLONESHOT;
        }
        Some(Request { events, data: self.request.data })
    }
}

impl Epoll {
    /// Adds a file.
    pub fn add(
        &self,
        descriptor: u32,
        file: &Arc<OpenFile>,
        request: Request,
    ) -> Result<(), Errno> {
        let mut list = self.0.lock();
        if list.iter().any(|watched| watched.is(descriptor, file)) {
            return Err(EEXIST);
        }
        let file = Arc::downgrade(file);
        list.push(Watched { descriptor, file, request, reported: None });
        Ok(())
    }

    /// Asks for other events of a file.
    pub fn modify(
        &self,
        descriptor: u32,
        file: &Arc<OpenFile>,
        request: Request,
    ) -> Result<(), Errno> {
        let mut list = self.0.lock();
        let watched = list.iter_mut().find(|watched| watched.is(descriptor, file));
        let watched = watched.ok_or(ENOENT)?;
        (watched.request, watched.reported) = (request, None);
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&self, descriptor: u32, file: &Arc<OpenFile>) -> Result<(), Errno> {
        let mut list = self.0.lock();
        let place = list.iter().position(|watched| watched.is(descriptor, file)).ok_or(ENOENT)?;
        list.remove(place);
        Ok(())
    }

    /// Returns true if there is something to report.
    pub fn has_reports(&self) -> bool {
        self.0.lock().iter().any(|watched| watched.come().is_some())
    }

    /// Returns at most so many reports. Files that were reported come last the next time.
    pub fn reports(&self, most: usize) -> Vec<Request> {
        let mut list = self.0.lock();
        list.retain(|watched| watched.file.strong_count() > 0);
        let mut reports = Vec::new();
        let (mut reported, mut others) = (Vec::new(), Vec::new());
        for mut watched in list.drain(..) {
            match if reports.len() < most { watched.report() } else { None } {
                Some(report) => {
                    reports.push(report);
                    reported.push(watched);
                }
                None => others.push(watched),
            }
        }
        others.append(&mut reported);
        *list = others;
        reports
    }
}
