//! Waiting for many files (epoll(7)).

use alloc::sync::Arc;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler, signed};
use crate::user::bytes::{Bytes, u32_at, u64_at};
use crate::user::errno::{EINVAL, EPERM, ERESTARTNOHAND, ETIMEDOUT, unless_handled};
use crate::user::fs::descriptors::OnExec;
use crate::user::fs::device::Device;
use crate::user::fs::epoll::{Epoll, Request};
use crate::user::fs::open_file::{OpenFile, Opened};
use crate::user::fs::{CHANGED, Inode, Kind};
use crate::user::signals::Set;
use crate::user::time::Deadline;

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        #[cfg(target_arch = "x86_64")]
        __NR_epoll_create => |c| create(c, 0),
        __NR_epoll_create1 => |c| create(c, c.args[0]),
        __NR_epoll_ctl => control,
        #[cfg(target_arch = "x86_64")]
        __NR_epoll_wait => |c| wait(c, milliseconds(c.args[3]), 0),
        __NR_epoll_pwait => |c| wait(c, milliseconds(c.args[3]), c.args[4]),
        __NR_epoll_pwait2 => |c| {
            let deadline = match c.args[3] {
                0 => None,
                at => Some(Deadline::after(super::time::read_timespec(&c.memory, at)?)),
            };
            wait(c, deadline, c.args[4])
        },
        _ => return None,
    })
}

fn milliseconds(timeout: u64) -> Option<Deadline> {
    let timeout = u64::try_from(signed(timeout)).ok()?;
    Some(Deadline::after(timeout * 1_000_000))
}

/// The length of an `epoll_event`, and where its data lie.
const EVENT: (usize, usize) = if cfg!(target_arch = "x86_64") { (12, 4) } else { (16, 8) };

fn create(caller: &mut Caller<'_>, flags: u64) -> Result {
    let on_exec = if flags & u64::from(O_CLOEXEC) != 0 { OnExec::Close } else { OnExec::Keep };
    let inode = Inode::new(Kind::Device(Device::Null), 0o600);
    let file = OpenFile::new(inode, Opened::Epoll(Epoll::default()), O_RDWR);
    caller.process().descriptors.lock().add(file, on_exec, 0).map(Answer::from)
}

fn epoll(file: &OpenFile) -> Result<&Epoll> {
    match file.opened() {
        Opened::Epoll(epoll) => Ok(epoll),
        _ => Err(EINVAL),
    }
}

fn control(caller: &mut Caller<'_>) -> Result {
    let [list, operation, descriptor, event, ..] = caller.args;
    let (list, file) = (caller.file(list)?, caller.file(descriptor)?);
    if matches!(file.opened(), Opened::Inode | Opened::Text(_))
        && !matches!(file.inode.kind, Kind::Device(Device::Console))
    {
        // They are always ready.
        return Err(EPERM);
    }
    let epoll = epoll(&list)?;
    // A list in another list is not there.
    if Arc::ptr_eq(&list, &file) || matches!(file.opened(), Opened::Epoll(_)) {
        return Err(EINVAL);
    }
    let request = || -> Result<Request> {
        let bytes = caller.memory.read_vec(event, EVENT.0)?;
        Ok(Request { events: u32_at(&bytes, 0), data: u64_at(&bytes, EVENT.1) })
    };
    let descriptor = descriptor as u32;
    match operation as u32 {
        EPOLL_CTL_ADD => epoll.add(descriptor, &file, request()?)?,
        EPOLL_CTL_MOD => epoll.modify(descriptor, &file, request()?)?,
        EPOLL_CTL_DEL => epoll.remove(descriptor, &file)?,
        _ => return Err(EINVAL),
    }
    // Whoever waits for the list may wait for this file now.
    CHANGED.wake_all();
    Ok(0.into())
}

/// Waits for events, with a mask of signals if there is one at the address.
fn wait(caller: &mut Caller<'_>, deadline: Option<Deadline>, mask: u64) -> Result {
    let [list, to, most, ..] = caller.args;
    let most = usize::try_from(signed(most)).ok().filter(|&most| most > 0).ok_or(EINVAL)?;
    let list = caller.file(list)?;
    let epoll = epoll(&list)?;
    if mask != 0 {
        let mask = Set(caller.memory.read_u64(mask)?).blockable();
        let mut signals = caller.thread.signals.lock();
        signals.saved_mask = Some(core::mem::replace(&mut signals.mask, mask));
    }
    let come = CHANGED
        .wait(deadline, || Some(epoll.reports(most)).filter(|come| !come.is_empty()))
        .map_err(unless_handled);
    if mask != 0 && !matches!(come, Err(ERESTARTNOHAND)) {
        // A signal that comes is delivered under the call's mask, another one is not.
        let mut signals = caller.thread.signals.lock();
        if let Some(before) = signals.saved_mask.take() {
            signals.mask = before;
        }
    }
    let come = match come {
        Err(ETIMEDOUT) => return Ok(0.into()),
        come => come?,
    };
    let mut bytes = Bytes::new();
    for (count, Request { events, data }) in come.iter().enumerate() {
        bytes = bytes.u32(*events).up_to(count * EVENT.0 + EVENT.1).u64(*data);
    }
    caller.memory.write(to, bytes.as_slice())?;
    Ok((come.len() as u64).into())
}
