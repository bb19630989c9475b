//! Recording.

use core::fmt;

use super::Watcher;
use crate::error::Error;
use crate::flags::VmaFlags;
use crate::hooks::{Advice, Event, Piece};
use crate::range::VmRange;
use crate::vma::{Attrs, Backing};

/// A call of the hooks, without user data.
///
/// See [`Recorder`] for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The range was mapped.
    Map {
        /// The range of the new mapping.
        range: VmRange,
        /// Its attributes.
        attrs: Attrs,
    },
    /// The range was unmapped.
    Unmap {
        /// The range of the piece.
        range: VmRange,
        /// The attributes that it had.
        attrs: Attrs,
    },
    /// The range has new attributes.
    Protect {
        /// The range of the piece.
        range: VmRange,
        /// The new attributes.
        attrs: Attrs,
        /// The attributes before.
        old: Attrs,
    },
    /// The contents of the range have moved.
    Relocate {
        /// The range where it was.
        range: VmRange,
        /// The attributes that it has now.
        attrs: Attrs,
        /// The address where it is now, in bytes.
        to: u64,
    },
    /// Advice was given.
    Advise {
        /// The range of the piece.
        range: VmRange,
        /// The advice.
        advice: Advice,
    },
    /// The hooks have refused to prepare for a change of the range.
    Refused {
        /// The range of the piece.
        range: VmRange,
    },
    /// The preparation for the range was cancelled.
    Cancel {
        /// The range of the piece.
        range: VmRange,
    },
    /// A flush has begun.
    FlushBegin,
    /// The flush has ended.
    FlushWait,
}

impl Step {
    fn of<V>(event: &Event<'_, V>) -> Self {
        let piece = event.piece();
        let (range, attrs) = (piece.range(), piece.attrs());
        match *event {
            Event::Map(_) => Self::Map { range, attrs },
            Event::Unmap(_) => Self::Unmap { range, attrs },
            Event::Protect { old, .. } => Self::Protect { range, attrs, old },
            Event::Relocate { to, .. } => Self::Relocate { range, attrs, to },
        }
    }
}

/// Keeps the last `N` steps, in the place where it stands, without allocating: the black box of an
/// address space.
///
/// ```
/// use kvma::watch::{Recorder, Step, watch};
/// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let mut hooks = NoHooks;
/// let mut recorder = Recorder::<64>::new();
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// map.map(request, &mut watch(&mut hooks, &mut recorder))?;
/// map.unmap(0x5000, 0x1000, &mut watch(&mut hooks, &mut recorder))?;
/// assert!(matches!(recorder.steps().next(), Some(Step::Map { .. })));
///
/// // As a trace, which this repository's tools replay and draw.
/// let trace = recorder.trace().to_string();
/// let expected = "\
/// exec
/// start_brk 0
/// maps 0
/// mmap 4000 4000 3 32 0 = 4000
/// munmap 5000 1000 = 0
/// ";
/// assert_eq!(trace, expected);
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recorder<const N: usize> {
    /// A ring, not heapless' `HistoryBuf`, whose indexing can panic as far as the optimizer can
    /// tell.
    steps: [Option<Step>; N],
    count: u64,
}

impl<const N: usize> Recorder<N> {
    /// Starts without a step.
    pub const fn new() -> Self {
        Self { steps: [None; N], count: 0 }
    }

    /// Iterates over the steps that are kept, the oldest first.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let oldest = self.count.saturating_sub(N as u64);
        (oldest..self.count).filter_map(|number| *self.steps.get(Self::place(number)?)?)
    }

    /// Returns how many older steps are kept no more.
    pub fn forgotten(&self) -> u64 {
        self.count.saturating_sub(N as u64)
    }

    /// Forgets all steps.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns the changes as the text of a trace, one system call for each, in the format of this
    /// repository's `tools/trace`. A trace begins with an empty address space; where older steps
    /// are forgotten, its first line says so.
    pub fn trace(&self) -> Trace<'_, N> {
        Trace(self)
    }

    fn push(&mut self, step: Step) {
        if let Some(place) = Self::place(self.count).and_then(|place| self.steps.get_mut(place)) {
            *place = Some(step);
        }
        self.count = self.count.saturating_add(1);
    }

    /// Returns the place of a step by its number; `None` in a ring without places.
    fn place(number: u64) -> Option<usize> {
        Some(number.checked_rem(N as u64)? as usize)
    }
}

