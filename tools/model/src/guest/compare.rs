//! A guest beside its model.

use kvma::guest::RegionState;

use super::mirror::Mirror;
use super::plain::PlainGuest;
use super::rig::Map;
use super::{HOST, HOST_PAGES, PAGE};

/// Compares everything that can be seen.
pub(super) fn compare(guest: &Map, mirror: &Mirror, plain: &PlainGuest) {
    guest.check().unwrap();
    assert_eq!(mirror.prepared, 0);
    assert_eq!(guest.slot_count(), plain.slots.len());
    for (slot, (number, model)) in guest.slots().zip(&plain.slots) {
        assert_eq!(slot.number().get(), *number);
        let region = slot.region();
        assert_eq!(region.range().start(), model.start * PAGE);
        assert_eq!(region.range().page_count(), model.len);
        assert_eq!((region.kind(), region.backing()), (model.kind, model.backing));
        assert_eq!((region.state(), *slot.data()), (model.state, model.data));
    }
    let mut regions = 0;
    let mut before = None;
    for page in 0..plain.page_count {
        let gpa = page * PAGE;
        let found = guest.region(gpa + 5);
        let told = mirror.pages.get(&gpa);
        let Some((number, slot)) = plain.slot_at(page) else {
            assert_eq!((found, told), (None, None), "page {page}");
            before = None;
            continue;
        };
        let state = plain.state_at(page).unwrap();
        regions += usize::from(before != Some((number, state)));
        before = Some((number, state));
        let (found, told) = (found.unwrap(), told.unwrap());
        let backing = slot.backing.advance((page - slot.start) * PAGE);
        for region in [found, *told] {
            assert_eq!((region.slot().get(), region.kind()), (number, slot.kind), "page {page}");
            assert_eq!((region.state(), region.backing_at(gpa)), (state, backing));
        }
        let is_away = state.intersects(RegionState::UNPLUGGED | RegionState::AWAITED);
        let translation = guest.translate(gpa + 5);
        assert_eq!(translation.is_some(), slot.kind.is_mapped() && !is_away, "page {page}");
        if let Some(translation) = translation {
            let alike = (page..plain.page_count).take_while(|&at| {
                plain.slot_at(at).is_some_and(|(other, _)| other == number)
                    && plain.state_at(at) == Some(state)
            });
            assert_eq!(translation.remaining(), alike.count() as u64 * PAGE - 5);
            assert_eq!(translation.backing(), backing.advance(5));
        }
    }
    assert_eq!(guest.region_count(), regions, "regions that are alike are one");
    for page in 0..HOST_PAGES {
        let addr = HOST + page * PAGE;
        let mut uses: Vec<_> = guest
            .host_uses(addr, 1)
            .map(|shown| (shown.slot().get(), shown.range().start(), shown.range().last()))
            .collect();
        uses.sort_unstable();
        let mut expected = Vec::new();
        for (number, slot) in &plain.slots {
            let Some((first, len)) = PlainGuest::host_pages(slot.backing, slot.len) else {
                continue;
            };
            if (first..first + len).contains(&(addr / PAGE)) {
                let start = (slot.start + (addr / PAGE - first)) * PAGE;
                expected.push((*number, start, start + PAGE - 1));
            }
        }
        assert_eq!(uses, expected, "uses of the host's page {page}");
    }
}
