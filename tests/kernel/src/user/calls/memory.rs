//! Memory: the calls that kvma's Linux layer answers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::linux::abi::MAP_ANONYMOUS;
use kvma::linux::{Limits, LinuxVma, Mmap, Resource};
use kvma::{Backing, Errno};
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler};
use crate::paging::PAGE_SIZE;
use crate::user::bytes::{Bytes, u64_at};
use crate::user::errno::EINVAL;
use crate::user::fs::descriptors::OnExec;
use crate::user::fs::inode::{Inode, Kind};
use crate::user::fs::open_file::OpenFile;
use crate::user::memory::Memory;
use crate::user::object::{MappedFile, Object, SHARED_MEMORY};
use crate::user::{record, truncate};

type Result = core::result::Result<Answer, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        __NR_mmap => mmap,
        __NR_munmap => munmap,
        __NR_mprotect => mprotect,
        __NR_mremap => mremap,
        __NR_brk => brk,
        __NR_madvise => madvise,
        __NR_mlock => mlock,
        __NR_mlock2 => mlock2,
        __NR_munlock => munlock,
        __NR_mlockall => mlockall,
        __NR_munlockall => munlockall,
        __NR_msync => msync,
        __NR_mincore => mincore,
        __NR_mseal => mseal,
        __NR_pkey_mprotect => pkey_mprotect,
        __NR_pkey_alloc => pkey_alloc,
        __NR_pkey_free => pkey_free,
        __NR_memfd_create => memfd_create,
        __NR_prlimit64 => prlimit,
        #[cfg(not(target_arch = "loongarch64"))]
        __NR_getrlimit => getrlimit,
        #[cfg(not(target_arch = "loongarch64"))]
        __NR_setrlimit => setrlimit,
        __NR_membarrier => membarrier,
        _ => return None,
    })
}

fn mmap(caller: &mut Caller<'_>) -> Result {
    let [addr, len, prot, flags, descriptor, offset] = caller.args;
    let file = match flags & MAP_ANONYMOUS {
        0 => caller.file(descriptor).ok(),
        _ => None,
    };
    let args = Mmap { addr, len, prot, flags, offset, file: file.as_ref().map(|f| f.mappable()) };
    record::mmap(&caller.memory, descriptor, file.as_deref(), args).map(Answer::from)
}

/// Makes a call of the Linux layer, and records it.
macro_rules! call {
    ($caller:ident, $name:ident($($arg:expr),*)) => {{
        let memory = &$caller.memory;
        let line = format_args!(
            concat!(stringify!($name), $(call!(@hex $arg)),*), $($arg),*
        );
        record::call(memory, line, || memory.call(|mm, call| mm.$name($($arg,)* call)))
            .map(Answer::from)
    }};
    (@hex $arg:expr) => { " {:x}" };
}

fn munmap(caller: &mut Caller<'_>) -> Result {
    let [addr, len, ..] = caller.args;
    call!(caller, munmap(addr, len))
}

fn mprotect(caller: &mut Caller<'_>) -> Result {
    let [addr, len, prot, ..] = caller.args;
    call!(caller, mprotect(addr, len, prot))
}

fn mremap(caller: &mut Caller<'_>) -> Result {
    let [old, old_len, new_len, flags, new, _] = caller.args;
    call!(caller, mremap(old, old_len, new_len, flags, new))
}

fn madvise(caller: &mut Caller<'_>) -> Result {
    let [addr, len, advice, ..] = caller.args;
    let advice = u64::from(advice as u32);
    let answer = call!(caller, madvise(addr, len, advice))?;
    if advice == u64::from(MADV_REMOVE) {
        for (object, offset, len) in objects(&caller.memory, addr, len) {
            truncate::punch(&object, offset, len);
        }
    }
    Ok(answer)
}

/// Returns the parts of objects that are mapped in a range.
fn objects(memory: &Memory, addr: u64, len: u64) -> Vec<(Arc<Object>, u64, u64)> {
    let end = addr.saturating_add(len.next_multiple_of(PAGE_SIZE));
    memory.space().vmas.inspect(|mm| {
        let part = |vma: kvma::Vma<'_, LinuxVma<MappedFile>>| {
            let (from, to) = (vma.start().max(addr), vma.last().saturating_add(1).min(end));
            let Backing::Object { offset, .. } = vma.attrs().backing() else { return None };
            let object = vma.data().object()?.0.clone();
            (from < to).then(|| (object, offset + (from - vma.start()), to - from))
        };
        mm.iter().filter_map(part).collect()
    })
}

fn mlock(caller: &mut Caller<'_>) -> Result {
    let [addr, len, ..] = caller.args;
    call!(caller, mlock(addr, len))
}

fn mlock2(caller: &mut Caller<'_>) -> Result {
    let [addr, len, flags, ..] = caller.args;
    call!(caller, mlock2(addr, len, flags))
}

fn munlock(caller: &mut Caller<'_>) -> Result {
    let [addr, len, ..] = caller.args;
    call!(caller, munlock(addr, len))
}

fn mlockall(caller: &mut Caller<'_>) -> Result {
    let [flags, ..] = caller.args;
    call!(caller, mlockall(flags))
}

fn munlockall(caller: &mut Caller<'_>) -> Result {
    let memory = &caller.memory;
    record::call(memory, format_args!("munlockall"), || {
        Ok(memory.call(|mm, call| mm.munlockall(call)))
    })
    .map(Answer::from)
}

