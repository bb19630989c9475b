//! Watchers around hooks: what they hear, and what they find out.

mod checker;
mod recorder;

use kvma::hooks::RemovedVma;
use kvma::watch::{Counts, Log, Recorder, Refusals, Step, Watcher, watch};
use kvma::{
    AddrSpace, Attrs, Error, Event, FixedPool, Heap, Hooks, MapRequest, NoHooks, PageSize, Piece,
    Placement, Prot, VmMap, VmaNode, on_event,
};

const PAGE: u64 = 0x1000;

fn new_map() -> VmMap<(), Heap> {
    VmMap::new(0..=0xff_ffff, PageSize::SIZE_4K, Heap).unwrap()
}

fn request(addr: u64, pages: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(addr), pages * PAGE, Attrs::new(prot))
}

/// Hooks that refuse to prepare for mappings of one page, and write down what they hear.
#[derive(Default)]
struct Kernel {
    heard: Vec<String>,
}

impl Hooks<()> for Kernel {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, ()>) -> Result<(), Error> {
        match event {
            Event::Map(piece) if piece.range().page_count() == 1 => Err(Error::NoSpace),
            _ => Ok(()),
        }
    }

    fn cancel(&mut self, _event: &Event<'_, ()>) {
        self.heard.push("cancel".into());
    }

    fn on_map(&mut self, piece: &Piece<'_, ()>) {
        self.heard.push(format!("map {:x}", piece.range().start()));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        self.heard.push(format!("unmap {:x}", piece.range().start()));
    }

    fn flush_begin(&mut self) {
        self.heard.push("begin".into());
    }

    fn flush_wait(&mut self) {
        self.heard.push("wait".into());
    }

    fn release(&mut self, removed: RemovedVma<()>) {
        self.heard.push(format!("release {:x}", removed.range().start()));
    }
}

#[test]
fn hooks_hear_what_they_would_without_a_watcher() {
    let run = |is_watched: bool| {
        let (mut map, mut kernel, mut counts) = (new_map(), Kernel::default(), Counts::new());
        let mut go = |request: MapRequest| {
            let hooks = &mut kernel;
            if is_watched {
                map.map(request, &mut watch(hooks, &mut counts))
            } else {
                map.map(request, hooks)
            }
        };
        assert_eq!(go(request(0x4000, 4, Prot::RW)), Ok(0x4000));
        assert_eq!(go(request(0x5000, 2, Prot::READ)), Ok(0x5000));
        assert_eq!(go(request(0x5000, 1, Prot::READ)), Err(Error::NoSpace));
        kernel.heard
    };
    assert_eq!(run(true), run(false));
    assert_eq!(run(true).last().unwrap(), "cancel");
}

#[test]
fn counts_tell_refusals_from_cancellations() {
    let (mut map, mut kernel, mut counts) = (new_map(), Kernel::default(), Counts::new());
    map.map(request(0x4000, 4, Prot::RW), &mut NoHooks).unwrap();
    let refused = map.map(request(0x5000, 1, Prot::READ), &mut watch(&mut kernel, &mut counts));
    assert_eq!(refused, Err(Error::NoSpace));
    assert_eq!((counts.prepares(), counts.refusals(), counts.cancels()), (2, 1, 1));
    assert_eq!((counts.maps(), counts.unmaps(), counts.flushes()), (0, 0, 0));
    map.unmap(0x5000, PAGE, &mut watch(&mut kernel, &mut counts)).unwrap();
    assert_eq!((counts.unmapped_bytes(), counts.waits(), counts.released()), (PAGE, 1, 1));
    let advice = kvma::hooks::Advice::WillNeed;
    map.advise(0x4000, PAGE, advice, &mut watch(&mut kernel, &mut counts)).unwrap();
    assert_eq!(counts.advice(), 1);
    assert!(counts.to_string().contains("1 unmapped (0x1000 bytes)"), "{counts}");
}

/// No event is worked out beforehand if neither the hooks nor the watcher prepare.
#[test]
fn a_watcher_that_does_not_prepare_costs_no_events() {
    let mut recorder = Recorder::<8>::new();
    let mut hooks = NoHooks;
    let watched = watch(&mut hooks, &mut recorder);
    assert!(!Hooks::<()>::prepares(&watched));
    let mut counts = Counts::new();
    assert!(Hooks::<()>::prepares(&watch(&mut hooks, &mut counts)));
}

