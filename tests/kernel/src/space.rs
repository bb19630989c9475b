//! The current address space: its areas, which kvma keeps, and its pages. One lock for both.

use crate::{
    arch::{cpu, traps::Access},
    contents::Origin,
    hooks,
    nodes::Nodes,
    pages::{Pages, Source},
    shadow::Key,
};
use kvma::{Attrs, Backing, Prot, VmMap, VmaNode};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Plain areas: no data of the owner's.
pub type PlainMap = VmMap<(), &'static Nodes<VmaNode>>;

/// Who keeps the areas.
pub enum Areas {
    /// kvma's core alone, as a kernel with an ABI of its own would have it.
    Plain(PlainMap),
}

pub struct Space {
    pub areas: Areas,
    pub pages: Pages,
}

static SPACE: SpinMutex<Option<Space>> = SpinMutex::new(None);

/// Makes `space` the current one.
pub fn enter(space: Space) {
    *SPACE.lock() = Some(space);
}

/// Takes the current one away. Every access of the lower half is refused from now on.
pub fn leave() -> Option<Space> {
    SPACE.lock().take()
}

/// Runs `change` on the current space, under its lock.
///
/// # Panics
///
/// If there is none.
pub fn with<R>(change: impl FnOnce(&mut Space) -> R) -> R {
    change(SPACE.lock().as_mut().expect("a current address space"))
}

/// A page as its area describes it.
#[derive(Clone, Copy)]
pub struct View {
    pub prot: Prot,
    pub source: Source,
}

impl View {
    fn new(attrs: Attrs, page: u64) -> Self {
        let source = match attrs.backing() {
            Backing::Anonymous => Source::Private { page, origin: Origin::Anonymous },
            Backing::Object { id, offset } => {
                let origin = Origin::Object { id, page: offset };
                if attrs.flags().contains(kvma::AreaFlags::SHARED) {
                    Source::Shared { id, page: offset, origin }
                } else {
                    Source::Private { page, origin }
                }
            }
        };
        Self { prot: attrs.prot(), source }
    }

    /// Whose page it is.
    pub fn key(&self) -> Key {
        match self.source {
            Source::Private { page, .. } => Key::Private(page),
            Source::Shared { id, page, .. } => Key::Shared(id, page),
        }
    }

    pub fn allows(&self, access: Access) -> bool {
        match access {
            // The processor has no way to allow stores or fetches and refuse loads.
            Access::Load => !self.prot.is_empty(),
            Access::Store => self.prot.contains(Prot::WRITE),
            Access::Fetch => self.prot.contains(Prot::EXEC),
        }
    }
}

impl Space {
    /// What kvma knows of the page that holds `address`.
    pub fn view(&self, address: u64) -> Option<View> {
        let (start, attrs) = self.area(address)?;
        let page = page_of(address);
        Some(View::new(attrs.advance((page - start) >> PAGE_SHIFT), page))
    }

    /// Start and attributes of the area that contains `address`.
    fn area(&self, address: u64) -> Option<(u64, Attrs)> {
        match &self.areas {
            Areas::Plain(map) => map.find(address).map(|vma| (vma.start(), vma.attrs())),
        }
    }

    fn serve(&mut self, address: u64, access: Access) -> Answer {
        let Some(view) = self.view(address).filter(|view| view.allows(access)) else {
            return Answer::Refused;
        };
        let page = page_of(address);
        if let Some(entry) = self.pages.tables.find(page) {
            // The page is there, and was not allowed so much when the processor last looked.
            let allowed = entry.rights();
            let enough = match access {
                Access::Load => allowed.load,
                Access::Store => allowed.store,
                Access::Fetch => allowed.fetch,
            };
            assert!(enough, "{access:?} of {address:#x}: its area allows it, its page-table entry does not");
            cpu::flush_page(page);
            return Answer::Served;
        }
        let rights = hooks::rights(view.prot);
        assert!(self.pages.demand(page, view.source, rights).is_ok(), "out of memory for page {page:#x}");
        Answer::Served
    }
}

/// What became of a fault.
pub enum Answer {
    Served,
    Refused,
}

/// Serves a fault from the current space.
///
/// A fault in the middle of a change (only [`crate::witness`] makes such) is refused without a look: waiting for the
/// lock would be waiting for ourselves.
pub fn serve(address: u64, access: Access) -> Answer {
    match SPACE.try_lock().as_mut().and_then(|guard: &mut SpinMutexGuard<'_, _>| guard.as_mut()) {
        Some(space) => Space::serve(space, address, access),
        None => Answer::Refused,
    }
}

const PAGE_SHIFT: u32 = crate::paging::PAGE_SIZE.trailing_zeros();

/// The page that holds `address`.
pub fn page_of(address: u64) -> u64 {
    address >> PAGE_SHIFT << PAGE_SHIFT
}
