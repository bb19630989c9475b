//! A child of this process that makes calls and accesses memory when told to.

use std::ffi::c_void;
use std::{fs, io, mem, ptr};

// What the child runs, and nothing else: one instruction, and a trap behind it.
core::arch::global_asm!(
    ".pushsection .text",
    "kvma_faults_call:",
    "syscall",
    "int3",
    "kvma_faults_read:",
    "mov al, byte ptr [rdi]",
    "int3",
    "kvma_faults_write:",
    "mov byte ptr [rdi], al",
    "int3",
    ".popsection",
);

unsafe extern "C" {
    fn kvma_faults_call();
    fn kvma_faults_read();
    fn kvma_faults_write();
}

/// How an address is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Read,
    Write,
    Execute,
    /// The kernel reads on behalf of the program.
    CopyFrom,
    /// The kernel writes.
    CopyTo,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// SIGSEGV with this `si_code`.
    Signal(i32),
    /// A system call's answer.
    Answer(i64),
}

/// A stopped copy of this process, until dropped.
pub struct Child {
    pid: libc::pid_t,
    registers: libc::user_regs_struct,
    /// It has no contents.
    file: i32,
    /// The file through which the kernel copies.
    bytes: i32,
}

impl Child {
    /// Starts a child. Its stacks may be `stack` bytes long, as may this process' from now on.
    pub fn start(stack: u64) -> io::Result<Self> {
        let memory = |length| {
            // SAFETY: plain system calls; the name is a C string.
            unsafe {
                let fd =
                    check(libc::memfd_create(c"kvma".as_ptr(), libc::MFD_CLOEXEC).into())? as i32;
                check(libc::ftruncate(fd, length).into())?;
                Ok::<_, io::Error>(fd)
            }
        };
        // Of both: to step over an instruction the kernel reads it on behalf of the parent, which
        // may extend a stack as far as the parent's limit allows. SAFETY: plain system calls with a
        // live structure; all-zero is a value of it.
        unsafe {
            let mut limit: libc::rlimit = mem::zeroed();
            check(libc::getrlimit(libc::RLIMIT_STACK, &mut limit).into())?;
            limit.rlim_cur = stack.min(limit.rlim_max);
            check(libc::setrlimit(libc::RLIMIT_STACK, &limit).into())?;
        }
        let (file, bytes) = (memory(1 << 30)?, memory(4096)?);
        // SAFETY: the child makes system calls only and then stops for good. All-zero is a value of
        // the plain C structures.
        let (pid, registers) = unsafe {
            let pid = check(libc::fork().into())? as libc::pid_t;
            if pid == 0 {
                // Nobody would hear of a stop without it.
                if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 {
                    libc::raise(libc::SIGSTOP);
                }
                libc::_exit(1);
            }
            (pid, mem::zeroed())
        };
        let mut child = Self { pid, registers, file, bytes };
        child.wait(libc::SIGSTOP)?;
        child.ptrace(
            libc::PTRACE_SETOPTIONS,
            ptr::without_provenance_mut(libc::PTRACE_O_EXITKILL as usize),
        )?;
        let registers = (&raw mut child.registers).cast();
        child.ptrace(libc::PTRACE_GETREGS, registers)?;
        Ok(child)
    }

    /// Returns the descriptor of a large file without contents.
    pub fn file(&self) -> u64 {
        self.file as u64
    }

    /// Reads `/proc/PID/maps`.
    pub fn maps(&self) -> String {
        String::from_utf8_lossy(&fs::read(format!("/proc/{}/maps", self.pid)).unwrap()).into_owned()
    }

    /// Reads `/proc/PID/smaps`.
    #[allow(dead_code, reason = "one of the tests that share this file needs it")]
    pub fn smaps(&self) -> String {
        let path = format!("/proc/{}/smaps", self.pid);
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    }

    /// Makes a system call.
    pub fn call(&mut self, number: libc::c_long, args: [u64; 6]) -> Outcome {
        let at = kvma_faults_call as *const () as u64;
        match self.run(at, number as u64, args) {
            (libc::SIGTRAP, _, registers) => Outcome::Answer(registers.rax as i64),
            (signal, ..) => panic!("signal {signal} in a system call"),
        }
    }

    /// Accesses `addr`.
    pub fn probe(&mut self, addr: u64, probe: Probe) -> Outcome {
        let at = match probe {
            Probe::Read => kvma_faults_read as *const () as u64,
            Probe::Write => kvma_faults_write as *const () as u64,
            // Zeros there are an addition to the byte at `rax`, which is the stack's.
            Probe::Execute => addr,
            Probe::CopyFrom | Probe::CopyTo => {
                let number =
                    if probe == Probe::CopyFrom { libc::SYS_pwrite64 } else { libc::SYS_pread64 };
                return match self.call(number, [self.bytes as u64, addr, 1, 0, 0, 0]) {
                    Outcome::Answer(1) => Outcome::Done,
                    other => other,
                };
            }
        };
        let accumulator = if probe == Probe::Execute { self.registers.rsp } else { 0 };
        match self.run(at, accumulator, [addr, 0, 0, 0, 0, 0]) {
            (libc::SIGTRAP, ..) => Outcome::Done,
            (libc::SIGSEGV, code, _) => Outcome::Signal(code),
            (signal, ..) => panic!("signal {signal} at {addr:x}, {probe:?}"),
        }
    }

    /// Runs one instruction. Returns the signal with which it stopped, the signal's code, and the
    /// registers.
    fn run(
        &mut self,
        at: u64,
        accumulator: u64,
        args: [u64; 6],
    ) -> (i32, i32, libc::user_regs_struct) {
        let mut registers = self.registers;
        registers.rip = at;
        registers.rax = accumulator;
        // No system call is being restarted.
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] =
            args;
        // SAFETY: all-zero is a value of this plain C structure.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        self.ptrace(libc::PTRACE_SETREGS, (&raw mut registers).cast()).unwrap();
        self.ptrace(libc::PTRACE_SINGLESTEP, ptr::null_mut()).unwrap();
        let signal = self.wait(libc::SIGTRAP).unwrap();
        self.ptrace(libc::PTRACE_GETSIGINFO, (&raw mut info).cast()).unwrap();
        self.ptrace(libc::PTRACE_GETREGS, (&raw mut registers).cast()).unwrap();
        (signal, info.si_code, registers)
    }

    fn ptrace(&self, request: libc::c_uint, data: *mut c_void) -> io::Result<()> {
        // SAFETY: the requests made in this file write to `data` only what they are given room for,
        // and change nothing else in this process.
        check(unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<c_void>(), data) }).map(drop)
    }

    /// Waits until the child has stopped. Returns the signal, which is `expected` or SIGSEGV.
    fn wait(&self, expected: i32) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: `status` is a live integer.
        check(unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) }.into())?;
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other(format!("the child ended with status {status:x}")));
        }
        match libc::WSTOPSIG(status) {
            signal if signal == expected || signal == libc::SIGSEGV => Ok(signal),
            signal => Err(io::Error::other(format!("the child stopped with signal {signal}"))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: a child of ours that has not been waited for, and descriptors of ours.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), libc::__WALL);
            libc::close(self.file);
            libc::close(self.bytes);
        }
    }
}

fn check(answer: i64) -> io::Result<i64> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Returns whether the running kernel has the rules that are tested: mremap moves several VMAs
/// since 6.17.
pub fn is_new_enough() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(['.', '-']).map_while(|number| number.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(17))
}
