//! The hypervisor's own traps: interrupts by the other processor. Guests' are exits (see `vcpu`).
//!
//! Each runs on a stack of its own (IST), as precompiled `core` uses the red zone below the stack
//! pointer.

use kvma_machine::cpu::FIRST_TASK;
use kvma_machine::{CPUS, apic, shootdown};
use spin::Once;
use x86_64::instructions::interrupts;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::vcpu;

core::arch::global_asm!(
    r#"
    .text
    .macro TRAP vector, pushes_error
trap_\vector:
    .if \pushes_error == 0
    push 0
    .endif
    push \vector
    jmp trap_common
    .endm
    TRAP 3, 0
    TRAP 6, 0
    TRAP 8, 1
    TRAP 13, 1
    TRAP 14, 1
    TRAP 64, 0
    TRAP 255, 0
trap_common:
    .irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    push \r
    .endr
    mov rdi, [rsp + 120]
    mov rsi, [rsp + 128]
    mov rdx, [rsp + 136]
    mov rbp, rsp
    sub rsp, 512
    and rsp, -16
    fxsave64 [rsp]
    cld
    call trap_in_rust
    fxrstor64 [rsp]
    mov rsp, rbp
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    pop \r
    .endr
    add rsp, 16
    iretq

    .section .rodata.traps, "a"
    .align 8
    .global trap_entries
trap_entries:
    .quad trap_3, trap_6, trap_8, trap_13, trap_14, trap_64, trap_255
    .text
"#
);

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(vector: u64, error: u64, at: u64) {
    const CALL: u64 = apic::CALL as u64;
    const SPURIOUS: u64 = apic::SPURIOUS as u64;
    match vector {
        CALL => {
            shootdown::serve(vcpu::flush);
            apic::end_of_interrupt();
        }
        SPURIOUS => {}
        _ => panic!("trap {vector}, error {error:#x}, at {at:#x}, cr2 {:#x}", Cr2::read_raw()),
    }
}

const STACK: usize = 32 * 1024;
const INTERRUPT_IST: u16 = 0;
const OTHER_IST: u16 = 1;
const ISTS: usize = 2;

#[repr(align(16))]
#[expect(dead_code, reason = "used by address")]
struct Stack([u8; STACK]);

static mut STACKS: [[Stack; ISTS]; CPUS] = [const { [const { Stack([0; STACK]) }; ISTS] }; CPUS];
static TASKS: Once<[TaskStateSegment; CPUS]> = Once::new();
/// Null, two segments, two entries for each task segment.
const DESCRIPTORS: usize = 3 + 2 * CPUS;
static GDT: Once<GlobalDescriptorTable<DESCRIPTORS>> = Once::new();
static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Loads the descriptor tables of processor `number`, and turns interrupts on.
pub fn init(number: usize) {
    let tasks = TASKS.call_once(|| {
        core::array::from_fn(|number| {
            let mut task = TaskStateSegment::new();
            let stacks = VirtAddr::from_ptr(&raw const STACKS) + (number * ISTS * STACK) as u64;
            for ist in 0..ISTS {
                // Stacks grow down, so the pointer starts at the end.
                task.interrupt_stack_table[ist] = stacks + ((ist + 1) * STACK) as u64;
            }
            task
        })
    });
    let gdt = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::empty();
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
        for task in tasks {
            gdt.append(Descriptor::tss_segment(task));
        }
        gdt
    });
    let selector = |index| SegmentSelector::new(index, PrivilegeLevel::Ring0);
    let (code, data) = (selector(1), selector(2));
    gdt.load();
    // SAFETY: the selectors belong to the loaded table: flat code and data, and this processor's
    // task segment, which lives as long as the hypervisor.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(SegmentSelector(FIRST_TASK + 16 * number as u16));
    }
    IDT.call_once(interrupt_table).load();
    apic::init();
    interrupts::enable();
}

fn interrupt_table() -> InterruptDescriptorTable {
    unsafe extern "C" {
        static trap_entries: [u64; 7];
    }
    let mut idt = InterruptDescriptorTable::new();
    // SAFETY: the entries are the addresses above, in this order. Each saves all state and returns
    // by IRETQ after it has dropped the error code or the zero in its place. The stacks exist.
    unsafe {
        let [breakpoint, opcode, double, protection, page, call, spurious] =
            trap_entries.map(VirtAddr::new);
        idt.breakpoint.set_handler_addr(breakpoint).set_stack_index(OTHER_IST);
        idt.invalid_opcode.set_handler_addr(opcode).set_stack_index(OTHER_IST);
        idt.double_fault.set_handler_addr(double).set_stack_index(OTHER_IST);
        idt.general_protection_fault.set_handler_addr(protection).set_stack_index(OTHER_IST);
        idt.page_fault.set_handler_addr(page).set_stack_index(OTHER_IST);
        idt[apic::CALL].set_handler_addr(call).set_stack_index(INTERRUPT_IST);
        idt[apic::SPURIOUS].set_handler_addr(spurious).set_stack_index(INTERRUPT_IST);
    }
    idt
}
