//! Bytes that are to be a maps file, a line of smaps, or a trace: readers must refuse them or agree
//! with each other.

use kvma::linux::maps::{self, MapsLine};
use kvma::{Heap, PageSize, Plain, VmMap};
use kvma_trace::{Parser, Replay};

/// Runs one input.
pub fn run(input: &[u8]) {
    read_maps(input);
    if let Ok(text) = std::str::from_utf8(input) {
        // Bytes and texts are read alike.
        let lines =
            maps::parse(text).map(|line| line.map(|line| (line.start, line.end, line.inode)));
        let bytes = maps::parse_bytes(input)
            .map(|line| line.map(|line| (line.start, line.end, line.inode)));
        assert!(lines.eq(bytes));
        let _ = (maps::object(text), maps::vm_flags(text), MapsLine::parse(text));
        replay(text);
    }
}

/// Adopts a maps file: into no space do VMAs go that a line does not have.
fn read_maps(input: &[u8]) {
    let whole = VmMap::<Plain<u64>, _>::new(0..=u64::MAX, PageSize::SIZE_4K, Heap).unwrap();
    let part =
        VmMap::<Plain<u64>, _>::new(0x1000..=0x7fff_ffff_ffff, PageSize::SIZE_4K, Heap).unwrap();
    for mut map in [whole, part] {
        let adopted = map.adopt_maps_bytes(input, |line, attrs| (attrs, Plain(line.start)));
        map.check().unwrap();
        let Ok(count) = adopted else {
            assert!(map.is_empty(), "a file that was refused has left VMAs");
            continue;
        };
        assert_eq!(map.len(), count);
        for vma in &map {
            assert_eq!(vma.data().0, vma.start());
        }
    }
}

/// Replays a trace as far as it makes sense.
fn replay(text: &str) {
    let mut replay = Replay::new(Heap).unwrap();
    for entry in Parser::new(text).take(100) {
        let Ok(entry) = entry else { return };
        let _ = entry.input();
        if replay.step(&entry.line, &mut kvma::linux::NoKernel).is_err() {
            return;
        }
        replay.mm().check().unwrap();
    }
}
