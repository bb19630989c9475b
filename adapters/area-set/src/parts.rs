//! The parts of areas that are split at the ends of a range: made before a change, where a backend
//! may still refuse, and put in place when it has succeeded.

use core::ops::Range;

use crate::area::Area;
use crate::failure::Failure;

/// Up to two areas are split, and one in its middle has three parts.
pub(crate) struct Parts<T>([Option<T>; 4]);

impl<T: Area> Parts<T> {
    pub(crate) fn new() -> Self {
        Self([const { None }; 4])
    }

    /// Adds what is left of an area if `range` is removed.
    pub(crate) fn cut_out(&mut self, area: &T, range: &Range<usize>) -> Result<(), Failure> {
        let whole = area.range();
        let (below, above) = (whole.start < range.start, range.end < whole.end);
        if !below && !above {
            return Ok(());
        }
        let mut rest = area.clone();
        if below && above {
            self.push(rest.split(range.end).ok_or(Failure::Refused)?);
        }
        let kept = if below { rest.keep_below(range.start) } else { rest.keep_above(range.end) };
        if !kept {
            return Err(Failure::Refused);
        }
        self.push(rest);
        Ok(())
    }

    /// Adds the parts of an area that is split at both ends of `range`.
    pub(crate) fn split_at_ends(&mut self, area: &T, range: &Range<usize>) -> Result<(), Failure> {
        let whole = area.range();
        let (below, above) = (whole.start < range.start, range.end < whole.end);
        if !below && !above {
            return Ok(());
        }
        let mut middle = area.clone();
        if below {
            let right = middle.split(range.start).ok_or(Failure::Refused)?;
            self.push(core::mem::replace(&mut middle, right));
        }
        if above {
            self.push(middle.split(range.end).ok_or(Failure::Refused)?);
        }
        self.push(middle);
        Ok(())
    }

    fn push(&mut self, part: T) {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        debug_assert!(free.is_some(), "more parts than two splits make");
        if let Some(free) = free {
            *free = Some(part);
        }
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        self.0.into_iter().flatten()
    }
}
