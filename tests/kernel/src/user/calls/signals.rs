//! Signals: actions, masks, and sending.

use core::sync::atomic::Ordering::SeqCst;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler, signed};
use crate::user::bytes::{Bytes, u32_at, u64_at};
use crate::user::errno::{EAGAIN, EINVAL, ENOMEM, EPERM, ESRCH, ETIMEDOUT, unless_handled};
use crate::user::signals::{
    self, Action, AlternateStack, Info, MOST, SI_USER, SIGKILL as KILL, SIGSTOP as STOP,
    SS_DISABLE as DISABLED, SS_ONSTACK as ON_STACK, Set,
};
use crate::user::time::{self, Deadline};
use crate::user::wait::WaitQueue;
use crate::user::{process, watchdog};

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        __NR_rt_sigaction => rt_sigaction,
        __NR_rt_sigprocmask => rt_sigprocmask,
        __NR_rt_sigreturn => rt_sigreturn,
        __NR_rt_sigpending => rt_sigpending,
        __NR_rt_sigsuspend => rt_sigsuspend,
        __NR_rt_sigtimedwait => rt_sigtimedwait,
        __NR_sigaltstack => sigaltstack,
        __NR_kill => kill,
        __NR_tkill => |c| send_to_thread(c, c.args[0], c.args[1]),
        __NR_tgkill => |c| send_to_thread(c, c.args[1], c.args[2]),
        #[cfg(target_arch = "x86_64")]
        __NR_pause => |c| sleep_until_signal(c),
        #[cfg(target_arch = "x86_64")]
        __NR_alarm => alarm,
        __NR_setitimer => setitimer,
        _ => return None,
    })
}

fn signal(number: u64) -> Result<u32> {
    u32::try_from(number).ok().filter(|n| (1..=MOST).contains(n)).ok_or(EINVAL)
}

/// True if `struct sigaction` has an address to which handlers return, before its mask.
const HAS_RESTORER: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
const MASK_AT: usize = if HAS_RESTORER { 24 } else { 16 };

fn rt_sigaction(caller: &mut Caller<'_>) -> Result {
    let [number, new, old, set_len, ..] = caller.args;
    let signal = signal(number)?;
    if set_len != 8 {
        return Err(EINVAL);
    }
    let new = match new {
        0 => None,
        address => Some(caller.memory.read_vec(address, MASK_AT + 8)?),
    };
    if new.is_some() && matches!(signal, KILL | STOP) {
        return Err(EINVAL);
    }
    let mut actions = caller.process().actions.lock();
    let before = actions.get(signal);
    if let Some(new) = new {
        let (handler, flags) = (u64_at(&new, 0), u64_at(&new, 8));
        let restorer = if HAS_RESTORER { u64_at(&new, 16) } else { 0 };
        let mask = Set(u64_at(&new, MASK_AT));
        actions.set(signal, Action { handler, flags, restorer, mask });
    }
    drop(actions);
    if old != 0 {
        let bytes = Bytes::new().u64(before.handler).u64(before.flags);
        let bytes = if HAS_RESTORER { bytes.u64(before.restorer) } else { bytes };
        let bytes = bytes.u64(before.mask.0);
        caller.memory.write(old, bytes.as_slice())?;
    }
    Ok(0.into())
}

fn rt_sigprocmask(caller: &mut Caller<'_>) -> Result {
    let [how, new, old, set_len, ..] = caller.args;
    if set_len != 8 {
        return Err(EINVAL);
    }
    let new = match new {
        0 => None,
        address => Some(caller.memory.read_u64(address)?),
    };
    let before = caller.thread.signals.lock().mask;
    if let Some(set) = new {
        let mask = match how as u32 {
            SIG_BLOCK => before.0 | set,
            SIG_UNBLOCK => before.0 & !set,
            SIG_SETMASK => set,
            _ => return Err(EINVAL),
        };
        caller.thread.signals.lock().mask = Set(mask).blockable();
    }
    if old != 0 {
        caller.memory.write_u64(old, before.0)?;
    }
    Ok(0.into())
}

fn rt_sigreturn(caller: &mut Caller<'_>) -> Result {
    if signals::return_from_handler(caller.thread, caller.context).is_err() {
        signals::force(
            caller.thread,
            caller.context,
            Info { signal: signals::SIGSEGV, code: signals::SI_KERNEL, origin: 0 },
        );
    }
    Ok(Answer::Untouched)
}

fn rt_sigpending(caller: &mut Caller<'_>) -> Result {
    let mut pending = 0;
    for signal in caller.thread.signals.lock().pending.keys() {
        pending |= Set::of(*signal).0;
    }
    for signal in caller.process().signals.lock().pending.keys() {
        pending |= Set::of(*signal).0;
    }
    caller.memory.write_u64(caller.args[0], pending)?;
    Ok(0.into())
}

fn sleep_until_signal(_caller: &mut Caller<'_>) -> Result {
    let nothing = WaitQueue::new();
    nothing.wait(None, || None::<Answer>).map_err(unless_handled)
}

