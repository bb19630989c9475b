//! Files and a kernel for the Linux layer, of which the compiler knows nothing.

use core::fmt;

use kvma::hooks::{Advice, RemovedVma};
use kvma::linux::{
    Alignment, Capabilities, File, Inheritance, Kernel, LinuxVma, OpenFile, Overcommit, PageOp,
    Restrictions, Rights, Role, Traits, Usage, VmFlags,
};
use kvma::{Attrs, Errno, Event, Hooks, Piece};

use crate::opaque::{Opaque, any, one_of, sink};

/// A handle that does something when it is dropped.
#[derive(Debug)]
pub struct Handle(u64);

impl Drop for Handle {
    fn drop(&mut self) {
        sink(self.0);
    }
}

impl Opaque for Handle {
    fn opaque() -> Self {
        Self(any())
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        any()
    }
}

impl PartialEq for Handle {
    fn eq(&self, _: &Self) -> bool {
        any()
    }
}

impl File for Handle {
    fn id(&self) -> u64 {
        any()
    }

    fn device(&self) -> (u32, u32) {
        any()
    }

    fn inode(&self) -> u64 {
        any()
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(any())
    }

    fn alignment(&self) -> Alignment {
        one_of!(Alignment::Page, Alignment::Huge, Alignment::HugeTlb(any()), Alignment::HugeShmem,)
    }

    fn restrictions(&self) -> Restrictions {
        Restrictions::from_bits_retain(any())
    }

    fn segment_size(&self) -> Option<u64> {
        any()
    }
}

impl Opaque for OpenFile<Handle> {
    fn opaque() -> Self {
        Self::new(any(), Rights::from_bits_retain(any()))
            .with_traits(Traits::from_bits_retain(any()))
            .with_max_bytes(any())
    }
}

pub fn role() -> Role {
    one_of!(Role::Object, Role::Name, Role::Special)
}

/// A kernel that refuses now and then.
pub struct Refusing;

fn refuse() -> Result<(), Errno> {
    if any() { Err(Errno(any())) } else { Ok(()) }
}

type V = LinuxVma<Handle>;

impl Hooks<V> for Refusing {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Errno> {
        sink(event.piece().range());
        refuse()
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        sink(event.piece().range());
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        let vma = piece.data();
        sink((vma.name(), vma.object(), vma.role()));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        sink(piece.range());
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        sink((piece.range(), old));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        sink((piece.range(), to));
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        sink((piece.range(), advice));
    }

    fn flush_begin(&mut self) {
        sink(0);
    }

    fn flush_wait(&mut self) {
        sink(0);
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        sink(removed.range());
    }
}

impl Kernel<Handle> for Refusing {
    fn capabilities(&self) -> Capabilities {
        Capabilities::from_bits_retain(any())
    }

    fn overcommit(&self) -> Overcommit {
        one_of!(Overcommit::Heuristic, Overcommit::Always, Overcommit::Never)
    }

    fn charge(&mut self, bytes: u64, usage: &Usage) -> Result<(), Errno> {
        sink((bytes, usage.total()));
        refuse()
    }

    fn uncharge(&mut self, bytes: u64) {
        sink(bytes);
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<Handle, Errno> {
        sink((len, flags));
        refuse().map(|()| any())
    }

    fn huge_page(&self, log2: u32) -> Option<u64> {
        sink(log2);
        any()
    }

    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<Handle, Errno> {
        sink((page, len, flags));
        refuse().map(|()| any())
    }

    fn map_file(
        &mut self,
        file: &OpenFile<Handle>,
        vma: &Piece<'_, V>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        sink((file.rights(), file.traits(), file.file(), vma.range(), flags));
        refuse().map(|()| VmFlags::from_bits_retain(any()))
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, V>) -> Result<(), Errno> {
        sink((how, vma.range()));
        refuse()
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, V>) -> Result<(), Errno> {
        sink((op, piece.range()));
        refuse()
    }
}
