//! Time: the time-stamp counter, whose rate is measured with the programmable interval timer.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use x86_64::instructions::port::Port;

/// Ticks of the interval timer per second.
const PIT_HZ: u64 = 1_193_182;
/// The length of the measurement: about 10 ms.
const PIT_TICKS: u16 = 11_932;

static TSC_PER_MICROSECOND: AtomicU64 = AtomicU64::new(0);

/// Returns the time-stamp counter.
pub fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and is allowed in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Converts ticks of the time-stamp counter to nanoseconds.
pub fn nanoseconds(ticks: u64) -> u64 {
    let rate = TSC_PER_MICROSECOND.load(Relaxed).max(1);
    (u128::from(ticks) * 1000 / u128::from(rate)) as u64
}

/// Waits for a time.
pub fn delay_microseconds(time: u64) {
    let (begin, ticks) = (now(), time * TSC_PER_MICROSECOND.load(Relaxed));
    while now().wrapping_sub(begin) < ticks {
        core::hint::spin_loop();
    }
}

/// Measures the rate of the time-stamp counter. The smallest of a few measurements counts: where
/// the host has run something else meanwhile, too much time has passed.
pub fn calibrate() {
    const TIMES: usize = 3;
    let ticks = (0..TIMES).map(|_| ticks_of_interval()).min().unwrap_or(0);
    let rate = u128::from(ticks) * u128::from(PIT_HZ) / u128::from(PIT_TICKS) / 1_000_000;
    TSC_PER_MICROSECOND.store(rate as u64, Relaxed);
}

/// Returns the ticks of the time-stamp counter while channel 2 of the timer counts down once.
fn ticks_of_interval() -> u64 {
    let mut gate = Port::<u8>::new(0x61);
    let mut mode = Port::<u8>::new(0x43);
    let mut count = Port::<u8>::new(0x42);
    // SAFETY: these ports are the interval timer's channel 2 and its gate, which nothing else uses.
    // The speaker that they drive stays off (bit 1 clear).
    unsafe {
        let idle = gate.read() & !3;
        gate.write(idle);
        mode.write(0xb0); // channel 2, low byte then high, mode 0: output rises when the count ends
        count.write(PIT_TICKS as u8);
        count.write((PIT_TICKS >> 8) as u8);
        // Before the count begins: an interval is never measured as shorter than it was.
        let begin = now();
        gate.write(idle | 1);
        while gate.read() & 0x20 == 0 {
            core::hint::spin_loop();
        }
        let ticks = now() - begin;
        gate.write(idle);
        ticks
    }
}
