//! The handle of a map: made, freed, and looked into.

use core::mem::MaybeUninit;

use engine::{PageSize, VmMap, VmaNode};

use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::boundary::{ffi_call, ffi_call_or, free_handle, out_handle, required};
use crate::cell::BusyCell;
use crate::kept_nodes::{KeptNodes, VmaSource, WithNodes};
use crate::status::{Failure, kvma_status};
use crate::table;
use crate::user_data::{PLAIN, UserData, kvma_data_ops};

pub(crate) type Map = VmMap<UserData, VmaSource<UserData>>;

/// The VMAs of one address space. Opaque.
///
/// It has no lock. The caller keeps calls that change it apart from all others; where that fails,
/// the later call is answered `KVMA_BUSY`.
pub struct kvma_vm {
    pub(super) map: BusyCell<WithNodes<Map, VmaNode<UserData>>>,
    pub(super) memory: Memory,
    /// The allocator of the map's nodes.
    pub(super) source: VmaSource<UserData>,
    /// The map's page size, for what is done without using the map.
    pub(super) page: PageSize,
    pub(super) ops: *const kvma_data_ops,
}

impl kvma_vm {
    /// Wraps a map that allocates from `nodes`.
    pub(super) fn new(
        map: Map,
        nodes: KeptNodes<VmaNode<UserData>>,
        ops: *const kvma_data_ops,
    ) -> Self {
        let (page, source) = (map.page_size(), nodes.source());
        let map = BusyCell::new(WithNodes::new(map, nodes));
        Self { map, memory: source.memory(), source, page, ops }
    }
}

/// Runs `read` on the map behind a handle.
///
/// # Errors
///
/// `Null`, `Busy` while the map is being changed, and what `read` answers.
pub(super) fn read<R>(
    vm: Option<&kvma_vm>,
    read: impl FnOnce(&Map) -> Result<R, Failure>,
) -> Result<R, Failure> {
    required(vm)?.map.read(|map| read(map))
}

/// Runs `read` on the map behind a handle, for calls that have no status: `otherwise` for NULL, and
/// while the map is being changed.
pub(super) fn read_or<R: Copy>(
    vm: Option<&kvma_vm>,
    otherwise: R,
    read: impl FnOnce(&Map) -> R,
) -> R {
    ffi_call_or(otherwise, || self::read(vm, |map| Ok(read(map))).unwrap_or(otherwise))
}

/// Makes an empty map over the bytes from `first` to `last`, whole pages of `page_size` bytes (any
/// power of two), and writes its handle to `vm`; NULL if the call fails. `allocator` may be NULL:
/// malloc's memory. `ops` may be NULL: user data are plain pointers, and neighbours merge if they
/// are equal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_new(
    vm: Option<&mut MaybeUninit<*mut kvma_vm>>,
    first: u64,
    last: u64,
    page_size: u64,
    allocator: *const kvma_allocator,
    ops: *const kvma_data_ops,
) -> kvma_status {
    ffi_call(|| {
        let vm = out_handle(vm)?;
        // SAFETY: both are NULL or tables, as the caller promises.
        let (memory, has_ops) =
            unsafe { (Memory::from_table(allocator)?, table::copy(ops)?.is_some()) };
        let nodes = KeptNodes::new(memory)?;
        let map = Map::new(first..=last, PageSize::new(page_size)?, nodes.source())?;
        let ops = if has_ops { ops } else { &raw const PLAIN.0 };
        *vm = HandleSlot::new(memory)?.fill(kvma_vm::new(map, nodes, ops));
        Ok(())
    })
}

/// Frees a map: drops the user data and gives all memory back. Calls no hooks; for that, call
/// `kvma_vm_clear` first. NULL is fine.
///
/// All updates of the map have been finished before. `KVMA_BUSY` if the map is in use, as by the
/// call whose callback calls this, or is being freed already; then it is not freed by this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_free(vm: *mut kvma_vm) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises; it came from a `HandleSlot` of
    // its memory, and `BusyCell::close` succeeds once.
    ffi_call(|| unsafe { free_handle(vm, |vm| vm.memory, |vm| vm.map.close().map(drop)) })
}
