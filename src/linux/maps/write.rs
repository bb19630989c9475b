//! Writing `/proc/PID/maps` (`show_map_vma` in `fs/proc/task_mmu.c`).

use core::fmt::{self, Write};
use core::marker::PhantomData;

use super::Places;
use super::parse::lines;
use crate::linux::{File, Gate, LinuxVma, Mm, MmAlloc, Role, VmFlags};
use crate::vm_map::Vmas;
use crate::{Attrs, Backing, Vma};

/// One line of a maps file, made from a VMA. `Display` writes it without its newline.
///
/// ```
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// # space.mmap(memory, &mut NoKernel)?;
/// // smaps, of which only the kernel knows how much is resident.
/// space.inspect(|mm| {
///     for entry in mm.maps() {
///         println!("{entry}");
///         println!("Size: {:>18} kB", (entry.end() - entry.start()) / 1024);
///         println!("VmFlags: {}", entry.flags());
///     }
/// });
/// # Ok::<(), Errno>(())
/// ```
pub struct MapsEntry<'a, F> {
    start: u64,
    end: u64,
    flags: VmFlags,
    /// In bytes.
    offset: u64,
    name: Name<'a, F>,
}

/// The text in the last column.
///
/// ```
/// use kvma::linux::maps::Name;
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(0x60_0000, 0));
/// space.brk(0x60_2000, &mut NoKernel);
/// let heaps = |mm: &Mm<_, _>| {
///     mm.maps().filter(|entry| matches!(entry.name(), Name::Fixed("[heap]"))).count()
/// };
/// assert_eq!(space.inspect(heaps), 1);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub enum Name<'a, F> {
    /// There is none.
    None,
    /// The path of the object that is mapped.
    Object(&'a F),
    /// `[heap]`, `[stack]`, `[vsyscall]`.
    Fixed(&'static str),
    /// The name of special memory, such as `[vdso]`.
    Special(&'a F),
    /// `[anon:…]`, `[anon_shmem:…]`
    Anonymous(&'a F),
}

impl<F> Clone for Name<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Name<'_, F> {}

impl<F> Clone for MapsEntry<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for MapsEntry<'_, F> {}

/// First byte of `[vsyscall]` (`VSYSCALL_ADDR`).
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// The column at which names start.
const NAME_COLUMN: usize = 73;

impl<'a, F: File> MapsEntry<'a, F> {
    fn of(places: Places, vma: &Vma<'a, LinuxVma<F>>) -> Self {
        let (data, last) = (vma.data(), vma.last());
        let handle = data.object().or(data.name());
        Self::new(places, vma.start(), last, VmFlags::of(vma), &vma.attrs(), handle, data.role())
    }

    /// Makes a line of the parts of a VMA whose last byte is `last`, with its handle if it has one.
    pub(super) fn new(
        places: Places,
        start: u64,
        last: u64,
        flags: VmFlags,
        attrs: &Attrs,
        handle: Option<&'a F>,
        role: Role,
    ) -> Self {
        let offset = match attrs.backing() {
            Backing::Anonymous => 0,
            Backing::Object { offset, .. } => offset,
        };
        let end = last.wrapping_add(1);
        let name = match (handle, role) {
            (Some(file), Role::Object) => Name::Object(file),
            (Some(name), Role::Special) => Name::Special(name),
            (name, _) => match (places.name(start, end), name) {
                (Some(fixed), _) => Name::Fixed(fixed),
                (None, Some(name)) => Name::Anonymous(name),
                (None, None) => Name::None,
            },
        };
        Self { start, end, flags, offset, name }
    }

    fn gate(access: VmFlags) -> Self {
        let (start, end) = (VSYSCALL, VSYSCALL + 0x1000);
        Self { start, end, flags: access, offset: 0, name: Name::Fixed("[vsyscall]") }
    }

    /// Returns the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the first byte after the VMA.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns all flags. The `VmFlags:` line of smaps is `VmFlags: ` and these.
    pub fn flags(&self) -> VmFlags {
        self.flags
    }

    /// Returns the offset in the object in bytes; 0 without an object.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the text in the last column.
    pub fn name(&self) -> Name<'a, F> {
        self.name
    }
}

impl<F: File> fmt::Display for MapsEntry<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Columns { out: f, column: 0 };
        let letter = |flag, letter| if self.flags.contains(flag) { letter } else { '-' };
        let (device, inode) = match self.name {
            Name::Object(file) => (file.device(), file.inode()),
            _ => ((0, 0), 0),
        };
        write!(out, "{:08x}-{:08x} ", self.start, self.end)?;
        out.write_char(letter(VmFlags::READ, 'r'))?;
        out.write_char(letter(VmFlags::WRITE, 'w'))?;
        out.write_char(letter(VmFlags::EXEC, 'x'))?;
        out.write_char(if self.flags.contains(VmFlags::MAY_SHARE) { 's' } else { 'p' })?;
        write!(out, " {:08x} {:02x}:{:02x} {inode} ", self.offset, device.0, device.1)?;
        if matches!(self.name, Name::None) {
            return Ok(());
        }
        // At least one space, even where the numbers reach into the column.
        while out.column < NAME_COLUMN - 1 {
            out.write_char(' ')?;
        }
        out.write_char(' ')?;
        match self.name {
            Name::None => Ok(()),
            Name::Object(file) => file.write_name(&mut Escaped { out: &mut out }),
            Name::Fixed(name) => out.write_str(name),
            Name::Special(name) => name.write_name(&mut Escaped { out: &mut out }),
            Name::Anonymous(name) => {
                out.write_str("[anon:")?;
                name.write_name(&mut Escaped { out: &mut out })?;
                out.write_char(']')
            }
        }
    }
}

