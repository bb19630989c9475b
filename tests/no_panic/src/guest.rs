//! Guest-physical memory.

use core::sync::atomic::AtomicUsize;

use kvma::guest::{
    Access, DirtyBitmap, FaultAnswer, Guest, GuestData, GuestNode, Hint, HostBacking, LeafSizes,
    Refusal, Region, RegionKind, RegionState, Slot, SlotChange, SlotNumber, SlotRequest, Tables,
    Translation, WatchWrites,
};
use kvma::{AddrSpace, Event, FixedPool, VmRange, on_event};

use crate::opaque::{Opaque, any, debug, drain, one_of, show, sink};
use crate::world::{Data, Table, TableError};

type Pool = FixedPool<GuestNode<Data>, 64>;
type Memory = Guest<Data, &'static Pool>;

static POOL: Pool = Pool::new();
static WORDS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

impl WatchWrites for Table {
    fn watch_writes(&mut self, pages: VmRange) {
        sink(pages);
    }
}

impl Opaque for SlotNumber {
    fn opaque() -> Self {
        Self::new(any())
    }
}

impl Opaque for HostBacking {
    fn opaque() -> Self {
        one_of!(
            Self::None,
            Self::Host { addr: any() },
            Self::Frames { source: any(), offset: any() },
            Self::File { file: any(), offset: any() },
            Self::Device { device: any(), offset: any() },
        )
    }
}

impl Opaque for RegionKind {
    fn opaque() -> Self {
        one_of!(Self::Ram, Self::Rom, Self::Mmio, Self::Passthrough, Self::Reserved, Self::Shared,)
    }
}

impl Opaque for RegionState {
    fn opaque() -> Self {
        Self::from_bits_retain(any())
    }
}

impl Opaque for SlotRequest<Data> {
    fn opaque() -> Self {
        let request = one_of!(
            SlotRequest::new(any(), any(), any(), any()),
            SlotRequest::ram(any(), any(), any()),
            SlotRequest::rom(any(), any(), any()),
            SlotRequest::mmio(any(), any(), any()),
            SlotRequest::reserved(any(), any()),
        );
        let request = one_of!(request, request.with_number(any()));
        let request = one_of!(request, request.at(any()).with_kind(any()));
        sink((request.start(), request.len(), request.is_empty()));
        request
            .with_state(any())
            .with_prot(any())
            .with_mem_type(any())
            .with_max_leaf(any())
            .with_split_granularity(any())
            .with_data(any())
    }
}

impl Opaque for SlotChange {
    fn opaque() -> Self {
        let change = Self::new().set(any()).clear(any());
        one_of!(change, change.move_to(any()))
    }
}

impl Opaque for LeafSizes {
    fn opaque() -> Self {
        one_of!(LeafSizes::from_bits(any()), LeafSizes::SIZE_4K.with(any()).with(any()))
    }
}

impl Opaque for Access {
    fn opaque() -> Self {
        let access = Access::new(any());
        one_of!(access, access.private(), access.shared())
    }
}

pub fn all() {
    let (Ok(mut guest), Ok(second)) =
        (Memory::new(any()..=any(), any(), &POOL), Memory::new(any()..=any(), any(), &POOL))
    else {
        return;
    };
    questions(&guest);
    slots(&mut guest);
    parts(&mut guest);
    let (mut first, mut other) = (Table, Table);
    let mut tables = Tables::new(&mut first, &mut other, |_: &Region| any());
    sink(guest.add_slot(any(), &mut tables).is_ok());
    debug(&guest);
    locked(&AddrSpace::new(second));
}

fn region(region: Region) {
    sink((region.range(), region.slot(), region.kind(), region.backing(), region.state()));
    sink((region.backing_at(any()), region.prot(), region.mem_type(), region.max_leaf()));
    sink((region.attrs(), region.kind().is_memory(), region.kind().is_mapped()));
    sink((region.backing().advance(any()), region.host_at(any())));
    region.blocks(any()).for_each(sink);
}

fn slot(slot: Slot<'_, Data>) {
    sink((slot.number(), slot.range(), slot.data(), slot.request()));
    sink(slot.number().get());
    show(slot.number());
    region(slot.region());
}

fn answer<T>(answer: FaultAnswer<T>) {
    if let FaultAnswer::Map { leaf, token } = answer {
        sink((leaf.gpa(), leaf.size(), leaf.backing(), leaf.host(), leaf.prot()));
        sink((leaf.mem_type(), leaf.slot(), leaf.is_dirtying(), token));
        region(leaf.region());
    }
}

fn translation(found: Option<Translation>) {
    if let Some(found) = found {
        sink((found.gpa(), found.host(), found.backing(), found.remaining(), found.prot()));
        sink((found.kind(), found.slot(), found.region()));
    }
}

