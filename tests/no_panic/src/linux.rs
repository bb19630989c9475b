//! `Mm` and its calls, by itself and behind a lock.

use kvma::linux::{
    Access, Call, CommitLimit, Fault, Gate, Install, Layout, Limits, LinuxVma, Mm, Mmap, Mode,
    NoKernel, Overcommit, Policy, Resource, Shmat, Target, Unserved, Usage, VmFlags, WithErrno,
    WriteExec,
};
use kvma::node::Preallocated;
use kvma::{AddrSpace, Direction, Errno, FixedPool, NoHooks, VmaNode};

use crate::files::{Handle, Refusing, role};
use crate::opaque::{Opaque, any, one_of, show, sink};

type Pool = FixedPool<VmaNode<LinuxVma<Handle>>, 64>;
type Space = AddrSpace<Mm<Handle, &'static Pool>>;

static POOL: Pool = Pool::new();

pub fn all() {
    layouts();
    numbers();
    let (Ok(mut mm), Ok(second)) = (Mm::new(layout(), &POOL), Mm::new(layout(), &POOL)) else {
        return;
    };
    settings(&mut mm);
    let mut kernel = Refusing;
    let mut call = mm.update(&mut kernel);
    calls(&mut mm, &mut call);
    sink(mm.process_madvise(target(), ranges(), any(), any(), &mut call));
    life(&mut mm, &mut call);
    drop(call);
    let mut plain = NoKernel;
    let mut call = mm.update(&mut plain);
    sink(mm.munmap(any(), any(), &mut call));
    drop(call);
    let mut hooks = WithErrno(NoHooks);
    let mut call = mm.update(&mut hooks);
    sink(mm.munmap(any(), any(), &mut call));
    drop(call);
    locked(&AddrSpace::new(second));
}

fn layout() -> Layout {
    Layout::x86_64(any())
        .with_base(any())
        .with_bottom(any())
        .with_direction(one_of!(Direction::BottomUp, Direction::TopDown))
        .with_guard_gap(any())
        .with_huge_pages(any())
        .with_min_addr(any())
        .with_user_min_addr(any())
        .with_protection_keys(any())
        .randomised(any(), any())
}

#[inline(never)]
fn layouts() {
    let layout = layout();
    sink((layout.base(), layout.bottom(), layout.direction(), layout.guard_gap()));
    sink((layout.huge(), layout.min_addr(), layout.page_size(), layout.task_size()));
    sink((layout.stack(any(), any()), layout.user_min_addr(), layout.protection_keys()));
}

#[inline(never)]
fn numbers() {
    let usage = Usage::default();
    sink((usage.committed(), usage.data(), usage.exec(), usage.locked(), usage.shared()));
    sink((usage.stack(), usage.total()));
    let limit = CommitLimit::of_ram(any(), any(), any(), any(), any());
    let limit = limit.with_reserves(any(), any());
    let capabilities = kvma::linux::Capabilities::from_bits_retain(any());
    sink((limit.all(), limit.for_process(&usage, capabilities)));
    sink(CommitLimit::of_bytes(any(), any(), any()));
    let mode = one_of!(Overcommit::Heuristic, Overcommit::Always, Overcommit::Never);
    sink(mode.decide(any(), any(), any(), any()));
    if let Some(call) = Unserved::by_number(any()) {
        sink((call.name(), call.number(), call.errno(), call.why()));
    }
    let flags = VmFlags::from_bits_retain(any());
    sink((flags.is_data(), flags.is_exec(), flags.is_stack(), VmFlags::from_mnemonic(any())));
}

fn limits() -> Limits {
    let resource = one_of!(
        Resource::AddressSpace,
        Resource::Data,
        Resource::DataMax,
        Resource::MemLock,
        Resource::Stack,
    );
    let limits = Limits::default().with(resource, any());
    sink(limits.get(resource));
    limits
}

#[inline(never)]
fn settings(mm: &mut Mm<Handle, &'static Pool>) {
    mm.set_limits(limits());
    mm.set_max_map_count(any());
    let write_exec =
        one_of!(WriteExec::Allowed, WriteExec::NotTogether, WriteExec::Mdwe, WriteExec::Never);
    let policy = Policy::new().with_guard(any()).with_write_exec(write_exec);
    sink((policy.guard(), policy.write_exec()));
    sink(mm.set_policy(policy));
    mm.set_gate(one_of!(Gate::None, Gate::Execute, Gate::ReadExecute));
    mm.set_start_stack(any());
    mm.set_start_brk(any(), any());
    sink(mm.set_layout(layout()));
    sink((mm.check(), mm.map_count(), mm.rules().version(), mm.gate(), mm.start_stack()));
    sink((mm.start_brk(), mm.current_brk(), mm.unmapped_area(any())));
    sink((mm.layout(), mm.limits(), mm.policy(), mm.usage()));
    for vma in mm.iter() {
        sink(VmFlags::of(&vma));
    }
    (&*mm).into_iter().for_each(sink);
    mm.note_write(any());
    sink((mm.pkey_alloc(any(), any()), mm.pkey_free(any())));
    show(&*mm);
}

