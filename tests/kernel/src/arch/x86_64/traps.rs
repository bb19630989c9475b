//! Traps: descriptor tables, and the way into Rust and back.
//!
//! Every trap runs on a stack of its own (IST), of which each processor has a set: precompiled
//! `core` uses the red zone below the stack pointer, which a trap on the same stack would
//! overwrite. The page-fault stack is not re-entered, because the handler never accesses the lower
//! half; an assertion checks that. Interrupts from the other processor may interrupt the handler,
//! and have a stack of their own.

use kvma_machine::cpu::{self, FIRST_TASK};
use kvma_machine::{CPUS, apic};
use spin::Once;
use x86_64::instructions::interrupts;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{InterruptDescriptorTable, PageFaultErrorCode};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::user;
use crate::arch::{Access, Exception, Left};
use crate::tlb;

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
    TRAP 0, 0
    TRAP 1, 0
    TRAP 3, 0
    TRAP 6, 0
    TRAP 8, 1
    TRAP 13, 1
    TRAP 14, 1
    TRAP 16, 0
    TRAP 17, 1
    TRAP 19, 0
    TRAP 64, 0
    TRAP 65, 0
    TRAP 255, 0
trap_common:
    test byte ptr [rsp + 24], 3         // the ring that was interrupted
    jnz trap_from_user                  // see `user`
    .irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    push \r
    .endr
    mov rdi, rsp
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
    .quad trap_0, trap_1, trap_3, trap_6, trap_8, trap_13, trap_14, trap_16, trap_17, trap_19
    .quad trap_64, trap_65, trap_255
    .text
"#
);

/// The registers that `trap_common` has pushed, and above them those that the processor has pushed.
#[derive(Clone)]
#[repr(C)]
pub struct TrapFrame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    /// The address at which the interrupted code continues.
    pub instruction: u64,
    code_segment: u64,
    flags: u64,
    stack: u64,
    stack_segment: u64,
}

/// The segments of ring 3, behind those of the kernel and the task segments.
pub const USER_DATA: u64 = 0x38 | 3;
pub const USER_CODE: u64 = 0x40 | 3;

impl TrapFrame {
    /// Returns the registers with which a program starts.
    pub fn for_user(instruction: u64, stack: u64) -> Self {
        Self {
            registers: [0; 15],
            vector: 0,
            error: 0,
            instruction,
            code_segment: USER_CODE,
            flags: INTERRUPT_FLAG | 2,
            stack,
            stack_segment: USER_DATA,
        }
    }

    pub fn vector(&self) -> u64 {
        self.vector
    }

    pub fn error(&self) -> u64 {
        self.error
    }

    pub fn registers(&self) -> &[u64; 15] {
        &self.registers
    }

    pub fn registers_mut(&mut self) -> &mut [u64; 15] {
        &mut self.registers
    }

    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Sets those flags that a program may set.
    pub fn set_flags(&mut self, flags: u64) {
        const ARITHMETIC_AND_DIRECTION: u64 = 0xcd5;
        const KEPT: u64 = INTERRUPT_FLAG | 2;
        self.flags = flags & ARITHMETIC_AND_DIRECTION | KEPT;
    }

    /// Lets what goes on not be interrupted.
    pub fn turn_interrupts_off(&mut self) {
        self.flags &= !INTERRUPT_FLAG;
    }

    pub fn stack(&self) -> u64 {
        self.stack
    }

    pub fn set_stack(&mut self, stack: u64) {
        self.stack = stack;
    }
}

const CALL: u64 = apic::CALL as u64;
const TICK: u64 = apic::TICK as u64;
const SPURIOUS: u64 = apic::SPURIOUS as u64;
const INTERRUPT_FLAG: u64 = 1 << 9;

/// Returns the access that has caused a page fault.
fn access(error: u64) -> Access {
    let error = PageFaultErrorCode::from_bits_truncate(error);
    if error.contains(PageFaultErrorCode::INSTRUCTION_FETCH) {
        Access::Fetch
    } else if error.contains(PageFaultErrorCode::CAUSED_BY_WRITE) {
        Access::Store
    } else {
        Access::Load
    }
}

/// Takes note of a trap from ring 3. Interrupts are off.
pub fn from_user(frame: &TrapFrame, vector: u64) -> Left {
    match vector {
        14 => Left::PageFault { address: cpu::fault_address(), access: access(frame.error) },
        CALL => {
            tlb::serve_others();
            apic::end_of_interrupt();
            Left::Interrupt
        }
        TICK => {
            tick(frame);
            Left::Interrupt
        }
        SPURIOUS => Left::Interrupt,
        8 => panic!("double fault in ring 3, at {:#x}", frame.instruction),
        0 | 16 | 19 => Left::Exception(Exception::Arithmetic),
        1 | 3 => Left::Exception(Exception::Breakpoint),
        6 => Left::Exception(Exception::Illegal),
        17 => Left::Exception(Exception::Alignment),
        _ => Left::Exception(Exception::Protection),
    }
}