impl<const N: usize> Default for Recorder<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, const N: usize> Watcher<V> for Recorder<N> {
    fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
        Ok(())
    }

    fn prepares(&self) -> bool {
        // Hooks that prepare are heard anyway.
        false
    }

    fn refused(&mut self, event: &Event<'_, V>) {
        self.push(Step::Refused { range: event.piece().range() });
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.push(Step::Cancel { range: event.piece().range() });
    }

    fn event(&mut self, event: &Event<'_, V>) {
        self.push(Step::of(event));
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.push(Step::Advise { range: piece.range(), advice });
    }

    fn flush_begin(&mut self) {
        self.push(Step::FlushBegin);
    }

    fn flush_wait(&mut self) {
        self.push(Step::FlushWait);
    }
}

/// The text of a trace: see [`Recorder::trace`].
///
/// See [`Recorder`] for an example.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a, const N: usize>(&'a Recorder<N>);

impl<const N: usize> fmt::Display for Trace<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forgotten = self.0.forgotten();
        if forgotten > 0 {
            writeln!(f, "# {forgotten} older steps are missing")?;
        }
        f.write_str("exec\nstart_brk 0\nmaps 0\n")?;
        self.0.steps().try_for_each(|step| write_call(f, step))
    }
}

/// `MAP_SHARED`, `MAP_PRIVATE`, `MAP_FIXED`, `MAP_ANONYMOUS` (mman.h).
const SHARED: u32 = 0x1;
const PRIVATE: u32 = 0x2;
const FIXED: u32 = 0x10;
const ANONYMOUS: u32 = 0x20;

/// Writes the system call that makes a change; nothing for what is none.
fn write_call(f: &mut fmt::Formatter<'_>, step: Step) -> fmt::Result {
    match step {
        Step::Map { range, attrs } => {
            let (start, len) = (range.start(), range.len().unwrap_or(u64::MAX));
            let is_shared = attrs.flags().contains(VmaFlags::SHARED);
            let flags = FIXED | if is_shared { SHARED } else { PRIVATE };
            let prot = attrs.prot().bits();
            match attrs.backing() {
                Backing::Anonymous => {
                    let flags = flags | ANONYMOUS;
                    write!(f, "mmap {start:x} {len:x} {prot:x} {flags:x} 0")?;
                    if is_shared {
                        f.write_str(" 00:01 0 /dev/zero (deleted)")?;
                    }
                }
                Backing::Object { id, offset } => {
                    // Descriptor 3, opened for both.
                    writeln!(f, "fd 3 rw reg")?;
                    write!(
                        f,
                        "mmap {start:x} {len:x} {prot:x} {flags:x} {offset:x} fd 3 00:00 {id} \
                         object-{id}"
                    )?;
                }
            }
            writeln!(f, " = {start:x}")
        }
        Step::Unmap { range, .. } => {
            writeln!(f, "munmap {:x} {:x} = 0", range.start(), range.len().unwrap_or(u64::MAX))
        }
        Step::Protect { range, attrs, .. } => {
            let (start, len) = (range.start(), range.len().unwrap_or(u64::MAX));
            writeln!(f, "mprotect {start:x} {len:x} {:x} = 0", attrs.prot().bits())
        }
        Step::Relocate { range, to, .. } => {
            let (start, len) = (range.start(), range.len().unwrap_or(u64::MAX));
            // MREMAP_MAYMOVE and MREMAP_FIXED.
            writeln!(f, "mremap {start:x} {len:x} {len:x} 3 {to:x} = {to:x}")
        }
        _ => f.write_str(""),
    }
}
