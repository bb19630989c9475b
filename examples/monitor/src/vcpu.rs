//! The virtual processor: how it begins, and the loop around `KVM_RUN`.

use std::sync::atomic::Ordering::Relaxed;

use kvm_bindings::kvm_segment;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use crate::machine::{Machine, ROM, text};

/// Returns the virtual processor, which is to begin with the program, in protected mode.
pub(crate) fn new(vm: &VmFd) -> Result<VcpuFd, String> {
    // Three pages that KVM wants on some processors: nobody's.
    vm.set_tss_address(0xfffb_d000).map_err(text)?;
    let vcpu = vm.create_vcpu(0).map_err(text)?;
    let flat = kvm_segment {
        limit: u32::MAX,
        selector: 8,
        type_: 3, // data, writable
        present: 1,
        s: 1,  // no system segment
        db: 1, // of 32 bits
        g: 1,  // the limit counts pages
        ..kvm_segment::default()
    };
    let mut sregs = vcpu.get_sregs().map_err(text)?;
    sregs.cs = kvm_segment { type_: 11, ..flat }; // code, readable
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (flat, flat, flat, flat, flat);
    sregs.cr0 |= 1; // protected mode
    vcpu.set_sregs(&sregs).map_err(text)?;
    let mut regs = vcpu.get_regs().map_err(text)?;
    (regs.rip, regs.rflags) = (ROM, 2);
    vcpu.set_regs(&regs).map_err(text)?;
    Ok(vcpu)
}

/// Runs the processor until it halts.
pub(crate) fn run(mut vcpu: VcpuFd, machine: &Machine) -> Result<(), String> {
    loop {
        let exit = match vcpu.run() {
            Ok(exit) => exit,
            // A signal has come, or KVM wants to be called again.
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                continue;
            }
            Err(error) => return Err(format!("KVM_RUN: {error}")),
        };
        machine.exits.fetch_add(1, Relaxed);
        match exit {
            VcpuExit::MmioRead(gpa, data) => machine.load(gpa, data)?,
            VcpuExit::MmioWrite(gpa, data) => machine.store(gpa, data)?,
            VcpuExit::Hlt => return Ok(()),
            other => return Err(format!("the processor has stopped: {other:?}")),
        }
    }
}
