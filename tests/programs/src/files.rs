//! Files that are mapped, and cut off meanwhile.

use crate::console::println;
use crate::mapping::{Mapping, PAGE, Rights, Sharing};
use crate::signals;
use crate::system::{self, File};

/// In the second page.
const THERE: usize = PAGE + 0x128;

pub fn run() {
    let file = File::new(3 * PAGE);
    let map = |sharing| Mapping::new(3 * PAGE, Rights::ReadAndWrite, sharing, Some(&file));
    let (shared, private) = (map(Sharing::Shared), map(Sharing::Private));
    file.write(THERE, 2);
    shared.show_load("a page of a file", THERE);
    private.show_load("its private mapping", THERE);
    shared.store(THERE, 3);
    println!("the file holds {}", file.read(THERE));
    private.show_load("its private mapping", THERE);
    private.store(THERE, 4);
    println!("the file holds {}", file.read(THERE));
    shared.show_load("its shared mapping", THERE);

    let board = Mapping::shared(PAGE);
    let child = system::fork(|| {
        shared.load(0);
        board.store(0, 1);
        system::wait_until(|| board.load(0) == Some(2));
        let refused = shared.load(THERE).is_none() && private.load(THERE).is_none();
        let caught = signals::last();
        let is_right = refused && caught.address == private.start() + THERE;
        if is_right { caught.signal as u8 } else { 0 }
    });
    system::wait_until(|| board.load(0) == Some(1));
    file.set_len(PAGE);
    shared.show_load("beyond the end", THERE);
    shared.show_store("beyond the end", THERE + PAGE);
    private.show_load("a private copy beyond the end", THERE);
    shared.show_load("before the end", 8);
    board.store(0, 2);
    println!("a child that maps the file has the status {}", child.wait());

    file.set_len(0);
    shared.show_load("of an empty file", 8);
    file.set_len(3 * PAGE);
    shared.show_load("of a file that has grown again", THERE);
    private.show_load("its private mapping", THERE);
    file.write(THERE, 5);
    shared.show_load("what was written then", THERE);
}
