//! The first write to private memory marks its VMA: when VMAs become read-only, Linux keeps the
//! charge for memory only of those that were written to.

use kvma::linux::VmFlags;
use kvma::linux::abi::PROT_READ;

use super::check;
use super::program::{Program, RW, at, load, store};
use crate::fault::Again;

pub fn run(program: &Program) {
    let is_accounted = || {
        let vma = program.0.vmas.lookup(at(0));
        vma.is_some_and(|vma| {
            VmFlags::from_bits_retain(vma.attrs().user_bits()).contains(VmFlags::ACCOUNT)
        })
    };
    program.map(0, 3, RW, 0);
    let before = Again::FirstWrite.count();
    assert!(load(0) == Some(0));
    program.protect(0, 3, PROT_READ);
    check("a VMA that was only read is not charged once it is read-only", !is_accounted());
    program.protect(0, 3, RW);
    assert!((0..3).all(|page| store(page, page)));
    check(
        "its first write marks it under the lock, and no other write does",
        Again::FirstWrite.count() == before + 1,
    );
    program.protect(0, 3, PROT_READ);
    check("and it stays charged", is_accounted() && load(2) == Some(2));
    program.unmap(0, 3);
}
