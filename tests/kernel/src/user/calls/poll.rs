//! Waiting for several files.

use alloc::vec::Vec;

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler};
use crate::user::bytes::u32_at;
#[cfg(target_arch = "x86_64")]
use crate::user::bytes::u64_at;
use crate::user::errno::{EINVAL, ETIMEDOUT, unless_handled};
use crate::user::fs::CHANGED;
use crate::user::time::Deadline;

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        #[cfg(target_arch = "x86_64")]
        __NR_poll => |c| {
            let timeout = super::signed(c.args[2]);
            let deadline = (timeout >= 0).then(|| Deadline::after(timeout as u64 * 1_000_000));
            poll(c, deadline)
        },
        __NR_ppoll => |c| {
            let deadline = timeout(c, c.args[2])?;
            poll(c, deadline)
        },
        #[cfg(target_arch = "x86_64")]
        __NR_select => |c| {
            let deadline = match c.args[4] {
                0 => None,
                address => {
                    let bytes = c.memory.read_vec(address, 16)?;
                    let micros = u64_at(&bytes, 0).saturating_mul(1_000_000) + u64_at(&bytes, 8);
                    Some(Deadline::after(micros.saturating_mul(1000)))
                }
            };
            select(c, deadline)
        },
        __NR_pselect6 => |c| {
            let deadline = timeout(c, c.args[4])?;
            select(c, deadline)
        },
        _ => return None,
    })
}

fn timeout(caller: &Caller<'_>, address: u64) -> Result<Option<Deadline>> {
    match address {
        0 => Ok(None),
        address => {
            super::time::read_timespec(&caller.memory, address).map(|t| Some(Deadline::after(t)))
        }
    }
}

/// Waits until `ready` counts something. 0 after the deadline.
fn wait(deadline: Option<Deadline>, mut ready: impl FnMut() -> u64) -> Result<u64> {
    match CHANGED.wait(deadline, || Some(ready()).filter(|&count| count > 0)) {
        Err(ETIMEDOUT) => Ok(0),
        other => other.map_err(unless_handled),
    }
}

fn poll(caller: &mut Caller<'_>, deadline: Option<Deadline>) -> Result {
    let [list, count, ..] = caller.args;
    if count > 1024 {
        return Err(EINVAL);
    }
    let mut entries = caller.memory.read_vec(list, count as usize * 8)?;
    let ready = wait(deadline, || {
        let mut ready = 0;
        for entry in entries.chunks_exact_mut(8) {
            let (number, wanted) = (u32_at(entry, 0), u32_at(entry, 4) & 0xffff);
            let come = match caller.file(u64::from(number)) {
                _ if number.cast_signed() < 0 => 0,
                Ok(file) => file.events(wanted),
                Err(_) => POLLNVAL,
            };
            entry[6..8].copy_from_slice(&(come as u16).to_ne_bytes());
            ready += u64::from(come != 0);
        }
        ready
    })?;
    caller.memory.write(list, &entries)?;
    Ok(ready.into())
}

fn select(caller: &mut Caller<'_>, deadline: Option<Deadline>) -> Result {
    let [count, reads, writes, others, ..] = caller.args;
    if count > 1024 {
        return Err(EINVAL);
    }
    let words = count.div_ceil(64) as usize;
    let sets = [(reads, POLLIN), (writes, POLLOUT), (others, 0)];
    let mut wanted = Vec::new();
    for (address, _) in sets {
        wanted.push(match address {
            0 => alloc::vec![0; words * 8],
            address => caller.memory.read_vec(address, words * 8)?,
        });
    }
    let mut come = wanted.clone();
    let ready = wait(deadline, || {
        let mut ready = 0;
        for ((wanted, come), (_, kind)) in wanted.iter().zip(&mut come).zip(sets) {
            come.fill(0);
            for number in 0..count {
                let (byte, bit) = (number as usize / 8, 1 << (number % 8));
                if wanted[byte] & bit == 0 {
                    continue;
                }
                let is_ready = caller
                    .file(number)
                    .is_ok_and(|file| file.events(kind) & (kind | POLLHUP | POLLERR) != 0);
                if is_ready && kind != 0 {
                    come[byte] |= bit;
                    ready += 1;
                }
            }
        }
        ready
    })?;
    for ((address, _), come) in sets.into_iter().zip(&come) {
        if address != 0 {
            caller.memory.write(address, come)?;
        }
    }
    Ok(ready.into())
}
