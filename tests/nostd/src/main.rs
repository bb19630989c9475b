//! The library in a program without std, a heap or libc: if it links here, it links in a kernel.
//! The exit status is 0 if it also works.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

use kvma::{
    AddrSpace, Attrs, Backing, Error, Event, FixedPool, MapRequest, PageSize, Placement, Prot,
    Search, VmMap, VmaNode, on_event,
};

// The entry point, and the functions that the precompiled `core` needs.
global_asm!(
    "
.global _start
_start:
    xor ebp, ebp
    and rsp, -16
    call run
    mov edi, eax
    mov eax, 231
    syscall
.global memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality, _Unwind_Resume
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
memmove:
    mov rax, rdi
    mov rcx, rdx
    mov r8, rdi
    sub r8, rsi
    cmp r8, rdx
    jb 1f
    rep movsb
    ret
1:  lea rdi, [rdi + rcx - 1]
    lea rsi, [rsi + rcx - 1]
    std
    rep movsb
    cld
    ret
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
memcmp:
bcmp:
    xor ecx, ecx
2:  cmp rcx, rdx
    je 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 2b
    ret
3:  xor eax, eax
    ret
rust_eh_personality:
_Unwind_Resume:
    ud2
"
);

static POOL: FixedPool<VmaNode, 16> = FixedPool::new();

/// Maps four pages, unmaps the second one, and checks what is left.
fn map_and_unmap() -> Result<bool, Error> {
    let space = AddrSpace::new(VmMap::new(0x1000..=0x7fff_ffff, PageSize::SIZE_4K, &POOL)?);
    let mut unmapped = 0;
    let mut hooks = on_event(|event: Event<'_, ()>| {
        if let Event::Unmap(piece) = event {
            unmapped += piece.range().page_count();
        }
    });
    let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 1, offset: 0 });
    let at = space
        .map(MapRequest::new(Placement::Any(Search::new().top_down()), 0x4000, file), &mut hooks)?;
    space.unmap(at + 0x1000, 0x1000, &mut hooks)?;
    let right = space.inspect(|map| map.find(at + 0x2000).map(|vma| vma.attrs().backing()));
    drop(space);
    Ok(unmapped == 1
        && right == Some(Backing::Object { id: 1, offset: 0x2000 })
        && POOL.in_use() == 0)
}

#[unsafe(no_mangle)]
extern "C" fn run() -> i32 {
    match map_and_unmap() {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => error.errno().0,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: exit_group does not return.
        unsafe { asm!("syscall", in("eax") 231, in("edi") 101) }
    }
}