impl Opaque for Mmap<Handle> {
    fn opaque() -> Self {
        let (addr, len, prot, flags, offset) = (any(), any(), any(), any(), any());
        Self { addr, len, prot, flags, offset, file: any() }
    }
}

impl Opaque for Shmat<Handle> {
    fn opaque() -> Self {
        let segment = if any() { Ok(any()) } else { Err(Errno(any())) };
        Self { segment, addr: any(), flags: any() }
    }
}

impl Opaque for Install<Handle> {
    fn opaque() -> Self {
        let (start, end, offset) = (any(), any(), any());
        let handle = any::<Option<Handle>>().map(|handle| (handle, role()));
        Self { start, end, flags: VmFlags::from_bits_retain(any()), offset, handle }
    }
}

fn shmat() -> Shmat<Handle> {
    let segment = if any() { Err(Errno(any())) } else { Ok(any()) };
    Shmat { segment, addr: any(), flags: any() }
}

fn fault() -> Fault {
    let fault = Fault::new(any(), one_of!(Access::Read, Access::Write, Access::Execute));
    let fault = fault.by(one_of!(Mode::User, Mode::Kernel)).with_stack_pointer(any());
    sink(fault.check_access(&any(), any()));
    fault
}

fn target() -> Target {
    one_of!(Target::Own, Target::Other)
}

fn ranges() -> [(u64, u64); 3] {
    [any(), any(), any()]
}

#[inline(never)]
fn calls(mm: &mut Mm<Handle, &'static Pool>, call: &mut Call<'_, Handle, &'static Pool, Refusing>) {
    sink((mm.mmap(any(), call), mm.munmap(any(), any(), call)));
    sink((mm.shmat(any(), call), mm.shmdt(any(), call)));
    sink((mm.brk(any(), call), mm.sbrk(any(), call)));
    sink(mm.mprotect(any(), any(), any(), call));
    sink(mm.pkey_mprotect(any(), any(), any(), any(), call));
    sink(mm.mremap(any(), any(), any(), any(), any(), call));
    sink(mm.madvise(any(), any(), any(), call));
    sink((mm.mlock(any(), any(), call), mm.mlock2(any(), any(), any(), call)));
    sink((mm.munlock(any(), any(), call), mm.mlockall(any(), call), mm.munlockall(call)));
    sink((mm.msync(any(), any(), any(), call), mm.mincore(any(), any(), call)));
    sink(mm.mseal(any(), any(), any(), call));
    sink((mm.shmat(shmat(), call), mm.shmdt(any(), call)));
    sink(mm.set_anon_name(any(), any(), any::<Option<Handle>>().as_ref(), call));
    sink((mm.fault(&fault(), call), mm.grow_stack(any(), call)));
}

#[inline(never)]
fn life(mm: &mut Mm<Handle, &'static Pool>, call: &mut Call<'_, Handle, &'static Pool, Refusing>) {
    sink(mm.install(any(), call));
    sink(mm.fork(call).is_ok());
    let mut nodes = Preallocated::new(&POOL);
    sink(nodes.fill(any()));
    sink(mm.fork_with(&mut nodes, call).is_ok());
    sink(mm.clear(layout(), call));
}

#[inline(never)]
fn locked(space: &Space) {
    let kernel = &mut Refusing;
    sink((space.mmap(any(), kernel), space.munmap(any(), any(), kernel)));
    sink((space.shmat(any(), kernel), space.shmdt(any(), kernel)));
    sink((space.brk(any(), kernel), space.sbrk(any(), kernel)));
    sink(space.mprotect(any(), any(), any(), kernel));
    sink(space.pkey_mprotect(any(), any(), any(), any(), kernel));
    sink((space.pkey_alloc(any(), any()), space.pkey_free(any())));
    sink(space.mremap(any(), any(), any(), any(), any(), kernel));
    sink(space.madvise(any(), any(), any(), kernel));
    sink((space.mlock(any(), any(), kernel), space.mlock2(any(), any(), any(), kernel)));
    sink((space.munlock(any(), any(), kernel), space.mlockall(any(), kernel)));
    sink(space.munlockall(kernel));
    sink((space.msync(any(), any(), any(), kernel), space.mincore(any(), any(), kernel)));
    sink(space.mseal(any(), any(), any(), kernel));
    sink((space.shmat(shmat(), kernel), space.shmdt(any(), kernel)));
    sink(space.set_anon_name(any(), any(), any::<Option<Handle>>().as_ref(), kernel));
    sink(space.process_madvise(target(), ranges(), any(), any(), kernel));
    sink((space.fault(&fault(), kernel), space.grow_stack(any(), kernel)));
    space.note_write(any());
    sink(space.install(any(), kernel));
    sink(space.fork(kernel).is_ok());
    sink(space.clear(layout(), kernel));
}