fn tick(frame: &TrapFrame) {
    crate::user::tick(frame.instruction, frame.code_segment & 3 != 0);
    apic::end_of_interrupt();
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(frame: &mut TrapFrame) {
    let at = frame.instruction;
    match frame.vector {
        14 => {
            let address = cpu::fault_address();
            let interruptible = frame.flags & INTERRUPT_FLAG != 0;
            crate::fault::page_fault(frame, address, access(frame.error), interruptible);
        }
        CALL => {
            tlb::serve_others();
            apic::end_of_interrupt();
        }
        TICK => tick(frame),
        SPURIOUS => {}
        // Freed frames are filled with INT3 (see `frames`).
        3 => panic!("executed a freed frame at {:#x}", at - 1),
        vector => panic!(
            "exception {vector}, error {:#x}, at {at:#x}, cr2 {:#x}",
            frame.error,
            cpu::fault_address()
        ),
    }
}

const STACK: usize = 32 * 1024;
const PAGE_FAULT_IST: u16 = 0;
const INTERRUPT_IST: u16 = 1;
const OTHER_IST: u16 = 2;
const ISTS: usize = 3;

#[repr(align(16))]
#[expect(dead_code, reason = "used by address")]
struct Stack([u8; STACK]);

static mut STACKS: [[Stack; ISTS]; CPUS] = [const { [const { Stack([0; STACK]) }; ISTS] }; CPUS];
static TASKS: Once<[TaskStateSegment; CPUS]> = Once::new();
/// Null, two segments of the kernel, two entries for each task segment, two segments of ring 3.
const DESCRIPTORS: usize = 5 + 2 * CPUS;
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
        let data = gdt.append(Descriptor::user_data_segment());
        let code = gdt.append(Descriptor::user_code_segment());
        assert_eq!([data.0, code.0].map(u64::from), [USER_DATA, USER_CODE]);
        gdt
    });
    let selector = |index| SegmentSelector::new(index, PrivilegeLevel::Ring0);
    let (code, data) = (selector(1), selector(2));
    let task = SegmentSelector(FIRST_TASK + 16 * number as u16);
    gdt.load();
    // SAFETY: the selectors belong to the loaded table: flat ring-0 code and data, and this
    // processor's task segment, which lives as long as the kernel.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
    IDT.call_once(interrupt_table).load();
    apic::init();
    user::init(number);
    interrupts::enable();
}

fn interrupt_table() -> InterruptDescriptorTable {
    unsafe extern "C" {
        static trap_entries: [u64; 13];
    }
    let mut idt = InterruptDescriptorTable::new();
    // SAFETY: the entries are the addresses above, in this order. Each saves all state and returns
    // by IRETQ after it has dropped the error code or the zero in its place. The stacks exist.
    unsafe {
        let [
            divide,
            debug,
            breakpoint,
            opcode,
            double,
            protection,
            page,
            x87,
            alignment,
            simd,
            call,
            tick,
            spurious,
        ] = trap_entries.map(VirtAddr::new);
        idt.divide_error.set_handler_addr(divide).set_stack_index(OTHER_IST);
        idt.debug.set_handler_addr(debug).set_stack_index(OTHER_IST);
        idt.breakpoint
            .set_handler_addr(breakpoint)
            .set_stack_index(OTHER_IST)
            .set_privilege_level(PrivilegeLevel::Ring3);
        idt.x87_floating_point.set_handler_addr(x87).set_stack_index(OTHER_IST);
        idt.alignment_check.set_handler_addr(alignment).set_stack_index(OTHER_IST);
        idt.simd_floating_point.set_handler_addr(simd).set_stack_index(OTHER_IST);
        idt[apic::TICK].set_handler_addr(tick).set_stack_index(INTERRUPT_IST);
        idt.invalid_opcode.set_handler_addr(opcode).set_stack_index(OTHER_IST);
        idt.double_fault.set_handler_addr(double).set_stack_index(OTHER_IST);
        idt.general_protection_fault.set_handler_addr(protection).set_stack_index(OTHER_IST);
        idt.page_fault.set_handler_addr(page).set_stack_index(PAGE_FAULT_IST);
        idt[apic::CALL].set_handler_addr(call).set_stack_index(INTERRUPT_IST);
        idt[apic::SPURIOUS].set_handler_addr(spurious).set_stack_index(INTERRUPT_IST);
    }
    idt
}
