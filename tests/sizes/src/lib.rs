//! A kernel's memory manager, as far as it is made of the library: one layer at a time, by feature.
//! What matters is how much code it is: `cargo bench -p kvma-bench --bench sizes`.
//!
//! Each exported function is what a kernel's system call or fault handler would call. The kernel's
//! side of it, page tables and all, is behind symbols that nobody defines here.
#![no_std]

#[cfg(feature = "addr_space")]
mod addr_space;
mod kernel;
#[cfg(feature = "linux")]
mod linux;
#[cfg(feature = "vm_map")]
mod vm_map;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the kernel stops.
    unsafe { kernel::stop() }
}
