//! A process of this machine, of which the address space is read.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::space::{Space, SpaceError};

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: String,
}

/// The address space of a process could not be read.
#[derive(Debug)]
pub enum ProcessError {
    /// There is no such process.
    Missing(String),
    /// The process belongs to somebody else.
    Forbidden(String),
    /// The process has no address space: it has ended, or is a thread of the kernel.
    Empty(String),
    /// This system has no `/proc` as Linux has it.
    NoProc,
    /// Reading failed otherwise.
    Io(String, io::Error),
    /// Linux printed what [`Space`] cannot read.
    Space(String, SpaceError),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(pid) => {
                write!(f, "there is no process {pid}: `ps -e` lists those that there are")
            }
            Self::Forbidden(pid) => write!(
                f,
                "process {pid} may not be looked at: run this as the user whose process it is, or \
                 as root"
            ),
            Self::Empty(pid) => write!(
                f,
                "process {pid} has nothing mapped: it has ended, or is a thread of the kernel"
            ),
            Self::NoProc => write!(f, "there is no /proc: processes are looked at on Linux alone"),
            Self::Io(pid, error) => write!(f, "process {pid}: {error}"),
            Self::Space(pid, error) => write!(f, "/proc/{pid}/maps, {error}"),
        }
    }
}

impl std::error::Error for ProcessError {}

impl Process {
    /// Names the process with the number `pid`, or this one if that is `self`. Returns `None` if it
    /// is neither.
    pub fn new(pid: &str) -> Option<Self> {
        (pid == "self" || pid.parse::<u32>().is_ok()).then(|| Self { pid: pid.to_owned() })
    }

    /// Returns the name of the program and the number, such as `ls (1234)`.
    pub fn title(&self) -> String {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        format!("{} ({})", name.trim(), self.pid)
    }

    /// Reads what the process has mapped.
    ///
    /// # Errors
    ///
    /// [`ProcessError`], each with what can be done about it.
    pub fn space(&self) -> Result<Space, ProcessError> {
        let pid = || self.pid.clone();
        let text =
            std::fs::read(format!("/proc/{}/maps", self.pid)).map_err(|error| {
                match error.kind() {
                    _ if !Path::new("/proc/self").exists() => ProcessError::NoProc,
                    ErrorKind::NotFound => ProcessError::Missing(pid()),
                    ErrorKind::PermissionDenied => ProcessError::Forbidden(pid()),
                    _ => ProcessError::Io(pid(), error),
                }
            })?;
        let space = Space::from_maps(&text).map_err(|error| ProcessError::Space(pid(), error))?;
        if space.vmas().is_empty() {
            return Err(ProcessError::Empty(pid()));
        }
        Ok(space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_number_or_self() {
        for pid in ["", "-1", "1/../2", "4294967296", "me"] {
            assert_eq!(Process::new(pid), None, "{pid}");
        }
        assert!(Process::new("self").is_some() && Process::new("1").is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_read() {
        let this = Process::new("self").expect("a process");
        assert!(this.space().expect("its maps").vmas().len() > 3);
        assert!(this.title().ends_with(" (self)"));
    }

    /// Linux gives no process a number above 4,194,304.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_missing_is_named() {
        let error = Process::new("4194305").expect("a number").space().expect_err("no process");
        assert_eq!(
            error.to_string(),
            "there is no process 4194305: `ps -e` lists those that there are"
        );
    }
}
