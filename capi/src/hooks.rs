//! The owner's side of a change, as a table of functions.

use crate::attrs::{KVMA_EXEC, kvma_attrs, kvma_piece, kvma_range};
use crate::boundary::tell;
use crate::data::Shown;
use crate::vm::options::advice_number;
use core::ffi::c_void;
use engine::{Advice, Attrs, Errno, Error, Event, Hooks, NoHooks, Piece, WriteXorExec};

/// The piece is mapped from now on.
pub const KVMA_EVENT_MAP: u32 = 0;
/// The piece is mapped no more.
pub const KVMA_EVENT_UNMAP: u32 = 1;
/// The piece has new attributes.
pub const KVMA_EVENT_PROTECT: u32 = 2;
/// The piece's contents move.
pub const KVMA_EVENT_RELOCATE: u32 = 3;

/// A step of a change that is about to happen.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_event {
    /// `KVMA_EVENT_MAP` and the like.
    pub kind: u32,
    /// What it is about. Where it is protected, with the new attributes; where it is relocated, at
    /// its old place.
    pub piece: kvma_piece,
    /// Where it is protected: the attributes before. Else the piece's own.
    pub old: kvma_attrs,
    /// Where it is relocated: the address to which. Else 0.
    pub to: u64,
}

/// What the owner of a map does in step with it. Every function may be NULL, as may a pointer to
/// the whole table.
///
///     prepare ... prepare     may refuse: then cancel ... cancel, and nothing has happened
///     -- the map changes --   from here on nothing can fail
///     unmap, protect, relocate, map     once for each piece of a VMA, ascending
///     flush_begin             the owner's lock still held: start the TLB flush, do not wait
///     -- kvma_update_finish, or the end of a call without an update --
///     flush_wait              wait for the other processors
///     -- what was removed is dropped --
///
/// All of them must not call back into the map; where they do, they are answered `KVMA_BUSY`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_hooks {
    /// Gets ready for a step: page-table pages, limits. Returns 0, or an errno to refuse the
    /// change; the call then answers with that errno as a negative status.
    pub prepare: Option<unsafe extern "C" fn(udata: *mut c_void, event: *const kvma_event) -> i32>,
    /// Undoes a `prepare` that succeeded, because a later one refused.
    pub cancel: Option<unsafe extern "C" fn(udata: *mut c_void, event: *const kvma_event)>,
    /// The piece is mapped from now on. Page tables may be filled at once or on demand.
    pub map: Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece)>,
    /// The piece is mapped no more: its page-table entries must go.
    pub unmap: Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece)>,
    /// The piece has new attributes; entries that allow more than they do must be narrowed.
    pub protect: Option<
        unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, old: *const kvma_attrs),
    >,
    /// The piece's contents move: entries go from its range to as many pages at `to`.
    pub relocate:
        Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, to: u64)>,
    /// Advice about a piece, which changes nothing in the map: `KVMA_ADVISE_WILL_NEED` and the
    /// like.
    pub advise:
        Option<unsafe extern "C" fn(udata: *mut c_void, piece: *const kvma_piece, advice: u32)>,
    /// Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others.
    pub flush_begin: Option<unsafe extern "C" fn(udata: *mut c_void)>,
    /// Waits until the flush has ended everywhere. May sleep.
    pub flush_wait: Option<unsafe extern "C" fn(udata: *mut c_void)>,
    /// Handed to all of them.
    pub udata: *mut c_void,
    /// Whether to refuse, with `EACCES`, what lets code be written and run: a VMA that is writable
    /// and executable at once, and one that becomes executable while it is writable, unless it is
    /// marked `KVMA_JIT`. Asked before `prepare`.
    pub write_xor_exec: bool,
}

