//! Probes in user mode: accesses that the kernel has made there, through the TLB as it is.
//!
//! An emulated processor keeps the entries of user mode in a TLB of their own, which the kernel's
//! accesses do not use. So each probe goes to user mode for one instruction, on a page of the
//! kernel's image that user mode may execute, and comes back by a trap: that of a page fault, or of
//! the system call right behind the instruction. Both come on a kernel stack that each processor
//! has for this, so a probe may be made wherever the kernel is, with or without a thread.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::mutex::SpinMutex;

use crate::arch::kernel_stack::{KernelStack, switch};
use crate::arch::user::{ThreadRegisters, UserContext, once_on};
use crate::arch::{Access, Left, interrupts};
use crate::cpus::{CPUS, number};

unsafe extern "C" {
    // Their address is the stack pointer.
    fn user_probe_load();
    fn user_probe_store();
}

/// The stacks on which traps of probes come.
static STACKS: [SpinMutex<Option<KernelStack>>; CPUS] = [const { SpinMutex::new(None) }; CPUS];
/// The stack pointers of whoever makes a probe, and of the trap that has ended it, which stays.
static MAKERS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static ENDS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// Set while a processor is in user mode for a probe.
static UNDER_WAY: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];
/// The way in which the last probe has ended.
static LEFT: [SpinMutex<Option<Left>>; CPUS] = [const { SpinMutex::new(None) }; CPUS];

/// Returns the address of the page with the instructions.
pub fn page() -> u64 {
    (user_probe_load as *const ()).addr() as u64
}

/// Makes the stacks.
///
/// # Panics
///
/// Without memory.
pub fn init() {
    for stack in &STACKS {
        *stack.lock() = Some(KernelStack::new().expect("there is memory for a stack"));
    }
}

/// Makes a load or a store in user mode, and returns true if it was made. If it causes a fault,
/// that is not served.
///
/// # Panics
///
/// For a fetch: nothing is known of the code that a page holds.
pub fn is_made(page: u64, access: Access) -> bool {
    let code = match access {
        Access::Load => user_probe_load as *const (),
        Access::Store => user_probe_store as *const (),
        Access::Fetch => panic!("a fetch is no probe of user mode"),
    };
    let were_on = interrupts::are_enabled();
    interrupts::disable();
    let left = loop {
        let left = make(&UserContext::without_interrupts(code.addr() as u64, page));
        // On some processors, an old entry of an absent page had to go first.
        if left != Left::Interrupt {
            break left;
        }
    };
    if were_on {
        interrupts::enable();
    }
    match left {
        Left::SystemCall => true,
        Left::PageFault { address, .. } if address == page => false,
        left => panic!("a probe of {page:#x} has left user mode by {left:?}"),
    }
}

/// Goes to user mode with these registers. Interrupts are off.
fn make(context: &UserContext) -> Left {
    let me = number();
    let mut stack = STACKS[me].lock();
    let stack = stack.as_mut().expect("programs run");
    let to = stack.prepare(context);
    UNDER_WAY[me].store(true, SeqCst);
    // SAFETY: the stack was prepared for this, and the one that is left waits for `end`.
    once_on(stack, || unsafe { switch(&MAKERS[me], to) });
    stack.check();
    LEFT[me].lock().take().expect("the probe has ended")
}

/// Lets a thread begin with a load of `address`, where nothing is mapped: as the scheduler does,
/// with interrupts on. Returns the way in which it has left user mode. No flush may be under way.
///
/// # Panics
///
/// Without [stacks](init).
pub fn first_load(address: u64) -> Left {
    let me = number();
    let mut stack = STACKS[me].lock();
    let stack = stack.as_mut().expect("there are stacks");
    let code = (user_probe_load as *const ()).addr() as u64;
    let to = stack.prepare(&UserContext::new(code, address));
    ThreadRegisters::default().load(stack);
    UNDER_WAY[me].store(true, SeqCst);
    // SAFETY: as in `make`.
    unsafe { switch(&MAKERS[me], to) };
    interrupts::enable();
    stack.check();
    LEFT[me].lock().take().expect("user mode was left")
}

/// Ends the probe that this processor is making, if it is: then does not return. Called when user
/// mode was left, with interrupts off.
pub fn end(left: Left) {
    let me = number();
    if UNDER_WAY[me].swap(false, SeqCst) {
        *LEFT[me].lock() = Some(left);
        // SAFETY: the maker waits there. Nothing is left on this stack that has to be dropped.
        unsafe { switch(&ENDS[me], MAKERS[me].load(SeqCst)) };
    }
}