fn rt_sigsuspend(caller: &mut Caller<'_>) -> Result {
    let mask = Set(caller.memory.read_u64(caller.args[0])?).blockable();
    let mut signals = caller.thread.signals.lock();
    let before = core::mem::replace(&mut signals.mask, mask);
    signals.saved_mask = Some(before);
    drop(signals);
    sleep_until_signal(caller)
}

fn rt_sigtimedwait(caller: &mut Caller<'_>) -> Result {
    let [set, info, timeout, ..] = caller.args;
    let set = Set(caller.memory.read_u64(set)?);
    let deadline = match timeout {
        0 => None,
        address => Some(Deadline::after(super::time::read_timespec(&caller.memory, address)?)),
    };
    let thread = caller.thread.clone();
    let queue = WaitQueue::new();
    let taken = queue
        .wait(deadline, || thread.take_signal(set))
        .map_err(|errno| if errno == ETIMEDOUT { EAGAIN } else { unless_handled(errno) })?;
    if info != 0 {
        let bytes = Bytes::new().u32(taken.signal).u32(0).u32(taken.code as u32).up_to(128);
        caller.memory.write(info, bytes.as_slice())?;
    }
    Ok(u64::from(taken.signal).into())
}

fn sigaltstack(caller: &mut Caller<'_>) -> Result {
    const SMALLEST: u64 = 2048;
    let [new, old, ..] = caller.args;
    let stack_pointer = caller.context.stack_pointer();
    let before = caller.thread.signals.lock().stack;
    let in_use = before.holds(stack_pointer);
    if new != 0 {
        let bytes = caller.memory.read_vec(new, 24)?;
        let (start, flags, len) = (u64_at(&bytes, 0), u32_at(&bytes, 8), u64_at(&bytes, 16));
        if in_use {
            return Err(EPERM);
        }
        if flags & !(ON_STACK | DISABLED) != 0 {
            return Err(EINVAL);
        }
        let stack = if flags & DISABLED != 0 {
            AlternateStack::default()
        } else if len < SMALLEST {
            return Err(ENOMEM);
        } else {
            AlternateStack { start, flags: 0, len }
        };
        caller.thread.signals.lock().stack = stack;
    }
    if old != 0 {
        let flags = before.flags | if in_use { ON_STACK } else { 0 };
        let bytes = Bytes::new().u64(before.start).u32(flags).u32(0).u64(before.len);
        caller.memory.write(old, bytes.as_slice())?;
    }
    Ok(0.into())
}

fn kill(caller: &mut Caller<'_>) -> Result {
    let [target, number, ..] = caller.args;
    let target = signed(target);
    let group = caller.process().group.load(SeqCst);
    let chosen = process::all().into_iter().filter(|process| match target {
        0 => process.group.load(SeqCst) == group,
        -1 => process.id != caller.process().id,
        id if id > 0 => i64::from(process.id) == id,
        group => i64::from(process.group.load(SeqCst)) == -group,
    });
    let mut any = false;
    for process in chosen {
        any = true;
        if number != 0 {
            let origin = u64::from(caller.process().id);
            process.send_info(Info { signal: signal(number)?, code: SI_USER, origin });
        }
    }
    if any { Ok(0.into()) } else { Err(ESRCH) }
}

fn send_to_thread(caller: &mut Caller<'_>, id: u64, number: u64) -> Result {
    const SI_TKILL: i32 = -6;
    let thread = process::all()
        .into_iter()
        .flat_map(|process| process.threads())
        .find(|thread| u64::from(thread.id) == id)
        .ok_or(ESRCH)?;
    if number != 0 {
        let origin = u64::from(caller.process().id);
        thread.send_info(Info { signal: signal(number)?, code: SI_TKILL, origin });
    }
    Ok(0.into())
}

/// Sets the alarm to a time from now in nanoseconds, 0 for none. Returns what was left of the last.
fn set_alarm(caller: &Caller<'_>, nanoseconds: u64) -> u64 {
    let at = (nanoseconds > 0).then(|| time::now().saturating_add(nanoseconds));
    let before = watchdog::set_alarm(caller.process(), at);
    before.map_or(0, |before| Deadline::at(before).left().max(1))
}

#[cfg(target_arch = "x86_64")]
fn alarm(caller: &mut Caller<'_>) -> Result {
    const SECOND: u64 = 1_000_000_000;
    let left = set_alarm(caller, caller.args[0].saturating_mul(SECOND));
    Ok(left.div_ceil(SECOND).into())
}

fn setitimer(caller: &mut Caller<'_>) -> Result {
    let [which, new, old, ..] = caller.args;
    if which != 0 {
        return Err(EINVAL);
    }
    let value = caller.memory.read_vec(new, 32)?;
    let nanoseconds = u64_at(&value, 16)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64_at(&value, 24).saturating_mul(1000));
    let left = set_alarm(caller, nanoseconds);
    if old != 0 {
        let bytes = Bytes::new().u64(0).u64(0).u64(left / 1_000_000_000);
        caller.memory.write(old, bytes.u64(left % 1_000_000_000 / 1000).as_slice())?;
    }
    Ok(0.into())
}
