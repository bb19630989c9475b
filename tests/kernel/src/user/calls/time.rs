//! Clocks and sleeping.

use kvma::Errno;
use linux_raw_sys::general::*;

use super::{Answer, Caller, Handler};
use crate::user::bytes::{Bytes, u64_at};
use crate::user::errno::{EINVAL, ETIMEDOUT, unless_handled};
use crate::user::memory::Memory;
use crate::user::time::{self, Deadline};
use crate::user::wait::WaitQueue;

type Result<T = Answer> = core::result::Result<T, Errno>;

const SECOND: u64 = 1_000_000_000;

pub fn find(number: u32) -> Option<Handler> {
    Some(match number {
        __NR_clock_gettime => clock_gettime,
        __NR_clock_getres => clock_getres,
        __NR_gettimeofday => gettimeofday,
        #[cfg(target_arch = "x86_64")]
        __NR_time => |c| {
            let seconds = time::time_of_day() / SECOND;
            if c.args[0] != 0 {
                c.memory.write_u64(c.args[0], seconds)?;
            }
            Ok(seconds.into())
        },
        __NR_times => times,
        __NR_nanosleep => {
            |c| sleep(c, Deadline::after(read_timespec(&c.memory, c.args[0])?), c.args[1])
        }
        __NR_clock_nanosleep => clock_nanosleep,
        _ => return None,
    })
}

/// Reads a time in nanoseconds.
pub fn read_timespec(memory: &Memory, address: u64) -> Result<u64> {
    let bytes = memory.read_vec(address, 16)?;
    let (seconds, nanoseconds) = (u64_at(&bytes, 0), u64_at(&bytes, 8));
    if nanoseconds >= SECOND || seconds.cast_signed() < 0 {
        return Err(EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

fn is_time_of_day(clock: u64) -> bool {
    matches!(clock as u32, CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI)
}

fn clock_gettime(caller: &mut Caller<'_>) -> Result {
    let [clock, to, ..] = caller.args;
    let now = if is_time_of_day(clock) { time::time_of_day() } else { time::now() };
    let bytes = Bytes::new().u64(now / SECOND).u64(now % SECOND);
    caller.memory.write(to, bytes.as_slice())?;
    Ok(0.into())
}

fn clock_getres(caller: &mut Caller<'_>) -> Result {
    if caller.args[1] != 0 {
        caller.memory.write(caller.args[1], Bytes::new().u64(0).u64(1).as_slice())?;
    }
    Ok(0.into())
}

fn gettimeofday(caller: &mut Caller<'_>) -> Result {
    let now = time::time_of_day();
    if caller.args[0] != 0 {
        let bytes = Bytes::new().u64(now / SECOND).u64(now % SECOND / 1000);
        caller.memory.write(caller.args[0], bytes.as_slice())?;
    }
    Ok(0.into())
}

fn times(caller: &mut Caller<'_>) -> Result {
    if caller.args[0] != 0 {
        caller.memory.write(caller.args[0], &[0; 32])?;
    }
    Ok((time::now() / (SECOND / 100)).into())
}

fn sleep(caller: &mut Caller<'_>, deadline: Deadline, left: u64) -> Result {
    match WaitQueue::new().wait(Some(deadline), || None::<()>) {
        Err(ETIMEDOUT) => Ok(0.into()),
        Err(errno) => {
            if left != 0 {
                let nanoseconds = deadline.left();
                let bytes = Bytes::new().u64(nanoseconds / SECOND).u64(nanoseconds % SECOND);
                caller.memory.write(left, bytes.as_slice())?;
            }
            Err(unless_handled(errno))
        }
        Ok(()) => Ok(0.into()),
    }
}

fn clock_nanosleep(caller: &mut Caller<'_>) -> Result {
    let [clock, flags, wanted, left, ..] = caller.args;
    let wanted = read_timespec(&caller.memory, wanted)?;
    let absolute = flags & u64::from(TIMER_ABSTIME) != 0;
    let deadline = match (absolute, is_time_of_day(clock)) {
        (false, _) => Deadline::after(wanted),
        (true, false) => Deadline::at(wanted),
        (true, true) => Deadline::at_time_of_day(wanted),
    };
    sleep(caller, deadline, if absolute { 0 } else { left })
}
