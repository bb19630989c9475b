//! Processes and threads: how they begin, run programs, end, and wait for each other.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler, signed};
use crate::arch::user::UserContext;
use crate::user::bytes::u64_at;
use crate::user::errno::{E2BIG, EAGAIN, ECHILD, EINVAL};
use crate::user::process::{Exit, Keep, Process};
use crate::user::thread::{Thread, new_id};
use crate::user::{exec, scheduler};

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        #[cfg(target_arch = "x86_64")]
        __NR_fork => |c| clone(c, &New::default()),
        #[cfg(target_arch = "x86_64")]
        __NR_vfork => |c| {
            let flags = CLONE_VM | CLONE_VFORK;
            clone(c, &New { flags, ..New::default() })
        },
        __NR_clone => old_clone,
        __NR_clone3 => clone3,
        __NR_execve => execve,
        __NR_exit => |c| {
            c.thread.end(c.args[0] as u8);
            Ok(0.into())
        },
        __NR_exit_group => |c| {
            c.process().end(Exit::Status(c.args[0] as u8));
            Ok(0.into())
        },
        __NR_wait4 => wait4,
        __NR_waitid => waitid,
        __NR_sched_yield => |_| {
            scheduler::yield_now();
            Ok(0.into())
        },
        __NR_set_tid_address => |c| {
            c.thread.clear_tid.store(c.args[0], SeqCst);
            Ok(u64::from(c.thread.id).into())
        },
        #[cfg(target_arch = "x86_64")]
        __NR_arch_prctl => arch_prctl,
        __NR_sched_getaffinity => sched_getaffinity,
        __NR_sched_setaffinity | __NR_set_robust_list => |_| Ok(0.into()),
        __NR_sched_getscheduler => |_| Ok(0.into()),
        __NR_sched_getparam => |c| {
            c.memory.write_u32(c.args[1], 0)?;
            Ok(0.into())
        },
        __NR_getcpu => |c| {
            if c.args[0] != 0 {
                c.memory.write_u32(c.args[0], crate::cpus::number() as u32)?;
            }
            Ok(0.into())
        },
        _ => return None,
    })
}

/// A process or thread that clone(2) is to make.
#[derive(Clone, Copy, Default)]
struct New {
    flags: u32,
    /// 0 for the stack of the thread that calls.
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    thread_area: u64,
}

