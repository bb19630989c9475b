//! Traps: the way into the page-fault handler and back, and what the program does to memory.
//!
//! The program runs in ring 0, as in a unikernel. It touches its memory with [`load`] and [`store`]
//! alone, each a single instruction that the handler knows; a fault anywhere else is a bug of the
//! kernel's. That is also how kernels copy from and to user memory.

use core::sync::atomic::{AtomicBool, Ordering};

use kvma::Prot;
use spin::LazyLock;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{InterruptDescriptorTable, PageFaultErrorCode};
use x86_64::structures::tss::TaskStateSegment;

use crate::fault::{self, Outcome};

core::arch::global_asm!(
    r#"
    .text
page_fault_entry:                       // rsp is a multiple of 16 here
    .irp register, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
    push \register
    .endr
    sub rsp, 520
    fxsave64 [rsp]
    cld
    lea rdi, [rsp + 592]
    call page_fault_in_rust
    fxrstor64 [rsp]
    add rsp, 520
    .irp register, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
    pop \register
    .endr
    add rsp, 8                          // the error code
    iretq
other_entry:
    call other_in_rust
    ud2

program_load:
    movzx eax, byte ptr [rdi]
    ret
program_store:
    mov byte ptr [rdi], sil
    xor eax, eax
    ret
program_refused:
    mov eax, -1
    ret
"#
);

unsafe extern "C" {
    safe fn program_load(addr: u64) -> i32;
    safe fn program_store(addr: u64, byte: u8) -> i32;
    static program_refused: u8;
    static page_fault_entry: u8;
    static other_entry: u8;
}

/// Returns the byte at `addr`, or `None` if the program must not read it: SIGSEGV, elsewhere.
pub fn load(addr: u64) -> Option<u8> {
    u8::try_from(program_load(addr)).ok()
}

/// Stores a byte. `None` if the program must not.
pub fn store(addr: u64, byte: u8) -> Option<()> {
    (program_store(addr, byte) == 0).then_some(())
}

/// The words that the processor pushes for a page fault.
#[repr(C)]
struct TrapFrame {
    error: u64,
    instruction: u64,
}

#[unsafe(no_mangle)]
extern "C" fn page_fault_in_rust(frame: &mut TrapFrame) {
    static INSIDE: AtomicBool = AtomicBool::new(false);
    let (addr, at) = (Cr2::read_raw(), frame.instruction);
    let is_program =
        at == program_load as *const () as u64 || at == program_store as *const () as u64;
    assert!(is_program && !INSIDE.swap(true, Ordering::Relaxed), "the kernel faults at {at:#x}");
    let error = PageFaultErrorCode::from_bits_truncate(frame.error);
    let access =
        if error.contains(PageFaultErrorCode::CAUSED_BY_WRITE) { Prot::WRITE } else { Prot::READ };
    match fault::page_fault(addr, access) {
        // The instruction runs again; if need be, it faults again.
        Outcome::Served | Outcome::Again => {}
        Outcome::Refused => frame.instruction = (&raw const program_refused).addr() as u64,
    }
    INSIDE.store(false, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn other_in_rust() -> ! {
    panic!("an exception that is no page fault, cr2 {:#x}", Cr2::read_raw())
}

/// Traps have a stack of their own: precompiled `core` uses the red zone below the stack pointer,
/// which a trap on the same stack would overwrite.
#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "used by address")] [u8; 32 * 1024]);
static mut STACK: Stack = Stack([0; 32 * 1024]);

static TASK: LazyLock<TaskStateSegment> = LazyLock::new(|| {
    let mut task = TaskStateSegment::new();
    // Stacks grow down, so the pointer starts at the end.
    task.interrupt_stack_table[0] =
        VirtAddr::from_ptr(&raw const STACK) + size_of::<Stack>() as u64;
    task
});

static GDT: LazyLock<(GlobalDescriptorTable, SegmentSelector, SegmentSelector)> =
    LazyLock::new(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let task = gdt.append(Descriptor::tss_segment(&TASK));
        (gdt, code, task)
    });

static IDT: LazyLock<InterruptDescriptorTable> = LazyLock::new(|| {
    let mut idt = InterruptDescriptorTable::new();
    // SAFETY: the first entry saves all state that Rust may change, and returns by IRETQ after it
    // has dropped the error code; the other one never returns. The stack is theirs alone.
    unsafe {
        idt.page_fault
            .set_handler_addr(VirtAddr::from_ptr(&raw const page_fault_entry))
            .set_stack_index(0);
        let other = VirtAddr::from_ptr(&raw const other_entry);
        idt.invalid_opcode.set_handler_addr(other).set_stack_index(0);
        idt.double_fault.set_handler_addr(other).set_stack_index(0);
        idt.general_protection_fault.set_handler_addr(other).set_stack_index(0);
    }
    idt
});

/// Loads the descriptor tables.
pub fn init() {
    let (gdt, code, task) = &*GDT;
    gdt.load();
    // SAFETY: the selectors belong to the table that has just been loaded, which lives for ever.
    unsafe {
        CS::set_reg(*code);
        load_tss(*task);
    }
    IDT.load();
}
