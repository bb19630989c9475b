//! The files that Linux begins with, and their way into its RAM.
//!
//! They come in an archive, each under a name that says what it is and at which guest-physical
//! address it goes: `kernel-40200000`, `initrd-48000000`, `tree-4f000000`. The device tree says how
//! much RAM there is, and where the serial port is.

use core::ops::Range;

use fdt::Fdt;
use kvma::guest::Access;

use super::machine::{Entry, Linux};
use crate::fault::Next;
use crate::frames::{self, FRAME_SIZE};

/// A file, and where it goes.
#[derive(Clone, Copy)]
struct File<'a> {
    gpa: u64,
    contents: &'a [u8],
}

/// The files of an archive.
pub struct Files<'a> {
    kernel: File<'a>,
    initrd: File<'a>,
    tree: File<'a>,
}

impl<'a> Files<'a> {
    /// Finds the files.
    ///
    /// # Panics
    ///
    /// If one is missing.
    pub fn new(archive: &'a [u8]) -> Self {
        let find = |name: &str| {
            let file = cpio_reader::iter_files(archive).find_map(|entry| {
                let address = entry.name().strip_prefix(name)?.strip_prefix('-')?;
                let gpa = u64::from_str_radix(address, 16).ok()?;
                Some(File { gpa, contents: entry.file() })
            });
            file.unwrap_or_else(|| panic!("the archive has no {name}"))
        };
        Self { kernel: find("kernel"), initrd: find("initrd"), tree: find("tree") }
    }

    /// Returns where the guest finds RAM, and its serial port.
    ///
    /// # Panics
    ///
    /// If the device tree does not say so.
    pub fn machine(&self) -> (Range<u64>, Range<u64>) {
        let Ok(tree) = Fdt::new(self.tree.contents) else { panic!("no device tree") };
        let range = |region: fdt::standard_nodes::MemoryRegion| {
            let start = region.starting_address.addr() as u64;
            start..start + region.size.unwrap_or(0) as u64
        };
        let ram = tree.memory().regions().next().map(range);
        let port = tree.find_compatible(&["ns16550a"]).and_then(|node| node.reg()?.next());
        match (ram, port.map(range)) {
            (Some(ram), Some(port)) => (ram, port),
            _ => panic!("the device tree has no RAM or no serial port"),
        }
    }
}

impl Linux {
    /// Puts the files into RAM, and returns where the guest begins.
    pub fn load(&self, files: &Files<'_>) -> Entry {
        for file in [files.kernel, files.initrd, files.tree] {
            self.place(file);
        }
        Entry { kernel: files.kernel.gpa, tree: files.tree.gpa }
    }

    /// Writes a file, page by page, which maps what it touches.
    fn place(&self, file: File<'_>) {
        assert!(file.gpa.is_multiple_of(FRAME_SIZE));
        let pages = file.contents.chunks(FRAME_SIZE as usize);
        for (gpa, page) in (file.gpa..).step_by(FRAME_SIZE as usize).zip(pages) {
            let Next::Resume = self.vm.fault(gpa, Access::WRITE) else {
                panic!("no RAM at {gpa:#x} for what is loaded there")
            };
            let host = self.vm.host(gpa);
            for (offset, bytes) in (0..).step_by(4).zip(page.chunks(4)) {
                let word: [u8; 4] = core::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0));
                frames::write(host + offset, u32::from_le_bytes(word));
            }
        }
    }
}
