//! The guests' programs: see [`crate::program`]. Arguments come in `esi`, `ebx`, `ecx` and `edx`;
//! the result goes to `eax`, and `ebp` tells if the access was refused.

use crate::program::report::{NOTHING, REFUSED, ROUNDS, SEEN, STOP};

core::arch::global_asm!(
    r#"
    .section .rodata.guest, "a"
    .align 4
    .code32
    .global guest_begin, guest_end, guest_load, guest_store, guest_fill, guest_sum, guest_watch
    .global guest_watch_refused, guest_sweep, guest_meet, guest_refused
guest_begin:
guest_load:
    mov eax, [esi]
    jmp guest_made
guest_store:
    mov [esi], ebx
    xor eax, eax
    jmp guest_made
guest_fill:
    mov [esi], ecx
    add esi, 4096
    inc ecx
    dec ebx
    jnz guest_fill
    jmp guest_made
guest_sum:
    xor eax, eax
1:  add eax, [esi]
    add esi, 4096
    dec ebx
    jnz 1b
    jmp guest_made
guest_watch:
    mov eax, [esi]
1:  mov [ebx + {seen}], eax
    inc dword ptr [ebx + {rounds}]
    cmp dword ptr [ebx + {stop}], 0
    je guest_watch
    jmp guest_made
guest_watch_refused:
    inc dword ptr [ebx + {refused}]
    mov eax, {nothing}
    jmp 1b
guest_sweep:
    mov eax, [ebx + {rounds}]
    inc eax
    mov edi, esi
    mov edx, ecx
2:  mov [edi], eax
    add edi, 4096
    dec edx
    jnz 2b
    mov [ebx + {rounds}], eax
    cmp dword ptr [ebx + {stop}], 0
    je guest_sweep
    jmp guest_made
guest_meet:
    xor eax, eax
1:  inc eax
    mov [esi], eax
2:  cmp [ebx], eax
    jl 2b
    cmp eax, ecx
    jne 1b
guest_made:
    xor ebp, ebp
    vmmcall
guest_refused:
    mov ebp, 1
    vmmcall
guest_end:
    .code64
    .text
"#,
    seen = const SEEN,
    rounds = const ROUNDS,
    refused = const REFUSED,
    stop = const STOP,
    nothing = const NOTHING as i32,
);
