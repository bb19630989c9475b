//! Kernels: the hooks that they hear, and the defaults.

use kvma::linux::abi::*;
use kvma::linux::{
    Alignment, File, Inheritance, Kernel, Layout, LinuxVma, Mm, NoKernel, Shmat, Usage, WithErrno,
};
use kvma::{
    Attrs, Errno, Error, Event, Heap, Hooks, MapRequest, NoHooks, PageSize, Piece, Placement, Prot,
    VmMap, hooks,
};
use kvma_test_support::Inode;

use super::super::{ANON, AT, PAGE, RW};
use super::*;

/// Hooks that refuse the second event if they are to, and note what else they hear.
#[derive(Default)]
struct Notes {
    refuse_second: bool,
    prepared: Vec<u64>,
    cancelled: Vec<u64>,
    flushed: u32,
    waited: u32,
    released: u32,
}

impl Hooks<LinuxVma<Inode>> for Notes {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, LinuxVma<Inode>>) -> Result<(), Error> {
        if self.refuse_second && !self.prepared.is_empty() {
            return Err(Error::OutOfMemory);
        }
        self.prepared.push(event.piece().range().start());
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, LinuxVma<Inode>>) {
        self.cancelled.push(event.piece().range().start());
    }

    fn flush_begin(&mut self) {
        self.flushed += 1;
    }

    fn flush_wait(&mut self) {
        self.waited += 1;
    }

    fn release(&mut self, _removed: hooks::RemovedVma<LinuxVma<Inode>>) {
        self.released += 1;
    }
}

/// Hooks of any kind of map that count the advice.
struct Advised(u32);

impl<V> Hooks<V> for Advised {
    type Error = Error;

    fn on_advise(&mut self, _piece: &Piece<'_, V>, _advice: hooks::Advice) {
        self.0 += 1;
    }
}

#[test]
fn hooks_that_become_a_kernel_hear_everything() {
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    program.map(1, 1, PROT_READ, ANON);
    let mut kernel = WithErrno(Notes { refuse_second: true, ..Notes::default() });
    let answer = program.mm.munmap(AT, 2 * PAGE, &mut program.mm.update(&mut kernel));
    assert_eq!(answer, Err(Errno::ENOMEM));
    assert_eq!((kernel.0.prepared, kernel.0.cancelled), (vec![AT], vec![AT]));
    let mut kernel = WithErrno(Notes::default());
    let mut update = program.mm.update(&mut kernel);
    assert_eq!(program.mm.munmap(AT, 2 * PAGE, &mut update), Ok(0));
    update.finish();
    assert_eq!((kernel.0.flushed, kernel.0.waited, kernel.0.released), (1, 1, 2));
    // That of a map by itself.
    let mut map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, Heap).unwrap();
    let attrs = Attrs::new(Prot::RW);
    map.map(MapRequest::new(Placement::Fixed(0), PAGE, attrs), &mut NoHooks).unwrap();
    let mut hooks = WithErrno(Advised(0));
    map.advise(0, PAGE, hooks::Advice::DontNeed, &mut hooks).unwrap();
    assert_eq!(hooks.0.0, 1);
}

/// A kernel that counts what is charged, and lets no child inherit more than one VMA.
#[derive(Default)]
struct NoChildren {
    charged: u64,
    inherited: u32,
}

impl Hooks<LinuxVma<Inode>> for NoChildren {
    type Error = Errno;
}

impl Kernel<Inode> for NoChildren {
    fn charge(&mut self, bytes: u64, _: &Usage) -> Result<(), Errno> {
        self.charged += bytes;
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.charged -= bytes;
    }

    fn inherit(&mut self, _: Inheritance, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.inherited += 1;
        if self.inherited > 1 { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

#[test]
fn a_fork_that_is_refused_is_not_charged_for() {
    let mut program = Program::new();
    program.map(0, 4, RW, ANON);
    program.map(8, 4, RW, ANON);
    let mut kernel = NoChildren { charged: 8 * PAGE, inherited: 0 };
    let refused = program.mm.fork(&mut program.mm.update(&mut kernel)).err();
    assert_eq!((refused, kernel.inherited, kernel.charged), (Some(Errno::ENOMEM), 2, 8 * PAGE));
}

/// Files that are nothing special.
#[derive(Clone, Debug, PartialEq)]
struct Plain;

impl File for Plain {
    fn id(&self) -> u64 {
        7
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode(&self) -> u64 {
        7
    }

    fn write_name(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        out.write_str("/plain")
    }
}

#[test]
fn a_file_is_no_segment_unless_it_says_so() {
    let mut mm = Mm::<Plain, _>::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let attach = Shmat { segment: Ok(Plain), addr: 0, flags: 0 };
    assert_eq!(mm.shmat(attach, &mut mm.update(&mut NoKernel)), Err(Errno::EINVAL));
    assert_eq!((Plain.segment_size(), Plain.alignment()), (None, Alignment::Page));
}
