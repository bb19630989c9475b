//! The smallest program that can make system calls for us: an ELF image made by hand.
//!
//! It never runs on its own: it is stopped at its first instruction, and each call is injected. So
//! none of its memory is ever accessed (no libc, no relocation, no stack frame), and what the
//! kernel does with its VMAs depends on the calls alone.

use super::calls::Limit;

/// The address at which the image is loaded.
pub const BASE: u64 = 0x40_0000;
/// The one page that must stay as it is. It holds the instruction that enters the kernel, and
/// constants for calls that take a pointer.
pub const CODE: u64 = BASE + PAGE;
/// Size of a page.
pub const PAGE: u64 = 4096;

/// Offset of the table of `struct rlimit` within [`CODE`].
const LIMITS: usize = 64;

/// Shared memory for the arguments and the results of calls: the only memory that is used and yet
/// never private.
pub const SCRATCH: u64 = BASE - 0x10 * PAGE;
/// Length of [`SCRATCH`], in bytes.
pub const SCRATCH_LENGTH: u64 = 2 * PAGE;

/// Offsets within [`CODE`] of the instructions that load from and store to what `rdi` holds.
const LOAD: usize = 16;
const STORE: usize = 32;
/// Offset of the arguments of a program: a pointer to its name, and a null pointer.
const ARGUMENTS: usize = 2048;
/// Offset of names for memory.
const NAMES: usize = 2304;
/// Bytes from one name to the next.
const NAME: usize = 16;
/// Names for memory, as a trace has them.
const NAMED: [&str; 3] = ["00:00 0 [anon:a]", "00:00 0 [anon:arena]", "00:00 0 [anon:two words]"];

/// Returns the address of the instruction that loads.
pub const fn load_at() -> u64 {
    CODE + LOAD as u64
}

/// Returns the address of the instruction that stores.
pub const fn store_at() -> u64 {
    CODE + STORE as u64
}

/// Returns the addresses of an empty path, of the arguments of a program and of its environment,
/// for execveat(2).
pub const fn exec_at() -> [u64; 3] {
    let arguments = CODE + ARGUMENTS as u64;
    [arguments + 21, arguments, arguments + 8]
}

/// Returns the address of the `index`-th name for memory.
pub const fn name(index: u64) -> u64 {
    CODE + NAMES as u64 + (index % NAMED.len() as u64) * NAME as u64
}

/// Returns the name at an address of the program, as a trace has it.
pub fn name_at(addr: u64) -> Option<kvma_trace::Backing<'static>> {
    let index = addr.checked_sub(name(0))? as usize / NAME;
    NAMED.get(index).and_then(|text| kvma_trace::Backing::parse(text))
}

/// Returns the address of the `entry`-th pair in the table of limits.
pub const fn limit_at(entry: usize) -> u64 {
    CODE + (LIMITS + 16 * entry) as u64
}

/// The shape of the image. All in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Code behind [`CODE`], which calls may change.
    pub text: u64,
    /// Initialised data.
    pub data: u64,
    /// Zeroed data, which does not merge with the heap that follows.
    pub bss: u64,
}

/// Pages of constants behind the code.
const RODATA: u64 = 2;

impl Shape {
    /// Returns the length of the file, in bytes.
    pub const fn file_length(self) -> u64 {
        self.bss_at() - BASE
    }

    /// Returns where the zeroed data begins.
    pub const fn bss_at(self) -> u64 {
        CODE + (1 + self.text + RODATA + self.data) * PAGE
    }
}

/// A loadable segment.
struct Segment {
    flags: u32,
    /// Offset in the file and distance from [`BASE`], in pages.
    page: u64,
    file_pages: u64,
    pages: u64,
}

const R: u32 = 4;
const W: u32 = 2;
const X: u32 = 1;

/// Returns the bytes of an executable file. `limits` are the soft and hard limits that can be set
/// from inside.
pub fn build(shape: Shape, limits: &[(Limit, u64, u64)]) -> Vec<u8> {
    let text = 1 + shape.text;
    let segments = [
        Segment { flags: R, page: 0, file_pages: 1, pages: 1 },
        Segment { flags: R | X, page: 1, file_pages: text, pages: text },
        Segment { flags: R, page: 1 + text, file_pages: RODATA, pages: RODATA },
        Segment {
            flags: R | W,
            page: 1 + text + RODATA,
            file_pages: shape.data,
            pages: shape.data,
        },
        // A segment of its own, so that the data segment has no zeroed bytes for RLIMIT_DATA to
        // count: no trace says how many.
        Segment {
            flags: R | W,
            page: 1 + text + RODATA + shape.data,
            file_pages: 0,
            pages: shape.bss,
        },
    ];
    let mut file = Vec::new();
    // e_ident: ELF, 64 bits, little-endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let half = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    let word = |file: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    let xword = |file: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    half(&mut file, &[2, 62]); // ET_EXEC, EM_X86_64
    word(&mut file, &[1]);
    xword(&mut file, &[CODE, 64, 0]); // entry, program headers, no section headers
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, segments.len() as u16 + 1, 0, 0, 0]);
    for Segment { flags, page, file_pages, pages } in segments {
        word(&mut file, &[1, flags]); // PT_LOAD
        let at = BASE + page * PAGE;
        xword(&mut file, &[page * PAGE, at, at, file_pages * PAGE, pages * PAGE, PAGE]);
    }
    // PT_GNU_STACK: without it everything readable would be executable.
    word(&mut file, &[0x6474_e551, R | W]);
    xword(&mut file, &[0, 0, 0, 0, 0, 16]);

    file.resize(PAGE as usize, 0);
    file.extend([0x0f, 0x05, 0xcc]); // syscall; int3
    file.resize(PAGE as usize + LIMITS, 0);
    for &(_, soft, hard) in limits {
        xword(&mut file, &[soft, hard]);
    }
    let page = PAGE as usize;
    assert!(file.len() <= page + ARGUMENTS, "the table of limits fits into its part of the page");
    file.resize(page + ARGUMENTS, 0);
    xword(&mut file, &[CODE + ARGUMENTS as u64 + 16, 0]);
    file.extend(b"kvma\0\0");
    for (index, backing) in NAMED.iter().enumerate() {
        file.resize(page + NAMES + index * NAME, 0);
        let name = backing.rsplit_once("[anon:").map_or("", |(_, name)| name.trim_end_matches(']'));
        file.extend(name.as_bytes());
    }
    file.resize(2 * page, 0);
    for (at, instruction) in [(LOAD, [0x8a, 0x07]), (STORE, [0x88, 0x07])] {
        file[page + at..][..2].copy_from_slice(&instruction); // mov al, [rdi]; mov [rdi], al
    }
    file.resize(shape.file_length() as usize, 0);
    file
}
