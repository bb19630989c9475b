//! [`Mm`](super::Mm) behind a lock: the calls that are more than one hold of it.

mod fork;
