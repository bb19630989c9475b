//! Follows all threads of a process from call to call.
//!
//! While one thread is in a call that changes the address space, no other thread may enter one, so
//! that the trace has the calls in the order in which the kernel served them.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsString, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{io, mem, ptr};

use kvma_trace::Call;

use super::process::{Process, has_protection_keys};
use super::recorder::Recorder;

/// The state of a thread.
#[derive(Debug, Clone, Copy)]
enum Doing {
    /// Running its own code.
    Running,
    /// In a system call that traces do not have.
    Calling(u64),
    /// In a call that changes the address space, or waiting to enter it.
    Changing(Call<'static>),
}

/// Calls that change the address space but that traces do not have.
const UNKNOWN: [(i64, &str); 4] = [
    (libc::SYS_remap_file_pages, "remap_file_pages"),
    (libc::SYS_io_setup, "io_setup"),
    (libc::SYS_process_madvise, "process_madvise"),
    (libc::SYS_userfaultfd, "userfaultfd"),
];

/// Calls after which limits or privileges may have changed.
const PERMISSIONS: [i64; 8] = [
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
    libc::SYS_setfsuid,
    libc::SYS_capset,
    libc::SYS_prctl,
];

struct Tracer {
    process: Process,
    recorder: Recorder,
    has_keys: bool,
    threads: HashMap<libc::pid_t, Doing>,
    /// The thread in a call that changes the address space.
    changing: Option<libc::pid_t>,
    /// Threads stopped where they enter such a call.
    waiting: VecDeque<libc::pid_t>,
}

/// Runs `command` to its end and returns the trace.
pub fn run(command: &[OsString], recorder: Recorder) -> io::Result<String> {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]);
    // SAFETY: the closure makes system calls only, which is what is allowed between fork and exec.
    unsafe {
        child.pre_exec(|| {
            if libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) == -1
                || libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == -1
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let pid = child.spawn()?.id() as libc::pid_t;
    let (stopped, _) = wait(pid)?;
    let mut tracer = Tracer {
        process: Process(stopped),
        recorder,
        has_keys: has_protection_keys(),
        threads: HashMap::from([(pid, Doing::Running)]),
        changing: None,
        waiting: VecDeque::new(),
    };
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC;
    ptrace(libc::PTRACE_SETOPTIONS, pid, ptr::without_provenance_mut(options as usize))?;
    // The options came too late for the event of the first exec, which has stopped the program with
    // a plain SIGTRAP.
    tracer.recorder.exec(tracer.process)?;
    resume(pid, 0)?;
    tracer.follow()?;
    Ok(tracer.recorder.finish())
}

impl Tracer {
    fn follow(&mut self) -> io::Result<()> {
        while !self.threads.is_empty() {
            let (thread, status) = match wait(-1) {
                Ok(stop) => stop,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(error) => return Err(error),
            };
            if !libc::WIFSTOPPED(status) {
                self.gone(thread)?;
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            match status >> 16 {
                0 if signal == libc::SIGTRAP | 0x80 => self.at_call(thread)?,
                // A new thread stops once before it starts.
                0 if signal == libc::SIGSTOP && !self.threads.contains_key(&thread) => {
                    self.threads.insert(thread, Doing::Running);
                    resume(thread, 0)?;
                }
                0 => resume(thread, signal)?,
                libc::PTRACE_EVENT_EXEC => {
                    self.threads.retain(|&other, _| other == thread);
                    self.threads.insert(thread, Doing::Calling(libc::SYS_execve as u64));
                    self.changing = None;
                    self.waiting.clear();
                    self.recorder.exec(self.process)?;
                    resume(thread, 0)?;
                }
                _ => resume(thread, 0)?,
            }
        }
        Ok(())
    }

    /// Handles a thread that has stopped at the start or the end of a system call.
    fn at_call(&mut self, thread: libc::pid_t) -> io::Result<()> {
        let registers = match registers(thread) {
            Ok(registers) => registers,
            // Killed while it was stopped.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.threads.get(&thread).copied().unwrap_or(Doing::Running) {
            Doing::Running => self.enter(thread, &registers),
            Doing::Calling(number) => {
                self.threads.insert(thread, Doing::Running);
                let number = number as i64;
                if PERMISSIONS.contains(&number) {
                    self.recorder.permissions(self.process)?;
                }
                if let Some((_, name)) = UNKNOWN.iter().find(|unknown| unknown.0 == number) {
                    self.recorder.unknown(name);
                }
                resume(thread, 0)
            }
            Doing::Changing(call) => {
                self.threads.insert(thread, Doing::Running);
                let answer = registers.rax as i64;
                // ERESTARTSYS and the like: the call will be made again.
                if !(-516..=-512).contains(&answer) {
                    self.recorder.after(self.process, &call, answer)?;
                }
                self.changing = None;
                resume(thread, 0)?;
                self.let_next_in()
            }
        }
    }

    fn enter(&mut self, thread: libc::pid_t, registers: &libc::user_regs_struct) -> io::Result<()> {
        let args = [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ];
        let call = Call::from_system_call(registers.orig_rax, args);
        // On a machine without protection keys these calls do nothing, and no trace can say so.
        let keyless =
            matches!(call, Some(Call::PkeyAlloc { .. } | Call::PkeyFree { .. })) && !self.has_keys;
        if let Some(call) = call.filter(|_| !keyless) {
            self.threads.insert(thread, Doing::Changing(call));
            self.waiting.push_back(thread);
            return self.let_next_in();
        }
        if registers.orig_rax == libc::SYS_exit_group as u64 {
            self.recorder.snapshot(self.process)?;
        }
        self.threads.insert(thread, Doing::Calling(registers.orig_rax));
        resume(thread, 0)
    }

    /// Lets the next waiting thread enter its call, if no thread is in one.
    fn let_next_in(&mut self) -> io::Result<()> {
        while self.changing.is_none() {
            let Some(thread) = self.waiting.pop_front() else { return Ok(()) };
            let Some(Doing::Changing(call)) = self.threads.get(&thread) else { continue };
            self.recorder.before(self.process, call)?;
            self.changing = Some(thread);
            resume(thread, 0)?;
        }
        Ok(())
    }

    fn gone(&mut self, thread: libc::pid_t) -> io::Result<()> {
        self.threads.remove(&thread);
        self.waiting.retain(|&waiting| waiting != thread);
        if self.changing == Some(thread) {
            self.changing = None;
        }
        // Others may have waited for this thread, unless the whole process is gone.
        if self.threads.is_empty() { Ok(()) } else { self.let_next_in() }
    }
}

/// Lets a stopped thread run on, with a signal unless it is 0.
fn resume(thread: libc::pid_t, signal: i32) -> io::Result<()> {
    match ptrace(libc::PTRACE_SYSCALL, thread, ptr::without_provenance_mut(signal as usize)) {
        // Killed while it was stopped: its end will be reported.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t, data: *mut c_void) -> io::Result<()> {
    // SAFETY: the requests made in this file write to `data` only what they are given room for, and
    // change nothing else in this process.
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn registers(thread: libc::pid_t) -> io::Result<libc::user_regs_struct> {
    // SAFETY: all-zero is a value of this plain C structure.
    let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, thread, (&raw mut registers).cast())?;
    Ok(registers)
}

fn wait(thread: libc::pid_t) -> io::Result<(libc::pid_t, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer.
        match unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            stopped => return Ok((stopped, status)),
        }
    }
}
