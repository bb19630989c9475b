//! The guards that programs have installed: pages of which VMAs say nothing, and which cannot be
//! brought in.

use kvma::linux::{Kernel, LinuxVma, PageOp};
use kvma::{Errno, Hooks, Piece};
use kvma_trace::Backing;

type Vma<'a> = LinuxVma<Backing<'a>>;

/// First byte, and first byte behind. In no order; none meets another.
type Ranges = Vec<(u64, u64)>;

/// An owner that knows where guards are. Of one program: those that fork install none.
#[derive(Debug, Default)]
pub struct Guards {
    ranges: Ranges,
}

impl Guards {
    /// There is a new image.
    pub fn forget(&mut self) {
        self.ranges.clear();
    }

    fn remove(&mut self, start: u64, end: u64) {
        let parts =
            |&(first, behind): &(u64, u64)| [(first, behind.min(start)), (first.max(end), behind)];
        self.ranges =
            self.ranges.iter().flat_map(parts).filter(|(first, behind)| first < behind).collect();
    }
}

/// What of `ranges` lies in `start..end`.
fn within(ranges: &Ranges, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let cut = move |&(first, behind): &(u64, u64)| (first.max(start), behind.min(end));
    ranges.iter().map(cut).filter(|(first, behind)| first < behind)
}

/// First byte, and first byte behind, of a piece.
fn ends(piece: &Piece<'_, Vma<'_>>) -> (u64, u64) {
    (piece.range().start(), piece.range().last() + 1)
}

impl<'a> Hooks<Vma<'a>> for Guards {
    fn unmap(&mut self, piece: &Piece<'_, Vma<'a>>) {
        let (start, end) = ends(piece);
        self.remove(start, end);
    }

    fn relocate(&mut self, piece: &Piece<'_, Vma<'a>>, to: u64) {
        let (start, end) = ends(piece);
        let moved = |(first, behind)| (first - start + to, behind - start + to);
        let moved: Ranges = within(&self.ranges, start, end).map(moved).collect();
        self.remove(start, end);
        self.ranges.extend(moved);
    }
}

impl<'a> Kernel<Backing<'a>> for Guards {
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        let (start, end) = ends(piece);
        match action {
            PageOp::GuardInstall => {
                self.remove(start, end);
                self.ranges.push((start, end));
            }
            PageOp::GuardRemove => self.remove(start, end),
            PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite
                if within(&self.ranges, start, end).next().is_some() =>
            {
                return Err(Errno::EFAULT);
            }
            _ => {}
        }
        Ok(())
    }
}
