//! The types that `bitflags` makes: all of its functions, for each of them.

use kvma::compat::MapFlags;
use kvma::linux::{Capabilities, Restrictions, Rights, Traits, VmFlags};
use kvma::{Prot, VmaFlags};

use crate::opaque::{any, debug, sink};

macro_rules! functions {
    ($($name:ident: $type:ty;)*) => {
        pub fn all() {
            $($name();)*
        }

        $(#[inline(never)]
        fn $name() {
            let (one, mut two) = (
                <$type>::from_bits_retain(any()),
                <$type>::from_bits_truncate(any()),
            );
            sink((<$type>::empty(), <$type>::all(), <$type>::from_bits(any())));
            sink(<$type>::from_name(any()));
            sink((one.bits(), one.is_empty(), one.is_all(), one.complement()));
            sink((one.contains(two), one.intersects(two), one.union(two)));
            sink((one.intersection(two), one.difference(two), one.symmetric_difference(two)));
            two.insert(one);
            two.remove(one);
            two.toggle(one);
            two.set(one, any());
            two.iter().for_each(sink);
            two.iter_names().for_each(sink);
            debug(two);
        })*
    };
}

functions! {
    prot: Prot;
    vma_flags: VmaFlags;
    map_flags: MapFlags;
    capabilities: Capabilities;
    restrictions: Restrictions;
    rights: Rights;
    traits: Traits;
    vm_flags: VmFlags;
}
