//! The memory of a process: an address space of kvma's Linux layer, with page tables, and the way
//! by which the kernel reads and writes there on the program's behalf.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::hooks::{Advice, RemovedVma};
use kvma::linux::{Capabilities, Kernel, Layout, LinuxVma, Mm, PageOp, VmFlags};
use kvma::{Attrs, Errno, Event, Hooks, Piece, VmaNode};

use super::errno::{EFAULT, ENAMETOOLONG, ENOMEM};
use super::object::{MappedFile, Object, SHARED_MEMORY};
use super::record;
use crate::arch::{Access, cpu};
use crate::fault::{self, Answer, Author};
use crate::hooks::PageHooks;
use crate::nodes::{Nodes, nodes};
use crate::pages::Pages;
use crate::paging::{LOWER_HALF_END, PAGE_SIZE, Tables};
use crate::space::{Space, page_of};
use crate::{cpus, frames};

type ProgramVma = LinuxVma<MappedFile>;
type Alloc = &'static Nodes<VmaNode<ProgramVma>>;
/// The VMAs of a process.
pub type ProgramMm = Mm<MappedFile, Alloc>;

static NODES: Nodes<VmaNode<ProgramVma>> = nodes();

/// Returns the number of VMAs' nodes in use.
pub fn nodes_in_use() -> usize {
    NODES.in_use()
}

/// The limit of stacks, in bytes (`RLIMIT_STACK`).
pub const STACK_LIMIT: u64 = 8 << 20;

/// The longest string that the kernel reads from a program.
const MAX_STRING: usize = 128 << 10;

