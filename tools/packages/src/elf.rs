//! The part of ELF that tells how a program is started.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How the system starts an executable file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// By itself: linked statically, or a script.
    Directly,
    /// Through the dynamic loader that it names.
    ByLoader,
}

/// Returns how this file is started, or `None` if it is neither an ELF program nor a script.
///
/// Reads the ELF header and the program headers for `PT_INTERP`, which shared libraries lack as
/// static programs do. Knows 64 bits in little-endian order; of any other program it is said that
/// a loader starts it.
pub fn start(path: &Path) -> io::Result<Option<Start>> {
    start_of(File::open(path)?)
}

fn start_of(mut file: impl Read + Seek) -> io::Result<Option<Start>> {
    const PT_INTERP: u32 = 3;
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(64).read_to_end(&mut header)?;
    if header.starts_with(b"#!") {
        return Ok(Some(Start::Directly));
    }
    if !header.starts_with(b"\x7fELF") || header.len() < 64 {
        return Ok(None);
    }
    const CLASS_64_LITTLE_ENDIAN: [u8; 2] = [2, 1];
    if header[4..6] != CLASS_64_LITTLE_ENDIAN {
        return Ok(Some(Start::ByLoader));
    }
    let table = u64::from_le_bytes(array(&header[32..40]));
    let entry_bytes = usize::from(u16::from_le_bytes(array(&header[54..56])));
    let entries = usize::from(u16::from_le_bytes(array(&header[56..58])));
    let mut headers = Vec::new();
    file.seek(SeekFrom::Start(table))?;
    file.take((entry_bytes * entries) as u64).read_to_end(&mut headers)?;
    let names_a_loader = headers
        .chunks_exact(entry_bytes.max(4))
        .any(|entry| u32::from_le_bytes(array(&entry[..4])) == PT_INTERP);
    Ok(Some(if names_a_loader { Start::ByLoader } else { Start::Directly }))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a slice of N bytes")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::{Start, start, start_of};

    /// Returns an ELF header, and one program header of this type.
    fn elf(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_scripts_and_other_files_are_told_apart() {
        let of = |bytes: &[u8]| start_of(Cursor::new(bytes)).expect("it is read");
        assert_eq!(of(&elf(3)), Some(Start::ByLoader));
        assert_eq!(of(&elf(1)), Some(Start::Directly));
        assert_eq!(of(&elf(3)[..70]), Some(Start::Directly), "program headers that break off");
        assert_eq!(of(&elf(3)[..20]), None);
        assert_eq!(of(b"#!/bin/sh\n"), Some(Start::Directly));
        assert_eq!(of(b"text"), None);
        assert_eq!(of(b""), None);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
    fn this_test_is_started_by_a_loader() {
        let this = std::env::current_exe().expect("this test");
        assert_eq!(start(&this).expect("it is read"), Some(Start::ByLoader));
        assert!(start(Path::new("no/such/file")).is_err());
    }
}
