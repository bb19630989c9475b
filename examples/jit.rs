//! A JIT under W^X: code is written while its pages are writable and run while they are executable,
//! never both. The hooks hear when a range gains `EXEC`, which is when the instruction cache must
//! see what was written. Memory that was not made for a JIT cannot become code.
//!
//! `cargo run --example jit` exits with 0 only if the code returns what it was compiled to, before
//! and after it is patched.

#[path = "host/mod.rs"]
mod host;

use std::io;

use kvma::compat::{MapOptions, WriteXorExec};
use kvma::{Attrs, Error, Event, Heap, Hooks, Piece, Prot, VmMap};

use self::host::{Host, Source};

struct Machine {
    host: Host,
    failed: Option<io::Error>,
    /// How often the instruction cache was flushed.
    flushes: usize,
}

impl Machine {
    fn note(&mut self, event: Event<'_, ()>, result: io::Result<()>) {
        self.failed = self.failed.take().or(result.err());
        if let Some(range) = event.gains_exec() {
            flush_instructions(range.start(), range.last());
            self.flushes += 1;
        }
    }
}

impl Hooks<()> for Machine {
    type Error = Error;

    fn on_map(&mut self, piece: &Piece<'_, ()>) {
        let (start, len) = (piece.range().start(), piece.range().len().unwrap_or(0));
        let result = self.host.map(start, len, piece.attrs().prot(), Source::Zeroes);
        self.note(Event::Map(*piece), result);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        let result = self.host.unmap(piece.range().start(), piece.range().len().unwrap_or(0));
        self.note(Event::Unmap(*piece), result);
    }

    fn on_protect(&mut self, piece: &Piece<'_, ()>, old: &Attrs) {
        let (start, len) = (piece.range().start(), piece.range().len().unwrap_or(0));
        let result = self.host.protect(start, len, piece.attrs().prot());
        self.note(Event::Protect { piece: *piece, old: *old }, result);
    }
}

/// Returns the machine code of a function that returns `number`.
#[cfg(target_arch = "x86_64")]
fn compile(number: u16) -> Vec<u8> {
    let mut code = vec![0xb8]; // mov eax, imm32
    code.extend(u32::from(number).to_le_bytes());
    code.push(0xc3); // ret
    code
}

/// Returns the machine code of a function that returns `number`.
#[cfg(target_arch = "aarch64")]
fn compile(number: u16) -> Vec<u8> {
    let mov = 0x5280_0000u32 | u32::from(number) << 5; // mov w0, imm16
    [mov.to_le_bytes(), 0xd65f_03c0u32.to_le_bytes()].concat() // ret
}

/// Does nothing: on x86-64 instruction fetches see stores (Intel SDM vol. 3, 13.6 "Self-modifying
/// code").
#[cfg(target_arch = "x86_64")]
fn flush_instructions(_first: u64, _last: u64) {}

/// Cleans the data cache, then drops the lines of the instruction cache (Arm ARM, B2.4 "Caches and
/// memory hierarchy"). No line is shorter than 16 bytes.
#[cfg(target_arch = "aarch64")]
fn flush_instructions(first: u64, last: u64) {
    for line in (first & !15..=last).step_by(16) {
        // SAFETY: cleans a line of memory that is mapped; changes nothing.
        unsafe { std::arch::asm!("dc cvau, {0}", in(reg) line) };
    }
    // SAFETY: as above.
    unsafe { std::arch::asm!("dsb ish") };
    for line in (first & !15..=last).step_by(16) {
        // SAFETY: as above.
        unsafe { std::arch::asm!("ic ivau, {0}", in(reg) line) };
    }
    // SAFETY: as above.
    unsafe { std::arch::asm!("dsb ish", "isb") };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let page_size = host::page_size();
    let page = page_size.bytes();
    let host = Host::reserve(16 * page, page)?;
    let mut map = VmMap::<(), _>::new(host.space(), page_size, Heap)?;
    // W^X is a hook around the machine, which refuses before anything happens.
    let mut machine = WriteXorExec(Machine { host, failed: None, flushes: 0 });

    let arena = MapOptions::new(4 * page).prot(Prot::RW).jit().no_core_dump().request(page_size)?;
    let code = map.map(arena, &mut machine)?;
    for number in [42, 4711] {
        map.protect(code, page, Prot::RW, &mut machine)?;
        machine.0.host.poke(code, &compile(number))?;
        map.protect(code, page, Prot::RX, &mut machine)?;
        assert!(machine.0.host.faults(machine.0.host.poke(code, &[0])), "code is not writable");
        // SAFETY: the page holds a function of this type and is executable, and the caches have
        // been flushed.
        let function = unsafe { std::mem::transmute::<u64, extern "C" fn() -> u32>(code) };
        println!("compiled to return {number}: {}", function());
        assert_eq!(function(), u32::from(number));
    }
    assert_eq!(machine.0.flushes, 2);

    // Data of the program never becomes code, whatever is written there.
    let data = MapOptions::new(page).prot(Prot::RW).request(page_size)?;
    let data = map.map(data, &mut machine)?;
    let refused = map.protect(data, page, Prot::RX, &mut machine);
    assert_eq!(refused, Err(Error::WriteXorExec));
    assert!(machine.0.host.agrees(&map, 0));
    match machine.0.failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() {
    println!("no code generator for this processor");
}
