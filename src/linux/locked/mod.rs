//! [`Mm`](super::Mm) behind a lock: the calls that are more than one hold of it.
//!
//! Every other call is one hold: [`AddrSpace::update`](crate::AddrSpace::update) with the call of
//! the same name.
//!
//! Pieces follow the rules of `addr_space::pieces`. What Linux checks for the whole range is
//! checked before the first piece. Each later one checks again what others may have changed since,
//! so that nothing is ever done that Linux would refuse, and ends the call with Linux's error if
//! so; then what was done stays. With at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs there is one piece,
//! and it is the call on [`Mm`](super::Mm) itself, in every respect.
//!
//! [`MAX_VMAS_PER_LOCK_HOLD`]: crate::addr_space::MAX_VMAS_PER_LOCK_HOLD

mod clear;
mod fork;
mod mlockall;
mod munmap;

/// Nodes that a call may need at a time.
const NODES: usize = 3;