/// Whether memory can be executed after a step that could not be before, so that the instruction
/// cache must be made to see what was written there. Which, goes to `range` (NULL: not wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_event_gains_exec(
    event: *const kvma_event,
    range: *mut kvma_range,
) -> bool {
    // SAFETY: the contract of all functions (crate docs); so below.
    let Some(event) = (unsafe { event.as_ref() }) else { return false };
    let can = |attrs: &kvma_attrs| attrs.flags & KVMA_EXEC != 0;
    let piece = event.piece.range;
    let gains = match event.kind {
        KVMA_EVENT_MAP if can(&event.piece.attrs) => piece,
        KVMA_EVENT_PROTECT if can(&event.piece.attrs) && !can(&event.old) => piece,
        KVMA_EVENT_RELOCATE if can(&event.piece.attrs) => kvma_range {
            start: event.to,
            last: event.to.wrapping_add(piece.last - piece.start),
            ..piece
        },
        _ => return false,
    };
    // SAFETY: see above.
    unsafe { tell(range, gains) };
    true
}

/// A copy of the owner's table, or an empty one.
pub(crate) struct Table(kvma_hooks);

impl Table {
    /// # Safety
    ///
    /// `hooks` is NULL or points to a table as its documentation says; the functions stay callable
    /// as long as this lives.
    pub(crate) unsafe fn new(hooks: *const kvma_hooks) -> Table {
        // SAFETY: the caller's.
        Table(unsafe { hooks.as_ref() }.copied().unwrap_or(kvma_hooks {
            prepare: None,
            cancel: None,
            map: None,
            unmap: None,
            protect: None,
            relocate: None,
            advise: None,
            flush_begin: None,
            flush_wait: None,
            udata: core::ptr::null_mut(),
            write_xor_exec: false,
        }))
    }
}

impl<V: Shown> From<&Event<'_, V>> for kvma_event {
    fn from(event: &Event<'_, V>) -> kvma_event {
        let of = |kind, piece: &Piece<'_, V>| kvma_event {
            kind,
            piece: piece.into(),
            old: piece.attrs().into(),
            to: 0,
        };
        match event {
            Event::Map(piece) => of(KVMA_EVENT_MAP, piece),
            Event::Unmap(piece) => of(KVMA_EVENT_UNMAP, piece),
            Event::Protect { piece, old } => {
                kvma_event { old: (*old).into(), ..of(KVMA_EVENT_PROTECT, piece) }
            }
            Event::Relocate { piece, to } => {
                kvma_event { to: *to, ..of(KVMA_EVENT_RELOCATE, piece) }
            }
        }
    }
}

// In each of these: the owner's function, called as its documentation says.
impl<V: Shown> Hooks<V> for Table {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        if self.0.write_xor_exec {
            WriteXorExec(NoHooks).prepare(event)?;
        }
        let Some(prepare) = self.0.prepare else { return Ok(()) };
        // SAFETY: see above.
        match unsafe { prepare(self.0.udata, &event.into()) } {
            0 => Ok(()),
            // Kernels return errnos negated; both are taken.
            errno => Err(Error::Refused(Errno(errno.saturating_abs()))),
        }
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        if let Some(cancel) = self.0.cancel {
            // SAFETY: see above.
            unsafe { cancel(self.0.udata, &event.into()) }
        }
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        if let Some(map) = self.0.map {
            // SAFETY: see above.
            unsafe { map(self.0.udata, &piece.into()) }
        }
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        if let Some(unmap) = self.0.unmap {
            // SAFETY: see above.
            unsafe { unmap(self.0.udata, &piece.into()) }
        }
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        if let Some(protect) = self.0.protect {
            // SAFETY: see above.
            unsafe { protect(self.0.udata, &piece.into(), &(*old).into()) }
        }
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        if let Some(relocate) = self.0.relocate {
            // SAFETY: see above.
            unsafe { relocate(self.0.udata, &piece.into(), to) }
        }
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        if let Some(advise) = self.0.advise {
            // SAFETY: see above.
            unsafe { advise(self.0.udata, &piece.into(), advice_number(advice)) }
        }
    }

    fn flush_begin(&mut self) {
        if let Some(flush_begin) = self.0.flush_begin {
            // SAFETY: see above.
            unsafe { flush_begin(self.0.udata) }
        }
    }

    fn flush_wait(&mut self) {
        if let Some(flush_wait) = self.0.flush_wait {
            // SAFETY: see above.
            unsafe { flush_wait(self.0.udata) }
        }
    }
}
