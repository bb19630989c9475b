//! Tokens of VMAs that stay as they are while their page tables change.

use kvma::hooks::Advice;
use kvma::*;
use kvma_test_support::{Phase, phases};

use super::{Alloc, PAGE, Space, fixed, new_space};

/// Returns a space with one VMA, from page 4 to page 43.
fn one_vma() -> Space {
    let space = new_space(&Alloc::default());
    space.map(fixed(4, 40, Prot::RW), &mut NoHooks).unwrap();
    space
}

fn token(space: &Space, page: u64) -> Token {
    *space.lookup(page * PAGE).unwrap().token()
}

fn drop_pages(space: &Space, page: u64, pages: u64) {
    space.advise(page * PAGE, pages * PAGE, Advice::DontNeed, &mut NoHooks).unwrap();
}

/// `MADV_DONTNEED` of one page ended the tokens of its whole VMA.
#[test]
fn advice_ends_the_tokens_of_its_own_pages_alone() {
    let space = one_vma();
    let tokens: Vec<Token> = (4..44).map(|page| token(&space, page)).collect();
    drop_pages(&space, 10, 3);
    drop_pages(&space, 20, 1);
    for (page, token) in (4..44).zip(&tokens) {
        let dropped = (10..13).contains(&page) || page == 20;
        assert_eq!(space.still_valid(token), !dropped, "page {page}");
    }
    // What is looked up from now on is valid everywhere, and ends like any other.
    let again = token(&space, 10);
    assert!(space.still_valid(&again));
    drop_pages(&space, 11, 1);
    assert!(space.still_valid(&again));
    drop_pages(&space, 10, 1);
    assert!(!space.still_valid(&again));
    // A change of the VMA itself ends them all.
    space.protect(30 * PAGE, PAGE, Prot::READ, &mut NoHooks).unwrap();
    assert!(tokens.iter().all(|token| !space.still_valid(token)));
}

#[test]
fn advice_about_a_whole_vma_ends_all_its_tokens_and_not_those_next_door() {
    let space = one_vma();
    space.map(fixed(44, 10, Prot::READ), &mut NoHooks).unwrap();
    let inside = [token(&space, 4), token(&space, 43), token(&space, 44)];
    let next_door = token(&space, 47);
    drop_pages(&space, 4, 42);
    assert!(inside.iter().all(|token| !space.still_valid(token)));
    assert!(space.still_valid(&next_door));
}

/// A token of before so many changes may end, but none may come back to life.
#[test]
fn much_advice_ends_the_tokens_of_its_vma_and_of_no_other() {
    let space = one_vma();
    space.map(fixed(60, 10, Prot::READ), &mut NoHooks).unwrap();
    let (here, dropped, other) = (token(&space, 5), token(&space, 20), token(&space, 61));
    let mut was_valid = true;
    for round in 0..100 {
        drop_pages(&space, 20, 1);
        let valid = space.still_valid(&here);
        assert!(valid || round > 2);
        assert!(was_valid || !valid, "alive again");
        was_valid = valid;
        assert!(!space.still_valid(&dropped) && space.still_valid(&other));
    }
}

/// Faults at other pages need not wait for the flush.
#[test]
fn only_the_pages_of_the_advice_have_dead_tokens_while_the_flush_is_pending() {
    let space = one_vma();
    let mut asked = Vec::new();
    let mut hooks = phases(|phase| {
        let tokens = [9, 10, 11].map(|page| token(&space, page));
        let dead = tokens.map(|token| token.is_dead());
        assert_eq!(dead, [false, true, false], "{phase:?}");
        assert_eq!(tokens.map(|token| space.still_valid(&token)), [true, false, true]);
        asked.push(phase);
    });
    space.advise(10 * PAGE, PAGE, Advice::DontNeed, &mut hooks).unwrap();
    assert_eq!(asked, [Phase::FlushBegin, Phase::FlushWait]);
    assert!(space.still_valid(&token(&space, 10)));
}

/// A handler that maps several pages with one token, such as a large leaf.
#[test]
fn a_token_for_several_pages_ends_with_any_of_them() {
    let space = one_vma();
    let one = token(&space, 5);
    let four = |token: &Token| space.still_valid_for(token, 4 * PAGE, 4 * PAGE);
    assert!(four(&one) && !four(&token(&one_vma(), 5)));
    drop_pages(&space, 8, 1);
    drop_pages(&space, 30, 10);
    assert!(four(&one));
    drop_pages(&space, 7, 1);
    assert!(!four(&one) && space.still_valid(&one));
    assert!(four(&token(&space, 5)));
    // While a flush is pending at one of the pages, what is there must not be used.
    let mut asked = 0;
    let mut hooks = phases(|_| {
        let now = token(&space, 5);
        assert!(space.still_valid(&now) && !four(&now));
        assert!(space.still_valid_for(&now, 4 * PAGE, 3 * PAGE));
        asked += 1;
    });
    space.advise(7 * PAGE, PAGE, Advice::DontNeed, &mut hooks).unwrap();
    assert_eq!(asked, 2);
    // Numbers that make no sense.
    let now = token(&space, 5);
    assert!(space.still_valid_for(&now, 5 * PAGE, 0));
    assert!(space.still_valid_for(&now, u64::MAX, u64::MAX));
    assert!(space.still_valid_for(&now, 0, u64::MAX));
}

/// `invalidate` hands whole VMAs to the kernel, so it ends all their tokens.
#[test]
fn invalidating_a_part_of_a_vma_ends_all_its_tokens() {
    let space = one_vma();
    let tokens = [4, 10, 43].map(|page| token(&space, page));
    let mut edited = Vec::new();
    space
        .invalidate(10 * PAGE, PAGE, &mut NoHooks, |_, vma| edited.push(vma.page_count()))
        .unwrap();
    assert_eq!(edited, [40]);
    assert!(tokens.iter().all(|token| !space.still_valid(token)));
}

/// Whoever moves pages away and leaves the VMA there ends the tokens of these pages.
#[test]
fn moving_pages_out_of_a_vma_leaves_the_tokens_of_the_others() {
    let space = one_vma();
    let (moved, stays) = (token(&space, 10), token(&space, 30));
    let keep = vm_map::SourceRange::Keep;
    space.relocate(10 * PAGE, 2 * PAGE, 100 * PAGE, keep, Merge::Never, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&moved) && space.still_valid(&stays));
}

/// The update of one space may be used for the map of another: its tokens end all the same.
#[test]
fn advice_with_the_update_of_another_space_ends_tokens_too() {
    let alloc = Alloc::default();
    let (one, two): (Space, Space) = (new_space(&alloc), new_space(&alloc));
    for space in [&one, &two] {
        space.map(fixed(4, 10, Prot::RW), &mut NoHooks).unwrap();
    }
    let dropped = token(&one, 6);
    one.update_both(&two, 0, &mut NoHooks, &mut NoHooks, |map, _, _, update| {
        map.advise(6 * PAGE, PAGE, Advice::DontNeed, update).unwrap();
    })
    .unwrap();
    assert!(!one.still_valid(&dropped));
}
