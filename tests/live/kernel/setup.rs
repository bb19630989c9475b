//! The program, its files and its limits, which all runs share.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use super::calls::{Limit, resource};
use super::image::{self, Shape};
use super::scope::Scope;
use super::tracee::{Refused, SoftLimits, Tracee, memfd};

/// An open file, the number of its descriptor in the program, and what a trace says of it.
type OpenFile = (File, u32, &'static str);

/// The program, its files and its limits.
pub struct Setup {
    program: PathBuf,
    shape: Shape,
    files: Vec<OpenFile>,
    scratch: File,
    executable: File,
    limits: Vec<(Limit, u64, u64)>,
    /// The scope of the comparison with the kernel.
    pub scope: Scope,
    /// Everything on disk lies here.
    directory: PathBuf,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("program", &self.program).field("shape", &self.shape).finish()
    }
}

/// Bytes in each file, which has no contents: more than most offsets and lengths.
pub const FILE_LENGTH: u64 = 1 << 40;

/// Soft limits that runs switch between; see [`Setup::limit`].
const MIB: u64 = 1 << 20;
const CHOICES: [(Limit, &[u64]); 4] = [
    (Limit::AddressSpace, &[u64::MAX, 12 * MIB + 0x1234, 24 * MIB, 1024 * MIB]),
    (Limit::Data, &[u64::MAX, 2 * MIB + 0xc_0000, 64 * MIB, 4096]),
    (Limit::MemLock, &[8 * MIB, MIB, 0, 64 * 1024 + 1]),
    (
        Limit::Stack,
        &[8 * MIB, MIB, 64 * MIB, 512 * MIB, u64::MAX, 64 * 1024 + 1, 131 * 1024, 4096, 0],
    ),
];

impl Setup {
    /// Numbers of the program's descriptors, far from those that are in use while it is being
    /// started.
    pub const DESCRIPTORS: Range<u32> = 200..206;
    /// The descriptor of what is mapped at [`image::SCRATCH`].
    pub const SCRATCH: u32 = 206;
    /// The descriptor of the program itself.
    pub const PROGRAM: u32 = 207;

    /// Makes the program and its files in `directory`, which is to be removed at the end.
    pub fn new(directory: &Path, shape: Shape) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let limits = limits()?;
        let program =
            directory.join(format!("program-{}-{}-{}", shape.text, shape.data, shape.bss));
        // Under a name of its own until it is closed: a file open for writing cannot be executed.
        let unfinished = program.with_extension("new");
        fs::write(&unfinished, image::build(shape, &limits))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
        fs::rename(&unfinished, &program)?;
        let files = open_files(directory)?;
        let scratch = memfd("kvma-scratch")?;
        scratch.set_len(image::SCRATCH_LENGTH)?;
        let executable = File::open(&program)?;
        Ok(Self {
            program,
            shape,
            files,
            scratch,
            executable,
            limits,
            scope: Scope::unknown(),
            directory: directory.to_path_buf(),
        })
    }

    /// Starts the program.
    pub fn spawn(&self) -> Result<Tracee, Refused> {
        let own = [(&self.scratch, Self::SCRATCH), (&self.executable, Self::PROGRAM)];
        let files = self.files.iter().map(|(file, number, _)| (file, *number)).chain(own);
        let descriptors: Vec<(RawFd, RawFd)> =
            files.map(|(file, number)| (file.as_raw_fd(), number as RawFd)).collect();
        let soft: SoftLimits =
            self.initial_limits().map(|(limit, bytes)| (resource(limit), bytes)).collect();
        Tracee::start(&self.program, descriptors, soft)
    }

    /// Returns the length of the program's file, in bytes.
    pub fn program_length(&self) -> u64 {
        self.shape.file_length()
    }

    /// Returns where the heap starts.
    pub fn end(&self) -> u64 {
        self.shape.bss_at() + self.shape.bss * image::PAGE
    }

    /// Returns where the zeroed data begins, if there is any.
    pub fn bss(&self) -> Option<u64> {
        (self.shape.bss > 0).then(|| self.shape.bss_at())
    }

    /// Writes what a call is to read into the program's [scratch memory](image::SCRATCH).
    pub fn write_scratch(&self, bytes: &[u8]) -> io::Result<()> {
        self.scratch.write_all_at(bytes, 0)
    }

    /// Returns how a trace describes descriptor `number` of the program.
    pub fn descriptor(&self, number: u32) -> Option<&'static str> {
        if number == Self::SCRATCH {
            return Some("rw memfd");
        }
        self.files.iter().find(|file| file.1 == number).map(|file| file.2)
    }

    /// Returns the limits that can be set from inside the program: which, soft, hard.
    pub fn limits(&self) -> &[(Limit, u64, u64)] {
        &self.limits
    }

    /// Returns the entry of [`limits`](Self::limits) that is choice `index` for `limit`. Runs start
    /// with the first.
    pub fn limit(&self, limit: Limit, index: usize) -> usize {
        let mut entries = self.limits.iter().enumerate().filter(|(_, entry)| entry.0 == limit);
        entries.nth(index).map_or(0, |(entry, _)| entry)
    }

    /// Returns the number of entries for `limit`.
    pub fn choices(&self, limit: Limit) -> usize {
        self.limits.iter().filter(|entry| entry.0 == limit).count()
    }

    /// Returns the soft limits with which the program starts.
    pub fn initial_limits(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        CHOICES.iter().map(|&(limit, _)| (limit, self.limits[self.limit(limit, 0)].1))
    }

    /// Returns the directory of the program's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Returns the table of limits: every choice, as far as the hard limits of this process allow.
fn limits() -> io::Result<Vec<(Limit, u64, u64)>> {
    let mut table = Vec::new();
    for (limit, choices) in CHOICES {
        let mut hard = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `hard` lives during the call.
        if unsafe { libc::getrlimit(resource(limit), &mut hard) } == -1 {
            return Err(io::Error::last_os_error());
        }
        table.extend(choices.iter().map(|&soft| (limit, soft.min(hard.rlim_max), hard.rlim_max)));
    }
    Ok(table)
}

/// Opens one file of each kind. Each descriptor has a file of its own: when it merges, Linux tells
/// open files apart, a trace only inodes.
fn open_files(directory: &Path) -> io::Result<Vec<OpenFile>> {
    let file = |name: &str, read, write| {
        let path = directory.join(name);
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        made.set_len(FILE_LENGTH)?;
        OpenOptions::new().read(read).write(write).open(path)
    };
    let memory = memfd("kvma")?;
    memory.set_len(FILE_LENGTH)?;
    let sealed_off = memfd("kvma-ro")?;
    sealed_off.set_len(FILE_LENGTH)?;
    let read_only = File::open(format!("/proc/self/fd/{}", sealed_off.as_raw_fd()))?;
    let files = [
        (file("rw", true, true)?, "rw reg"),
        (file("r", true, false)?, "r reg"),
        (file("w", false, true)?, "w reg"),
        (memory, "rw memfd"),
        (read_only, "r memfd"),
        (File::open(directory)?, "r dir"),
    ];
    Ok(Setup::DESCRIPTORS.zip(files).map(|(number, (file, kind))| (file, number, kind)).collect())
}
