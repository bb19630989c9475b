//! A kernel that knows where programs have installed guards, over which nothing can be populated.

use kvma::linux::{Kernel, LinuxVma, PageOp};
use kvma::{Errno, Hooks, Piece};
use kvma_test_support::GuardRanges;
use kvma_trace::Backing;

type Vma<'a> = LinuxVma<Backing<'a>>;

/// A kernel with the guards of one program: those that fork install none.
#[derive(Debug, Default)]
pub struct Guards {
    ranges: GuardRanges,
}

impl Guards {
    /// Takes all guards away: there is a new image.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }
}

/// Returns the first byte of a piece, and the first byte behind it.
fn ends(piece: &Piece<'_, Vma<'_>>) -> (u64, u64) {
    (piece.range().start(), piece.range().last() + 1)
}

impl<'a> Hooks<Vma<'a>> for Guards {
    type Error = Errno;

    fn on_unmap(&mut self, piece: &Piece<'_, Vma<'a>>) {
        let (start, end) = ends(piece);
        self.ranges.remove(start, end);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, Vma<'a>>, to: u64) {
        let (start, end) = ends(piece);
        self.ranges.relocate(start, end, to);
    }
}

impl<'a> Kernel<Backing<'a>> for Guards {
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        let (start, end) = ends(piece);
        match op {
            PageOp::GuardInstall => self.ranges.install(start, end),
            PageOp::GuardRemove => self.ranges.remove(start, end),
            PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite
                if self.ranges.meets(start, end) =>
            {
                return Err(Errno::EFAULT);
            }
            _ => {}
        }
        Ok(())
    }
}
