//! The test kernel: kvma at its real job.
#![no_std]
#![no_main]

mod arch;
mod broken;
mod contents;
mod fault;
mod frames;
mod paging;
mod probe;
mod shadow;
mod space;
mod tlb;

use arch::{cpu, exit, start_info::StartInfo};

#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u64) -> ! {
    arch::serial::init();
    arch::traps::init();
    arch::timer::calibrate();
    let info = unsafe { StartInfo::new(start_info) }.expect("si");
    println!("cmd {:?} mod {:?}", info.command_line(), info.module().map(|m| m.len()));
    let ram = info.usable_ram(paging::image_end());
    println!("ram {ram:x?}");
    unsafe { frames::init(ram) };
    let t = paging::kernel_root().expect("mem");
    unsafe { cpu::set_root(t.root()) };
    println!("paging on, {} tables", frames::in_use(frames::Use::Table));
    println!("{:?} {} {}", probe::load(0x1000), probe::store(0x7fff_0000_0000, 1), probe::fetch(0x5555_5555_0000));
    use core::fmt::Write;
    let t0 = arch::timer::now();
    for i in 0..1000 { let _ = writeln!(arch::debug_port::DebugPort, "hello hello hello hello {i}"); }
    println!("debugcon {} ns/line", arch::timer::nanoseconds(arch::timer::now() - t0)/1000);
    exit::exit(exit::Verdict::Pass)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => println!("FAILED: {} ({}:{})", info.message(), at.file(), at.line()),
        None => println!("FAILED: {}", info.message()),
    }
    exit::exit(exit::Verdict::Fail)
}
