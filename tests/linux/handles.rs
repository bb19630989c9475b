//! Handles of the kernel's are dropped after unlock, whatever becomes of a call.

use std::fmt;
use std::sync::{Arc, Mutex};

use kvma::linux::abi::*;
use kvma::linux::{
    File, Inheritance, Install, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, Rights, Role, VmFlags,
};
use kvma::lock::{Ticket, TrackedLock};
use kvma::{AddrSpace, BoxAlloc, Errno, Event, Hooks, Piece, VmaNode};

use super::{ANON, AT, PAGE, RW};

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Handle>>>>;
type Space = AddrSpace<Mm<Handle, Alloc>, TrackedLock<Ticket>>;

/// A handle that takes the lock of the space when it is dropped. The lock panics if it is held.
#[derive(Clone)]
struct Handle {
    number: u64,
    space: Arc<Mutex<Option<Arc<Space>>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let space = self.space.lock().unwrap().clone();
        if let Some(space) = space {
            space.inspect(|_| ());
        }
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl File for Handle {
    fn id(&self) -> u64 {
        self.number
    }

    fn device(&self) -> (u32, u32) {
        (8, 1)
    }

    fn inode(&self) -> u64 {
        self.number
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/file")
    }
}

/// Refuses with its errno what it is told to.
#[derive(Default)]
struct Refusing {
    files: Option<Errno>,
    prepare: Option<Errno>,
    charge: Option<Errno>,
    inherit: Option<Errno>,
}

fn refuse(errno: Option<Errno>) -> Result<(), Errno> {
    errno.map_or(Ok(()), Err)
}

impl Hooks<LinuxVma<Handle>> for Refusing {
    type Error = Errno;

    fn prepare(&mut self, _event: &Event<'_, LinuxVma<Handle>>) -> Result<(), Errno> {
        refuse(self.prepare)
    }
}

impl Kernel<Handle> for Refusing {
    fn charge(&mut self, _bytes: u64, _usage: &kvma::linux::Usage) -> Result<(), Errno> {
        refuse(self.charge)
    }

    fn map_file(
        &mut self,
        _file: &OpenFile<Handle>,
        _vma: &Piece<'_, LinuxVma<Handle>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        refuse(self.files).map(|()| flags)
    }

    fn inherit(&mut self, _: Inheritance, vma: &Piece<'_, LinuxVma<Handle>>) -> Result<(), Errno> {
        if vma.range().start() >= AT + 4 * PAGE { refuse(self.inherit) } else { Ok(()) }
    }
}

/// A space, and a handle that knows it.
struct Program {
    space: Arc<Space>,
    handle: Handle,
}

impl Program {
    fn new() -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap();
        let lock = TrackedLock::new(Ticket::new(), || 1);
        let space = Arc::new(Space::with_lock(mm, lock));
        let handle = Handle { number: 7, space: Arc::new(Mutex::new(Some(space.clone()))) };
        Self { space, handle }
    }

    fn map_file(&self, page: u64, flags: u64, kernel: &mut Refusing) -> Result<u64, Errno> {
        let file = Some(OpenFile::new(self.handle.clone(), Rights::READ | Rights::WRITE));
        let (addr, offset) = (AT + page * PAGE, page * PAGE);
        let flags = flags | MAP_FIXED;
        self.space.mmap(Mmap { addr, len: PAGE, prot: RW, flags, offset, file }, kernel)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The space holds handles that hold the space.
        let _ = self.space.clear(Layout::x86_64(8 << 20), &mut Refusing::default());
        self.handle.space.lock().unwrap().take();
    }
}

#[test]
fn of_files_that_are_mapped_or_refused() {
    let (program, mut kernel) = (Program::new(), Refusing::default());
    // Each merges with the one before.
    for page in 0..4 {
        program.map_file(page, MAP_PRIVATE, &mut kernel).unwrap();
    }
    assert_eq!(program.space.inspect(Mm::map_count), 1);
    // Anonymous memory ignores the file.
    program.map_file(9, ANON, &mut kernel).unwrap();
    assert_eq!(program.map_file(4, MAP_FIXED, &mut kernel), Err(Errno::EINVAL));
    kernel.files = Some(Errno(71));
    assert_eq!(program.map_file(4, MAP_PRIVATE, &mut kernel), Err(Errno(71)));
    kernel = Refusing { charge: Some(Errno::ENOMEM), ..Refusing::default() };
    assert_eq!(program.map_file(4, MAP_PRIVATE, &mut kernel), Err(Errno::ENOMEM));
    kernel = Refusing { prepare: Some(Errno::EIO), ..Refusing::default() };
    assert_eq!(program.map_file(4, MAP_PRIVATE, &mut kernel), Err(Errno::EIO));
}

