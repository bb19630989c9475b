//! Changes that take pages away, and what is found in their place before the flush has ended.

use ::loom::cell::UnsafeCell;
use ::loom::sync::Arc;
use ::loom::thread;
use kvma::hooks::{Advice, RemovedVma};
use kvma::vm_map::SourceRange;
use kvma::*;

use super::support::*;

/// All models here are bounded: at most two preemptions, and where VMAs move within a space, which
/// takes many accesses, one: the change is interrupted anywhere, for all of the lookup.
const BOUND: Option<usize> = Some(2);
const MOVE: Option<usize> = Some(1);

/// Holds `true` once the flush of the change has ended. Not an atomic: loom panics if somebody
/// looks who cannot know.
struct Flushed(UnsafeCell<bool>);

impl Flushed {
    fn new() -> Arc<Flushed> {
        Arc::new(Flushed(UnsafeCell::new(false)))
    }

    fn set(&self) {
        self.0.with_mut(|flushed| unsafe { *flushed = true });
    }

    fn assert(&self) {
        assert!(self.0.with(|flushed| unsafe { *flushed }), "the flush is pending");
    }
}

/// Looks `page` up. If there is a VMA of protection `new`, which the change has put there, and its
/// token is alive, the flush must have ended.
fn look_for(space: &Space, page: u64, new: Prot, flushed: &Flushed, seen: &Seen) {
    match space.try_lookup(page * PAGE) {
        Ok(Some(vma)) if vma.prot() == new && !vma.token().is_dead() => {
            seen.note(0);
            flushed.assert();
        }
        Ok(Some(vma)) if vma.prot() == new => seen.note(1),
        _ => seen.note(2),
    }
}

/// Makes `change` at page 5, which is mapped read-write, against a lookup of `page` that may find
/// something read-only.
#[track_caller]
fn against(
    preemptions: Option<usize>,
    page: u64,
    change: impl Fn(&Space, Arc<Flushed>) + Copy + Send + Sync + 'static,
) -> &'static Seen {
    explore(preemptions, move |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        let flushed = Flushed::new();
        let (space2, flushed2) = (space.clone(), flushed.clone());
        let writer = thread::spawn(move || change(&space2, flushed2));
        look_for(&space, page, RO, &flushed, seen);
        writer.join().unwrap();
    })
}

/// Hooks whose flush ends with `wait`.
fn hooks<W: FnMut()>(wait: W) -> Tables<W> {
    Tables { table: Table::new(None), wait }
}

#[test]
fn where_pages_arrive_tokens_are_dead_until_the_flush_has_ended() {
    let change = |space: &Space, flushed: Arc<Flushed>| {
        let mut hooks = hooks(|| flushed.set());
        let to_ro = |attrs: Attrs| attrs.with_prot(RO);
        space.remap(5 * PAGE, PAGE, 9 * PAGE, to_ro, Merge::Both, &mut hooks).unwrap();
    };
    against(MOVE, 9, change).assert_all(3);
}

/// Another thread maps where VMAs have been moved away, and may still be in a TLB.
#[test]
fn where_vmas_have_gone_tokens_are_dead_until_the_flush_has_ended() {
    let change = |space: &Space, flushed: Arc<Flushed>| {
        let mut hooks = hooks(|| {
            map(space, 5, 1, RO);
            flushed.set();
        });
        let all = SourceRange::Unmap;
        space.relocate(5 * PAGE, PAGE, 9 * PAGE, all, Merge::Both, &mut hooks).unwrap();
    };
    against(MOVE, 5, change).assert_all(3);
}

#[test]
fn where_retain_has_unmapped_tokens_are_dead_until_the_flush_has_ended() {
    let change = |space: &Space, flushed: Arc<Flushed>| {
        let mut hooks = hooks(|| {
            map(space, 5, 1, RO);
            flushed.set();
        });
        space.update(0, &mut hooks, |map, update| map.retain(|_| false, update)).unwrap();
    };
    against(BOUND, 5, change).assert_all(3);
}

