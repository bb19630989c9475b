//! A sandbox like those of LFI: 4 GiB of addresses at a multiple of 4 GiB, with guards at both
//! ends. A program can map what it likes inside, and nothing outside. When it ends, the sandbox is
//! reset to what was loaded.
//!
//! `cargo run --example sandbox` exits with 0 only if nothing was ever mapped outside the sandbox,
//! and the sandbox is clean after each program.

#[path = "host/mod.rs"]
mod host;

use std::io;

use kvma::compat::{Info, Mappings, UpdateFn};
use kvma::{AddrSpace, Attrs, Error, Heap, NoHooks, Prot, VmRange};

use self::host::{Host, Source};

const BOX: u64 = 4 << 30;
/// Lies between the sandbox and its neighbours: a wild access with a small offset ends here.
const GUARD: u64 = 80 << 10;

struct Sandbox {
    host: Host,
    space: AddrSpace<Mappings<(), Heap>>,
}

impl Sandbox {
    fn new() -> Result<Sandbox, Box<dyn std::error::Error>> {
        let host = Host::reserve(BOX, BOX)?;
        let page = host::page_size();
        let guard = GUARD.next_multiple_of(page.bytes());
        // The space lies between the guards, so that nothing else can be mapped.
        let inside = host.start() + guard..=host.start() + BOX - guard - 1;
        let space = AddrSpace::new(Mappings::new(inside, page, Heap)?);
        Ok(Sandbox { host, space })
    }

    /// The program's mmap.
    fn mmap(&self, hint: Option<u64>, len: u64, prot: Prot) -> Result<u64, Error> {
        // A mapping in a gap replaces nothing, so there is nothing to hear.
        let at = self.space.map_any(hint, len, Attrs::new(prot), (), &mut NoHooks)?;
        self.must(self.host.map(at, len, prot, Source::Zeroes));
        Ok(at)
    }

    /// The program's munmap. Each part of a mapping that goes is one callback.
    fn munmap(&self, addr: u64, len: u64) -> Result<u64, Error> {
        self.space.unmap(addr, len, &mut UpdateFn(|range, _: Info<'_>| self.really_unmap(range)))
    }

    /// The program's mprotect.
    fn mprotect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), Error> {
        let protect = |range: VmRange, _: Info<'_>| {
            self.must(self.host.protect(range.start(), range.len().unwrap_or(0), prot));
        };
        self.space.protect(addr, len, prot, &mut UpdateFn(protect))
    }

    /// Unmaps everything that the program has mapped.
    fn reset(&self) -> Result<u64, Error> {
        self.space.unmap_non_original(&mut UpdateFn(|range, _: Info<'_>| self.really_unmap(range)))
    }

    fn really_unmap(&self, range: VmRange) {
        self.must(self.host.unmap(range.start(), range.len().unwrap_or(0)));
    }

    /// Ends the process if a call on the sandbox's own memory has failed: its walls may not hold.
    fn must(&self, result: io::Result<()>) {
        if let Err(error) = result {
            eprintln!("the sandbox is broken: {error}");
            std::process::exit(1);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::new()?;
    let (host, page) = (&sandbox.host, host::page_size().bytes());
    assert_eq!(host.start() % BOX, 0);

    // What the loader maps is original.
    let code = sandbox.mmap(None, 16 * page, Prot::RW)?;
    host.poke(code, b"the program")?;
    sandbox.mprotect(code, 16 * page, Prot::READ)?;
    sandbox.space.mark_original()?;

    for program in 1..=3 {
        // It maps here and there, and tries to get out.
        let heap = sandbox.mmap(None, 64 * page, Prot::RW)?;
        let far = sandbox.mmap(Some(host.start() + BOX / 2), 4 * page, Prot::RW)?;
        assert_eq!(far, host.start() + BOX / 2);
        host.poke(heap, b"secret of this program")?;
        sandbox.munmap(heap + 8 * page, 8 * page)?;
        assert!(host.faults(host.poke(heap + 8 * page, b"gone")));
        for outside in
            [0, host.start(), host.start() + BOX - page, host.start() + BOX, u64::MAX - page + 1]
        {
            assert!(sandbox.munmap(outside, page).is_err());
            assert!(sandbox.mprotect(outside, page, Prot::RW).is_err());
            let inside = |at: u64| at > host.start() && at < host.start() + BOX;
            let at = sandbox.mmap(Some(outside), page, Prot::READ)?;
            assert!(inside(at) && inside(at + page));
        }
        assert_eq!(sandbox.mmap(None, BOX, Prot::RW), Err(Error::NoSpace));

        let bytes = sandbox.reset()?;
        println!("program {program}: {} KiB mapped, all gone", bytes >> 10);
        assert!(host.faults(host.peek(heap, &mut [0])) && host.faults(host.peek(far, &mut [0])));
        let mut loaded = [0; 11];
        host.peek(code, &mut loaded)?;
        assert_eq!(&loaded, b"the program");
        assert!(host.faults(host.poke(code, b"changed")));
        assert_eq!(sandbox.space.inspect(|space| space.vm_map().len()), 1);
    }
    Ok(())
}
