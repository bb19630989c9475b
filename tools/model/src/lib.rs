//! The slow, obvious model: an address space is an array of pages, and every question is answered
//! by looking at all of them.
//!
//! - [`Space`]: the model. It says what an operation should do and tell the hooks.
//! - [`Rig`]: a `VmMap` behind a lock and a `Space` side by side, compared after every [`Op`].
//! - [`Faulty`]: an allocator that fails when told to. [`Recorder`]: hooks that record every call
//!   and refuse when told to. [`Tag`]: user data that checks what the map tells it.
//! - [`guest`]: a `Guest`, its model, and the two side by side.
//! - [`strategy`]: random operations for proptest, which shrinks them.

mod compare;
mod config;
mod ensure;
mod faulty;
pub mod guest;
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
mod tokens;
mod world;

pub use self::config::{Addr, Config, Len};
pub use self::faulty::Faulty;
pub use self::op::{AttrsChange, AttrsSpec, Op};
pub use self::page::{Page, VmaView, advance};
pub use self::recorder::{Edit, HookCall, PieceView, Recorder, Refusal, ToView};
pub use self::rig::{Completion, Faults, Rig};
pub use self::search::{ByteSearch, PageSearch};
pub use self::space::Space;
pub use self::tag::{Ledger, Tag, TagView};
