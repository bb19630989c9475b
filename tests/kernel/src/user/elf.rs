//! Loads an ELF file into memory, as Linux' `load_elf_binary` does.

use alloc::sync::Arc;
use alloc::vec::Vec;

use elf::abi::{
    EM_AARCH64, EM_LOONGARCH, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP,
    PT_LOAD,
};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use kvma::Errno;
use kvma::linux::abi::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE,
};
use kvma::linux::{Mmap, OpenFile, Rights};

use super::errno::{ENOEXEC, ENOMEM};
use super::memory::Memory;
use super::object::{MappedFile, Object};
use crate::paging::PAGE_SIZE;

/// The machine that files must be for.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    EM_AARCH64
} else if cfg!(target_arch = "loongarch64") {
    EM_LOONGARCH
} else {
    EM_RISCV
};

/// The address of programs that may lie anywhere and have a loader, and of the heap of those
/// that have none (`ELF_ET_DYN_BASE`).
const ANYWHERE: u64 = (0x7fff_ffff_f000 / 3 * 2) & !(PAGE_SIZE - 1);

/// The headers are read from so many bytes at the beginning.
const HEAD: usize = 4096;

/// A program that is loaded.
pub struct Loaded {
    /// The first instruction of its own code.
    pub entry: u64,
    /// The first instruction to execute: that one, or the loader's.
    pub start: u64,
    /// The address of the program headers, and their number.
    pub headers: u64,
    pub header_count: u64,
    /// The address of the loader; 0 without one.
    pub base: u64,
    /// The first byte after all data.
    pub end: u64,
}

/// The headers of a file.
struct Headers {
    file: FileHeader<LittleEndian>,
    programs: Vec<ProgramHeader>,
}

fn headers(object: &Object) -> Result<Headers, Errno> {
    let mut head = [0; HEAD];
    let len = object.read(0, &mut head);
    let head = &head[..len];
    let read = || {
        let ident = parse_ident::<LittleEndian>(head)?;
        let tail = head.get(elf::abi::EI_NIDENT..).unwrap_or_default();
        let file = FileHeader::parse_tail(ident, tail)?;
        let mut offset = usize::try_from(file.e_phoff).unwrap_or(usize::MAX);
        let programs = (0..file.e_phnum)
            .map(|_| ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut offset, head))
            .collect::<Result<_, _>>()?;
        Ok::<_, elf::ParseError>(Headers { file, programs })
    };
    let headers = if len < 64 { Err(ENOEXEC) } else { read().map_err(|_| ENOEXEC) }?;
    let known = headers.file.class == Class::ELF64
        && headers.file.e_machine == MACHINE
        && matches!(headers.file.e_type, ET_EXEC | ET_DYN);
    if known { Ok(headers) } else { Err(ENOEXEC) }
}

impl Headers {
    fn segments(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.programs.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
    }

    /// Returns the first page of the segments, and the first one after them.
    fn extent(&self) -> Result<(u64, u64), Errno> {
        let first = self.segments().map(|s| s.p_vaddr & !(PAGE_SIZE - 1)).min().ok_or(ENOEXEC)?;
        let ends = self.segments().map(|s| s.p_vaddr.checked_add(s.p_memsz));
        let end = ends.max().flatten().and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
        Ok((first, end.ok_or(ENOEXEC)?))
    }

    /// Returns the path of the loader that the file asks for.
    fn loader(&self, object: &Object) -> Option<Vec<u8>> {
        let header = self.programs.iter().find(|header| header.p_type == PT_INTERP)?;
        let mut path = alloc::vec![0; usize::try_from(header.p_filesz).ok().filter(|&n| n < HEAD)?];
        object.read(header.p_offset, &mut path);
        path.pop_if(|last| *last == 0);
        Some(path)
    }
}

/// Loads a file. `open` finds the loader that the file may ask for.
pub fn load(
    memory: &Memory,
    object: &Arc<Object>,
    open: impl FnOnce(&[u8]) -> Result<Arc<Object>, Errno>,
) -> Result<Loaded, Errno> {
    let headers = headers(object)?;
    let loader = headers.loader(object).map(|path| open(&path)).transpose()?;
    let (first, end) = headers.extent()?;
    let bias = match headers.file.e_type {
        ET_EXEC => 0,
        _ if loader.is_some() => ANYWHERE,
        _ => place(memory, end - first)?.wrapping_sub(first),
    };
    map(memory, object, &headers, bias)?;
    let entry = headers.file.e_entry.wrapping_add(bias);
    let (base, start) = match loader {
        None => (0, entry),
        Some(loader) => {
            let headers = self::headers(&loader)?;
            let (first, end) = headers.extent()?;
            let base = place(memory, end - first)?.wrapping_sub(first);
            map(memory, &loader, &headers, base)?;
            (base, headers.file.e_entry.wrapping_add(base))
        }
    };
    // The heap begins after the data, unless there would be no room.
    let heap =
        if headers.file.e_type == ET_DYN && base == 0 { ANYWHERE } else { end.wrapping_add(bias) };
    let headers_at = headers
        .segments()
        .find(|s| (s.p_offset..s.p_offset + s.p_filesz).contains(&headers.file.e_phoff))
        .map_or(0, |s| s.p_vaddr + (headers.file.e_phoff - s.p_offset) + bias);
    Ok(Loaded {
        entry,
        start,
        headers: headers_at,
        header_count: u64::from(headers.file.e_phnum),
        base,
        end: heap,
    })
}

/// Returns the address of so many free bytes.
fn place(memory: &Memory, len: u64) -> Result<u64, Errno> {
    memory.space().vmas.inspect(|mm| mm.unmapped_area(len))
}

/// Maps all segments.
fn map(memory: &Memory, object: &Arc<Object>, headers: &Headers, bias: u64) -> Result<(), Errno> {
    for segment in headers.segments() {
        let mut prot = 0;
        for (flag, right) in [(PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)] {
            prot |= if segment.p_flags & flag != 0 { right } else { 0 };
        }
        let start = segment.p_vaddr.wrapping_add(bias);
        let in_page = start % PAGE_SIZE;
        let file_end = start.checked_add(segment.p_filesz).ok_or(ENOEXEC)?;
        let end = start.checked_add(segment.p_memsz).ok_or(ENOEXEC)?;
        if segment.p_filesz > segment.p_memsz || segment.p_offset % PAGE_SIZE != in_page {
            return Err(ENOEXEC);
        }
        let file_pages_end = file_end.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
        let mut zeros_from = start - in_page;
        if segment.p_filesz > 0 {
            let args = Mmap {
                addr: start - in_page,
                len: in_page + segment.p_filesz,
                prot,
                flags: MAP_PRIVATE | MAP_FIXED_NOREPLACE,
                offset: segment.p_offset - in_page,
                file: Some(OpenFile::new(MappedFile(object.clone()), Rights::READ)),
            };
            memory.call(|mm, call| mm.mmap(args, call))?;
            zeros_from = file_pages_end;
            if end > file_end && prot & PROT_WRITE != 0 {
                // The rest of the last page holds whatever follows in the file.
                let zeros = [0; PAGE_SIZE as usize];
                memory.write(file_end, &zeros[..(file_pages_end - file_end) as usize])?;
            }
        }
        if end > zeros_from {
            let args = Mmap {
                addr: zeros_from,
                len: end - zeros_from,
                prot,
                flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                offset: 0,
                file: None,
            };
            memory.call(|mm, call| mm.mmap(args, call))?;
        }
    }
    Ok(())
}
