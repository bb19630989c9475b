//! Children of the replayed process. They must inherit its pages, and neither they nor their parent
//! may see the other's writes.

use kvma::linux::VmFlags;

use crate::arch::Access;
use crate::replay::Process;
use crate::shadow::Key;
use crate::space::View;
use crate::touch::Toucher;
use crate::{cpus, probe};

/// Pages that are watched in a child, spread over those to which the parent has written.
const WATCHED: usize = 128;

/// A child of the replayed process, and what its pages must show.
pub struct Child {
    process: Process,
    /// Pages, each with the word that a load must show, or `None` if it must be refused.
    watched: [(u64, Option<u64>); WATCHED],
    len: usize,
}

impl Child {
    /// Forks, checks what the child has inherited, and lets it write to half of the watched pages.
    ///
    /// # Panics
    ///
    /// If a page shows something else than it must.
    pub fn of(parent: &Process, toucher: &mut Toucher<'_>) -> Self {
        let process =
            parent.fork().unwrap_or_else(|errno| panic!("the process cannot fork: {errno}"));
        let mut child = Self { process, watched: [(0, None); WATCHED], len: 0 };
        let stride = toucher.pages_written().div_ceil(WATCHED).max(1);
        for page in toucher.private_pages().step_by(stride) {
            let inherited = child.process.view(page).filter(|view| view.allows(Access::Load));
            child.watched[child.len] =
                (page, inherited.map(|view| child.inherits(page, &view, toucher)));
            child.len += 1;
        }
        child.check();
        child.write(toucher);
        child
    }

    /// Returns the word that the page must hold right after the fork.
    fn inherits(&self, page: u64, view: &View, toucher: &Toucher<'_>) -> u64 {
        let vma = self.process.vmas.lookup(page);
        let flags =
            vma.map_or(VmFlags::empty(), |vma| VmFlags::from_bits_retain(vma.attrs().user_bits()));
        if flags.contains(VmFlags::WIPE_ON_FORK) {
            view.source.origin().first_word()
        } else {
            toucher.held(view)
        }
    }

    /// Writes to every other page that is watched.
    fn write(&mut self, toucher: &mut Toucher<'_>) {
        for (page, held) in self.watched[..self.len].iter_mut().step_by(2) {
            let own =
                |view: &View| matches!(view.key(), Key::Private(_)) && view.allows(Access::Store);
            if self.process.view(*page).is_some_and(|view| own(&view)) {
                let value = toucher.new_values(1);
                let stored = self.process.visit(|| probe::store(*page, value));
                assert!(stored, "store to page {page:#x} of a child was refused");
                *held = Some(value);
            }
        }
    }

    /// Loads from the watched pages on both processors.
    ///
    /// # Panics
    ///
    /// If a page shows something else than it must.
    pub fn check(&self) {
        let look = || {
            for &(page, held) in &self.watched[..self.len] {
                let shown = probe::load(page);
                assert!(
                    shown == held,
                    "page {page:#x} of a child shows {shown:x?} instead of {held:x?}"
                );
            }
        };
        self.process.visit(look);
        cpus::on_second(|| self.process.visit(look));
    }

    /// Ends the child.
    pub fn end(self) {
        self.process.end();
    }
}