fn refused<T>(result: Result<T, Refusal<TableError>>) {
    if let Err(refusal) = result {
        sink(refusal.slot());
        let of_the_map: Refusal = one_of!(Refusal::NoSlot, Refusal::InTheWay(any()));
        sink(of_the_map.errno());
        sink(refusal);
    }
}

#[inline(never)]
fn questions(guest: &Memory) {
    sink((guest.page_size(), guest.space(), guest.slot_count(), guest.region_count()));
    sink(guest.check());
    guest.region(any()).into_iter().for_each(region);
    drain(guest.regions(any(), any()));
    guest.slot(any()).into_iter().for_each(slot);
    guest.slots().for_each(slot);
    sink(guest.plugged_bytes(any()));
    answer(guest.fault(any(), any(), any()));
    translation(guest.translate(any()));
    guest.blocks(any(), any(), any()).for_each(|block| {
        sink((block.gpa(), block.size(), block.backing()));
    });
    any::<LeafSizes>().descending().for_each(sink);
    for shown in guest.host_uses(any(), any()) {
        sink((shown.slot(), shown.range(), shown.offset()));
    }
    guest.file_uses(any(), any(), any()).for_each(sink);
    let bitmap = DirtyBitmap::new(&WORDS);
    if let Ok(range) = VmRange::new(any(), any(), any()) {
        sink((bitmap.page_count(), bitmap.mark(range, any()), bitmap.is_marked(range, any())));
        sink(bitmap.mark_range(range, any(), any()));
        sink(bitmap.mark_logged(range, [any(), any()]));
    }
}

fn told(event: Event<'_, GuestData<Data>>) {
    region(Region::of_piece(&event.piece()));
    if let Event::Protect { piece, old } = event {
        region(Region::reading(piece.range(), old));
    }
}

#[inline(never)]
fn slots(guest: &mut Memory) {
    refused(guest.add_slot(any(), &mut Table));
    sink(guest.add_slot(any(), &mut on_event(told)).is_ok());
    refused(guest.modify_slot(any(), any(), &mut Table));
    sink(guest.update_slot_data(any(), |data| *data = any()));
    if let Ok(removed) = guest.remove_slot(any(), &mut Table) {
        sink((removed.region(), removed.data()));
        sink(removed.into_data());
    }
    refused(guest.remove_range(any(), any(), &mut Table));
    sink(guest.clear(&mut Table, sink).is_ok());
    let mut table = Table;
    let mut update = guest.update(&mut table);
    refused(guest.add_slot(any(), &mut update));
}

#[inline(never)]
fn parts(guest: &mut Memory) {
    refused(guest.plug(any(), any(), any(), &mut Table));
    refused(guest.unplug(any(), any(), any(), &mut Table));
    refused(guest.await_contents(any(), any(), &mut Table));
    refused(guest.arrived(any(), any(), &mut Table));
    refused(guest.make_private(any(), any(), &mut Table));
    refused(guest.make_shared(any(), any(), &mut Table));
    refused(guest.balloon(any(), any(), &mut Table));
    refused(guest.keep_from_guest(any(), any(), &mut Table));
    refused(guest.leave_to_guest(any(), any(), &mut Table));
    let (bitmap, mut out) = (DirtyBitmap::new(&WORDS), [0; 64]);
    let len = any::<usize>() % 65;
    if let Some(out) = out.get_mut(..len) {
        refused(guest.fetch_dirty(any(), &bitmap, any(), out, &mut Table));
    }
    sink(out);
}

#[inline(never)]
fn locked(space: &AddrSpace<Memory>) {
    let table = &mut Table;
    answer(space.fault(any(), any(), any()));
    sink(space.try_fault(any(), any(), any()).map(answer).is_ok());
    translation(space.translate(any()));
    let mut hint = Hint::new();
    translation(space.translate_with(any(), &mut hint));
    translation(space.translate_with(any(), &mut hint));
    refused(space.add_slot(any(), table));
    refused(space.remove_slot(any(), table));
    refused(space.remove_range(any(), any(), table));
    refused(space.modify_slot(any(), any(), table));
    refused(space.plug(any(), any(), any(), table));
    refused(space.unplug(any(), any(), any(), table));
    refused(space.await_contents(any(), any(), table));
    refused(space.arrived(any(), any(), table));
    refused(space.make_private(any(), any(), table));
    refused(space.make_shared(any(), any(), table));
    refused(space.balloon(any(), any(), table));
    refused(space.keep_from_guest(any(), any(), table));
    refused(space.leave_to_guest(any(), any(), table));
    sink(space.clear(table, sink).is_ok());
    let (bitmap, mut out) = (DirtyBitmap::new(&WORDS), [0; 64]);
    refused(space.fetch_dirty(any(), &bitmap, any(), &mut out, table));
    sink(out);
}
