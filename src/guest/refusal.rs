//! Why an operation on a guest was refused.

use core::fmt;

use super::slot::SlotNumber;
use crate::error::{Errno, Error};

/// Why an operation on a guest was refused. Whatever the reason, nothing has changed.
///
/// `E` is the error of the hooks, which the map's own errors are a part of.
///
/// ```
/// use kvma::guest::Refusal;
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// let ram = |start| SlotRequest::ram(start, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let first = guest.add_slot(ram(0x1000), &mut NoHooks)?;
/// let refusal = guest.add_slot(ram(0x4000), &mut NoHooks).unwrap_err();
/// assert_eq!(refusal, Refusal::InTheWay(first));
/// assert_eq!(refusal.to_string(), "slot 0 is in the way");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal<E = Error> {
    /// This slot lies in the way; of several, the one at the lowest address.
    InTheWay(SlotNumber),
    /// The memory behind the slot is the hypervisor's: see
    /// [`Guest::keep_from_guest`](super::Guest::keep_from_guest).
    HostMemory,
    /// The slot that is to keep the hypervisor's memory out shows it already.
    ShownBy(SlotNumber),
    /// The number is taken, or there is none left.
    NumberTaken,
    /// There is no slot with this number.
    NoSlot,
    /// Slots are changed whole, and this one is not that range: it was given only in part, or with
    /// something else.
    NotWhole(SlotNumber),
    /// Nothing is there.
    NotMapped,
    /// A part of the range, in this slot, is not in the state that the operation begins with:
    /// plugged already, not awaited, no memory.
    WrongState(SlotNumber),
    /// More than [`MAX_LAYERS`](super::MAX_LAYERS) slots would show the same memory.
    TooManyAliases,
    /// The map refused it, or a hook did.
    Map(E),
}

impl<E> Refusal<E> {
    /// Returns the slot that the refusal names, if it names one.
    pub const fn slot(&self) -> Option<SlotNumber> {
        match *self {
            Self::InTheWay(slot)
            | Self::ShownBy(slot)
            | Self::NotWhole(slot)
            | Self::WrongState(slot) => Some(slot),
            _ => None,
        }
    }

    /// Returns the errno for it: where KVM's `KVM_SET_USER_MEMORY_REGION` refuses such a thing, the
    /// one that it gives.
    ///
    /// ```
    /// use kvma::Errno;
    /// use kvma::guest::{Refusal, SlotNumber};
    ///
    /// let refusal: Refusal = Refusal::InTheWay(SlotNumber::new(3));
    /// assert_eq!((refusal.errno(), refusal.slot()), (Errno::EEXIST, Some(SlotNumber::new(3))));
    /// ```
    pub fn errno(&self) -> Errno
    where
        E: Copy + Into<Errno>,
    {
        match *self {
            Self::InTheWay(_) | Self::NumberTaken => Errno::EEXIST,
            Self::HostMemory => Errno::EACCES,
            Self::ShownBy(_) => Errno::EBUSY,
            Self::NoSlot | Self::NotMapped => Errno::ENOENT,
            Self::NotWhole(_) | Self::WrongState(_) => Errno::EINVAL,
            Self::TooManyAliases => Errno::ENOSPC,
            Self::Map(error) => error.into(),
        }
    }
}

impl<E: From<Error>> From<Error> for Refusal<E> {
    fn from(error: Error) -> Self {
        Self::Map(error.into())
    }
}

impl<E: fmt::Display> fmt::Display for Refusal<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InTheWay(slot) => write!(f, "{slot} is in the way"),
            Self::HostMemory => f.write_str("the memory is the hypervisor's"),
            Self::ShownBy(slot) => write!(f, "{slot} shows the memory"),
            Self::NumberTaken => f.write_str("the slot's number is taken"),
            Self::NoSlot => f.write_str("no such slot"),
            Self::NotWhole(slot) => write!(f, "the range is not all of {slot}"),
            Self::NotMapped => f.write_str("nothing is there"),
            Self::WrongState(slot) => write!(f, "a part of {slot} is in another state"),
            Self::TooManyAliases => f.write_str("too many slots show the same memory"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Refusal<E> {}