impl New {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

fn old_clone(caller: &mut Caller<'_>) -> Result {
    let [flags, stack, parent_tid, a, b, _] = caller.args;
    // Elsewhere, the last two are the other way round (Linux' CONFIG_CLONE_BACKWARDS).
    let forwards = cfg!(any(target_arch = "x86_64", target_arch = "loongarch64"));
    let (child_tid, thread_area) = if forwards { (a, b) } else { (b, a) };
    let flags = flags as u32 & !CSIGNAL;
    clone(caller, &New { flags, stack, parent_tid, child_tid, thread_area })
}

fn clone3(caller: &mut Caller<'_>) -> Result {
    let [args, len, ..] = caller.args;
    // The first version of the structure has 64 bytes.
    if len < 64 {
        return Err(EINVAL);
    }
    if len > 4096 {
        return Err(E2BIG);
    }
    let args = caller.memory.read_vec(args, len as usize)?;
    let field = |number: usize| u64_at(&args, number * 8);
    let (stack, stack_len) = (field(5), field(6));
    let new = New {
        flags: u32::try_from(field(0)).map_err(|_| EINVAL)?,
        stack: if stack == 0 { 0 } else { stack.wrapping_add(stack_len) },
        parent_tid: field(3),
        child_tid: field(2),
        thread_area: field(7),
    };
    clone(caller, &new)
}

fn clone(caller: &mut Caller<'_>, new: &New) -> Result {
    const NAMESPACES: u32 = CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    if new.has(NAMESPACES) || new.has(CLONE_THREAD) && !new.has(CLONE_VM) {
        return Err(EINVAL);
    }
    let id = new_id();
    let mut context = caller.context.duplicate();
    let registers = caller.thread.registers.duplicate();
    if new.has(CLONE_SETTLS) {
        registers.set_thread_area(&mut context, new.thread_area);
    }
    context.answer(0);
    if new.stack != 0 {
        context.set_stack_pointer(new.stack);
    }
    if new.has(CLONE_THREAD) {
        let thread = Thread::new(id, caller.process().clone(), &context, registers);
        return start(caller, new, thread.ok_or(EAGAIN)?);
    }
    let memory =
        if new.has(CLONE_VM) { caller.memory.clone() } else { Arc::new(caller.memory.fork()?) };
    let process = caller.process().child(id, memory);
    let thread = Thread::new(id, process.clone(), &context, registers).ok_or(EAGAIN);
    let started = thread.and_then(|thread| start(caller, new, thread));
    if started.is_err() {
        process.forget();
    }
    started
}

/// Starts a thread in a process, the caller's or a new one.
fn start(caller: &Caller<'_>, new: &New, thread: Arc<Thread>) -> Result {
    let (id, process) = (thread.id, thread.process.clone());
    let memory = process.memory().ok_or(EAGAIN)?;
    copy_thread(caller.thread, &thread, new);
    if new.has(CLONE_PARENT_SETTID) {
        caller.memory.write_u32(new.parent_tid, id)?;
    }
    if new.has(CLONE_CHILD_SETTID) {
        memory.write_u32(new.child_tid, id)?;
    }
    drop(memory);
    if !process.start(thread) {
        return Err(EAGAIN);
    }
    if new.has(CLONE_VFORK) {
        let released = || process.released.load(SeqCst).then_some(());
        // A signal does not end the wait, as the child still uses this memory.
        while process.released_queue.wait(None, released).is_err() {
            if caller.process().ending().is_some() {
                break;
            }
            scheduler::yield_now();
        }
    }
    Ok(u64::from(id).into())
}

/// Gives a new thread what it has of the one that makes it.
fn copy_thread(from: &Thread, to: &Thread, new: &New) {
    let signals = from.signals.lock();
    let mut new_signals = to.signals.lock();
    new_signals.mask = signals.mask;
    if !new.has(CLONE_VM) || new.has(CLONE_VFORK) {
        new_signals.stack = signals.stack;
    }
    if new.has(CLONE_CHILD_CLEARTID) {
        to.clear_tid.store(new.child_tid, SeqCst);
    }
}

fn execve(caller: &mut Caller<'_>) -> Result {
    let [path, arguments, environment, ..] = caller.args;
    let path = caller.string(path)?;
    let arguments = strings(caller, arguments)?;
    let environment = strings(caller, environment)?;
    let base = caller.process().directory.lock().clone();
    let image = exec::load(&base, &path, arguments, &environment)?;
    end_other_threads(caller);
    if caller.process().ending().is_some() {
        return Ok(Answer::Untouched);
    }
    let process = caller.process().clone();
    process.descriptors.lock().close_for_exec();
    process.actions.lock().forget_handlers();
    caller.thread.signals.lock().stack = Default::default();
    caller.thread.clear_tid.store(0, SeqCst);
    *process.program.lock() = image.program;
    caller.thread.registers.clear();
    *caller.context = UserContext::new(image.start, image.stack);
    process.replace_memory(image.memory);
    caller.thread.load();
    Ok(Answer::Untouched)
}

/// Reads an array of strings.
fn strings(caller: &Caller<'_>, mut address: u64) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while address != 0 {
        let string = caller.memory.read_u64(address)?;
        if string == 0 {
            break;
        }
        strings.push(caller.string(string)?);
        address = address.wrapping_add(8);
    }
    Ok(strings)
}

