//! `/dev`.

use super::inode::Kind;

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Holds nothing, and takes everything.
    Null,
    /// Zeros without end.
    Zero,
    /// Numbers that look random, and are the same in every boot.
    Random,
    /// The serial port.
    Console,
}

impl Device {
    /// Returns major and minor number.
    pub fn numbers(self) -> (u32, u32) {
        match self {
            Self::Null => (1, 3),
            Self::Zero => (1, 5),
            Self::Random => (1, 9),
            Self::Console => (5, 1),
        }
    }
}

/// Returns all devices by name.
pub fn all() -> impl Iterator<Item = (&'static [u8], Kind)> {
    [
        (&b"null"[..], Device::Null),
        (b"zero", Device::Zero),
        (b"random", Device::Random),
        (b"urandom", Device::Random),
        (b"console", Device::Console),
        (b"tty", Device::Console),
    ]
    .into_iter()
    .map(|(name, device)| (name, Kind::Device(device)))
}
