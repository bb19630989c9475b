//! The parser and the writer of maps files, on what the running kernel writes: odd names, too.
#![cfg(target_os = "linux")]

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, ptr};

use kvma::Heap;
use kvma::linux::maps::{self, MapsLine};
use kvma::linux::{Install, Layout, Mm, NoKernel, Role, VmFlags};
use kvma_test_support::Inode;

const PAGE: usize = super::PAGE as usize;

/// Writes a line that was parsed anew.
fn written(line: &MapsLine<'_, [u8]>) -> Vec<u8> {
    let letter = |flag, letter| if line.perms.contains(flag) { letter } else { '-' };
    let MapsLine { start, end, offset, major, minor, inode, name, .. } = *line;
    let mut text = format!(
        "{start:08x}-{end:08x} {}{}{}{} {offset:08x} {major:02x}:{minor:02x} {inode} ",
        letter(VmFlags::READ, 'r'),
        letter(VmFlags::WRITE, 'w'),
        letter(VmFlags::EXEC, 'x'),
        if line.perms.contains(VmFlags::SHARED) { 's' } else { 'p' },
    )
    .into_bytes();
    if !name.is_empty() {
        text.resize(text.len().max(72), b' ');
        text.push(b' ');
        text.extend_from_slice(name);
    }
    text
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

#[track_caller]
fn reads_and_writes_back(text: &[u8]) {
    let parsed: Vec<_> = maps::parse_bytes(text)
        .map(|line| {
            line.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
        })
        .collect();
    assert_eq!(parsed.len(), lines(text).count());
    for (line, kernel) in parsed.iter().zip(lines(text)) {
        assert_eq!(
            String::from_utf8_lossy(&written(line)),
            String::from_utf8_lossy(kernel),
            "not as the kernel wrote it"
        );
        assert_eq!(written(line), kernel);
        let text = String::from_utf8_lossy(kernel);
        let lossy = MapsLine::parse(&text).unwrap();
        assert_eq!((lossy.start, lossy.inode), (line.start, line.inode));
        assert_eq!(lossy.name, String::from_utf8_lossy(line.name));
        assert_eq!(lossy.backing, String::from_utf8_lossy(line.backing));
    }
}

#[test]
fn maps_of_every_running_process_are_read_and_written_back() {
    let mut seen = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // It may have ended meanwhile, or be somebody else's.
        if let Ok(text) = fs::read(process.path().join("maps")) {
            reads_and_writes_back(&text);
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// Lines that other kernels have written, and that no test can bring about here.
#[test]
fn lines_of_other_kernels_are_read() {
    let text = b"\
08048000-08053000 r-xp 00000000 03:00 12593      /bin/cat\n\
bfb4a000-bfb5f000 rw-p bfb4a000 00:00 0          [stack]\n\
ffffe000-fffff000 r-xp 00000000 00:00 0          [vdso]\n\
7f0000000000-7f0000001000 r--p 8000000000000000 103:1f2 18446744073709551615              /x\n\
7f0000000000-7f0000001000 r--p 00000000 fffff:fffff 4294967296 (unreachable)/a b\n\
7fffffffe000-7ffffffff000 --xp 00000000 00:00 0                          [uprobes]\n\
ff600000-ff601000 rw-s 00000000 00:0e 1032                               anon_inode:[perf_event]\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
    let names: Vec<_> = maps::parse_bytes(text).map(|line| line.unwrap().name.to_vec()).collect();
    let expected: [&[u8]; 8] = [
        b"/bin/cat",
        b"[stack]",
        b"[vdso]",
        b"/x",
        b"(unreachable)/a b",
        b"[uprobes]",
        b"anon_inode:[perf_event]",
        b"[vsyscall]",
    ];
    assert_eq!(names, expected);
    let large = maps::parse_bytes(lines(text).nth(3).unwrap()).next().unwrap().unwrap();
    assert_eq!(
        (large.major, large.minor, large.inode, large.offset),
        (0x103, 0x1f2, u64::MAX, 1 << 63)
    );
}

#[test]
fn what_is_no_line_is_refused() {
    for text in [
        "1000-2000 rw-p 00000000 00:00",
        "1000-2000 rw-p 00000000 00:00 ",
        "1000-2000 rw-p 00000000 00:00 x",
        "1000-2000 rw-p 00000000 00:00 +1",
        "1000-2000 rw-p 00000000 00:00 18446744073709551616",
        "1000-2000 rw-p 00000000 100000000:00 0",
        "1000-2000 rw-p -1 00:00 0",
        "1000-2000 rw-p 10000000000000000 00:00 0",
        "1000-1000 rw-p 00000000 00:00 0",
        "-2000 rw-p 00000000 00:00 0",
        "1000-2000 rw- 00000000 00:00 0",
    ] {
        let error = MapsLine::parse(text).unwrap_err();
        assert_eq!(MapsLine::parse_bytes(text.as_bytes()), Err(error), "{text}");
    }
}

/// Memory of this process, until dropped.
struct Mapping(*mut libc::c_void);

impl Mapping {
    fn new(flags: i32, file: Option<&File>) -> io::Result<Self> {
        let fd = file.map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: a new mapping somewhere else than what there is.
        match unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, flags, fd, 0) } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            addr => Ok(Self(addr)),
        }
    }

    /// Calls `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`. Returns whether the kernel knows it.
    fn name(&self, name: &str) -> bool {
        let name = CString::new(name).unwrap();
        // SAFETY: a range of ours, and a string that lives during the call.
        unsafe {
            libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, self.0, PAGE, name.as_ptr())
                == 0
        }
    }

    /// Returns the line of maps that begins with it.
    fn line(&self) -> Vec<u8> {
        let text = fs::read("/proc/self/maps").unwrap();
        reads_and_writes_back(&text);
        let found = lines(&text).find(|line| {
            MapsLine::parse_bytes(line).unwrap().start == self.0.expose_provenance() as u64
        });
        found.expect("a line for what was just mapped").to_vec()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: one page, ours, to which no reference exists.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the line that kvma writes for a page at the same address as `line`.
fn ours(line: &MapsLine<'_, [u8]>, path: &str, role: Role) -> String {
    let mut mm: Mm<Inode, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let inode = Inode::new(line.inode).on_device(line.major, line.minor);
    let handle = Some((inode.named(path.to_string().leak()), role));
    let mut flags = line.perms;
    flags.set(VmFlags::MAY_SHARE, line.perms.contains(VmFlags::SHARED));
    let vma = Install { start: line.start, end: line.end, flags, offset: line.offset, handle };
    mm.install(vma, &mut mm.update(&mut NoKernel)).unwrap();
    mm.maps().to_string()
}

#[test]
fn paths_that_look_like_something_else_are_read_and_written() {
    let scratch = Scratch::new("maps-paths");
    let long = "x".repeat(250);
    let names: [&[u8]; 14] = [
        b"plain",
        b"two words",
        b" leading and trailing ",
        b"new\nline",
        b"\n\n",
        b"ends in (deleted)",
        b"gone (deleted)",
        b"[heap]",
        b"\\012",
        b"7f0000000000-7f0000001000 r--p 00000000 00:00 0",
        b"tab\tand\rcarriage\x1b",
        "umlaut ä, 漢".as_bytes(),
        b"not \xff\xfe utf-8 \x80",
        long.as_bytes(),
    ];
    for (name, unlinked) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
        let path = scratch.0.join(OsStr::from_bytes(name));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.set_len(PAGE as u64).unwrap();
        let mapping = Mapping::new(libc::MAP_PRIVATE, Some(&file)).unwrap();
        if unlinked {
            fs::remove_file(&path).unwrap();
        }
        let kernel = mapping.line();
        let line = MapsLine::parse_bytes(&kernel).unwrap();
        let mut raw = path.as_os_str().as_bytes().to_vec();
        raw.extend_from_slice(if unlinked { b" (deleted)" } else { b"" });
        let escaped: Vec<u8> = raw
            .iter()
            .flat_map(|byte| if *byte == b'\n' { b"\\012" } else { std::slice::from_ref(byte) })
            .copied()
            .collect();
        assert_eq!(line.name, escaped, "{path:?}");
        // What goes to a `core::fmt::Write` is UTF-8.
        if let Ok(raw) = String::from_utf8(raw) {
            let kernel = String::from_utf8(kernel.clone()).unwrap();
            assert_eq!(ours(&line, &raw, Role::Object), format!("{kernel}\n"));
        }
    }
}