/// Ends all threads of the process but the one that calls execve.
fn end_other_threads(caller: &Caller<'_>) {
    let process = caller.process();
    for thread in process.threads() {
        if thread.id != caller.thread.id {
            thread.end(0);
        }
    }
    crate::arch::interrupts::call_others();
    while !process.is_alone() {
        scheduler::yield_now();
    }
}

/// Which children wait4(2) means.
fn chooser(caller: &Caller<'_>, which: i64) -> impl Fn(&Process) -> bool {
    let mine = caller.process().group.load(SeqCst);
    move |child: &Process| match which {
        -1 => true,
        0 => child.group.load(SeqCst) == mine,
        id if id > 0 => i64::from(child.id) == id,
        group => i64::from(child.group.load(SeqCst)) == -group,
    }
}

/// Waits for a child. `None` if none has ended and the caller does not wait.
fn wait_for_child(
    caller: &Caller<'_>,
    which: i64,
    options: u64,
    keep: Keep,
) -> Result<Option<(u32, Exit)>> {
    let process = caller.process().clone();
    let matches = chooser(caller, which);
    let ended = || match process.reap(&matches, keep) {
        None => Some(Err(ECHILD)),
        Some(Some(ended)) => Some(Ok(Some(ended))),
        Some(None) if options & u64::from(WNOHANG) != 0 => Some(Ok(None)),
        Some(None) => None,
    };
    process.children.wait(None, ended)?
}

fn wait4(caller: &mut Caller<'_>) -> Result {
    let [which, status, options, usage, ..] = caller.args;
    let Some((id, exit)) = wait_for_child(caller, signed(which), options, Keep::No)? else {
        return Ok(0.into());
    };
    if status != 0 {
        caller.memory.write_u32(status, exit.wait_status())?;
    }
    if usage != 0 {
        caller.memory.write(usage, &[0; 144])?;
    }
    Ok(u64::from(id).into())
}

fn waitid(caller: &mut Caller<'_>) -> Result {
    let [kind, id, info, options, ..] = caller.args;
    let which = match kind as u32 {
        P_ALL => -1,
        P_PID => signed(id),
        P_PGID => -signed(id),
        _ => return Err(EINVAL),
    };
    let keep = if options & u64::from(WNOWAIT) != 0 { Keep::Yes } else { Keep::No };
    let ended = wait_for_child(caller, which, options, keep)?;
    if info != 0 {
        let mut bytes = crate::user::bytes::Bytes::new();
        if let Some((id, exit)) = ended {
            let (code, status) = match exit {
                Exit::Status(status) => (1, u32::from(status)),
                Exit::Signal(signal) => (2, signal),
            };
            bytes = bytes.u32(SIGCHLD).u32(0).u32(code).u32(0).u32(id).u32(0).u32(status);
        }
        caller.memory.write(info, bytes.up_to(128).as_slice())?;
    }
    Ok(0.into())
}

#[cfg(target_arch = "x86_64")]
fn arch_prctl(caller: &mut Caller<'_>) -> Result {
    use core::sync::atomic::Ordering::Relaxed;

    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    let [code, value, ..] = caller.args;
    let registers = &caller.thread.registers;
    match code {
        SET_FS | SET_GS if value >= crate::paging::LOWER_HALF_END => {
            return Err(crate::user::errno::EPERM);
        }
        SET_FS => registers.fs.store(value, Relaxed),
        SET_GS => registers.gs.store(value, Relaxed),
        GET_FS => caller.memory.write_u64(value, registers.fs.load(Relaxed))?,
        GET_GS => caller.memory.write_u64(value, registers.gs.load(Relaxed))?,
        _ => return Err(EINVAL),
    }
    caller.thread.load();
    Ok(0.into())
}

fn sched_getaffinity(caller: &mut Caller<'_>) -> Result {
    let [_, len, to, ..] = caller.args;
    if len < 8 {
        return Err(EINVAL);
    }
    caller.memory.write_u64(to, (1 << crate::cpus::CPUS) - 1)?;
    Ok(8.into())
}
