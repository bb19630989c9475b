//! Versions of programs.

use std::fmt;
use std::str::FromStr;

/// The first two numbers of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// Finds the version in what QEMU prints about itself: `QEMU emulator version 7.2.22 (Debian…`.
    pub fn of_qemu(text: &str) -> Option<Self> {
        text.split_once("version ")?.1.split_whitespace().next()?.parse().ok()
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|number| number.parse().map_err(drop));
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => Ok(Self { major: major?, minor: minor? }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_compare_by_numbers() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        assert!(version("7.2.22") < version("10.0"));
        assert!(version("10.0.2") >= version("10.0"));
        assert!(version("9.2") < version("9.10"));
        for wrong in ["", "10", "ten.0", "10.x", "-1.0"] {
            assert_eq!(wrong.parse::<Version>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn qemu_says_its_version() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022";
        assert_eq!(Version::of_qemu(text), "7.2".parse().ok());
        assert_eq!(Version::of_qemu("QEMU emulator version 11.1.2"), "11.1".parse().ok());
        assert_eq!(Version::of_qemu("no emulator"), None);
    }
}
