//! A guest and its model, side by side.

mod ask;
mod compare;
mod mirror;
mod op;
mod plain;
mod rig;

use kvma::HookError;
use kvma::guest::Refusal;
use kvma_test_support::Refused;

pub use self::op::{GuestOp, SlotSpec};
pub use self::plain::{PlainGuest, PlainSlot};
pub use self::rig::{GuestFaults, GuestRig};

/// The size of a page in bytes.
pub const PAGE: u64 = 0x1000;
/// The first byte of the host's memory that slots show.
pub const HOST: u64 = 0x8_0000;
/// The number of the host's pages that are compared: few, so that there are aliases.
pub const HOST_PAGES: u64 = 24;

/// The error of a hook.
pub type Hook = HookError<Refused>;

/// The answer that an operation should give: none, or one of these.
pub type Expected = Result<(), Vec<Refusal<Hook>>>;
