//! SIGSEGV and SIGBUS, caught on a stack of their own.

use core::fmt;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};

use linux_raw_sys::general::{
    __NR_rt_sigaction, __NR_sigaltstack, SA_ONSTACK, SA_SIGINFO, SIGBUS, SIGSEGV,
};

use crate::mapping::Mapping;
use crate::system::succeeded;
use crate::{arch, probe};

const STACK: usize = 64 << 10;
/// In `struct siginfo`.
const CODE: usize = 8;
const ADDRESS: usize = 16;

/// The address at which the stack for handlers begins.
static STACK_AT: AtomicUsize = AtomicUsize::new(0);

/// The last signal.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static ITS_CODE: AtomicI32 = AtomicI32::new(0);
static ITS_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static ON_ITS_STACK: AtomicBool = AtomicBool::new(false);

/// A signal's action, as the kernel takes it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn action(handler: usize, flags: usize) -> Action {
    /// Of `flags`: the restorer counts.
    const SA_RESTORER: usize = 0x0400_0000;
    let restorer = arch::return_from_handler();
    let flags = if restorer == 0 { flags } else { flags | SA_RESTORER };
    Action { handler, flags, restorer, mask: 0 }
}

/// A signal's action, as the kernel takes it.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    mask: u64,
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn action(handler: usize, flags: usize) -> Action {
    Action { handler, flags, mask: 0 }
}

/// Sets the handler of both signals.
pub fn catch() {
    let stack = Mapping::private(STACK);
    STACK_AT.store(stack.start(), SeqCst);
    let stack: [usize; 3] = [stack.start(), 0, STACK];
    let at = stack.as_ptr().expose_provenance();
    // SAFETY: the call reads the numbers, and the stack is nobody else's.
    succeeded("sigaltstack", unsafe { arch::call(__NR_sigaltstack, [at, 0, 0, 0, 0, 0]) });
    set(SIGSEGV, caught as *const () as usize);
    set(SIGBUS, caught as *const () as usize);
}

/// Lets SIGSEGV end the program.
pub fn do_not_catch() {
    set(SIGSEGV, 0);
}

fn set(signal: u32, handler: usize) {
    let action = action(handler, (SA_SIGINFO | SA_ONSTACK) as usize);
    let at = (&raw const action).expose_provenance();
    // SAFETY: the call reads the action. Its handler is made for such signals.
    let done = unsafe { arch::call(__NR_rt_sigaction, [signal as usize, at, 0, 8, 0, 0]) };
    succeeded("rt_sigaction", done);
}

/// Notes the signal, and lets the program go on at the refusal of its probe.
extern "C" fn caught(signal: i32, info: *const u8, context: *mut u8) {
    let here = (&raw const info).addr();
    let stack = STACK_AT.load(SeqCst);
    ON_ITS_STACK.store((stack..stack + STACK).contains(&here), SeqCst);
    SIGNAL.store(signal, SeqCst);
    // SAFETY: the kernel has put both structures on the stack, and the fields lie there.
    let instruction = unsafe {
        ITS_CODE.store(info.add(CODE).cast::<i32>().read(), SeqCst);
        ITS_ADDRESS.store(info.add(ADDRESS).cast::<usize>().read(), SeqCst);
        context.add(arch::INSTRUCTION).cast::<usize>()
    };
    // SAFETY: as above.
    let at = unsafe { instruction.read() };
    let after = probe::after_refusal(at);
    let after = after.unwrap_or_else(|| panic!("signal {signal} at {at:#x}: {}", last()));
    // SAFETY: as above. The registers are those of the probe, whose refusal begins there.
    unsafe { instruction.write(after) };
}

/// A signal that was caught.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    pub signal: i32,
    pub code: i32,
    pub address: usize,
    pub on_its_stack: bool,
}

/// Returns the last signal of this thread's, if no other has had one since.
pub fn last() -> Caught {
    Caught {
        signal: SIGNAL.load(SeqCst),
        code: ITS_CODE.load(SeqCst),
        address: ITS_ADDRESS.load(SeqCst),
        on_its_stack: ON_ITS_STACK.load(SeqCst),
    }
}

impl Caught {
    /// Returns true if it is the SIGSEGV of an access to this address.
    pub fn is_segv_at(&self, address: usize) -> bool {
        self.signal == SIGSEGV as i32 && self.address == address
    }
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, code, address, .. } = self;
        write!(f, "signal {signal}, code {code}, address {address:#x}")
    }
}
