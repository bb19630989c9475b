//! What VMAs are used for: committed, locked, adopted, advised.

use super::change::{alone, change, within};
use super::kvma_vm;
use super::query::ask;
use super::update::kvma_update;
use super::{Map, change};
use crate::alloc::Memory;
use crate::attrs::kvma_attrs;
use crate::boundary::{call, given, tell};
use crate::data::Data;
use crate::hooks::kvma_hooks;
use crate::maps::kvma_maps_line;
use crate::request::kvma_request;
use crate::status::{Failure, kvma_status};
use core::ffi::{CStr, c_char, c_void};
use engine::{AdoptError, Advice, Error, Hooks, MapFlags, Update};

/// In `extra`: only the addresses are taken, no memory, until `kvma_vm_commit`.
pub const KVMA_UNCOMMITTED: u64 = 1 << 0;
/// In `extra`: a stack (`MAP_STACK`).
pub const KVMA_STACK: u64 = 1 << 1;
/// In `extra`: left out of core dumps (`MADV_DONTDUMP`).
pub const KVMA_NO_CORE_DUMP: u64 = 1 << 2;
/// In `extra`: will be read in order (`MADV_SEQUENTIAL`).
pub const KVMA_SEQUENTIAL: u64 = 1 << 3;
/// In `extra`: will be read at random (`MADV_RANDOM`).
pub const KVMA_RANDOM: u64 = 1 << 4;
/// In `extra`: may be writable now and executable later, or both at once.
pub const KVMA_JIT: u64 = 1 << 5;
/// In `extra`: page tables are to be filled when memory is mapped or committed (`MAP_POPULATE`).
pub const KVMA_POPULATE: u64 = 1 << 6;
/// In `extra`: no swap space is set aside (`MAP_NORESERVE`).
pub const KVMA_NO_RESERVE: u64 = 1 << 7;
/// In `extra`: huge pages are welcome where they fit (`MADV_HUGEPAGE`).
pub const KVMA_TRANSPARENT_HUGE: u64 = 1 << 8;

/// The pages will be needed soon (`MADV_WILLNEED`).
pub const KVMA_ADVISE_WILL_NEED: u32 = 0;
/// What the pages hold is not needed: the next access finds zeroes or the object (`MADV_DONTNEED`).
pub const KVMA_ADVISE_DONT_NEED: u32 = 1;
/// The pages may go when memory runs short (`MADV_FREE`).
pub const KVMA_ADVISE_FREE: u32 = 2;
/// Fill the page tables now (`MADV_POPULATE_READ`).
pub const KVMA_ADVISE_POPULATE: u32 = 3;
/// Write back what was changed, and wait (`MS_SYNC`).
pub const KVMA_ADVISE_FLUSH: u32 = 4;
/// Start to write back what was changed (`MS_ASYNC`).
pub const KVMA_ADVISE_FLUSH_ASYNC: u32 = 5;
/// Make the instruction cache see what was written.
pub const KVMA_ADVISE_FLUSH_INSTRUCTIONS: u32 = 6;

const ADVICE: [Advice; 7] = [
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::Free,
    Advice::Populate,
    Advice::Flush,
    Advice::FlushAsync,
    Advice::FlushInstructions,
];

// The engine's numbers are part of this interface.
const _: () = {
    assert!(
        MapFlags::UNCOMMITTED.bits() == KVMA_UNCOMMITTED && MapFlags::STACK.bits() == KVMA_STACK
    );
    assert!(MapFlags::NO_CORE_DUMP.bits() == KVMA_NO_CORE_DUMP);
    assert!(
        MapFlags::SEQUENTIAL.bits() == KVMA_SEQUENTIAL && MapFlags::RANDOM.bits() == KVMA_RANDOM
    );
    assert!(MapFlags::JIT.bits() == KVMA_JIT && MapFlags::POPULATE.bits() == KVMA_POPULATE);
    assert!(MapFlags::NO_RESERVE.bits() == KVMA_NO_RESERVE);
    assert!(MapFlags::TRANSPARENT_HUGE.bits() == KVMA_TRANSPARENT_HUGE);
};

/// The number of an advice, for the hook.
pub(crate) fn advice_number(advice: Advice) -> u32 {
    ADVICE.iter().position(|known| *known == advice).map_or(u32::MAX, |number| number as u32)
}

/// What is done to a range that must be mapped throughout, for both forms.
enum Change {
    Commit(u32),
    Decommit,
    Lock,
    Unlock,
    Flags { set: u64, clear: u64 },
    Advise(u32),
}

impl Change {
    fn run<H: Hooks<Data>>(
        self,
        map: &mut Map,
        update: &mut Update<'_, Data, Memory, H>,
        start: u64,
        len: u64,
    ) -> Result<(), Failure> {
        let flags = |bits| MapFlags::from_bits(bits).ok_or(Failure::Argument);
        match self {
            Change::Commit(prot) => map.commit(start, len, change::prot(prot)?, update)?,
            Change::Decommit => map.decommit(start, len, update)?,
            Change::Lock => map.lock_pages(start, len, update)?,
            Change::Unlock => map.unlock_pages(start, len, update)?,
            Change::Flags { set, clear } => {
                map.change_map_flags(start, len, flags(set)?, flags(clear)?, update)?
            }
            Change::Advise(advice) => {
                let advice = *ADVICE.get(advice as usize).ok_or(Failure::Argument)?;
                map.advise(start, len, advice, update)?
            }
        }
        Ok(())
    }
}

