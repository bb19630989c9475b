//! The memory behind a slot, as the hypervisor names it.

use super::region::tags;
use crate::vma::Backing;

/// The source of a slot's memory. The numbers are the hypervisor's; addresses and offsets are in
/// bytes, and those of a region or a leaf are of its first byte.
///
/// ```
/// use kvma::guest::HostBacking;
///
/// let image = HostBacking::File { file: 3, offset: 0x1000 };
/// assert_eq!(image.advance(0x2000), HostBacking::File { file: 3, offset: 0x3000 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostBacking {
    /// Nothing: reserved ranges.
    None,
    /// Contiguous memory of the host, physical or virtual, as the hypervisor has it.
    Host {
        /// The address of the first byte.
        addr: u64,
    },
    /// Frames that the hypervisor takes from a source, such as a pool or a node, when they are
    /// needed. Where they lie only its page tables know.
    Frames {
        /// The source.
        source: u64,
        /// The offset from the beginning of the slot, where nothing else has been asked for.
        offset: u64,
    },
    /// A file: `memfd`, `guest_memfd`, an image.
    File {
        /// The file.
        file: u64,
        /// The offset of the first byte.
        offset: u64,
    },
    /// A device's registers.
    Device {
        /// The device's key.
        device: u64,
        /// The offset of the first byte in the device's registers.
        offset: u64,
    },
}

impl HostBacking {
    /// Returns the backing of what lies `bytes` bytes further on.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Host { addr } => Self::Host { addr: addr.wrapping_add(bytes) },
            Self::Frames { source, offset } => {
                Self::Frames { source, offset: offset.wrapping_add(bytes) }
            }
            Self::File { file, offset } => Self::File { file, offset: offset.wrapping_add(bytes) },
            Self::Device { device, offset } => {
                Self::Device { device, offset: offset.wrapping_add(bytes) }
            }
        }
    }

    /// Returns the offset that advances: an address, or the offset in an object.
    pub(super) const fn offset(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Host { addr } => Some(addr),
            Self::Frames { offset, .. }
            | Self::File { offset, .. }
            | Self::Device { offset, .. } => Some(offset),
        }
    }

    /// Returns `true` if slots with this backing are found by what they show.
    pub(super) const fn is_findable(self) -> bool {
        matches!(self, Self::Host { .. } | Self::File { .. })
    }

    /// Returns `true` if this and `other` are offsets in the same object.
    pub(super) fn is_of_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Host { .. }, Self::Host { .. }) => true,
            (Self::File { file: one, .. }, Self::File { file: other, .. }) => one == other,
            _ => false,
        }
    }

    /// Returns the tag and the engine's form.
    pub(super) const fn encode(self) -> (u16, Backing) {
        match self {
            Self::None => (tags::NONE, Backing::Anonymous),
            Self::Host { addr } => (tags::HOST, Backing::Object { id: 0, offset: addr }),
            Self::Frames { source, offset } => {
                (tags::FRAMES, Backing::Object { id: source, offset })
            }
            Self::File { file, offset } => (tags::FILE, Backing::Object { id: file, offset }),
            Self::Device { device, offset } => {
                (tags::DEVICE, Backing::Object { id: device, offset })
            }
        }
    }

    /// Returns the backing of a tag and the engine's form.
    #[inline]
    pub(super) const fn decode(tag: u16, backing: Backing) -> Self {
        let Backing::Object { id, offset } = backing else { return Self::None };
        match tag {
            tags::HOST => Self::Host { addr: offset },
            tags::FRAMES => Self::Frames { source: id, offset },
            tags::FILE => Self::File { file: id, offset },
            tags::DEVICE => Self::Device { device: id, offset },
            _ => Self::None,
        }
    }
}