/// The memory of a process. Threads share it; so do a process and its child by vfork.
pub struct Memory {
    /// Tells memories apart. Never used again.
    id: u64,
    space: ManuallyDrop<Space<ProgramMm>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Memory {
    /// Makes empty memory, with the upper half of `kernel`.
    pub fn new(kernel: &Tables) -> Result<Self, Errno> {
        let mm = ProgramMm::new(Layout::x86_64(STACK_LIMIT), &NODES).map_err(|_| ENOMEM)?;
        let tables = kernel.sibling().ok_or(ENOMEM)?;
        Ok(Self::of(Space::new(mm, Pages::new(tables))))
    }

    fn of(space: Space<ProgramMm>) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Relaxed), space: ManuallyDrop::new(space) }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Copies the memory for a child: fork(2).
    pub fn fork(&self) -> Result<Self, Errno> {
        self.space.fork().map(Self::of)
    }

    pub fn space(&self) -> &Space<ProgramMm> {
        &self.space
    }

    /// Makes this the memory that the processor uses. It must be kept until the processor uses
    /// another.
    pub fn enter(&self) {
        let root = self.space.pages.lock().tables.root();
        if root != cpu::root() {
            // SAFETY: the upper half is the kernel's, as in all tables.
            unsafe { cpus::set_root(root) };
        }
    }

    /// Runs a call of the Linux layer.
    pub fn call<R>(
        &self,
        call: impl FnOnce(
            &mut ProgramMm,
            &mut kvma::linux::Call<'_, MappedFile, Alloc, ProgramKernel<'_>>,
        ) -> R,
    ) -> R {
        self.space.change_with(&mut self.kernel(), call)
    }

    /// Returns the kernel's side of a call.
    pub fn kernel(&self) -> ProgramKernel<'_> {
        ProgramKernel(PageHooks::without_witness(&self.space.pages))
    }

    /// Decides on a page fault, and brings the page in.
    pub fn serve(&self, address: u64, access: Access) -> Answer {
        record::fault(self, address, access, || {
            fault::serve(&*self.space, address, access, Author::Program(None))
        })
    }

    /// Makes one page allow an access, as a page fault does, and runs `run` on its frame's address.
    /// The page keeps its frame meanwhile.
    fn with_page<R>(
        &self,
        address: u64,
        access: Access,
        run: impl FnOnce(u64) -> R,
    ) -> Result<R, Errno> {
        if address >= LOWER_HALF_END {
            return Err(EFAULT);
        }
        loop {
            let pages = self.space.pages.lock();
            if let Some(entry) = pages.tables.find(page_of(address))
                && entry.rights().allow(access)
            {
                return Ok(run(entry.address()));
            }
            drop(pages);
            match self.serve(address, access) {
                Answer::Served | Answer::Again(_) => {}
                Answer::Refused(_) | Answer::Missing(_) => return Err(EFAULT),
            }
        }
    }

    /// Runs `run` for each page of a range: with its frame's address, the offset there, and the
    /// part of the range.
    fn for_each_page(
        &self,
        address: u64,
        len: usize,
        access: Access,
        mut run: impl FnMut(u64, u64, core::ops::Range<usize>),
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < len {
            let at = address.checked_add(done as u64).ok_or(EFAULT)?;
            let part = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(len - done);
            self.with_page(at, access, |frame| run(frame, at % PAGE_SIZE, done..done + part))?;
            done += part;
        }
        Ok(())
    }

    /// Reads the program's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT`; some bytes may have been read by then.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.for_each_page(address, buffer.len(), Access::Load, |frame, offset, part| {
            frames::read_bytes(frame, offset, &mut buffer[part]);
        })
    }

    /// Writes to the program's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT`; some bytes may have been written by then.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.for_each_page(address, bytes.len(), Access::Store, |frame, offset, part| {
            frames::write_bytes(frame, offset, &bytes[part]);
        })
    }

    /// Reads so many bytes.
    pub fn read_vec(&self, address: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| ENOMEM)?;
        bytes.resize(len, 0);
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    pub fn read_u64(&self, address: u64) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    pub fn read_u32(&self, address: u64) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    pub fn write_u64(&self, address: u64, value: u64) -> Result<(), Errno> {
        self.write(address, &value.to_ne_bytes())
    }

    pub fn write_u32(&self, address: u64, value: u32) -> Result<(), Errno> {
        self.write(address, &value.to_ne_bytes())
    }

    /// Runs `run` on a word that the program changes atomically.
    ///
    /// # Errors
    ///
    /// `EFAULT`, and `EINVAL` if it is not aligned.
    pub fn with_word<R>(
        &self,
        address: u64,
        access: Access,
        run: impl FnOnce(&core::sync::atomic::AtomicU32) -> R,
    ) -> Result<R, Errno> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        self.with_page(address, access, |frame| {
            run(frames::atomic_word(frame, address % PAGE_SIZE))
        })
    }

    /// Reads a string that ends with a zero.
    pub fn read_string(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut at = address;
        loop {
            let mut chunk = [0; 256];
            let len = (PAGE_SIZE - at % PAGE_SIZE).min(chunk.len() as u64) as usize;
            self.read(at, &mut chunk[..len])?;
            if let Some(end) = chunk[..len].iter().position(|&byte| byte == 0) {
                string.extend(&chunk[..end]);
                return Ok(string);
            }
            string.extend(&chunk[..len]);
            if string.len() > MAX_STRING {
                return Err(ENAMETOOLONG);
            }
            at = at.checked_add(len as u64).ok_or(EFAULT)?;
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        assert!(
            self.space.pages.lock().tables.root() != cpu::root(),
            "a processor uses memory that goes"
        );
        let cleared = self.call(|mm, call| mm.clear(*mm.layout(), call));
        assert!(cleared.is_ok(), "memory cannot be cleared: {cleared:?}");
        // SAFETY: the field is not used again.
        let space = unsafe { ManuallyDrop::take(&mut self.space) };
        space.into_pages().free();
    }
}

/// The kernel's side of a program's calls: its page tables, and the objects of its shared memory.
pub struct ProgramKernel<'a>(PageHooks<'a>);

impl Hooks<ProgramVma> for ProgramKernel<'_> {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, ProgramVma>) -> Result<(), Errno> {
        self.0.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, ProgramVma>) {
        self.0.cancel(event);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ProgramVma>) {
        self.0.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, ProgramVma>, old: &Attrs) {
        self.0.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, ProgramVma>, to: u64) {
        self.0.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, ProgramVma>, advice: Advice) {
        self.0.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        Hooks::<ProgramVma>::flush_begin(&mut self.0);
    }

    fn flush_wait(&mut self) {
        Hooks::<ProgramVma>::flush_wait(&mut self.0);
    }

    fn release(&mut self, removed: RemovedVma<ProgramVma>) {
        self.0.release(removed);
    }
}

impl Kernel<MappedFile> for ProgramKernel<'_> {
    /// All programs are root's.
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn shared_memory(&mut self, len: u64, _flags: VmFlags) -> Result<MappedFile, Errno> {
        Ok(MappedFile(Object::new(SHARED_MEMORY, "/dev/zero (deleted)", len)))
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, ProgramVma>) -> Result<(), Errno> {
        self.0.page_op(op, piece)
    }
}
