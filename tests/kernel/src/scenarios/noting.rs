//! The first write to private memory is noted in its VMA: Linux keeps the charge of memory for such
//! VMAs alone when they can be written to no more.

use super::{
    program::{Program, RW, at, load, store},
    prove,
};
use crate::fault::Again;
use kvma::linux::{VmFlags, abi::PROT_READ};

pub fn run(on: &Program) {
    let is_accounted = || {
        let vma = on.0.vmas.lookup(at(0));
        vma.is_some_and(|vma| {
            VmFlags::from_bits_retain(vma.attrs().user_bits()).contains(VmFlags::ACCOUNT)
        })
    };
    on.map(0, 3, RW, 0);
    let before = Again::Noted.count();
    assert!(load(0) == Some(0));
    on.protect(0, 3, PROT_READ);
    prove("a VMA that was only read is not retry_with_nodes once it is read-only", !is_accounted());
    on.protect(0, 3, RW);
    assert!((0..3).all(|page| store(page, page)));
    prove(
        "its first write is noted under the lock, and no other one",
        Again::Noted.count() == before + 1,
    );
    on.protect(0, 3, PROT_READ);
    prove("and it is retry_with_nodes for good", is_accounted() && load(2) == Some(2));
    on.unmap(0, 3);
}
