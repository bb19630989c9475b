//! Huge pages, of which parts change. Nothing shows if there are any, but what pages hold.

use linux_raw_sys::general::{MADV_DONTNEED, MADV_HUGEPAGE};

use crate::console::println;
use crate::mapping::{Mapping, PAGE, Rights};

const HUGE: usize = 2 << 20;
const PAGES: usize = HUGE / PAGE;

pub fn run() {
    let room = Mapping::private(2 * HUGE);
    let huge = room.part(room.start().next_multiple_of(HUGE) - room.start(), HUGE);
    room.advise(MADV_HUGEPAGE);
    (0..PAGES).for_each(|page| assert!(huge.store(page * PAGE, page as u64)));
    let page = |number| huge.part(number * PAGE, PAGE);
    page(100).unmap();
    page(200).protect(Rights::Read);
    page(300).advise(MADV_DONTNEED);
    huge.show_load("an unmapped page of a huge page", 100 * PAGE);
    huge.show_store("a read-only page of it", 200 * PAGE);
    huge.show_load("a page of it that was given back", 300 * PAGE);
    let kept = (0..PAGES).filter(|page| huge.load(page * PAGE) == Some(*page as u64)).count();
    println!("{kept} of {PAGES} pages hold what they held");
    room.unmap();
    huge.show_load("of a huge page that was unmapped", 8);
}
