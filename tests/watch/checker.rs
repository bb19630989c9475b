//! The checker agrees with the map over random changes, and notices when something is amiss.

use kvma::vm_map::SourceRange;
use kvma::watch::{Checker, Complaint, Refusals, watch};
use kvma::{
    Attrs, Backing, Heap, Hooks, MapRequest, Merge, NoHooks, PageSize, Placement, Prot, VmMap,
};
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;
const PAGES: u64 = 64;

fn new_map() -> VmMap<(), Heap> {
    VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, Heap).unwrap()
}

fn at(addr: u64, len: u64) -> MapRequest {
    MapRequest::new(Placement::Fixed(addr), len, Attrs::new(Prot::RW))
}

#[test]
fn it_agrees_with_the_map_whatever_happens() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut map = new_map();
        let mut checker = Checker::of(&map);
        let mut refusals = Refusals::one_in(6, seed);
        for _ in 0..500 {
            let page = random.below(PAGES - 8);
            let (addr, len) = (page * PAGE, (1 + random.below(8)) * PAGE);
            let prot = random.pick(&[Prot::RW, Prot::READ, Prot::NONE]);
            let attrs = match random.below(2) {
                0 => Attrs::new(prot).with_backing(Backing::Object { id: 1, offset: page * PAGE }),
                _ => Attrs::new(prot),
            };
            let mut none = NoHooks;
            let mut inner = watch(&mut none, &mut checker);
            let mut hooks = watch(&mut inner, &mut refusals);
            let _ = match random.below(8) {
                0..=2 => map
                    .map(MapRequest::new(Placement::Fixed(addr), len, attrs), &mut hooks)
                    .map(drop),
                3 | 4 => map.unmap(addr, len, &mut hooks).map(drop),
                5 => {
                    let to = random.below(PAGES - 8) * PAGE;
                    let source = random.pick(&[SourceRange::Unmap, SourceRange::Keep]);
                    map.relocate(addr, len, to, source, Merge::Both, &mut hooks)
                }
                6 => map.protect(addr, len, prot, &mut hooks),
                _ if random.one_in(20) => map.clear(&mut hooks).map(drop),
                _ => map.update_attrs(addr, len, |vma| vma.attrs().with_prot(prot), &mut hooks),
            };
            assert_eq!(checker.check(&map), Ok(()));
        }
        assert!(refusals.refused() > 10);
        assert_eq!(Checker::of(&map).check(&map), Ok(()));
    }
}

#[test]
fn a_change_behind_its_back_is_noticed() {
    let mut map = new_map();
    map.map(at(0x4000, 0x4000), &mut NoHooks).unwrap();
    let checker = Checker::of(&map);
    let find = |change: &dyn Fn(&mut VmMap<(), Heap>)| {
        let mut map = new_map();
        map.map(at(0x4000, 0x4000), &mut NoHooks).unwrap();
        change(&mut map);
        checker.check(&map).unwrap_err()
    };
    let unmapped = find(&|map| {
        map.unmap(0x5000, PAGE, &mut NoHooks).unwrap();
    });
    assert!(matches!(unmapped, Complaint::Missing(range) if range.start() == 0x4000));
    let mapped = find(&|map| {
        map.map(at(0x8000, PAGE), &mut NoHooks).unwrap();
    });
    assert!(matches!(mapped, Complaint::Unheard(range) if range.last() == 0x8fff));
    let apart = find(&|map| {
        map.map(at(0xa000, PAGE), &mut NoHooks).unwrap();
    });
    assert!(matches!(apart, Complaint::Unheard(range) if range.start() == 0xa000));
    let narrowed = find(&|map| map.protect(0x5000, PAGE, Prot::READ, &mut NoHooks).unwrap());
    assert!(matches!(narrowed, Complaint::Attributes(_)));
    assert!(narrowed.to_string().contains("other attributes"), "{narrowed}");
}

/// A checker that has missed a step complains of the next one that builds on it.
#[test]
fn a_step_that_does_not_follow_is_complained_of() {
    let complain = |missed: &dyn Fn(&mut VmMap<(), Heap>),
                    heard: &dyn Fn(&mut VmMap<(), Heap>, &mut Checker)| {
        let mut map = new_map();
        let mut checker = Checker::of(&map);
        missed(&mut map);
        heard(&mut map, &mut checker);
        // It stays, whatever comes.
        assert_eq!(checker.check(&map).err(), checker.complaint());
        checker.complaint().unwrap()
    };
    let missed = |map: &mut VmMap<(), Heap>| {
        map.map(at(0x4000, PAGE), &mut NoHooks).unwrap();
    };
    let unmap = complain(&missed, &|map, checker| {
        map.unmap(0x4000, PAGE, &mut watch(&mut NoHooks, checker)).unwrap();
    });
    assert!(matches!(unmap, Complaint::NotMapped(_)));
    let protect = complain(&missed, &|map, checker| {
        map.protect(0x4000, PAGE, Prot::READ, &mut watch(&mut NoHooks, checker)).unwrap();
    });
    assert!(matches!(protect, Complaint::NotMapped(_)));
    let map_twice = complain(&|_| (), &|map, checker| {
        map.map(at(0x4000, PAGE), &mut watch(&mut NoHooks, checker)).unwrap();
        map.unmap(0x4000, PAGE, &mut NoHooks).unwrap();
        map.map(at(0x4000, PAGE), &mut watch(&mut NoHooks, checker)).unwrap();
    });
    assert!(matches!(map_twice, Complaint::Overlap(_)));
}

/// Frames are freed in `release`: before the flush has ended, that is too early.
#[test]
fn a_release_before_the_flush_has_ended_is_complained_of() {
    use kvma::hooks::RemovedVma;
    use kvma::{Event, Piece};

    /// Leaves the end of the flush out.
    struct Deaf<'a>(&'a mut Checker);

    impl Hooks<()> for Deaf<'_> {
        type Error = kvma::Error;

        fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
            kvma::watch::Watcher::event(self.0, &Event::Unmap(*piece));
        }

        fn release(&mut self, removed: RemovedVma<()>) {
            kvma::watch::Watcher::release(self.0, &removed);
        }
    }

    let mut map = new_map();
    map.map(at(0x4000, PAGE), &mut NoHooks).unwrap();
    let mut checker = Checker::of(&map);
    map.unmap(0x4000, PAGE, &mut Deaf(&mut checker)).unwrap();
    assert!(matches!(checker.complaint(), Some(Complaint::Released(_))));
}
