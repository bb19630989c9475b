//! The kernel's side of a change, as a table of functions.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::compat::WriteXorExec;
use engine::guest::WatchWrites;
use engine::hooks::{Advice, RemovedVma};
use engine::{Attrs, Errno, Event, Hooks, NoHooks, Piece, VmRange};

use crate::attrs::{AsPointer, KVMA_EXEC, kvma_attrs, kvma_piece, kvma_range};
use crate::boundary::write_out;
use crate::status::Failure;
use crate::table::{self, Table};

/// The piece is going to be mapped.
pub const KVMA_EVENT_MAP: u32 = 0;
/// The piece is going to be unmapped.
pub const KVMA_EVENT_UNMAP: u32 = 1;
/// The piece is going to have new attributes.
pub const KVMA_EVENT_PROTECT: u32 = 2;
/// The piece's contents are going to move.
pub const KVMA_EVENT_RELOCATE: u32 = 3;

/// A step of a change that is about to happen.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_event {
    /// `KVMA_EVENT_MAP` or the like.
    pub kind: u32,
    /// The piece that the step concerns: with the new attributes where it is protected, at its old
    /// place where it is relocated.
    pub piece: kvma_piece,
    /// The attributes before, where the piece is protected; else those of the piece.
    pub old: kvma_attrs,
    /// The new address, where the piece is relocated; else 0.
    pub to: u64,
}

/// Advice: the pages will be needed soon (`MADV_WILLNEED`).
pub const KVMA_ADVISE_WILL_NEED: u32 = 0;
/// Advice: what the pages hold is not needed; the next access finds zeros or the object
/// (`MADV_DONTNEED`).
pub const KVMA_ADVISE_DONT_NEED: u32 = 1;
/// Advice: the pages may go when memory runs short (`MADV_FREE`).
pub const KVMA_ADVISE_FREE: u32 = 2;
/// Advice: populate the page tables now (`MADV_POPULATE_READ`).
pub const KVMA_ADVISE_POPULATE: u32 = 3;
/// Advice: write back what was changed, and wait (`MS_SYNC`).
pub const KVMA_ADVISE_FLUSH: u32 = 4;
/// Advice: start to write back what was changed (`MS_ASYNC`).
pub const KVMA_ADVISE_FLUSH_ASYNC: u32 = 5;
/// Advice: make the instruction cache see what was written.
pub const KVMA_ADVISE_FLUSH_INSTRUCTIONS: u32 = 6;

/// The engine's advice, at the index that is its number in C.
const ADVICE: [Advice; 7] = [
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::Free,
    Advice::Populate,
    Advice::Flush,
    Advice::FlushAsync,
    Advice::FlushInstructions,
];

/// Returns the advice of this number, if there is one.
pub(crate) fn to_advice(number: u32) -> Option<Advice> {
    ADVICE.get(usize::try_from(number).ok()?).copied()
}

fn advice_number(advice: Advice) -> u32 {
    ADVICE.iter().position(|known| *known == advice).map_or(u32::MAX, |number| number as u32)
}

