//! Refusing on purpose.

use super::Watcher;
use crate::error::Error;
use crate::hooks::Event;
use crate::random::Numbers;

/// Refuses some of what is to be prepared, as if memory had run out: [`Error::OutOfMemory`]. For
/// tests of what a kernel does then.
///
/// Running an operation once for each of its events, with [`nth`](Self::nth) refused, shows that it
/// changes nothing wherever it fails:
///
/// ```
/// use kvma::watch::{Refusals, watch};
/// use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};
/// # use kvma::VmaNode;
///
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let request = |addr| MapRequest::new(Placement::Fixed(addr), 0x1000, Attrs::new(Prot::RW));
/// map.map(request(0x4000), &mut NoHooks)?;
/// map.map(request(0x6000), &mut NoHooks)?;
/// let mut tries = 0;
/// loop {
///     let mut refusals = Refusals::nth(tries);
///     match map.unmap(0x4000, 0x3000, &mut watch(&mut NoHooks, &mut refusals)) {
///         Err(error) => assert_eq!((error, map.len()), (Error::OutOfMemory, 2)),
///         Ok(_) => break,
///     }
///     tries += 1;
/// }
/// assert_eq!(tries, 2); // two VMAs were to be unmapped
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Refusals {
    plan: Plan,
    refused: u64,
}

#[derive(Clone, Debug)]
enum Plan {
    /// So many pass, one is refused, and then all pass.
    Nth(u64),
    Done,
    /// One of so many, by the next number of a sequence.
    OneIn {
        times: u64,
        numbers: Numbers,
    },
}

impl Refusals {
    /// Refuses the event after the first `n`, and no other.
    pub const fn nth(n: u64) -> Self {
        Self { plan: Plan::Nth(n), refused: 0 }
    }

    /// Refuses one event out of `times` on average, and none if that is zero. The same seed refuses
    /// the same ones.
    pub const fn one_in(times: u64, seed: u64) -> Self {
        Self { plan: Plan::OneIn { times, numbers: Numbers::new(seed) }, refused: 0 }
    }

    /// Returns how many were refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn refuses(&mut self) -> bool {
        match &mut self.plan {
            Plan::Nth(0) => {
                self.plan = Plan::Done;
                true
            }
            Plan::Nth(n) => {
                *n -= 1;
                false
            }
            Plan::Done => false,
            Plan::OneIn { times, numbers } => numbers.any().checked_rem(*times) == Some(0),
        }
    }
}

impl<V> Watcher<V> for Refusals {
    fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
        if self.refuses() {
            self.refused = self.refused.saturating_add(1);
            return Err(Error::OutOfMemory);
        }
        Ok(())
    }
}