#[test]
fn of_vmas_that_are_installed_or_refused() {
    let (program, mut kernel) = (Program::new(), Refusing::default());
    let install = |start, flags, kernel: &mut Refusing| {
        let handle = Some((program.handle.clone(), Role::Object));
        program.space.install(Install { start, end: AT + PAGE, flags, offset: 0, handle }, kernel)
    };
    let flags = VmFlags::READ | VmFlags::MAY_READ;
    assert_eq!(install(AT + 1, flags, &mut kernel), Err(Errno::EINVAL));
    assert_eq!(install(AT, flags, &mut kernel), Ok(()));
    assert_eq!(install(AT, flags, &mut kernel), Err(Errno::EEXIST));
    kernel.charge = Some(Errno::ENOMEM);
    assert_eq!(install(AT, flags | VmFlags::ACCOUNT, &mut kernel), Err(Errno::ENOMEM));
}

#[test]
fn of_names_that_are_replaced() {
    let (program, mut kernel) = (Program::new(), Refusing::default());
    let len = 16 * PAGE;
    let args = Mmap { addr: AT, len, prot: RW, flags: ANON | MAP_FIXED, offset: 0, file: None };
    program.space.mmap(args, &mut kernel).unwrap();
    let other = Handle { number: 8, space: program.handle.space.clone() };
    for page in (0..16).step_by(2) {
        let name = Some(&program.handle);
        program.space.set_anon_name(AT + page * PAGE, PAGE, name, &mut kernel).unwrap();
    }
    assert_eq!(program.space.inspect(Mm::map_count), 16);
    // More names go at once than an update keeps rejected data for.
    assert_eq!(program.space.set_anon_name(AT, len, Some(&other), &mut kernel), Ok(0));
    assert_eq!(program.space.inspect(Mm::map_count), 1);
    assert_eq!(program.space.set_anon_name(AT, len, None, &mut kernel), Ok(0));
}

#[test]
fn of_vmas_that_move_or_grow_or_cannot() {
    let (program, mut kernel) = (Program::new(), Refusing::default());
    program.map_file(0, MAP_PRIVATE, &mut kernel).unwrap();
    let grow = |from, old, kernel: &mut Refusing| {
        program.space.mremap(from, old * PAGE, (old + 1) * PAGE, MREMAP_MAYMOVE, 0, kernel)
    };
    kernel.charge = Some(Errno::ENOMEM);
    assert_eq!(grow(AT, 1, &mut kernel), Err(Errno::ENOMEM));
    kernel = Refusing { prepare: Some(Errno::EIO), ..Refusing::default() };
    assert_eq!(grow(AT, 1, &mut kernel), Err(Errno::EIO));
    kernel.prepare = None;
    assert_eq!(grow(AT, 1, &mut kernel), Ok(AT));
    program.map_file(2, ANON, &mut kernel).unwrap();
    kernel.prepare = Some(Errno::EIO);
    assert_eq!(grow(AT, 2, &mut kernel), Err(Errno::EIO));
    kernel.prepare = None;
    assert_ne!(grow(AT, 2, &mut kernel).unwrap(), AT);
}

#[test]
fn of_a_child_that_is_refused() {
    let (program, mut kernel) = (Program::new(), Refusing::default());
    for page in [0, 2, 4, 6] {
        program.map_file(page, MAP_PRIVATE, &mut kernel).unwrap();
    }
    kernel.inherit = Some(Errno::EIO);
    assert_eq!(program.space.fork(&mut kernel).err(), Some(Errno::EIO));
    kernel.inherit = None;
    let child = program.space.fork(&mut kernel).unwrap();
    assert_eq!(child.map_count(), 4);
}