/// The callbacks through which the kernel edits its page tables in step with the map. Every
/// function may be NULL, as may a pointer to the whole table.
///
///     prepare ... prepare     may refuse: then cancel ... cancel, and nothing has happened
///     -- the map changes --   from here on nothing can fail
///     on_unmap, on_protect, on_relocate, on_map     for each piece of a VMA, ascending
///     flush_begin             the kernel's lock is still held: start the TLB flush, do not wait
///     -- kvma_update_finish, or the end of a call without an update --
///     flush_wait              wait for the other processors
///     release ... release     removed VMAs in order: frames may be reused from here on
///
/// Down to `flush_begin` the map is in use: calls into it are answered `KVMA_BUSY`. From
/// `flush_wait` on it can be read, and after `kvma_update_finish` also changed.
///
/// The table is copied; what `udata` points to must live as long as the call or the update.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_hooks {
    /// The size of this table in bytes. Later versions of it may have more fields at its end.
    pub size: usize,
    /// Gets ready for a step: page-table pages, limits. Returns 0, or an errno of either sign to
    /// refuse the change; the call then answers with that errno as a negative status.
    pub prepare: Option<unsafe extern "C" fn(udata: *mut c_void, event: *const kvma_event) -> i32>,
    /// Undoes a `prepare` that succeeded, because a later one refused.
    pub cancel: Option<unsafe extern "C" fn(udata: *mut c_void, event: *const kvma_event)>,
    /// The piece is mapped from now on. Page tables may be filled at once or on demand.
    pub on_map: Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece)>,
    /// The piece is no longer mapped: its page-table entries must go.
    pub on_unmap: Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece)>,
    /// The piece has new attributes: entries that allow more than they do must be narrowed.
    pub on_protect: Option<
        unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, old: *const kvma_attrs),
    >,
    /// The piece's contents move: entries go from its range to the range of that length at `to`.
    pub on_relocate:
        Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, to: u64)>,
    /// There is advice about a piece, `KVMA_ADVISE_WILL_NEED` or the like. It changes nothing in
    /// the map.
    pub on_advise:
        Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, advice: u32)>,
    /// Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others. May
    /// be called several times before one `flush_wait`.
    pub flush_begin: Option<unsafe extern "C" fn(udata: *mut c_void)>,
    /// Waits until the flushes that have begun have ended everywhere. May sleep.
    pub flush_wait: Option<unsafe extern "C" fn(udata: *mut c_void)>,
    /// Hears of a VMA, or a part of one, that was removed, after `flush_wait` and in the order of
    /// removal: its frames may be freed, its file notified. Then its user data is dropped.
    pub release: Option<unsafe extern "C" fn(udata: *mut c_void, removed: *const kvma_piece)>,
    /// For `kvma_guest_fetch_dirty` alone: makes the next write to each page of `range` noticed.
    /// Entries lose the right to write, or their dirty bits are cleared where the processor logs.
    /// `flush_begin` follows.
    pub watch_writes: Option<unsafe extern "C" fn(udata: *mut c_void, range: *const kvma_range)>,
    /// Passed to all of them.
    pub udata: *mut c_void,
    /// `true` to refuse, with `KVMA_WRITE_XOR_EXEC`, what lets code be written and run: a VMA that
    /// is writable and executable at once, and one that becomes executable while it is writable,
    /// unless it is marked `KVMA_JIT`. Asked before `prepare`.
    pub write_xor_exec: bool,
}

/// Answers whether memory can be executed after a step that could not be before, so that the
/// instruction cache must be made to see what was written there. Writes where to `range` (NULL: not
/// wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_event_gains_exec(
    event: Option<&kvma_event>,
    range: Option<&mut MaybeUninit<kvma_range>>,
) -> bool {
    let Some(event) = event else { return false };
    let can = |attrs: &kvma_attrs| attrs.flags & KVMA_EXEC != 0;
    let piece = event.piece.range;
    let gains = match event.kind {
        KVMA_EVENT_MAP if can(&event.piece.attrs) => piece,
        KVMA_EVENT_PROTECT if can(&event.piece.attrs) && !can(&event.old) => piece,
        KVMA_EVENT_RELOCATE if can(&event.piece.attrs) => kvma_range {
            start: event.to,
            last: event.to.wrapping_add(piece.last.wrapping_sub(piece.start)),
            ..piece
        },
        _ => return false,
    };
    write_out(range, gains);
    true
}

// SAFETY: it begins with its size; functions, pointers and `bool` may be zero.
unsafe impl Table for kvma_hooks {
    const FIRST: usize = size_of::<Self>();
}

/// A copy of the kernel's table, or an empty one.
pub(crate) struct HookTable(kvma_hooks);

impl HookTable {
    /// Copies the table. Its functions are called later, as its documentation says.
    ///
    /// # Errors
    ///
    /// `Argument` for a table whose size makes no sense.
    ///
    /// # Safety
    ///
    /// `hooks` is NULL, or points to a table as its documentation says.
    pub(crate) unsafe fn new(hooks: *const kvma_hooks) -> Result<Self, Failure> {
        // SAFETY: this function's contract.
        Ok(Self(unsafe { table::copy(hooks) }?.unwrap_or_else(kvma_hooks::zero)))
    }
}