#[test]
fn paths_far_longer_than_path_max_are_read_and_written() {
    let scratch = Scratch::new("maps-long");
    let name = CString::new("d".repeat(200)).unwrap();
    let mut directory = File::open(&scratch.0).unwrap();
    for _ in 0..30 {
        // SAFETY: a descriptor of ours and a string that lives during the calls.
        let next = unsafe {
            libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), 0o755);
            libc::openat(directory.as_raw_fd(), name.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY)
        };
        assert!(next >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        directory = unsafe { File::from_raw_fd(next) };
    }
    // SAFETY: as above.
    let fd = unsafe {
        libc::openat(directory.as_raw_fd(), c"end".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o644)
    };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: as above.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(PAGE as u64).unwrap();
    let kernel = Mapping::new(libc::MAP_SHARED, Some(&file)).unwrap().line();
    let line = MapsLine::parse_bytes(&kernel).unwrap();
    assert!(
        line.name.len() > 6000 && line.name.ends_with(b"/end"),
        "{}",
        String::from_utf8_lossy(&kernel)
    );
    assert_eq!(
        ours(&line, std::str::from_utf8(line.name).unwrap(), Role::Object)
            .as_bytes()
            .trim_ascii_end(),
        kernel
    );
}

#[test]
fn memory_with_and_without_names_is_read_and_written() {
    let anon = Mapping::new(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None).unwrap();
    let line = anon.line();
    assert!(line.ends_with(b" 00:00 0 "), "{}", String::from_utf8_lossy(&line));
    let shared = Mapping::new(libc::MAP_SHARED | libc::MAP_ANONYMOUS, None).unwrap();
    let line = shared.line();
    let parsed = MapsLine::parse_bytes(&line).unwrap();
    assert_eq!(
        (parsed.name, parsed.perms),
        (&b"/dev/zero (deleted)"[..], VmFlags::READ | VmFlags::SHARED)
    );
    assert_eq!(ours(&parsed, "/dev/zero (deleted)", Role::Object).trim_end().as_bytes(), line);
    // Without CONFIG_ANON_VMA_NAME there are no names.
    for name in ["short", "two words (deleted)", " ", "x: y=z /a-b", &"n".repeat(79)] {
        if anon.name(name) {
            let line = anon.line();
            let parsed = MapsLine::parse_bytes(&line).unwrap();
            assert_eq!(parsed.name, format!("[anon:{name}]").as_bytes());
            assert_eq!(ours(&parsed, name, Role::Name).trim_end().as_bytes(), line);
        }
        if shared.name(name) {
            let line = shared.line();
            let parsed = MapsLine::parse_bytes(&line).unwrap();
            assert_eq!(parsed.name, format!("[anon_shmem:{name}]").as_bytes());
            assert_ne!(parsed.inode, 0);
        }
    }
}

#[test]
fn files_without_a_path_are_read_and_written() {
    for name in ["", "memory", "a b (deleted)", "x\ny"] {
        let text = CString::new(name).unwrap();
        // SAFETY: a string that lives during the call.
        let fd = unsafe { libc::memfd_create(text.as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            // Sandboxes forbid it.
            continue;
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(PAGE as u64).unwrap();
        let kernel = Mapping::new(libc::MAP_SHARED, Some(&file)).unwrap().line();
        let line = MapsLine::parse_bytes(&kernel).unwrap();
        let path = format!("/memfd:{name} (deleted)");
        assert_eq!(line.name, path.replace('\n', "\\012").as_bytes());
        assert_eq!(ours(&line, &path, Role::Object).as_bytes().trim_ascii_end(), kernel);
    }
}
