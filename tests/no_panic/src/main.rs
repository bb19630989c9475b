//! Calls every public function of kvma with arguments that the compiler knows nothing about, in a
//! program whose panic handler cannot be linked. So it links only if no call can panic, as far as
//! the optimizer can tell: `bash .ci/no-panic`. It is not made to be run.
//!
//! With the feature `find`, the handler can be linked, and a disassembler shows who calls it.
#![no_std]
#![no_main]

mod compat;
mod files;
mod flags;
mod guest;
mod linux;
mod linux_maps;
mod locks;
mod map;
mod opaque;
mod plain;
mod range_map;
mod space;
mod watch;
mod world;

use core::arch::global_asm;

// The entry point, and the functions that the precompiled `core` needs. Nothing runs.
global_asm!(
    "
.global _start
_start:
    call run
    ud2
.global memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality, _Unwind_Resume
memcpy:
memmove:
memset:
memcmp:
bcmp:
rust_eh_personality:
_Unwind_Resume:
    ud2
"
);

#[unsafe(no_mangle)]
extern "C" fn run() {
    plain::all();
    flags::all();
    map::all();
    space::all();
    watch::all();
    locks::all();
    range_map::all();
    compat::all();
    linux::all();
    linux_maps::all();
    guest::all();
}

#[cfg(not(feature = "find"))]
unsafe extern "C" {
    fn kvma_can_panic() -> !;
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // So that calls from different places are different calls.
    opaque::sink(info.location().map(|location| (location.line(), location.column())));
    #[cfg(not(feature = "find"))]
    // SAFETY: there is no such function, so nothing that calls it links.
    unsafe {
        kvma_can_panic()
    }
    #[cfg(feature = "find")]
    loop {}
}
