//! Interrupts: between processors, of the timer, and whether this processor takes them.

pub use x86_64::instructions::interrupts::{
    are_enabled, disable, enable, enable_and_hlt as enable_and_wait,
};

pub use super::apic::{call_others, start_ticks};
