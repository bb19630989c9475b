//! Mappings whose pages may be missing: they are accessed by [probes](crate::probe) alone.

use linux_raw_sys::general::{
    __NR_madvise, __NR_mmap, __NR_mprotect, __NR_mremap, __NR_munmap, MAP_ANONYMOUS, MAP_PRIVATE,
    MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

use crate::console::println;
use crate::system::{File, succeeded};
use crate::{arch, probe, signals};

pub const PAGE: usize = 4096;
/// The places in a page of the word with the instruction that returns, and of the instruction.
const RET_WORD_AT: usize = PAGE - 8;
const RET_AT: usize = RET_WORD_AT + probe::RET_OFFSET as usize;

/// Rights.
#[derive(Clone, Copy)]
pub enum Rights {
    None = PROT_NONE as isize,
    Read = PROT_READ as isize,
    ReadAndWrite = (PROT_READ | PROT_WRITE) as isize,
    ReadAndExecute = (PROT_READ | PROT_EXEC) as isize,
}

/// Who sees what is stored.
#[derive(Clone, Copy)]
pub enum Sharing {
    Private = MAP_PRIVATE as isize,
    Shared = MAP_SHARED as isize,
}

/// Addresses that were mapped. They may have been unmapped since.
#[derive(Clone, Copy)]
pub struct Mapping {
    start: usize,
    len: usize,
}

impl Mapping {
    /// Maps memory that can be read and written, and nobody else sees.
    pub fn private(len: usize) -> Self {
        Self::new(len, Rights::ReadAndWrite, Sharing::Private, None)
    }

    /// Maps memory that children share.
    pub fn shared(len: usize) -> Self {
        Self::new(len, Rights::ReadAndWrite, Sharing::Shared, None)
    }

    pub fn new(len: usize, rights: Rights, sharing: Sharing, file: Option<&File>) -> Self {
        let (anonymous, file) = match file {
            Some(file) => (0, file.0),
            None => (MAP_ANONYMOUS as usize, usize::MAX),
        };
        let arguments = [0, len, rights as usize, sharing as usize | anonymous, file, 0];
        // SAFETY: new addresses, which nothing else uses.
        let start = succeeded("mmap", unsafe { arch::call(__NR_mmap, arguments) });
        Self { start, len }
    }

    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns a part of it.
    pub fn part(&self, offset: usize, len: usize) -> Self {
        assert!(offset + len <= self.len);
        Self { start: self.start + offset, len }
    }

    /// Loads the word at an offset. `None` if that is refused.
    pub fn load(&self, offset: usize) -> Option<u64> {
        // SAFETY: nothing but probes accesses these addresses.
        unsafe { probe::load(self.start + offset) }
    }

    /// Stores to the word at an offset. False if that is refused.
    pub fn store(&self, offset: usize, value: u64) -> bool {
        // SAFETY: as in `load`.
        unsafe { probe::store(self.start + offset, value) }
    }

    /// Puts an instruction that returns into a page.
    pub fn make_code(&self, page: usize) {
        assert!(self.store(page * PAGE + RET_WORD_AT, probe::RET), "code is refused");
    }

    /// Executes the code of a page. False if that is refused.
    pub fn fetch(&self, page: usize) -> bool {
        // SAFETY: it was put there, or nothing is.
        unsafe { probe::fetch(self.code(page)) }
    }

    /// Returns the address of the code of a page.
    pub fn code(&self, page: usize) -> usize {
        self.start + page * PAGE + RET_AT
    }

    pub fn protect(&self, rights: Rights) {
        self.change("mprotect", __NR_mprotect, [rights as usize, 0, 0]);
    }

    pub fn advise(&self, advice: u32) {
        self.change("madvise", __NR_madvise, [advice as usize, 0, 0]);
    }

    pub fn unmap(&self) {
        self.change("munmap", __NR_munmap, [0; 3]);
    }

    /// Moves it to where another is, whose memory goes.
    pub fn move_to(&self, other: Self) {
        assert!(other.len == self.len);
        let flags = (MREMAP_MAYMOVE | MREMAP_FIXED) as usize;
        self.change("mremap", __NR_mremap, [self.len, flags, other.start]);
    }

    fn change(&self, name: &str, number: u32, [a, b, c]: [usize; 3]) {
        // SAFETY: nothing but probes accesses these addresses.
        let answer = unsafe { arch::call(number, [self.start, self.len, a, b, c, 0]) };
        succeeded(name, answer);
    }

    /// Prints how a load at an offset ends.
    pub fn show_load(&self, what: &str, offset: usize) {
        let loaded = self.load(offset);
        show(what, self.start + offset, loaded);
    }

    /// Prints how a store at an offset ends.
    pub fn show_store(&self, what: &str, offset: usize) {
        let stored = self.store(offset, 1).then_some(1);
        show(what, self.start + offset, stored);
    }

    /// Prints how a fetch from a page ends.
    pub fn show_fetch(&self, what: &str, page: usize) {
        let fetched = self.fetch(page).then_some(0);
        show(what, self.code(page), fetched);
    }
}

/// Prints how an access has ended: with a word, or refused.
fn show(what: &str, address: usize, word: Option<u64>) {
    if let Some(word) = word {
        println!("{what}: made, {word}");
        return;
    }
    let caught = signals::last();
    println!(
        "{what}: signal {}, code {}, {} address, {} stack",
        caught.signal,
        caught.code,
        if caught.address == address { "its" } else { "another" },
        if caught.on_its_stack { "its" } else { "another" },
    );
}
