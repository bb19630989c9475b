//! Parents and children: which stores of one the other sees.

use crate::console::println;
use crate::mapping::{Mapping, PAGE};
use crate::system::{Child, fork, wait_until};

pub fn run() {
    let (private, shared) = (Mapping::private(3 * PAGE), Mapping::shared(PAGE));
    let step = |number| wait_until(|| shared.load(0) == Some(number));
    (0..3).for_each(|page| assert!(private.store(page * PAGE, 1)));
    let child = fork(|| {
        private.store(0, 2);
        shared.store(8, 2);
        shared.store(0, 1);
        step(2);
        // The parent has written to the second page meanwhile, and to the third one first.
        let grandchild = fork(|| {
            private.store(2 * PAGE, 4);
            sum(&private)
        });
        (sum(&private) << 4) | (status(grandchild) & 0xf)
    });
    step(1);
    private.show_load("a page that the child has written to", 0);
    shared.show_load("a page that they share", 8);
    private.store(PAGE, 3);
    private.store(2 * PAGE, 3);
    shared.store(0, 2);
    println!("child and grandchild see {:#x}", status(child));
    println!("the parent sees {}", sum(&private));
}

/// Returns the sum of the pages' words: what one has written to shows.
fn sum(private: &Mapping) -> u8 {
    (0..3).fold(0, |sum, page| sum + private.load(page * PAGE).unwrap_or(0) as u8)
}

fn status(child: Child) -> u8 {
    (child.wait() >> 8) as u8
}
