//! Hooks that keep a second stage, page by page.

use std::collections::BTreeMap;

use kvma::guest::{GuestData, Region};
use kvma::{Attrs, Error, Event, Hooks, Piece};

/// The pages that hooks have mapped, and what was prepared and has not come yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mirror {
    pub(super) pages: BTreeMap<u64, Region>,
    pub(super) prepared: i64,
}

impl Mirror {
    fn parts(region: Region) -> impl Iterator<Item = (u64, Region)> {
        region.range().pages().map(move |page| (page, region))
    }

    fn set(&mut self, region: Region, was_there: bool) {
        for (page, region) in Self::parts(region) {
            assert_eq!(self.pages.insert(page, region).is_some(), was_there, "{page:#x}");
        }
    }
}

impl Hooks<GuestData<u32>> for Mirror {
    type Error = Error;

    fn prepare(&mut self, _event: &Event<'_, GuestData<u32>>) -> Result<(), Error> {
        self.prepared += 1;
        Ok(())
    }

    fn cancel(&mut self, _event: &Event<'_, GuestData<u32>>) {
        self.prepared -= 1;
    }

    fn on_map(&mut self, piece: &Piece<'_, GuestData<u32>>) {
        self.prepared -= 1;
        self.set(Region::of_piece(piece), false);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, GuestData<u32>>) {
        self.prepared -= 1;
        for (page, region) in Self::parts(Region::of_piece(piece)) {
            let gone = self.pages.remove(&page).expect("mapped");
            assert_eq!(gone.backing_at(page), region.backing_at(page));
            assert_eq!((gone.state(), gone.slot()), (region.state(), region.slot()));
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<u32>>, old: &Attrs) {
        self.prepared -= 1;
        let before = Region::reading(piece.range(), *old);
        for (page, region) in Self::parts(before) {
            assert_eq!(self.pages[&page].state(), region.state());
            assert_eq!(self.pages[&page].prot(), region.prot());
        }
        self.set(Region::of_piece(piece), true);
    }
}
