//! The output of a recorder is a trace: replayed, it makes the same address space.

use std::sync::Arc;

use kvma::addr_space::HasVmMap;
use kvma::linux::NoKernel;
use kvma::vm_map::SourceRange;
use kvma::watch::{Recorder, watch};
use kvma::{
    Attrs, Backing, BoxAlloc, Heap, MapRequest, Merge, NoHooks, PageSize, Placement, Prot, VmMap,
};
use kvma_test_support::Random;
use kvma_trace::{Entry, Parser, Replay};

const PAGE: u64 = 0x1000;
const START: u64 = 0x10_0000;
const PAGES: u64 = 64;

/// A map as lines: start, length, rights, offset.
type Lines = Vec<(u64, u64, String, Option<u64>)>;

/// Joins neighbours that differ in nothing else: a trace does not tell which of them merge.
fn joined(lines: Lines) -> Lines {
    let mut joined: Lines = Vec::new();
    for line in lines {
        match joined.last_mut() {
            Some(last)
                if last.0 + last.1 == line.0
                    && last.2 == line.2
                    && last.3.map(|offset| offset + last.1) == line.3 =>
            {
                last.1 += line.1;
            }
            _ => joined.push(line),
        }
    }
    joined
}

#[test]
fn a_replayed_recording_makes_the_same_map() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let space = START..=START + PAGES * PAGE - 1;
        let mut map = VmMap::<(), _>::new(space, PageSize::SIZE_4K, Heap).unwrap();
        let mut recorder = Recorder::<4096>::new();
        for _ in 0..200 {
            let page = random.below(PAGES - 8);
            let (addr, len) = (START + page * PAGE, (1 + random.below(8)) * PAGE);
            let prot = random.pick(&[Prot::RW, Prot::READ, Prot::RX, Prot::NONE]);
            let attrs = match random.below(3) {
                0 => Attrs::new(prot)
                    .with_backing(Backing::Object { id: 1 + random.below(2), offset: page * PAGE }),
                _ => Attrs::new(prot),
            };
            let mut none = NoHooks;
            let mut hooks = watch(&mut none, &mut recorder);
            match random.below(4) {
                0 | 1 => {
                    map.map(MapRequest::new(Placement::Fixed(addr), len, attrs), &mut hooks)
                        .unwrap();
                }
                2 => {
                    map.unmap(addr, len, &mut hooks).unwrap();
                }
                _ if random.one_in(3) => {
                    let to = START + random.below(PAGES - 8) * PAGE;
                    let keep = SourceRange::Unmap;
                    // Refused where the target is in use, which is nothing to record.
                    let _ = map.relocate(addr, len, to, keep, Merge::Both, &mut hooks);
                }
                _ => {
                    let _ = map.protect(addr, len, prot, &mut hooks);
                }
            }
        }
        assert_eq!(recorder.forgotten(), 0);
        let text = recorder.trace().to_string();
        let ours = map.iter().map(|vma| {
            let offset = match vma.attrs().backing() {
                Backing::Object { offset, .. } => Some(offset),
                Backing::Anonymous => None,
            };
            (vma.start(), vma.len().unwrap(), vma.prot().to_string(), offset)
        });
        let nodes = Arc::new(BoxAlloc::new());
        let mut replay = Replay::new(nodes).unwrap();
        for entry in Parser::new(&text) {
            let Entry { line, .. } = entry.unwrap();
            replay.step(&line, &mut NoKernel).unwrap();
        }
        let theirs = replay.mm().vm_map().iter().map(|vma| {
            let offset = match vma.attrs().backing() {
                Backing::Object { offset, .. } => Some(offset),
                Backing::Anonymous => None,
            };
            (vma.start(), vma.len().unwrap(), vma.prot().to_string(), offset)
        });
        assert_eq!(joined(theirs.collect()), joined(ours.collect()), "{text}");
    }
}
