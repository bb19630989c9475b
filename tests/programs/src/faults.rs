//! Accesses that are refused: their signals, with code and address.

use linux_raw_sys::general::MADV_DONTNEED;

use crate::arch::{IMPOSSIBLE, IMPOSSIBLE_ENDS};
use crate::console::println;
use crate::mapping::{Mapping, PAGE, Rights, Sharing};
use crate::{probe, signals, system};

/// Somewhere in the second page, so that neither a page's address nor a mapping's will do.
const THERE: usize = PAGE + 0x128;

pub fn run() {
    let pages = Mapping::private(3 * PAGE);
    pages.show_store("a page of its own", THERE);
    pages.protect(Rights::Read);
    pages.show_store("a page that became read-only", THERE);
    pages.show_load("the page", THERE);
    pages.protect(Rights::None);
    pages.show_load("a page that lost all rights", THERE);
    pages.protect(Rights::ReadAndWrite);
    pages.show_load("a page that has them back", THERE);
    pages.make_code(1);
    pages.show_fetch("code that cannot be executed", 1);
    pages.protect(Rights::ReadAndExecute);
    pages.show_fetch("code", 1);
    pages.show_store("code that is written to", THERE);
    pages.protect(Rights::Read);
    pages.show_fetch("code that cannot be executed any more", 1);
    pages.part(PAGE, PAGE).unmap();
    pages.show_load("an unmapped page", THERE);
    pages.show_store("an unmapped page", THERE);
    pages.show_fetch("an unmapped page", 1);
    pages.show_load("the page before it", 8);
    pages.show_load("the page behind it", 2 * PAGE + 8);
    let none = Mapping::new(PAGE, Rights::None, Sharing::Private, None);
    none.show_store("a page without rights", 8);
    let given = Mapping::private(PAGE);
    given.store(8, 5);
    given.advise(MADV_DONTNEED);
    given.show_load("a page that was given back", 8);
    // SAFETY: nothing can be there.
    let is_refused = !unsafe { probe::store(IMPOSSIBLE, 1) };
    let caught = signals::last();
    let (signal, code, address) = IMPOSSIBLE_ENDS;
    let is_right = (caught.signal as u32, caught.code, caught.address) == (signal, code, address);
    println!("an address that no page can have: refused {is_refused}, as by Linux {is_right}");
    let ended = system::fork(|| {
        signals::do_not_catch();
        none.store(8, 1).into()
    });
    println!("without a handler, the status is {}", ended.wait());
}