/// Makes what was reserved (`KVMA_UNCOMMITTED`) in `len` bytes from `start` usable, with the
/// protection `prot`. All must be mapped; parts that are committed already stay as they are.
/// `-EACCES` if that would be writable and executable at once without `KVMA_JIT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_commit(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    call(|| unsafe { alone(vm, hooks, |map, up| Change::Commit(prot).run(map, up, start, len)) })
}

/// `kvma_vm_commit` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_commit(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| Change::Commit(prot).run(map, up, start, len)) })
}

/// Gives the memory of `len` bytes from `start` back and keeps the addresses. All must be mapped.
/// The hooks hear `protect`, with `KVMA_UNCOMMITTED` in the new `extra` only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_decommit(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| Change::Decommit.run(map, up, start, len)) })
}

/// `kvma_vm_decommit` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_decommit(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| Change::Decommit.run(map, up, start, len)) })
}

/// Keeps the pages of `len` bytes from `start` in memory (mlock(2)). All must be mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_lock_pages(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| Change::Lock.run(map, up, start, len)) })
}

/// `kvma_vm_lock_pages` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_lock_pages(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| Change::Lock.run(map, up, start, len)) })
}

/// Lets the pages of `len` bytes from `start` go when memory is short (munlock(2)). All must be
/// mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_unlock_pages(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| Change::Unlock.run(map, up, start, len)) })
}

/// `kvma_vm_unlock_pages` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_unlock_pages(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| Change::Unlock.run(map, up, start, len)) })
}

/// Takes `clear` from the flags in `extra` of `len` bytes from `start`, then adds `set`: access
/// patterns, core dumps (madvise(2)). All must be mapped. `KVMA_UNCOMMITTED` is left alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_change_flags(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    set: u64,
    clear: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    let flags = Change::Flags { set, clear };
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| flags.run(map, up, start, len)) })
}

/// `kvma_vm_change_flags` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_change_flags(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    set: u64,
    clear: u64,
) -> kvma_status {
    let flags = Change::Flags { set, clear };
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| flags.run(map, up, start, len)) })
}

/// Tells the hooks' `advise` about each piece in `len` bytes from `start`, ascending; nothing
/// changes in the map. All must be mapped. Advice that takes pages away is followed by a flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_advise(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    advice: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| Change::Advise(advice).run(map, up, start, len)) })
}

/// `kvma_vm_advise` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_advise(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    advice: u32,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe {
        within(update, vm, |map, up| Change::Advise(advice).run(map, up, start, len))
    })
}

/// Whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_covers(vm: *const kvma_vm, start: u64, len: u64) -> bool {
    // SAFETY: see above.
    unsafe { ask(vm, false, |map| map.covers(start, len)) }
}

/// Takes over a range that is mapped already: as `kvma_vm_map`, but without hooks, and `KVMA_FIXED`
/// replaces nothing (`KVMA_OVERLAP`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_adopt(
    vm: *mut kvma_vm,
    request: *const kvma_request,
    addr: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let (request, ops) = (given(request)?, given(vm)?.ops);
            let at = change(vm, |map| {
                let at = map.adopt(change::request(request, ops)?)?;
                map.update_data(at, Data::take)?;
                Ok(at)
            })?;
            tell(addr, at);
        }
        Ok(())
    })
}

/// Gives the owner's data for a line, and may change the `attrs` that the line says: protection,
/// `KVMA_SHARED`, and where there is an inode the object of that number.
pub type kvma_adopt_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        line: *const kvma_maps_line,
        attrs: *mut kvma_attrs,
    ) -> *mut c_void,
>;

/// Fills the empty map with the VMAs of a `/proc/PID/maps` file, `text`, boundary for boundary and
/// without hooks. VMAs wholly outside the space are passed over. `vma` may be NULL: as the lines
/// say, with NULL for data. If it fails the map is still empty, `vma` has not been called, and
/// `line` (NULL: not wanted) has the number of the line that is wrong, from 1, or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_adopt_maps(
    vm: *mut kvma_vm,
    text: *const c_char,
    vma: kvma_adopt_fn,
    udata: *mut c_void,
    line: *mut usize,
) -> kvma_status {
    call(|| {
        // SAFETY: see above; `text` ends with a NUL.
        let (ops, text) = unsafe {
            tell(line, 0);
            given(text)?;
            (given(vm)?.ops, CStr::from_ptr(text))
        };
        // SAFETY: see above.
        let adopted = unsafe {
            change(vm, |map| {
                Ok(map.adopt_maps_bytes(text.to_bytes(), |found, attrs| {
                    let mut attrs = kvma_attrs::from(attrs);
                    let of_line = kvma_maps_line::from(found);
                    let data =
                        vma.map_or(core::ptr::null_mut(), |vma| vma(udata, &of_line, &mut attrs));
                    let mut data = Data::new(data, ops);
                    data.take();
                    (attrs.into(), data)
                }))
            })?
        };
        let (number, fail) = match adopted {
            Ok(_) => return Ok(()),
            Err(AdoptError::Line(number, _)) => (number, Failure::Argument),
            Err(AdoptError::Vma(number, error)) => (number, Failure::Engine(error)),
            Err(AdoptError::Map(error)) => (0, Failure::Engine(error)),
            Err(_) => (0, Failure::Engine(Error::Busy)),
        };
        // SAFETY: see above.
        unsafe { tell(line, number) };
        Err(fail)
    })
}
