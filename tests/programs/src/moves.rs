//! Memory that moves.

use crate::mapping::{Mapping, PAGE};

pub fn run() {
    let (pages, place) = (Mapping::private(2 * PAGE), Mapping::private(2 * PAGE));
    pages.store(8, 1);
    pages.store(PAGE + 8, 2);
    place.store(8, 3);
    pages.move_to(place);
    place.show_load("a page that has moved", 8);
    place.show_load("the next one", PAGE + 8);
    pages.show_load("where they were", 8);
    place.store(8, 4);
    place.show_load("the first one, written to", 8);
}
