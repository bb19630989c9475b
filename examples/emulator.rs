//! A user-space emulator. The guest's addresses from 0x10000 on lie in a reserved range of this
//! process, and the hooks make the real mmap, munmap and mprotect. Each run of the guest wrecks its
//! memory; `restore` brings it back for the next run, as in a fuzzer that resets its target.
//!
//! `cargo run --example emulator` exits with 0 only if memory and rights are what they were, byte
//! for byte.

#[path = "host/mod.rs"]
mod host;

use std::io;
use std::os::fd::OwnedFd;

use kvma::compat::{Mappings, Origin};
use kvma::{Attrs, Backing, Error, Heap, Hooks, Piece, Prot, VmRange};

use self::host::{Host, Source};

const GUEST: u64 = 0x10000;
const PAGES: u64 = 256;

/// Makes the changes of the map in real memory.
struct Machine {
    host: Host,
    image: OwnedFd,
    /// Hooks cannot fail any more when they change memory, so the first error waits here.
    failed: Option<io::Error>,
    calls: usize,
}

impl Machine {
    fn host_range(&self, range: VmRange) -> (u64, u64) {
        (range.start() - GUEST + self.host.start(), range.len().expect("less than 2^64"))
    }

    fn note(&mut self, result: io::Result<()>) {
        self.calls += 1;
        self.failed = self.failed.take().or(result.err());
    }
}

impl Hooks<Origin> for Machine {
    type Error = Error;

    fn on_map(&mut self, piece: &Piece<'_, Origin>) {
        let (addr, len) = self.host_range(piece.range());
        let source = match piece.attrs().backing() {
            Backing::Anonymous => Source::Zeroes,
            // The offset is that of this very piece.
            Backing::Object { offset, .. } => Source::File(&self.image, offset),
        };
        let result = self.host.map(addr, len, piece.attrs().prot(), source);
        self.note(result);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Origin>) {
        let (addr, len) = self.host_range(piece.range());
        let result = self.host.unmap(addr, len);
        self.note(result);
    }

    fn on_protect(&mut self, piece: &Piece<'_, Origin>, _old: &Attrs) {
        let (addr, len) = self.host_range(piece.range());
        let result = self.host.protect(addr, len, piece.attrs().prot());
        self.note(result);
    }
}

type Guest = Mappings<(), Heap>;

/// Reads the contents of every region, whatever its rights.
fn contents(guest: &Guest, machine: &Machine) -> io::Result<Vec<(VmRange, Vec<u8>)>> {
    let save = |range: VmRange, prot: Prot| {
        let (addr, len) = machine.host_range(range);
        let mut bytes = vec![0; len as usize];
        machine.host.protect(addr, len, prot | Prot::READ)?;
        machine.host.peek(addr, &mut bytes)?;
        machine.host.protect(addr, len, prot)?;
        Ok((range, bytes))
    };
    guest.vm_map().iter().map(|vma| save(vma.range(), vma.prot())).collect()
}

/// Runs the guest's program, which maps, unmaps, protects and writes what it likes.
fn run(
    guest: &mut Guest,
    machine: &mut Machine,
    page: u64,
    run: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let poke = |machine: &Machine, addr: u64, bytes: &[u8]| {
        machine.host.poke(addr - GUEST + machine.host.start(), bytes)
    };
    let mut update = guest.update(machine);
    let heap = guest.map_any(None, 8 * page, Attrs::new(Prot::RW), (), &mut update)?;
    // Out of the middle of the image.
    guest.unmap(GUEST + 2 * page, 3 * page, &mut update)?;
    // Data becomes read-only.
    guest.protect(GUEST + 8 * page, 4 * page, Prot::READ, &mut update)?;
    // Over the end of the stack.
    guest.map_at(GUEST + 13 * page, 6 * page, Attrs::new(Prot::RW), (), &mut update)?;
    update.finish();
    poke(machine, heap, format!("heap of run {run}").as_bytes())?;
    poke(machine, GUEST + 15 * page, b"over the stack")?;
    poke(machine, GUEST + 12 * page, b"into the stack")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let page_size = host::page_size();
    let page = page_size.bytes();
    let image: Vec<u8> = (0..8 * page).map(|at| (at / page) as u8 + 1).collect();
    let host = Host::reserve(PAGES * page, page)?;
    let mut machine = Machine { host, image: host::memory_file(&image)?, failed: None, calls: 0 };
    let mut guest = Guest::new(GUEST..=GUEST + PAGES * page - 1, page_size, Heap)?;

    // Code from a file, data, a stack.
    let code = Attrs::new(Prot::RX).with_backing(Backing::Object { id: 1, offset: 0 });
    let mut update = guest.update(&mut machine);
    guest.map_at(GUEST, 8 * page, code, (), &mut update)?;
    guest.map_at(GUEST + 8 * page, 4 * page, Attrs::new(Prot::RW), (), &mut update)?;
    guest.map_at(GUEST + 12 * page, 4 * page, Attrs::new(Prot::RW), (), &mut update)?;
    update.finish();
    machine.host.poke(machine.host.start() + 9 * page, b"data")?;

    let saved = guest.checkpoint()?;
    let bytes = contents(&guest, &machine)?;
    for count in 1..=3 {
        run(&mut guest, &mut machine, page, count)?;
        assert!(
            machine.host.agrees(guest.vm_map(), machine.host.start() - GUEST),
            "rights while it runs"
        );
        assert_ne!(contents(&guest, &machine)?, bytes, "the run has changed memory");

        let calls = machine.calls;
        guest.restore(&saved, &mut machine)?;
        let calls = machine.calls - calls;
        // Pages that were there all along still hold what was written to them, which only we can
        // undo.
        for (range, bytes) in &bytes {
            let (addr, len) = machine.host_range(*range);
            let prot = guest.vm_map().find(range.start()).expect("restored").prot();
            machine.host.protect(addr, len, Prot::RW)?;
            machine.host.poke(addr, bytes)?;
            machine.host.protect(addr, len, prot)?;
        }
        assert!(
            machine.host.agrees(guest.vm_map(), machine.host.start() - GUEST),
            "rights as they were"
        );
        assert_eq!(contents(&guest, &machine)?, bytes, "bytes as they were");
        println!("run {count}: reset with {calls} calls of mmap, munmap and mprotect");
    }
    match machine.failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