#[test]
fn watchers_stand_around_one_another() {
    let (mut map, mut counts, mut recorder) = (new_map(), Counts::new(), Recorder::<8>::new());
    let mut mapped = 0;
    let mut hooks = on_event(|_: Event<'_, ()>| mapped += 1);
    let mut inner = watch(&mut hooks, &mut counts);
    map.map(request(0x4000, 4, Prot::RW), &mut watch(&mut inner, &mut recorder)).unwrap();
    assert_eq!((mapped, counts.maps(), recorder.steps().count()), (1, 1, 1));
}

#[test]
fn a_space_takes_watched_hooks() {
    static NODES: FixedPool<VmaNode, 16> = FixedPool::new();
    let map = VmMap::<(), _>::new(0..=0xff_ffff, PageSize::SIZE_4K, &NODES).unwrap();
    let space = AddrSpace::new(map);
    let (mut counts, mut refusals) = (Counts::new(), Refusals::nth(0));
    space.map(request(0x4000, 4, Prot::RW), &mut watch(&mut NoHooks, &mut counts)).unwrap();
    let refused = space.unmap(0x5000, PAGE, &mut watch(&mut NoHooks, &mut refusals));
    assert_eq!((refused, refusals.refused()), (Err(Error::OutOfMemory), 1));
    space.unmap(0x5000, PAGE, &mut watch(&mut NoHooks, &mut refusals)).unwrap();
    assert_eq!(space.inspect(VmMap::len), 2);
}

#[test]
fn refusals_repeat_with_their_seed() {
    let run = |times, seed| {
        let (mut map, mut refusals) = (new_map(), Refusals::one_in(times, seed));
        let results = (0..200).map(|at| {
            let request = request(at * PAGE, 1, Prot::RW);
            map.map(request, &mut watch(&mut NoHooks, &mut refusals)).is_ok()
        });
        let results: Vec<_> = results.collect();
        let refused = results.iter().filter(|&&fine| !fine).count();
        assert_eq!(refused as u64, refusals.refused());
        results
    };
    assert_eq!(run(4, 1), run(4, 1));
    assert_ne!(run(4, 1), run(4, 2));
    assert!(run(0, 1).iter().all(|&fine| fine) && run(1, 1).iter().all(|&fine| !fine));
    let refused = run(4, 3).iter().filter(|&&fine| !fine).count();
    assert!((20..80).contains(&refused), "{refused} of 200");
}

/// A logger that keeps what it is given.
struct Lines(std::sync::Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[test]
fn each_step_is_a_line_of_the_log() {
    static LINES: Lines = Lines(std::sync::Mutex::new(Vec::new()));
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let (mut map, mut kernel) = (new_map(), Kernel::default());
    map.map(request(0x4000, 4, Prot::RW), &mut watch(&mut kernel, &mut Log)).unwrap();
    map.protect(0x5000, PAGE, Prot::READ, &mut watch(&mut kernel, &mut Log)).unwrap();
    map.map(request(0x5000, 1, Prot::RX), &mut watch(&mut kernel, &mut Log)).unwrap_err();
    map.advise(0x4000, PAGE, kvma::hooks::Advice::Free, &mut watch(&mut kernel, &mut Log)).unwrap();
    let lines = LINES.0.lock().unwrap();
    let expected = [
        "DEBUG kvma: map 0x4000..=0x7fff rw-",
        "DEBUG kvma: protect 0x5000..=0x5fff r-- after rw-",
        "DEBUG kvma: flush begins",
        "DEBUG kvma: flush has ended",
        "DEBUG kvma: refused 0x5000..=0x5fff",
        "DEBUG kvma: cancel 0x5000..=0x5fff",
        "DEBUG kvma: Free 0x4000..=0x4fff",
    ];
    assert_eq!(lines[..7], expected);
}

/// A watcher as a kernel writes it for itself.
#[test]
fn a_watcher_of_ones_own_says_what_it_wants_to_hear() {
    #[derive(Default)]
    struct LargestMapping(u64);

    impl<V> Watcher<V> for LargestMapping {
        fn event(&mut self, event: &Event<'_, V>) {
            if let Event::Map(piece) = event {
                self.0 = self.0.max(piece.range().page_count());
            }
        }
    }

    let (mut map, mut largest) = (new_map(), LargestMapping::default());
    for (addr, pages) in [(0x1000, 3), (0x8000, 7), (0x4000, 1)] {
        map.map(request(addr, pages, Prot::RW), &mut watch(&mut NoHooks, &mut largest)).unwrap();
    }
    assert_eq!(largest.0, 7);
}

#[test]
fn a_ring_keeps_the_last_steps() {
    let (mut map, mut recorder) = (new_map(), Recorder::<4>::new());
    for at in 0..6 {
        let request = request(at * 2 * PAGE, 1, Prot::RW);
        map.map(request, &mut watch(&mut NoHooks, &mut recorder)).unwrap();
    }
    assert_eq!(recorder.forgotten(), 2);
    let starts: Vec<_> = recorder
        .steps()
        .map(|step| match step {
            Step::Map { range, .. } => range.start() / PAGE,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(starts, [4, 6, 8, 10]);
    assert!(recorder.trace().to_string().starts_with("# 2 older steps are missing\nexec\n"));
    recorder.clear();
    assert_eq!((recorder.steps().count(), recorder.forgotten()), (0, 0));
}
