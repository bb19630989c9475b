//! Questions about any address and length: answers agree with one another.

use kvma::guest::{Access, FaultAnswer, LeafSizes};

use super::rig::GuestRig;

impl GuestRig {
    /// Asks everything about `len` bytes from `addr`, of the guest and of a snapshot.
    ///
    /// # Panics
    ///
    /// If two answers contradict each other.
    pub fn ask(&mut self, addr: u64, len: u64) {
        let snapshot = self.guest.snapshot().expect("memory");
        let guest = &self.guest;
        assert!(guest.regions(0, u64::MAX).eq(snapshot.regions().iter().copied()));
        assert_eq!(guest.region(addr), snapshot.region(addr));
        assert_eq!(guest.translate(addr), snapshot.translate(addr));
        let last = addr.saturating_add(len.saturating_sub(1));
        let within = |first: u64, end: u64| len > 0 && first <= last && addr <= end;
        for region in guest.regions(addr, len) {
            assert!(within(region.range().start(), region.range().last()));
        }
        assert!(guest.regions(addr, len).rev().eq({
            let mut regions: Vec<_> = guest.regions(addr, len).collect();
            regions.reverse();
            regions
        }));
        for used in guest.host_uses(addr, len).chain(guest.file_uses(len, addr, len)) {
            assert!(guest.slot(used.slot()).is_some());
        }
        for access in [Access::READ, Access::WRITE] {
            let answer = guest.fault(addr, access, LeafSizes::SIZE_4K_2M_1G);
            assert_eq!(answer, snapshot.fault(addr, access, LeafSizes::SIZE_4K_2M_1G));
            let FaultAnswer::Map { leaf, .. } = answer else { continue };
            let range = leaf.region().range();
            let end = leaf.gpa() + (leaf.size() - 1);
            assert!(leaf.gpa() <= addr && addr <= end, "{leaf:?} without {addr:#x}");
            assert!(range.start() <= leaf.gpa() && end <= range.last(), "{leaf:?} in {range:?}");
        }
    }
}
