//! The current address space: its areas, which kvma keeps, and its pages. One lock for both.

use crate::{
    arch::{cpu, traps::Access},
    contents::Origin,
    hooks,
    nodes::Nodes,
    pages::{Pages, Source},
    replay::Process,
    shadow::Key,
};
use kvma::{AreaFlags, Attrs, Backing, Guarded, Prot, VmMap, VmaNode};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Plain areas: no data of the owner's.
pub type PlainMap = VmMap<(), &'static Nodes<VmaNode>>;

/// Who keeps the areas.
#[expect(clippy::large_enum_variant, reason = "there is one, and no heap")]
pub enum Areas {
    /// kvma's core alone, as a kernel with an ABI of its own would have it.
    Plain(PlainMap),
    /// The linux layer, in a replay of a trace.
    Linux(Process),
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

/// Whether an object's pages begin as zeros.
#[derive(Clone, Copy)]
enum Zeros {
    No,
    Yes,
}

/// A page as its area describes it.
#[derive(Clone, Copy)]
pub struct View {
    pub prot: Prot,
    pub source: Source,
}

impl View {
    /// `attrs` are those of the part of an area that begins with `page`.
    fn new(attrs: Attrs, page: u64, zeros: Zeros) -> Self {
        let source = match attrs.backing() {
            Backing::Anonymous => Source::Private { page, origin: Origin::Anonymous },
            Backing::Object { id, offset } => {
                let origin = match zeros {
                    Zeros::No => Origin::Object { id, page: offset },
                    Zeros::Yes => Origin::Anonymous,
                };
                if attrs.flags().contains(AreaFlags::SHARED) {
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
        let page = page_of(address);
        let (start, attrs, zeros) = match &self.areas {
            Areas::Plain(map) => {
                let vma = map.find(address)?;
                (vma.start(), vma.attrs(), Zeros::No)
            }
            Areas::Linux(process) => {
                let vma = process.mm().vm_map().find(address)?;
                // Shared memory without a file. Its object begins as zeros.
                let zeros = vma.data().object().is_some_and(|object| object.name().starts_with("/dev/zero"));
                (vma.start(), vma.attrs(), if zeros { Zeros::Yes } else { Zeros::No })
            }
        };
        Some(View::new(attrs.advance((page - start) >> PAGE_SHIFT), page, zeros))
    }

    /// First and last byte of the area that contains `address` or follows it.
    pub fn area_from(&self, address: u64) -> Option<(u64, u64)> {
        match &self.areas {
            Areas::Plain(map) => map.find_from(address).map(|vma| (vma.start(), vma.last())),
            Areas::Linux(process) => {
                process.mm().vm_map().find_from(address).map(|vma| (vma.start(), vma.last()))
            }
        }
    }

    /// Tells start and length of what is mapped of `len` bytes at `start`, area by area.
    pub fn for_each_piece(&self, start: u64, len: u64, mut see: impl FnMut(u64, u64)) {
        let Some(last) = len.checked_sub(1).and_then(|more| start.checked_add(more)) else { return };
        let mut at = start;
        while let Some((area_first, area_last)) = self.area_from(at).filter(|(first, _)| *first <= last) {
            let (from, to) = (area_first.max(start), area_last.min(last));
            see(from, to - from + 1);
            match area_last.checked_add(1) {
                Some(next) => at = next,
                None => return,
            }
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
