//! A stopped process that makes system calls for us.
//!
//! The process is stopped by ptrace(2) at its first instruction. For each call its registers are
//! set and the one `syscall` instruction of its image is stepped over. Nothing else of it ever
//! runs, but for two more instructions that load and store.

use std::ffi::{CString, c_void};
use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{io, mem, ptr};

use super::calls::Touch;
use super::image;

/// Resource limits: which, and the soft limit.
pub type SoftLimits = Vec<(libc::__rlimit_resource_t, u64)>;

/// A stopped process and the files that show its VMAs.
pub struct Tracee {
    process: Process,
    registers: libc::user_regs_struct,
    maps: File,
    /// `None` if the kernel has no such file.
    smaps: Option<File>,
    status: File,
    buffer: Vec<u8>,
}

/// Why there is no tracee, and which step has failed.
#[derive(Debug)]
pub struct Refused {
    pub step: &'static str,
    pub error: io::Error,
}

impl Tracee {
    /// Starts the program at `path` and stops it before its first instruction. `descriptors` are
    /// ours, with the numbers that they get in the program.
    pub fn start(
        path: &Path,
        descriptors: Vec<(RawFd, RawFd)>,
        limits: SoftLimits,
    ) -> Result<Self, Refused> {
        let refused = |step| move |error| Refused { step, error };
        let mut command = Command::new(path);
        // A short name and no environment, so that the stack does not depend on who runs the test.
        command.arg0("kvma").env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the closure makes system calls only, which is what is allowed between fork and
        // exec; it does not allocate and takes no lock.
        unsafe {
            command.pre_exec(move || {
                check(libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong))?;
                for &(which, soft) in &limits {
                    let mut limit: libc::rlimit = mem::zeroed();
                    check(libc::getrlimit(which, &mut limit))?;
                    limit.rlim_cur = soft.min(limit.rlim_max);
                    check(libc::setrlimit(which, &limit))?;
                }
                for &(ours, theirs) in &descriptors {
                    check(libc::dup2(ours, theirs))?;
                }
                check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) as i32)
            });
        }
        let child = command.spawn().map_err(refused("starting a traced program without ASLR"))?;
        // Dropping `child` neither kills it nor waits for it. `Process` does both.
        let process = Process { pid: child.id() as libc::pid_t };
        process.wait().map_err(refused("waiting for the program to stop"))?;
        // Both sides of a fork stop.
        let options =
            libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACECLONE;
        let options = ptr::without_provenance_mut(options as usize);
        process
            .ptrace(libc::PTRACE_SETOPTIONS, options)
            .map_err(refused("setting options of ptrace"))?;
        Self::of(process).map_err(refused("opening /proc/PID/maps"))
    }

    /// Takes a process that has stopped.
    fn of(process: Process) -> io::Result<Self> {
        // Not earlier: a file belongs to the image that the process had when it was opened. Not
        // later: a process that has given up its privileges may be hidden from us.
        let (maps, smaps, status) = process.files()?;
        let registers = process.registers()?;
        Ok(Self { process, registers, maps, smaps, status, buffer: vec![0; 1 << 16] })
    }

    /// Makes the process fork. Both are stopped then, and the child is ours, too. The inner error
    /// is the answer of the kernel.
    pub fn fork(&mut self) -> io::Result<Result<Self, i64>> {
        // Otherwise the child would belong to the program, which waits for nobody.
        let flags = libc::CLONE_PARENT as u64 | libc::SIGCHLD as u64;
        let mut registers = self.prepare(libc::SYS_clone as u64, [flags, 0, 0, 0, 0, 0]);
        self.process.resume(libc::PTRACE_SINGLESTEP, &mut registers)?;
        let status = self.process.stopped()?;
        let child = match status >> 16 {
            0 => None,
            _ => {
                let mut pid: libc::c_ulong = 0;
                self.process.ptrace(libc::PTRACE_GETEVENTMSG, (&raw mut pid).cast())?;
                let child = Process { pid: pid as libc::pid_t };
                child.stopped()?;
                self.process.ptrace(libc::PTRACE_SINGLESTEP, ptr::null_mut())?;
                self.process.wait()?;
                Some(child)
            }
        };
        match child {
            Some(child) => Self::of(child).map(Ok),
            None => Ok(Err(self.process.registers()?.rax as i64)),
        }
    }

    /// Makes the process execute the program behind a descriptor. Returns the answer, which is 0 if
    /// there is a new image.
    pub fn exec(&mut self, descriptor: u32) -> io::Result<i64> {
        let [path, arguments, environment] = image::exec_at();
        let args = [descriptor.into(), path, arguments, environment, libc::AT_EMPTY_PATH as u64, 0];
        let mut registers = self.prepare(libc::SYS_execveat as u64, args);
        // A single step would stop it twice. The instruction behind the call traps as well.
        self.process.resume(libc::PTRACE_CONT, &mut registers)?;
        self.process.wait()?;
        let registers = self.process.registers()?;
        if registers.rip != image::CODE {
            return Ok(registers.rax as i64);
        }
        (self.maps, self.smaps, self.status) = self.process.files()?;
        self.registers = registers;
        Ok(0)
    }

    /// Makes the process execute one instruction that accesses `addr`. Returns 0, or the code of
    /// the SIGSEGV that follows.
    ///
    /// SIGBUS comes from the object and counts as success, but for code: Linux populates the page
    /// also where it then runs nothing, and the answer is `None`.
    pub fn probe(&mut self, addr: u64, access: Touch) -> io::Result<Option<u64>> {
        let mut registers = self.prepare(0, [addr, 0, 0, 0, 0, 0]);
        // Zeros are an instruction that adds to what `rax` points to.
        registers.rax = image::SCRATCH;
        registers.rip = match access {
            Touch::Read => image::load_at(),
            Touch::Write => image::store_at(),
            Touch::Execute => addr,
        };
        self.process.resume(libc::PTRACE_SINGLESTEP, &mut registers)?;
        let status = self.process.stopped()?;
        match libc::WSTOPSIG(status) {
            libc::SIGBUS if access == Touch::Execute => Ok(None),
            libc::SIGTRAP | libc::SIGBUS => Ok(Some(0)),
            libc::SIGSEGV => {
                // SAFETY: all-zero is a value of this plain C structure.
                let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
                self.process.ptrace(libc::PTRACE_GETSIGINFO, (&raw mut info).cast())?;
                Ok(Some(info.si_code as u64))
            }
            signal => {
                Err(io::Error::other(format!("stopped by signal {signal} touching {addr:x}")))
            }
        }
    }

    /// Returns the registers with which a system call is made.
    fn prepare(&self, number: u64, args: [u64; 6]) -> libc::user_regs_struct {
        let mut registers = self.registers;
        registers.rip = image::CODE;
        registers.rax = number;
        // No system call is being restarted.
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] =
            args;
        registers
    }

    /// Returns the number of the process.
    pub fn pid(&self) -> u64 {
        self.process.pid as u64
    }

    /// Writes a zero to `addr`, as the program might.
    pub fn touch(&self, addr: u64) -> io::Result<()> {
        // SAFETY: `addr` is an address of the other process.
        match unsafe { libc::ptrace(libc::PTRACE_POKEDATA, self.process.pid, addr, 0_u64) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Makes the process make a system call. Returns what the kernel leaves in `rax`.
    pub fn call(&mut self, number: u64, args: [u64; 6]) -> io::Result<i64> {
        let mut registers = self.prepare(number, args);
        self.process.resume(libc::PTRACE_SINGLESTEP, &mut registers)?;
        self.process.wait()?;
        let registers = self.process.registers()?;
        if registers.rip != image::CODE + 2 {
            return Err(io::Error::other(format!(
                "stopped at {:x}, not behind its call",
                registers.rip
            )));
        }
        Ok(registers.rax as i64)
    }

    /// Replaces `text` by `/proc/PID/maps`.
    pub fn maps(&mut self, text: &mut String) -> io::Result<()> {
        text.clear();
        read(&self.maps, &mut self.buffer, |part| text.push_str(part))
    }

    /// Returns whether the flags of VMAs can be read.
    pub fn has_smaps(&self) -> bool {
        self.smaps.is_some()
    }

    /// Replaces `text` by `/proc/PID/status`.
    pub fn status(&mut self, text: &mut String) -> io::Result<()> {
        text.clear();
        read(&self.status, &mut self.buffer, |part| text.push_str(part))
    }

    /// Replaces `text` by `/proc/PID/smaps`.
    pub fn smaps(&mut self, text: &mut String) -> io::Result<()> {
        let Some(smaps) = &self.smaps else { return self.maps(text) };
        text.clear();
        read(smaps, &mut self.buffer, |part| text.push_str(part))
    }
}

/// A child that this thread traces, and kills when dropped.
struct Process {
    pid: libc::pid_t,
}

impl Process {
    fn ptrace(&self, request: libc::c_uint, data: *mut c_void) -> io::Result<()> {
        // SAFETY: the requests made in this file write to `data` only what they are given room for,
        // and change nothing else in this process.
        match unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<c_void>(), data) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Opens the files that show its VMAs and what it uses.
    fn files(&self) -> io::Result<(File, Option<File>, File)> {
        let open = |name| File::open(format!("/proc/{}/{name}", self.pid));
        Ok((open("maps")?, open("smaps").ok(), open("status")?))
    }

    fn registers(&self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: all-zero is a value of this plain C structure.
        let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
        self.ptrace(libc::PTRACE_GETREGS, (&raw mut registers).cast())?;
        Ok(registers)
    }

    /// Lets the process run with these registers. No signal is delivered.
    fn resume(&self, how: libc::c_uint, registers: &mut libc::user_regs_struct) -> io::Result<()> {
        self.ptrace(libc::PTRACE_SETREGS, (&raw mut *registers).cast())?;
        self.ptrace(how, ptr::null_mut())
    }

    /// Waits until the process has stopped. Returns the status that waitpid(2) gives.
    fn stopped(&self) -> io::Result<i32> {
        let mut status = 0;
        loop {
            // SAFETY: `status` is a live integer.
            match unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(io::Error::last_os_error()),
                _ if libc::WIFSTOPPED(status) => return Ok(status),
                _ => return Err(io::Error::other(format!("ended with status {status:x}"))),
            }
        }
    }

    /// Waits until the process has stopped for SIGTRAP.
    fn wait(&self) -> io::Result<()> {
        match libc::WSTOPSIG(self.stopped()?) {
            libc::SIGTRAP => Ok(()),
            signal => {
                Err(io::Error::other(format!("stopped by signal {signal}: was its code changed?")))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: `pid` is a child of ours that has not been waited for; `status` is a live
        // integer.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, &mut status, libc::__WALL) == self.pid
                && !(libc::WIFEXITED(status) || libc::WIFSIGNALED(status))
            {}
        }
    }
}

/// Reads a file of /proc from its start. Each part consists of whole lines.
fn read(file: &File, buffer: &mut [u8], mut part: impl FnMut(&str)) -> io::Result<()> {
    let mut offset = 0;
    loop {
        match file.read_at(buffer, offset)? {
            0 => return Ok(()),
            len => {
                part(std::str::from_utf8(&buffer[..len]).map_err(io::Error::other)?);
                offset += len as u64;
            }
        }
    }
}

/// Returns the error of a system call that answered -1.
fn check(answer: i32) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a file that lives in memory.
pub fn memfd(name: &str) -> io::Result<File> {
    use std::os::fd::FromRawFd;
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string that lives during the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Returns the kind of the file system that holds `path` (`f_type` of statfs(2)).
pub fn file_system(path: &Path) -> io::Result<i64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a value of this plain C structure; both pointers live during the call.
    unsafe {
        let mut found: libc::statfs = mem::zeroed();
        check(libc::statfs(path.as_ptr(), &mut found))?;
        Ok(found.f_type as i64)
    }
}
