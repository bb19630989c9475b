//! A second table, driven by the same calls.

use super::dirty::WatchWrites;
use super::region::Region;
use crate::error::Error;
use crate::hooks::{Advice, Event, Hooks, Piece, RemovedVma};
use crate::range::VmRange;
use crate::vma::Attrs;

/// Hooks of two tables: the guest's second stage, which has everything, and one that has a part of
/// it, such as the IOMMU's, which gets RAM and nothing else.
///
/// The second table hears of a region when it begins and when it ceases to be one that it shows:
/// blocks that are unplugged go, private pages go if the filter says so. It is flushed only if
/// something was taken away from it.
///
/// ```
/// use kvma::guest::{Guest, HostBacking, RegionKind, SlotRequest, Tables};
/// # use kvma::guest::GuestNode;
/// # use kvma::{Event, FixedPool, PageSize, on_event};
/// # let pool = FixedPool::<GuestNode, 16>::new();
///
/// let mut guest = Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &pool)?;
/// let (mut cpu, mut dma) = (0, 0);
/// let mut stage2 = on_event(|_: Event<'_, _>| cpu += 1);
/// let mut iommu = on_event(|_: Event<'_, _>| dma += 1);
/// let mut both = Tables::new(&mut stage2, &mut iommu, |region| {
///     region.kind() == RegionKind::Ram && !region.prot().is_empty()
/// });
/// let ram = SlotRequest::ram(0, 0x10_0000, HostBacking::Host { addr: 0x800_0000 });
/// guest.add_slot(ram, &mut both).unwrap();
/// guest.add_slot(SlotRequest::rom(0xf_f000_0000_u64 >> 8, 0x1000, ram_of(3)), &mut both).unwrap();
/// # fn ram_of(file: u64) -> HostBacking { HostBacking::File { file, offset: 0 } }
/// assert_eq!((cpu, dma), (2, 1));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Debug)]
pub struct Tables<'h, H: ?Sized, I: ?Sized, F> {
    first: &'h mut H,
    second: &'h mut I,
    shows: F,
    /// Something was taken away from the second table, and its flush has not begun.
    must_flush: bool,
    is_flushing: bool,
}

impl<'h, H: ?Sized, I: ?Sized, F: Fn(&Region) -> bool> Tables<'h, H, I, F> {
    /// Returns hooks that tell `first` of everything, and `second` of what `shows` returns `true`
    /// for.
    pub fn new(first: &'h mut H, second: &'h mut I, shows: F) -> Self {
        Self { first, second, shows, must_flush: false, is_flushing: false }
    }

    /// Returns what the second table sees of an event.
    fn seen<'a, V>(&self, event: &Event<'a, V>) -> Option<Event<'a, V>> {
        let shows = |piece: &Piece<'_, V>| (self.shows)(&Region::of_piece(piece));
        match *event {
            Event::Protect { piece, old } => {
                let before = Piece::new(piece.range(), old, piece.data());
                match (shows(&before), shows(&piece)) {
                    (true, true) => Some(*event),
                    (true, false) => Some(Event::Unmap(before)),
                    (false, true) => Some(Event::Map(piece)),
                    (false, false) => None,
                }
            }
            _ => shows(&event.piece()).then_some(*event),
        }
    }

    fn tell<V>(&mut self, event: &Event<'_, V>)
    where
        I: Hooks<V>,
    {
        let Some(event) = self.seen(event) else { return };
        self.must_flush |= !matches!(event, Event::Map(_));
        match event {
            Event::Map(piece) => self.second.on_map(&piece),
            Event::Unmap(piece) => self.second.on_unmap(&piece),
            Event::Protect { piece, old } => self.second.on_protect(&piece, &old),
            Event::Relocate { piece, to } => self.second.on_relocate(&piece, to),
        }
    }
}

impl<V, H, I, F> Hooks<V> for Tables<'_, H, I, F>
where
    H: Hooks<V> + ?Sized,
    I: Hooks<V, Error = H::Error> + ?Sized,
    H::Error: From<Error>,
    F: Fn(&Region) -> bool,
{
    type Error = H::Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), H::Error> {
        self.first.prepare(event)?;
        if let Some(seen) = self.seen(event)
            && let Err(error) = self.second.prepare(&seen)
        {
            self.first.cancel(event);
            return Err(error);
        }
        Ok(())
    }

    fn prepares(&self) -> bool {
        self.first.prepares() || self.second.prepares()
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.first.cancel(event);
        if let Some(seen) = self.seen(event) {
            self.second.cancel(&seen);
        }
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.first.on_map(piece);
        self.tell(&Event::Map(*piece));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.first.on_unmap(piece);
        self.tell(&Event::Unmap(*piece));
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.first.on_protect(piece, old);
        self.tell(&Event::Protect { piece: *piece, old: *old });
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.first.on_relocate(piece, to);
        self.tell(&Event::Relocate { piece: *piece, to });
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.first.on_advise(piece, advice);
        if (self.shows)(&Region::of_piece(piece)) {
            self.second.on_advise(piece, advice);
            self.must_flush |= advice.takes_pages();
        }
    }

    fn flush_begin(&mut self) {
        self.first.flush_begin();
        if core::mem::take(&mut self.must_flush) {
            self.second.flush_begin();
            self.is_flushing = true;
        }
    }

    fn flush_wait(&mut self) {
        self.first.flush_wait();
        if core::mem::take(&mut self.is_flushing) {
            self.second.flush_wait();
        }
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        self.first.release(removed);
    }
}

impl<H, I, F> WatchWrites for Tables<'_, H, I, F>
where
    H: WatchWrites + ?Sized,
    I: WatchWrites + ?Sized,
{
    fn watch_writes(&mut self, pages: VmRange) {
        self.first.watch_writes(pages);
        self.second.watch_writes(pages);
        self.must_flush = true;
    }
}