fn msync(caller: &mut Caller<'_>) -> Result {
    let [addr, len, flags, ..] = caller.args;
    call!(caller, msync(addr, len, flags))
}

fn mseal(caller: &mut Caller<'_>) -> Result {
    let [addr, len, flags, ..] = caller.args;
    call!(caller, mseal(addr, len, flags))
}

fn pkey_mprotect(caller: &mut Caller<'_>) -> Result {
    let [addr, len, prot, key, ..] = caller.args;
    let key = super::signed(key).cast_unsigned();
    caller.memory.call(|mm, call| mm.pkey_mprotect(addr, len, prot, key, call)).map(Answer::from)
}

/// The processor's protection keys are not turned on.
fn pkey_alloc(_caller: &mut Caller<'_>) -> Result {
    Err(Errno(linux_raw_sys::errno::ENOSPC as i32))
}

fn pkey_free(_caller: &mut Caller<'_>) -> Result {
    Err(EINVAL)
}

fn brk(caller: &mut Caller<'_>) -> Result {
    let [brk, ..] = caller.args;
    let memory = &caller.memory;
    record::call(memory, format_args!("brk {brk:x}"), || {
        Ok(memory.call(|mm, call| mm.brk(brk, call)))
    })
    .map(Answer::from)
}

/// Tells which pages of a range have entries.
fn mincore(caller: &mut Caller<'_>) -> Result {
    let [addr, len, vector, ..] = caller.args;
    let memory = &caller.memory;
    memory.call(|mm, call| mm.mincore(addr, len, call))?;
    let pages = len.div_ceil(PAGE_SIZE);
    for page in 0..pages {
        let at = addr + page * PAGE_SIZE;
        let present = memory.space().pages.lock().tables.find(at).is_some_and(|e| !e.is_guard());
        memory.write(vector + page, &[u8::from(present)])?;
    }
    Ok(0.into())
}

fn memfd_create(caller: &mut Caller<'_>) -> Result {
    let [name, flags, ..] = caller.args;
    let mut path = b"/memfd:".to_vec();
    path.extend(caller.string(name)?);
    path.extend(b" (deleted)");
    let path = alloc::string::String::from_utf8_lossy(&path).into_owned();
    let inode = Inode::new(Kind::File(Object::new(SHARED_MEMORY, &path, 0)), 0o777);
    let on_exec = if flags & u64::from(MFD_CLOEXEC) != 0 { OnExec::Close } else { OnExec::Keep };
    let file = OpenFile::open(inode, O_RDWR);
    caller.process().descriptors.lock().add(file, on_exec, 0).map(Answer::from)
}

/// Returns the limit of the Linux layer that a number of `RLIMIT_*` means.
fn resource(number: u64) -> Option<Resource> {
    Some(match number as u32 {
        RLIMIT_AS => Resource::AddressSpace,
        RLIMIT_DATA => Resource::Data,
        RLIMIT_STACK => Resource::Stack,
        RLIMIT_MEMLOCK => Resource::MemLock,
        _ => return None,
    })
}

/// Returns a limit, for both the soft and the hard one.
fn limit(caller: &Caller<'_>, number: u64) -> u64 {
    match resource(number) {
        Some(resource) => caller.memory.space().vmas.inspect(|mm| mm.limits().get(resource)),
        None if number == u64::from(RLIMIT_NOFILE) => crate::user::fs::descriptors::MOST as u64,
        None => u64::MAX,
    }
}

fn set_limit(caller: &Caller<'_>, number: u64, address: u64) -> core::result::Result<(), Errno> {
    let new = caller.memory.read_vec(address, 16)?;
    let (soft, hard) = (u64_at(&new, 0), u64_at(&new, 8));
    if soft > hard {
        return Err(EINVAL);
    }
    if let Some(resource) = resource(number) {
        caller.memory.call(|mm, _| {
            let limits: Limits = *mm.limits();
            mm.set_limits(limits.with(resource, soft));
        });
    }
    Ok(())
}

fn prlimit(caller: &mut Caller<'_>) -> Result {
    let [process, number, new, old, ..] = caller.args;
    if process != 0 && process != u64::from(caller.process().id) {
        return Err(crate::user::errno::ESRCH);
    }
    let limit = limit(caller, number);
    if old != 0 {
        caller.memory.write(old, Bytes::new().u64(limit).u64(u64::MAX).as_slice())?;
    }
    if new != 0 {
        set_limit(caller, number, new)?;
    }
    Ok(0.into())
}

#[cfg(not(target_arch = "loongarch64"))]
fn getrlimit(caller: &mut Caller<'_>) -> Result {
    let [number, address, ..] = caller.args;
    let limit = limit(caller, number);
    caller.memory.write(address, Bytes::new().u64(limit).u64(u64::MAX).as_slice())?;
    Ok(0.into())
}

#[cfg(not(target_arch = "loongarch64"))]
fn setrlimit(caller: &mut Caller<'_>) -> Result {
    let [number, address, ..] = caller.args;
    set_limit(caller, number, address)?;
    Ok(0.into())
}

/// Threads that run see each other's writes in order after an interrupt, which all get at each
/// tick; no command is offered.
fn membarrier(caller: &mut Caller<'_>) -> Result {
    match caller.args[0] {
        0 => Ok(0.into()),
        _ => Err(EINVAL),
    }
}