impl<F: File> fmt::Debug for MapsEntry<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapsEntry({self})")
    }
}

/// Counts the columns written so far.
struct Columns<'a, W> {
    out: &'a mut W,
    column: usize,
}

impl<W: Write> Write for Columns<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.column = self.column.saturating_add(text.len());
        self.out.write_str(text)
    }
}

impl Gate {
    /// Returns the line of `[vsyscall]`.
    pub(super) fn line<'a, F: File>(self) -> Option<MapsEntry<'a, F>> {
        match self {
            Self::None => None,
            Self::Execute => Some(MapsEntry::gate(VmFlags::EXEC)),
            Self::ReadExecute => Some(MapsEntry::gate(VmFlags::READ | VmFlags::EXEC)),
        }
    }
}

/// Writes newlines as `\012`, so that a path cannot forge a line (`seq_file_path`). In other names
/// Linux refuses them.
struct Escaped<'a, W> {
    out: &'a mut W,
}

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = lines(text);
        self.out.write_str(lines.next().unwrap_or(""))?;
        lines.try_for_each(|line| {
            self.out.write_str("\\012")?;
            self.out.write_str(line)
        })
    }
}

/// An iterator over the lines of a maps file, which [`Mm::maps`] returns. `Display` writes the
/// whole file.
///
/// See [`MapsEntry`] for an example.
pub struct Maps<'a, F: File, A: MmAlloc<F>> {
    vmas: Vmas<'a, LinuxVma<F>>,
    places: Places,
    alloc: PhantomData<fn() -> A>,
}

impl<F: File, A: MmAlloc<F>> Clone for Maps<'_, F, A> {
    fn clone(&self) -> Self {
        Self { vmas: self.vmas.clone(), ..*self }
    }
}

impl<'a, F: File, A: MmAlloc<F>> Iterator for Maps<'a, F, A> {
    type Item = MapsEntry<'a, F>;

    fn next(&mut self) -> Option<MapsEntry<'a, F>> {
        if let Some(vma) = self.vmas.next() {
            return Some(MapsEntry::of(self.places, &vma));
        }
        core::mem::replace(&mut self.places.gate, Gate::None).line()
    }
}

impl<F: File, A: MmAlloc<F>> fmt::Display for Maps<'_, F, A> {
    /// Writes the whole file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clone().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl<F: File, A: MmAlloc<F>> fmt::Debug for Maps<'_, F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Returns the lines of `/proc/PID/maps`, which `Display` writes as a whole.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// let at = space.mmap(memory, &mut NoKernel)?;
    /// let mut lines = Vec::new();
    /// space.inspect(|mm| lines.extend(mm.maps().map(|entry| entry.to_string())));
    /// assert_eq!(lines, [format!("{at:x}-{:x} rw-p 00000000 00:00 0 ", at + 0x3000)]);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn maps(&self) -> Maps<'_, F, A> {
        Maps { vmas: self.iter(), places: Places::of(self), alloc: PhantomData }
    }
}
