//! The test hypervisor: kvma's `guest` layer at its real job, on the processor's second stage.
//!
//! Two guests with two virtual processors each run on two processors. Their programs are small, and
//! do what each scenario needs: touch memory, reach a device, run on while memory comes and goes
//! below them. After every scenario the second stage is compared with the regions, page by page and
//! both ways, and every frame with its owner. Whatever is wrong is a panic, and a panic fails the
//! boot.
//!
//! With the word `linux` on its command line, and on RISC-V, it runs Linux instead, from the
//! archive that is its module: see `linux`.

#![no_std]
#![no_main]

mod arch;
mod broken;
mod check;
mod console;
mod device;
mod fault;
mod frames;
mod hooks;
#[cfg(target_arch = "riscv64")]
mod linux;
mod program;
mod run;
mod scenarios;
mod stage2;
mod vm;

use core::panic::PanicInfo;

use kvma_machine::start_info::StartInfo;
use kvma_machine::{Verdict, cpu, cpus, exit, image_end};

use self::broken::Broken;

/// Entered once, from the machine's entry code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u64) -> ! {
    arch::init(0);
    // SAFETY: the entry code passes the loader's pointer on.
    let Some(info) = (unsafe { StartInfo::new(start_info) }) else {
        panic!("no start info from the loader")
    };
    match Broken::parse(info.command_line()) {
        Ok(broken) => broken.choose(),
        Err(name) => panic!("no way to break this hypervisor is called {name}"),
    }
    if !Broken::Nothing.is_chosen() {
        println!("this hypervisor is broken on purpose: {}", info.command_line());
    }
    #[cfg(target_arch = "riscv64")]
    let (is_linux, blocks) = match info.has_word("linux") {
        true => (true, linux::BLOCKS),
        false => (false, scenarios::BLOCKS),
    };
    #[cfg(not(target_arch = "riscv64"))]
    let blocks = scenarios::BLOCKS;
    // SAFETY: RAM above the image that holds no module, and nothing else uses.
    unsafe { frames::init(info.usable_ram(image_end()), blocks) };
    // SAFETY: the tables of the entry code are never freed.
    unsafe { cpus::start_second(cpu::root(), arch::init) };
    println!(
        "hypervisor up: {}, 2 processors, {} MiB for guests",
        arch::NAME,
        (frames::total() * frames::FRAME_SIZE as usize) >> 20
    );
    #[cfg(target_arch = "riscv64")]
    if is_linux {
        linux::run(info.module().unwrap_or_default());
        exit(Verdict::Pass)
    }
    scenarios::run();
    exit(Verdict::Pass)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => println!("FAILED: {} ({}:{})", info.message(), at.file(), at.line()),
        None => println!("FAILED: {}", info.message()),
    }
    exit(Verdict::Fail)
}