impl<V: AsPointer> From<&Event<'_, V>> for kvma_event {
    fn from(event: &Event<'_, V>) -> Self {
        let of = |kind, piece: &Piece<'_, V>| Self {
            kind,
            piece: piece.into(),
            old: piece.attrs().into(),
            to: 0,
        };
        match event {
            Event::Map(piece) => of(KVMA_EVENT_MAP, piece),
            Event::Unmap(piece) => of(KVMA_EVENT_UNMAP, piece),
            Event::Protect { piece, old } => {
                Self { old: (*old).into(), ..of(KVMA_EVENT_PROTECT, piece) }
            }
            Event::Relocate { piece, to } => Self { to: *to, ..of(KVMA_EVENT_RELOCATE, piece) },
        }
    }
}

impl<V: AsPointer> Hooks<V> for HookTable {
    type Error = Failure;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Failure> {
        if self.0.write_xor_exec {
            WriteXorExec(NoHooks).prepare(event)?;
        }
        let Some(prepare) = self.0.prepare else { return Ok(()) };
        // SAFETY: the table's documentation promises this call before each step, with an event
        // that lives for the call.
        match unsafe { prepare(self.0.udata, &event.into()) } {
            0 => Ok(()),
            errno => Err(Errno(errno.saturating_abs()).into()),
        }
    }

    fn prepares(&self) -> bool {
        self.0.prepare.is_some() || self.0.write_xor_exec
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        if let Some(cancel) = self.0.cancel {
            // SAFETY: the table's documentation promises this call after a refusal, with an event
            // that lives for the call.
            unsafe { cancel(self.0.udata, &event.into()) }
        }
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        if let Some(on_map) = self.0.on_map {
            // SAFETY: the table's documentation promises this call for what was mapped, with a
            // piece that lives for the call.
            unsafe { on_map(self.0.udata, &piece.into()) }
        }
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        if let Some(on_unmap) = self.0.on_unmap {
            // SAFETY: the table's documentation promises this call for what was unmapped, with a
            // piece that lives for the call.
            unsafe { on_unmap(self.0.udata, &piece.into()) }
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        if let Some(on_protect) = self.0.on_protect {
            // SAFETY: the table's documentation promises this call for new attributes, with a piece
            // and old attributes that live for the call.
            unsafe { on_protect(self.0.udata, &piece.into(), &(*old).into()) }
        }
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        if let Some(on_relocate) = self.0.on_relocate {
            // SAFETY: the table's documentation promises this call for what moved, with a piece
            // that lives for the call.
            unsafe { on_relocate(self.0.udata, &piece.into(), to) }
        }
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        if let Some(on_advise) = self.0.on_advise {
            // SAFETY: the table's documentation promises this call for advice, with a piece that
            // lives for the call.
            unsafe { on_advise(self.0.udata, &piece.into(), advice_number(advice)) }
        }
    }

    fn flush_begin(&mut self) {
        if let Some(flush_begin) = self.0.flush_begin {
            // SAFETY: the table's documentation promises this call at the end of a change that
            // takes rights away.
            unsafe { flush_begin(self.0.udata) }
        }
    }

    fn flush_wait(&mut self) {
        if let Some(flush_wait) = self.0.flush_wait {
            // SAFETY: the table's documentation promises this call after `flush_begin`.
            unsafe { flush_wait(self.0.udata) }
        }
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        if let Some(release) = self.0.release {
            // SAFETY: the table's documentation promises this call for what was removed, after the
            // flush, with a piece that lives for the call.
            unsafe { release(self.0.udata, &(&removed).into()) }
        }
        drop(removed);
    }
}

impl WatchWrites for HookTable {
    fn watch_writes(&mut self, pages: VmRange) {
        if let Some(watch_writes) = self.0.watch_writes {
            // SAFETY: the table's documentation promises this call before dirty pages are copied,
            // with a range that lives for the call.
            unsafe { watch_writes(self.0.udata, &pages.into()) }
        }
    }
}
