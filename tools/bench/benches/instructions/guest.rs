//! Operations of `guest`.

use kvma::guest::{Guest, GuestNode, Hint, HostBacking, SlotRequest};
use kvma::{AddrSpace, BoxAlloc, NoHooks, PageSize};
use kvma_bench::PAGE;

use crate::operation::{LEN, Table, heap, op};

type Unlocked = Guest<(), &'static BoxAlloc<GuestNode>>;

/// Adds the operations.
pub fn add(table: &mut Table) {
    let translate = op(hinted::<128>, hinted_len, gpas::<128>, translate);
    table.add("Guest: translate with a hint, 128 slots", 4_096, translate);
    let translate = op(hinted::<10_000>, hinted_len, gpas::<10_000>, self::translate);
    table.add("Guest: translate with a hint, 10000 slots", 10_000, translate);
    let replace = op(guest::<128>, slots, inputs::<128>, replace);
    table.add("Guest: remove + add a slot, 128 slots", 4_096, replace);
    let replace = op(guest::<10_000>, slots, inputs::<10_000>, self::replace);
    table.add("Guest: remove + add a slot, 10000 slots", 10_000, replace);
    let exchange = op(exchanged::<128>, exchanged_len, inputs::<128>, exchange);
    table.add("Guest: remove a slot + add another, 128 slots", 4_096, exchange);
    let exchange = op(exchanged::<10_000>, exchanged_len, inputs::<10_000>, self::exchange);
    table.add("Guest: remove a slot + add another, 10000 slots", 10_000, exchange);
    let locked = op(hinted::<128>, hinted_len, inputs::<128>, replace_locked);
    table.add("AddrSpace<Guest>: remove + add a slot, 128 slots", 4_096, locked);
}

/// Returns the number of a slot for each step: all of them, scattered.
fn inputs<const SLOTS: u64>() -> Vec<u64> {
    (0..SLOTS).map(|at| at * 7_919 % SLOTS).collect()
}

/// Returns an address in each slot, scattered.
fn gpas<const SLOTS: u64>() -> Vec<u64> {
    inputs::<SLOTS>().into_iter().map(|at| start(at) + at * 777 % LEN).collect()
}

/// Slots have gaps of one to three pages between them.
fn start(at: u64) -> u64 {
    at * (LEN + 3 * PAGE) + at % 3 * PAGE
}

fn request(at: u64) -> SlotRequest {
    SlotRequest::ram(start(at), LEN, HostBacking::Host { addr: (1 << 40) + (at << 20) })
}

fn guest<const SLOTS: u64>() -> Unlocked {
    let mut guest = Guest::new(0..=(1 << 52) - 1, PageSize::SIZE_4K, heap()).unwrap();
    for at in 0..SLOTS {
        guest.add_slot(request(at), &mut NoHooks).unwrap();
    }
    guest
}

fn slots(guest: &Unlocked) -> usize {
    guest.slot_count()
}

fn replace(guest: &mut Unlocked, at: u64) -> u64 {
    guest.remove_range(start(at), LEN, &mut NoHooks).unwrap();
    guest.add_slot(request(at), &mut NoHooks).unwrap().get().into()
}

/// A guest, and the slot that is not there.
struct Exchanged(Unlocked, u64);

fn exchanged<const SLOTS: u64>() -> Exchanged {
    Exchanged(guest::<SLOTS>(), SLOTS)
}

fn exchanged_len(exchanged: &Exchanged) -> usize {
    exchanged.0.slot_count()
}

fn exchange(Exchanged(guest, gone): &mut Exchanged, at: u64) -> u64 {
    guest.remove_range(start(at), LEN, &mut NoHooks).unwrap();
    guest.add_slot(request(core::mem::replace(gone, at)), &mut NoHooks).unwrap().get().into()
}

/// A guest behind a lock, and what a virtual processor keeps.
struct Hinted {
    space: AddrSpace<Unlocked>,
    hint: Hint,
}

fn hinted<const SLOTS: u64>() -> Hinted {
    Hinted { space: AddrSpace::new(guest::<SLOTS>()), hint: Hint::new() }
}

fn hinted_len(hinted: &Hinted) -> usize {
    hinted.space.inspect(Guest::slot_count)
}

fn translate(hinted: &mut Hinted, gpa: u64) -> u64 {
    hinted.space.translate_with(gpa, &mut hinted.hint).unwrap().host().unwrap()
}

fn replace_locked(hinted: &mut Hinted, at: u64) -> u64 {
    hinted.space.remove_range(start(at), LEN, &mut NoHooks).unwrap();
    hinted.space.add_slot(request(at), &mut NoHooks).unwrap().get().into()
}
