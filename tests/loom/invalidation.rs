//! Tokens of a VMA of which the kernel drops some pages, against page faults at others.

use ::loom::thread;
use kvma::hooks::Advice;
use kvma::*;

use super::support::*;

fn drop_page<H: Hooks<(), Error: std::fmt::Debug>>(space: &Space, page: u64, hooks: &mut H) {
    space.advise(page * PAGE, PAGE, Advice::DontNeed, hooks).unwrap();
}

#[test]
fn a_token_outlives_advice_about_another_page() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 2, RW);
        let token = *space.lookup(5 * PAGE).unwrap().token();
        let space2 = space.clone();
        let writer = thread::spawn(move || drop_page(&space2, 6, &mut NoHooks));
        // While the part is being noted, it may look as if the token had ended.
        seen.note(usize::from(space.still_valid(&token)));
        writer.join().unwrap();
        assert!(space.still_valid(&token));
    });
    seen.assert_all(2);
}

#[test]
fn no_token_outlives_advice_about_its_page() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 2, RW);
        let table = Table::new(Some((1, true)));
        let token = *space.lookup(5 * PAGE).unwrap().token();
        let (space2, table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || {
            drop_page(&space2, 5, &mut Tables { table: table2, wait: || () });
        });
        table.with(|entry| {
            let valid = space.still_valid(&token);
            assert!(entry.is_some() || !valid, "the page was dropped before");
            seen.note(usize::from(valid));
        });
        writer.join().unwrap();
        assert!(!space.still_valid(&token));
    });
    seen.assert_all(2);
}

/// The part with the page is overwritten while it is read: two parts are kept here. By one note
/// alone: between two of them there are fences enough. Bounded: at most two preemptions.
#[test]
fn no_token_outlives_advice_that_is_forgotten_meanwhile() {
    let seen = explore(Some(2), |seen| {
        let space = space(&alloc());
        map(&space, 5, 2, RW);
        map(&space, 8, 2, RO);
        let token = *space.lookup(5 * PAGE).unwrap().token();
        drop_page(&space, 5, &mut NoHooks);
        drop_page(&space, 6, &mut NoHooks);
        let space2 = space.clone();
        let writer = thread::spawn(move || drop_page(&space2, 8, &mut NoHooks));
        assert!(!space.still_valid(&token));
        seen.note(0);
        writer.join().unwrap();
        assert!(!space.still_valid(&token));
    });
    seen.assert_all(1);
}

/// A fault at one page of the VMA, and advice about the other.
#[test]
fn a_fault_at_another_page_is_served_while_the_flush_is_pending() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 2, RW);
        let table = Table::new(None);
        let (space2, table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || {
            let wait = || assert!(fault(&space2, &table2, 5, 2), "while the flush is pending");
            let mut hooks = Tables { table: Table::new(None), wait };
            drop_page(&space2, 6, &mut hooks);
        });
        seen.note(usize::from(fault(&space, &table, 5, 1)));
        writer.join().unwrap();
        assert!(table.with(|entry| entry.is_some()));
    });
    seen.assert_all(2);
}
