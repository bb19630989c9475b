//! Answers to what an operating system asks of the machine below it: the RISC-V Supervisor Binary
//! Interface, version 2.0, for a guest of one hart.

use super::system;
use super::vcpu::Vcpu;

/// Extensions, by their numbers.
mod extension {
    pub const BASE: u64 = 0x10;
    pub const TIME: u64 = 0x5449_4d45;
    pub const IPI: u64 = 0x73_5049;
    pub const RFENCE: u64 = 0x5246_4e43;
    pub const HSM: u64 = 0x48_534d;
    pub const SYSTEM_RESET: u64 = 0x5352_5354;
    pub const CONSOLE: u64 = 0x4442_434e;
    pub const ALL: [u64; 7] = [BASE, TIME, IPI, RFENCE, HSM, SYSTEM_RESET, CONSOLE];
}

/// Errors, by their numbers.
const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAMETER: i64 = -3;
const ALREADY_AVAILABLE: i64 = -6;

/// Version 2.0.
const VERSION: u64 = 2 << 24;

/// The end of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has switched itself off.
    Off,
    /// It wants to begin again.
    Reboot,
}

/// Answers a call. `print` prints so many bytes from a guest-physical address, and returns false if
/// there is no memory. Returns the guest's end if it has asked for that.
pub fn call(vcpu: &mut Vcpu, print: impl FnOnce(u64, u64) -> bool) -> Option<End> {
    let (extension, function, arguments) = vcpu.call();
    let (error, value) = match (extension, function) {
        (extension::SYSTEM_RESET, 0) => {
            return Some(if arguments[0] == 0 { End::Off } else { End::Reboot });
        }
        (extension::BASE, _) => (0, base(function, arguments[0])),
        (extension::TIME, 0) => {
            system::set_timer(arguments[0]);
            (0, 0)
        }
        (extension::IPI, 0) => of_harts(arguments, system::interrupt),
        // To drop everything is more than all of them ask for.
        (extension::RFENCE, 0..=2) => of_harts(arguments, system::flush),
        // Hart 0 is the only one, and runs.
        (extension::HSM, 0) if arguments[0] == 0 => (ALREADY_AVAILABLE, 0),
        (extension::HSM, 2) if arguments[0] == 0 => (0, 0),
        (extension::HSM, 0 | 2) => (INVALID_PARAMETER, 0),
        (extension::CONSOLE, 0) => {
            let [len, low, high] = arguments;
            match high == 0 && print(low, len) {
                true => (0, len),
                false => (INVALID_PARAMETER, 0),
            }
        }
        // Nothing is ever typed.
        (extension::CONSOLE, 1) => (0, 0),
        _ => (NOT_SUPPORTED, 0),
    };
    vcpu.answer(error, value);
    None
}

fn base(function: u64, argument: u64) -> u64 {
    match function {
        0 => VERSION,
        3 => u64::from(extension::ALL.contains(&argument)),
        // Numbers of the implementation, its version, the hart's vendor and so on.
        _ => 0,
    }
}

/// Does something to the harts of a mask, which begins with the hart of a number: to the only one.
fn of_harts([mask, first, _]: [u64; 3], act: impl FnOnce()) -> (i64, u64) {
    match (first, mask) {
        (u64::MAX, _) | (0, 1) => act(),
        (0, 0) => {}
        _ => return (INVALID_PARAMETER, 0),
    }
    (0, 0)
}
