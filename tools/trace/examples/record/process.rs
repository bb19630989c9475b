//! The recorded process, as /proc describes it.

use std::os::unix::fs::FileTypeExt;
use std::{fs, io};

use kvma_trace::{Access, Descriptor, FileKind, Limit};

/// The flags of each VMA, in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flags {
    Omit,
    Print,
}

/// A process, by its number.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub libc::pid_t);

impl Process {
    fn read(self, file: &str) -> io::Result<String> {
        let bytes = fs::read(format!("/proc/{}/{file}", self.0))?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Returns the number of VMAs, and `/proc/PID/maps` or those lines of smaps that a trace has.
    pub fn snapshot(self, flags: Flags) -> io::Result<(usize, String)> {
        if flags == Flags::Omit {
            let text = self.read("maps")?;
            return Ok((text.lines().count(), text));
        }
        let (mut count, mut text) = (0, String::new());
        for line in self.read("smaps")?.lines() {
            if line.split(' ').next().is_some_and(|word| word.contains('-')) {
                count += 1;
            } else if !line.starts_with("VmFlags:") {
                continue;
            }
            text.push_str(line);
            text.push('\n');
        }
        Ok((count, text))
    }

    /// Returns `MAJOR:MINOR INODE PATH` of the VMA that holds `addr`.
    pub fn backing(self, addr: u64) -> io::Result<Option<String>> {
        let maps = self.read("maps")?;
        let line = maps
            .lines()
            .find(|line| bounds(line).is_some_and(|(start, end)| start <= addr && addr < end));
        Ok(line.map(|line| {
            let mut words = line.splitn(6, ' ');
            let (device, inode) = (words.nth(3).unwrap_or(""), words.next().unwrap_or(""));
            format!("{device} {inode} {}", words.next().unwrap_or("").trim_start())
        }))
    }

    /// Returns the start of the VMA named `[stack]`.
    pub fn stack(self) -> io::Result<Option<u64>> {
        let maps = self.read("maps")?;
        Ok(maps
            .lines()
            .find(|line| line.ends_with("[stack]"))
            .and_then(bounds)
            .map(|(start, _)| start))
    }

    /// Returns the start of the heap (`proc_pid_stat(5)`).
    pub fn start_brk(self) -> io::Result<u64> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; field 3 comes behind it, and this is field 47.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let field = fields.split_whitespace().nth(44).and_then(|field| field.parse().ok());
        field.ok_or_else(|| io::Error::other("no start_brk in /proc/PID/stat"))
    }

    /// Returns the limits that a trace has, in bytes.
    pub fn limits(self) -> io::Result<[(Limit, u64); 4]> {
        let text = self.read("limits")?;
        let limit = |name: &str| {
            let value =
                text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
            if value == "unlimited" { Some(u64::MAX) } else { value.parse().ok() }
        };
        let limits = [
            (Limit::Data, "Max data size"),
            (Limit::Stack, "Max stack size"),
            (Limit::MemLock, "Max locked memory"),
            (Limit::AddressSpace, "Max address space"),
        ];
        Ok(limits.map(|(which, name)| (which, limit(name).unwrap_or(u64::MAX))))
    }

    /// Returns true if the process may exceed the limit on locked memory (`CAP_IPC_LOCK`).
    pub fn privileged(self) -> io::Result<bool> {
        const CAP_IPC_LOCK: u32 = 14;
        let status = self.read("status")?;
        let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let caps = caps.and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok()).unwrap_or(0);
        Ok(caps >> CAP_IPC_LOCK & 1 != 0)
    }

    /// Describes a file descriptor. `None` if it is not open.
    pub fn descriptor(self, fd: u32) -> Option<Descriptor> {
        let link = format!("/proc/{}/fd/{fd}", self.0);
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.0)).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
        if flags & libc::O_PATH != 0 {
            // mmap(2) treats it as a bad descriptor.
            return None;
        }
        let access = match flags & libc::O_ACCMODE {
            libc::O_WRONLY => Access::Write,
            libc::O_RDWR => Access::ReadWrite,
            _ => Access::Read,
        };
        let kind = fs::metadata(&link).ok()?.file_type();
        let kind = match kind {
            _ if fs::read_link(&link)
                .is_ok_and(|path| path.to_string_lossy().starts_with("/memfd:")) =>
            {
                FileKind::Memory
            }
            _ if kind.is_dir() => FileKind::Directory,
            _ if kind.is_char_device()
                || kind.is_block_device()
                || kind.is_fifo()
                || kind.is_socket() =>
            {
                FileKind::Other
            }
            _ if kind.is_file() => FileKind::Regular,
            _ => FileKind::Other,
        };
        Some(Descriptor { access, kind })
    }
}

/// Returns start and end of the VMA in a line of maps.
fn bounds(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Returns true if the machine has protection keys and the kernel uses them.
pub fn has_protection_keys() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" ospke"))
}
