//! The slow, obvious model: an address space is an array of pages, and every question is answered
//! by looking at all of them.
//!
//! - [`Space`]: the model, and what it says an operation should do and tell the hooks.
//! - [`Rig`]: a `VmMap` and a `Space` side by side, compared after every [`Op`].
//! - [`Faulty`]: an allocator that fails when told to. [`Recorder`]: hooks that write down what
//!   they hear and refuse when told to. [`Tag`]: an owner's data that keeps books of itself.
//! - [`strategy`]: random operations for proptest, which shrinks them.

mod faulty;
mod op;
mod page;
mod placement;
mod recorder;
mod rig;
mod space;
pub mod strategy;
mod tag;

pub use faulty::Faulty;
pub use op::{Addr, How, Len, Look, Op, SearchSpec, Where};
pub use page::{Page, VmaOf, advance};
pub use recorder::{Call, Recorder, Shown, Snapshot, Step};
pub use rig::{Faults, Rig, Shape, within};
pub use space::{Config, Outcome, Space};
pub use tag::{Ledger, Tag, TagView};
