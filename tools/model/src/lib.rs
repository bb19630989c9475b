//! The slow, obvious model: an address space is an array of pages, and every question is answered
//! by looking at all of them.
//!
//! - [`Space`]: the model. It says what an operation should do and tell the hooks.
//! - [`Rig`]: a `VmMap` and a `Space` side by side, compared after every [`Op`].
//! - [`Faulty`]: an allocator that fails when told to. [`Recorder`]: hooks that record every call
//!   and refuse when told to. [`Tag`]: user data that checks what the map tells it.
//! - [`strategy`]: random operations for proptest, which shrinks them.

mod compare;
mod config;
mod ensure;
mod faulty;
mod hook_order;
mod op;
mod operations;
mod page;
mod placement;
mod recorder;
mod rig;
mod search;
mod space;
pub mod strategy;
mod tag;

pub use config::{Addr, Config, Len};
pub use faulty::Faulty;
pub use op::{AttrsChange, AttrsSpec, Op};
pub use page::{Page, VmaView, advance};
pub use recorder::{Edit, HookCall, PieceView, Recorder, Refusal, ToView};
pub use rig::{Completion, Faults, Rig};
pub use search::{ByteSearch, PageSearch};
pub use space::Space;
pub use tag::{Ledger, Tag, TagView};
