//! The operations on a guest.

use kvma::guest::*;
use kvma::{Error, HookError, SplitGranularity};
use kvma_test_support::Refuse;

use super::mirror::Mirror;
use super::rig::Map;
use super::{Hook, PAGE};

/// A slot to be added, in pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotSpec {
    /// The first page.
    pub start: u64,
    /// The number of pages.
    pub len: u64,
    /// Its kind.
    pub kind: RegionKind,
    /// Its backing.
    pub backing: HostBacking,
    /// The state of all its pages.
    pub state: RegionState,
    /// How it may be split.
    pub splits: SplitGranularity,
    /// Its number, or the lowest free one.
    pub number: Option<u32>,
    /// The hypervisor's data.
    pub data: u32,
}

impl SlotSpec {
    fn request(&self) -> SlotRequest<u32> {
        let (start, len) = (self.start * PAGE, self.len * PAGE);
        let request = SlotRequest::new(start, len, self.kind, self.backing)
            .with_state(self.state)
            .with_split_granularity(self.splits)
            .with_data(self.data);
        match self.number {
            Some(number) => request.with_number(SlotNumber::new(number)),
            None => request,
        }
    }
}

/// An operation on a guest. Slots are numbers; ranges are a first page and a number of pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GuestOp {
    /// Adds a slot.
    Add(SlotSpec),
    /// Removes a slot.
    Remove(u32),
    /// Removes the slot that lies there.
    RemoveRange(u64, u64),
    /// Moves a slot to a page, and sets and clears flags.
    Modify(u32, Option<u64>, RegionState, RegionState),
    /// Plugs a part of a slot.
    Plug(u32, u64, u64),
    /// Unplugs a part of a slot.
    Unplug(u32, u64, u64),
    /// Awaits the contents of pages.
    Await(u64, u64),
    /// Says that they have arrived.
    Arrived(u64, u64),
    /// Makes pages private.
    Private(u64, u64),
    /// Makes pages shared.
    Shared(u64, u64),
    /// Balloons pages.
    Balloon(u64, u64),
    /// Keeps pages of the host's from the guest.
    Keep(u64, u64),
    /// Leaves them to the guest again.
    Leave(u64, u64),
    /// Removes all slots.
    Clear,
}

/// Returns the refusal that is an error of the map's.
pub(super) fn map_error(error: Error) -> Refusal<Hook> {
    Refusal::Map(HookError::Map(error))
}

/// Does an operation. Returns the data of the slots that are removed.
pub(super) fn run(
    guest: &mut Map,
    op: &GuestOp,
    hooks: &mut Refuse<Mirror>,
) -> Result<Vec<u32>, Refusal<Hook>> {
    let number = SlotNumber::new;
    let at = |page: u64| page * PAGE;
    let none = |()| Vec::new();
    match *op {
        GuestOp::Add(spec) => guest.add_slot(spec.request(), hooks).map(|_| Vec::new()),
        GuestOp::Remove(slot) => {
            guest.remove_slot(number(slot), hooks).map(|slot| vec![slot.into_data()])
        }
        GuestOp::RemoveRange(start, len) => {
            guest.remove_range(at(start), at(len), hooks).map(|slot| vec![slot.into_data()])
        }
        GuestOp::Modify(slot, to, set, clear) => {
            let change = SlotChange::new().set(set).clear(clear);
            let change = to.map_or(change, |to| change.move_to(at(to)));
            guest.modify_slot(number(slot), change, hooks).map(none)
        }
        GuestOp::Plug(slot, start, len) => {
            guest.plug(number(slot), at(start), at(len), hooks).map(none)
        }
        GuestOp::Unplug(slot, start, len) => {
            guest.unplug(number(slot), at(start), at(len), hooks).map(none)
        }
        GuestOp::Await(start, len) => guest.await_contents(at(start), at(len), hooks).map(none),
        GuestOp::Arrived(start, len) => guest.arrived(at(start), at(len), hooks).map(none),
        GuestOp::Private(start, len) => guest.make_private(at(start), at(len), hooks).map(none),
        GuestOp::Shared(start, len) => guest.make_shared(at(start), at(len), hooks).map(none),
        GuestOp::Balloon(start, len) => guest.balloon(at(start), at(len), hooks).map(none),
        GuestOp::Keep(first, len) => guest.keep_from_guest(at(first), at(len), hooks).map(none),
        GuestOp::Leave(first, len) => guest.leave_to_guest(at(first), at(len), hooks).map(none),
        GuestOp::Clear => {
            let mut back = Vec::new();
            guest.clear(hooks, |slot| back.push(slot.into_data())).map_err(Refusal::Map)?;
            Ok(back)
        }
    }
}
