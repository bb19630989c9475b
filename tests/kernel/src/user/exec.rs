//! execve(2): a new program in new memory, and what it finds on its stack.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::Errno;
use kvma::linux::{Install, VmFlags};

use super::elf::{self, Loaded};
use super::errno::{E2BIG, EACCES, EISDIR, ELOOP, ENOEXEC};
use super::fs::console;
use super::fs::inode::Inode;
use super::fs::path::{self, Follow};
use super::memory::{Memory, STACK_LIMIT};
use super::object::Object;
use super::process::Program;
use super::{kernel_tables, record};
use crate::paging::PAGE_SIZE;

/// Arguments and environment together (a quarter of the stack's limit, as on Linux).
const MOST_BYTES: usize = STACK_LIMIT as usize / 4;
/// Scripts whose interpreter is a script, and so on (`BINPRM_MAX_RECURSION`).
const MOST_SCRIPTS: usize = 4;
/// The first line of a script may be that long.
const FIRST_LINE: usize = 256;

/// Kinds of auxiliary values (`linux/auxvec.h`).
mod auxv {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
}

/// A program in new memory, ready to start.
pub struct Image {
    pub memory: Arc<Memory>,
    pub program: Program,
    /// The first instruction.
    pub start: u64,
    /// The stack pointer.
    pub stack: u64,
}

/// Loads the program at `path` with these arguments and this environment.
///
/// # Errors
///
/// Those of execve(2).
pub fn load(
    base: &Arc<Inode>,
    path: &[u8],
    mut arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<Image, Errno> {
    let bytes: usize = arguments.iter().chain(environment).map(|text| text.len() + 9).sum();
    if bytes > MOST_BYTES {
        return Err(E2BIG);
    }
    let mut file = path.to_vec();
    let mut object = executable(base, &file)?;
    for _ in 0..MOST_SCRIPTS {
        let Some((interpreter, argument)) = interpreter(&object)? else {
            let memory = Arc::new(Memory::new(kernel_tables())?);
            let loaded = elf::load(&memory, &object, |loader| executable(base, loader))?;
            let program = Program {
                path: String::from_utf8_lossy(&full_path(base, &file)).into(),
                name: name_of(path),
                arguments,
            };
            let stack = stack(&memory, &loaded, &file, &program.arguments, environment)?;
            memory.call(|mm, _| mm.set_start_brk(loaded.end, 0));
            record::exec(&memory);
            return Ok(Image { memory, program, start: loaded.start, stack });
        };
        let rest = arguments.split_off(arguments.len().min(1));
        arguments = Vec::from([interpreter.clone()]);
        arguments.extend(argument);
        arguments.push(file);
        arguments.extend(rest);
        object = executable(base, &interpreter)?;
        file = interpreter;
    }
    Err(ELOOP)
}

/// Returns the pages of a file that may be executed.
fn executable(base: &Arc<Inode>, path: &[u8]) -> Result<Arc<Object>, Errno> {
    let inode = path::find(base, path, Follow::Yes)?;
    if inode.is_directory() {
        return Err(EISDIR);
    }
    if inode.mode() & 0o111 == 0 {
        return Err(EACCES);
    }
    inode.object().cloned().ok_or(EACCES)
}

fn full_path(base: &Arc<Inode>, path: &[u8]) -> Vec<u8> {
    match path::place(base, path, Follow::Yes) {
        Ok(place) => place.directory.path_of(&place.name),
        Err(_) => path.to_vec(),
    }
}

/// Returns the name of a program's main thread: the last part of its path, up to 15 bytes.
fn name_of(path: &[u8]) -> String {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(&name[..name.len().min(15)]).into()
}

/// The path of an interpreter, and its argument.
type Interpreter = (Vec<u8>, Option<Vec<u8>>);

/// Returns the interpreter of a script. `None` if the file is no script.
fn interpreter(object: &Object) -> Result<Option<Interpreter>, Errno> {
    let mut head = [0; FIRST_LINE];
    let len = object.read(0, &mut head);
    let Some(line) = head[..len].strip_prefix(b"#!") else { return Ok(None) };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let (interpreter, argument) = match line.iter().position(u8::is_ascii_whitespace) {
        Some(at) => (&line[..at], Some(line[at..].trim_ascii().to_vec())),
        None => (line, None),
    };
    if interpreter.is_empty() { Err(ENOEXEC) } else { Ok(Some((interpreter.to_vec(), argument))) }
}

/// Maps the stack, and puts arguments, environment and auxiliary values there (System V ABI,
/// section 3.4.1). Returns the stack pointer.
fn stack(
    memory: &Memory,
    loaded: &Loaded,
    path: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Result<u64, Errno> {
    // First the strings, from the top down; then what points to them.
    let mut strings = Vec::new();
    let top = memory.space().vmas.inspect(|mm| mm.layout().task_size());
    let all = || arguments.iter().chain(environment).map(Vec::as_slice).chain([path]);
    let len = all().map(|text| text.len() + 1).sum::<usize>();
    // Linux leaves the last word empty.
    let strings_at = top - 8 - len as u64;
    let mut addresses = Vec::new();
    for text in all() {
        addresses.push(strings_at + strings.len() as u64);
        strings.extend(text);
        strings.push(0);
    }
    let random_at = (strings_at - 16) & !15;
    let mut random = [0; 16];
    console::random(&mut random);
    let path_at = addresses.pop().unwrap_or(0);
    let environment_addresses = addresses.split_off(arguments.len());
    let mut words = Vec::from([arguments.len() as u64]);
    words.extend(addresses);
    words.push(0);
    words.extend(environment_addresses);
    words.push(0);
    for (kind, value) in [
        (auxv::PHDR, loaded.headers),
        (auxv::PHENT, 56),
        (auxv::PHNUM, loaded.header_count),
        (auxv::PAGESZ, PAGE_SIZE),
        (auxv::BASE, loaded.base),
        (auxv::FLAGS, 0),
        (auxv::ENTRY, loaded.entry),
        (auxv::UID, 0),
        (auxv::EUID, 0),
        (auxv::GID, 0),
        (auxv::EGID, 0),
        (auxv::HWCAP, 0),
        (auxv::CLKTCK, 100),
        (auxv::SECURE, 0),
        (auxv::RANDOM, random_at),
        (auxv::EXECFN, path_at),
        (auxv::NULL, 0),
    ] {
        words.extend([kind, value]);
    }
    let stack_pointer = (random_at - 8 * words.len() as u64) & !15;

    let (start, end) =
        memory.space().vmas.inspect(|mm| mm.layout().stack(top - stack_pointer, STACK_LIMIT));
    let flags = VmFlags::READ
        | VmFlags::WRITE
        | VmFlags::MAY_ACCESS
        | VmFlags::GROWS_DOWN
        | VmFlags::ACCOUNT;
    memory.call(|mm, call| {
        mm.install(Install { start, end, flags, offset: 0, handle: None }, call)?;
        mm.set_start_stack(stack_pointer);
        Ok::<_, Errno>(())
    })?;
    memory.write(strings_at, &strings)?;
    memory.write(random_at, &random)?;
    let words: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    memory.write(stack_pointer, &words)?;
    Ok(stack_pointer)
}
