//! Futexes: how threads sleep until a word of memory changes.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;

use kvma::{Backing, Errno, VmaFlags};
use linux_raw_sys::general::*;
use spin::mutex::SpinMutex;

use super::{Answer, Caller, Handler};
use crate::arch::Access;
use crate::user::errno::{EAGAIN, EFAULT, EINVAL, ENOSYS};
use crate::user::memory::Memory;
use crate::user::time::Deadline;
use crate::user::wait::WaitQueue;

type Result<T = Answer> = core::result::Result<T, Errno>;

pub fn find(number: u32) -> Option<Handler> {
    (number == __NR_futex).then_some(futex)
}

/// The identity of a word, whatever its address in different memories: a place in an object, or in
/// private memory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    id: u64,
    at: u64,
    shared: bool,
}

impl Key {
    fn of(memory: &Memory, address: u64) -> Result<Self> {
        if !address.is_multiple_of(4) {
            return Err(EINVAL);
        }
        let vma = memory.space().vmas.lookup(address).ok_or(EFAULT)?;
        let page = crate::space::page_of(address);
        Ok(match vma.attrs_at(page).backing() {
            Backing::Object { id, offset } if vma.attrs().flags().contains(VmaFlags::SHARED) => {
                Self { id, at: offset + (address - page), shared: true }
            }
            _ => Self { id: memory.id(), at: address, shared: false },
        })
    }
}

/// A thread that sleeps.
struct Waiter {
    key: Key,
    bits: u32,
    woken: Arc<(AtomicBool, WaitQueue)>,
}

/// The lock is held while a word is compared, so that no wake falls between that and the sleep.
static WAITERS: SpinMutex<VecDeque<Waiter>> = SpinMutex::new(VecDeque::new());

const ALL: u32 = u32::MAX;

fn futex(caller: &mut Caller<'_>) -> Result {
    let [address, operation, value, timeout, other, value3] = caller.args;
    let value = value as u32;
    let absolute = !matches!(operation as u32 & FUTEX_CMD_MASK as u32, FUTEX_WAIT);
    let of_day = operation as u32 & FUTEX_CLOCK_REALTIME != 0;
    let deadline = || match timeout {
        0 => Ok(None),
        at => super::time::read_timespec(&caller.memory, at).map(|time| {
            Some(match (absolute, of_day) {
                (false, _) => Deadline::after(time),
                (true, false) => Deadline::at(time),
                (true, true) => Deadline::at_time_of_day(time),
            })
        }),
    };
    match operation as u32 & FUTEX_CMD_MASK as u32 {
        FUTEX_WAIT => wait(&caller.memory, address, value, ALL, deadline()?),
        FUTEX_WAIT_BITSET => wait(&caller.memory, address, value, value3 as u32, deadline()?),
        FUTEX_WAKE => wake(&caller.memory, address, value, ALL),
        FUTEX_WAKE_BITSET => wake(&caller.memory, address, value, value3 as u32),
        FUTEX_REQUEUE => requeue(&caller.memory, address, value, other, timeout as u32, None),
        FUTEX_CMP_REQUEUE => {
            let expected = Some(value3 as u32);
            requeue(&caller.memory, address, value, other, timeout as u32, expected)
        }
        _ => Err(ENOSYS),
    }
}

fn wait(
    memory: &Memory,
    address: u64,
    expected: u32,
    bits: u32,
    deadline: Option<Deadline>,
) -> Result {
    if bits == 0 {
        return Err(EINVAL);
    }
    // Brings the page in, so that the lock below is not held for long.
    memory.read_u32(address)?;
    let key = Key::of(memory, address)?;
    let woken = Arc::new((AtomicBool::new(false), WaitQueue::new()));
    {
        let mut waiters = WAITERS.lock();
        let found = memory.with_word(address, Access::Load, |word| word.load(SeqCst))?;
        if found != expected {
            return Err(EAGAIN);
        }
        waiters.push_back(Waiter { key, bits, woken: woken.clone() });
    }
    let (flag, queue) = &*woken;
    let result = queue.wait(deadline, || flag.load(SeqCst).then_some(()));
    WAITERS.lock().retain(|waiter| !Arc::ptr_eq(&waiter.woken, &woken));
    match result {
        // A wake that has come is not lost.
        Err(_) if flag.load(SeqCst) => Ok(0.into()),
        Err(errno) => Err(errno),
        Ok(()) => Ok(0.into()),
    }
}

/// Takes up to so many threads off the list.
fn take(
    waiters: &mut VecDeque<Waiter>,
    count: u32,
    matches: impl Fn(&Waiter) -> bool,
) -> VecDeque<Waiter> {
    let mut taken = VecDeque::new();
    let mut at = 0;
    while at < waiters.len() && (taken.len() as u64) < u64::from(count) {
        if matches(&waiters[at]) {
            taken.extend(waiters.remove(at));
        } else {
            at += 1;
        }
    }
    taken
}

fn wake_all(woken: VecDeque<Waiter>) -> u64 {
    let count = woken.len() as u64;
    for waiter in woken {
        waiter.woken.0.store(true, SeqCst);
        waiter.woken.1.wake_all();
    }
    count
}

fn wake(memory: &Memory, address: u64, count: u32, bits: u32) -> Result {
    let key = Key::of(memory, address)?;
    let taken = take(&mut WAITERS.lock(), count, |w| w.key == key && w.bits & bits != 0);
    Ok(wake_all(taken).into())
}

/// Wakes one thread that waits for this word, if it is one.
pub fn wake_one(memory: &Memory, address: u64) {
    // A program that has unmapped the word has nobody waiting.
    let _ = wake(memory, address, 1, ALL);
}

fn requeue(
    memory: &Memory,
    address: u64,
    count: u32,
    other: u64,
    moved: u32,
    expected: Option<u32>,
) -> Result {
    memory.read_u32(address)?;
    let (from, to) = (Key::of(memory, address)?, Key::of(memory, other)?);
    let mut waiters = WAITERS.lock();
    let found = memory.with_word(address, Access::Load, |word| word.load(SeqCst))?;
    if expected.is_some_and(|expected| expected != found) {
        return Err(EAGAIN);
    }
    let taken = take(&mut waiters, count, |waiter| waiter.key == from);
    let mut left = moved;
    for waiter in waiters.iter_mut().filter(|waiter| waiter.key == from) {
        if left == 0 {
            break;
        }
        left -= 1;
        waiter.key = to;
    }
    drop(waiters);
    Ok((wake_all(taken) + u64::from(moved - left)).into())
}
