//! Maps as serde sees them (feature `serde`): a [`RangeMap`](crate::RangeMap), a
//! [`VmMap`](crate::VmMap) as it is at one time, and what they are made of.
//!
//! Values that come back are checked as those from user space are: ranges that overlap, that are
//! empty, that lie outside the space, flags that there are not, are errors of the format.

mod attrs;
mod map;
#[cfg(feature = "range-map")]
mod range_map;
