//! The parts that depend on the processor: a file for each architecture, all of which offer the
//! same.
//!
//! | item                  | is                                                                 |
//! |-----------------------|--------------------------------------------------------------------|
//! | `_start`              | where the program begins: it calls `begin` with its stack pointer  |
//! | `call`                | a system call                                                      |
//! | `start_thread`        | clone(2), and what the new thread does first                       |
//! | `return_from_handler` | where handlers return to, or 0; where that is part of an action    |
//! | `INSTRUCTION`         | where in `ucontext` the address of what was interrupted is         |
//! | `IMPOSSIBLE_ENDS`     | how Linux refuses an access to an address that no page can have    |
//! | `probe`               | the test kernel's: accesses of one instruction each, and a RET     |

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "loongarch64")]
mod loongarch64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use self::aarch64::*;
#[cfg(target_arch = "loongarch64")]
pub use self::loongarch64::*;
#[cfg(target_arch = "riscv64")]
pub use self::riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use self::x86_64::*;

/// An address that no page can have on any of them.
pub const IMPOSSIBLE: usize = 1 << 50 | 0x128;

unsafe extern "C" {
    /// Makes a thread by clone(2) with these flags. On its stack lie its function and the argument,
    /// from the stack pointer upwards; the function must not return. Returns the thread's id, or a
    /// negative error.
    pub fn start_thread(flags: usize, stack: usize) -> isize;
}