#[test]
fn what_restore_has_narrowed_has_dead_tokens_until_the_flush_has_ended() {
    let seen = explore(BOUND, |seen| {
        let alloc = alloc();
        let space = space(&alloc);
        map(&space, 5, 1, RO);
        let saved = space
            .inspect(|map| map.fork(alloc.clone(), |vma| Ok::<_, Error>(Some((vma.attrs(), ())))))
            .unwrap();
        space.protect(5 * PAGE, PAGE, RW, &mut NoHooks).unwrap();
        let flushed = Flushed::new();
        let (space2, flushed2) = (space.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let mut hooks = hooks(|| flushed2.set());
            space2
                .update(4, &mut hooks, |map, update| map.restore(&saved, |_, _| true, update))
                .unwrap();
        });
        look_for(&space, 5, RO, &flushed, seen);
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// The map is exchanged meanwhile for one that knows nothing of the flush.
#[test]
fn in_a_map_that_was_put_there_tokens_are_dead_until_the_flush_has_ended() {
    let change = |space: &Space, flushed: Arc<Flushed>| {
        let alloc = space.inspect(|map| map.alloc().clone());
        let mut other = VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc).unwrap();
        let mut hooks = hooks(|| {
            space.update(0, &mut NoHooks, |map, _| std::mem::swap(map, &mut other));
            map(space, 5, 1, RO);
            flushed.set();
        });
        space.unmap(5 * PAGE, PAGE, &mut hooks).unwrap();
    };
    against(MOVE, 5, change).assert_all(3);
}

/// The VMA stays, its pages go. A fault brings another page in, with a token that is valid though
/// the entry has gone: the flush must have ended.
#[track_caller]
fn pages_go(
    preemptions: Option<usize>,
    change: impl Fn(&Space, &mut Tables<&dyn Fn()>) + Copy + Send + Sync + 'static,
) {
    let seen = explore(preemptions, move |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        let table = Table::new(Some((1, true)));
        let flushed = Flushed::new();
        let (space2, table2, flushed2) = (space.clone(), table.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let wait: &dyn Fn() = &|| flushed2.set();
            change(&space2, &mut Tables { table: table2, wait });
        });
        if let Ok(Some(vma)) = space.try_lookup(5 * PAGE) {
            table.with(|entry| match (entry.is_some(), space.still_valid(vma.token())) {
                (false, true) => {
                    seen.note(0);
                    flushed.assert();
                }
                (false, false) => seen.note(1),
                (true, _) => seen.note(2),
            });
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

#[test]
fn a_page_that_was_dropped_is_not_replaced_before_the_flush_has_ended() {
    pages_go(BOUND, |space, hooks| space.advise(5 * PAGE, PAGE, Advice::DontNeed, hooks).unwrap());
}

#[test]
fn a_page_that_was_moved_away_is_not_replaced_before_the_flush_has_ended() {
    pages_go(MOVE, |space, hooks| {
        let keep = SourceRange::Keep;
        space.relocate(5 * PAGE, PAGE, 9 * PAGE, keep, Merge::Never, hooks).unwrap();
    });
}

/// Transfers between two spaces. In one allocation: locks are ordered by address, which must be the
/// same in every execution.
fn two_spaces() -> Arc<[Space; 2]> {
    let alloc = alloc();
    let spaces = Arc::new([bare_space(&alloc), bare_space(&alloc)]);
    map(&spaces[0], 5, 1, RO);
    spaces
}

/// Another processor may still write to the page through the entry of the space that it came from.
#[test]
fn where_a_transfer_arrives_tokens_are_dead_until_the_source_has_been_flushed() {
    let seen = explore(BOUND, |seen| {
        let spaces = two_spaces();
        let flushed = Flushed::new();
        let (spaces2, flushed2) = (spaces.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let (mut hooks, mut target_hooks) = (hooks(|| flushed2.set()), hooks(|| ()));
            let [one, two] = &*spaces2;
            let (from, to) = (5 * PAGE, 9 * PAGE);
            one.transfer(from, PAGE, two, to, Merge::Both, &mut hooks, &mut target_hooks).unwrap();
        });
        look_for(&spaces[1], 9, RO, &flushed, seen);
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

#[test]
fn where_a_transfer_came_from_tokens_are_dead_until_the_flush_has_ended() {
    let seen = explore(BOUND, |seen| {
        let spaces = two_spaces();
        let flushed = Flushed::new();
        let (spaces2, flushed2) = (spaces.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let [one, two] = &*spaces2;
            let mut hooks = hooks(|| {
                map(one, 5, 1, RW);
                flushed2.set();
            });
            let (from, to) = (5 * PAGE, 9 * PAGE);
            one.transfer(from, PAGE, two, to, Merge::Both, &mut hooks, &mut NoHooks2).unwrap();
        });
        look_for(&spaces[0], 5, RW, &flushed, seen);
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// Hooks that write down the end of a flush, and that something is released.
struct Notes<'a>(&'a str, &'a std::cell::RefCell<Vec<String>>);

impl Hooks<()> for Notes<'_> {
    type Error = Errno;

    fn flush_wait(&mut self) {
        self.1.borrow_mut().push(format!("{} flushed", self.0));
    }

    fn release(&mut self, _: RemovedVma<()>) {
        self.1.borrow_mut().push(format!("{} released", self.0));
    }
}

/// Pages that were moved may show in both spaces. A lookup goes on in one of them meanwhile.
#[test]
fn nothing_is_released_before_the_flushes_of_both_spaces_have_ended() {
    let seen = explore(MOVE, |seen| {
        let spaces = two_spaces();
        map(&spaces[1], 5, 1, RO);
        let spaces2 = spaces.clone();
        let writer = thread::spawn(move || {
            let notes = Default::default();
            let [one, two] = &*spaces2;
            let (mut hooks, mut other_hooks) = (Notes("one", &notes), Notes("other", &notes));
            one.update_both(two, 0, &mut hooks, &mut other_hooks, |map, update, two, other| {
                map.unmap(5 * PAGE, PAGE, update).unwrap();
                two.unmap(5 * PAGE, PAGE, other).unwrap();
            })
            .unwrap();
            notes.into_inner()
        });
        match look(&spaces[1], 5) {
            Some(Some(_)) => seen.note(0),
            _ => seen.note(1),
        }
        let notes = writer.join().unwrap();
        assert_eq!(notes, ["one flushed", "other flushed", "other released", "one released"]);
    });
    seen.assert_all(2);
}

/// Hooks that do nothing, with the error of [`Tables`].
struct NoHooks2;

impl Hooks<()> for NoHooks2 {
    type Error = Errno;
}
