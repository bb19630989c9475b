//! The anonymous calls of recorded programs, made on kvma's Linux layer and on the running kernel:
//! `cargo bench -p kvma-bench --bench linux [-- PART OF A TRACE'S NAME]`.
//!
//! Neither touches memory, so that the kernel has no page tables to change, and kvma none to hear
//! of. What remains is what both do: to choose places, and to split and merge VMAs. The kernel is
//! entered for each call, which takes as long as the line above the table says.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod program;

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use kvma::linux::{Layout, LinuxVma, Mm, Mmap, NoFile, NoKernel};
use kvma::{AddrSpace, BoxAlloc, VmaNode};
use kvma_bench::options::Options;
use kvma_bench::timing::{cpu_time, machine, median};

use self::program::{Op, Place, Program};

/// Rounds, of which medians are shown.
const ROUNDS: usize = 15;
/// A round makes at least so many calls.
const CALLS: usize = 4_000;

/// A call whose addresses are those of today.
enum Call {
    Mmap { addr: u64, len: u64, prot: u64, flags: u64 },
    Munmap { addr: u64, len: u64 },
    Mprotect { addr: u64, len: u64, prot: u64 },
    Madvise { addr: u64, len: u64, advice: u64 },
    Mremap { addr: u64, len: u64, new_len: u64, flags: u64 },
}

/// Whoever serves calls.
trait Server {
    /// Returns the answer, or the number of an error.
    fn serve(&self, call: Call) -> Result<u64, i32>;
}

/// The kernel that this program runs on.
struct Running;

impl Server for Running {
    #[inline]
    fn serve(&self, call: Call) -> Result<u64, i32> {
        let (number, args) = match call {
            Call::Mmap { addr, len, prot, flags } => {
                (libc::SYS_mmap, [addr, len, prot, flags, u64::MAX])
            }
            Call::Munmap { addr, len } => (libc::SYS_munmap, [addr, len, 0, 0, 0]),
            Call::Mprotect { addr, len, prot } => (libc::SYS_mprotect, [addr, len, prot, 0, 0]),
            Call::Madvise { addr, len, advice } => (libc::SYS_madvise, [addr, len, advice, 0, 0]),
            Call::Mremap { addr, len, new_len, flags } => {
                (libc::SYS_mremap, [addr, len, new_len, flags, 0])
            }
        };
        let [a, b, c, d, e] = args;
        // SAFETY: a program has mapped everything that its calls are about, and nobody else has:
        // what it unmaps it does not name again.
        let answer = unsafe { libc::syscall(number, a, b, c, d, e, 0) };
        u64::try_from(answer)
            .map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or_default())
    }
}

type Kvma = AddrSpace<Mm<NoFile, Arc<BoxAlloc<VmaNode<LinuxVma<NoFile>>>>>>;

impl Server for Kvma {
    #[inline]
    fn serve(&self, call: Call) -> Result<u64, i32> {
        let kernel = &mut NoKernel;
        let answer = match call {
            Call::Mmap { addr, len, prot, flags } => {
                self.mmap(Mmap { addr, len, prot, flags, offset: 0, file: None }, kernel)
            }
            Call::Munmap { addr, len } => self.munmap(addr, len, kernel),
            Call::Mprotect { addr, len, prot } => self.mprotect(addr, len, prot, kernel),
            Call::Madvise { addr, len, advice } => self.madvise(addr, len, advice, kernel),
            Call::Mremap { addr, len, new_len, flags } => {
                self.mremap(addr, len, new_len, flags, 0, kernel)
            }
        };
        answer.map_err(|errno| errno.0)
    }
}

/// Makes the calls of a program, all of which have to succeed.
fn run(program: &Program, blocks: &mut Vec<u64>, server: &impl Server) -> Result<(), (Op, i32)> {
    blocks.clear();
    for &op in &program.ops {
        let addr = |at: Place| blocks[at.block] + at.offset;
        let call = match op {
            Op::Map { len, prot, flags } => Call::Mmap { addr: 0, len, prot, flags },
            Op::MapOver { at, len, prot, flags } => Call::Mmap { addr: addr(at), len, prot, flags },
            Op::Unmap { at, len } => Call::Munmap { addr: addr(at), len },
            Op::Protect { at, len, prot } => Call::Mprotect { addr: addr(at), len, prot },
            Op::Advise { at, len, advice } => Call::Madvise { addr: addr(at), len, advice },
            Op::Remap { at, len, new_len, flags } => {
                Call::Mremap { addr: addr(at), len, new_len, flags }
            }
        };
        let answer = server.serve(call).map_err(|error| (op, error))?;
        if matches!(op, Op::Map { .. } | Op::Remap { .. }) {
            blocks.push(answer);
        }
    }
    Ok(())
}

/// Returns nanoseconds a call.
fn time(program: &Program, blocks: &mut Vec<u64>, server: &impl Server) -> f64 {
    let times = CALLS.div_ceil(program.ops.len());
    let before = cpu_time();
    for _ in 0..times {
        run(program, blocks, server).expect("as before");
    }
    (cpu_time() - before).as_nanos() as f64 / (times * program.ops.len()) as f64
}

/// Returns the nanoseconds of a call that does nothing.
fn entry() -> f64 {
    let mut times = [0.0; ROUNDS];
    for time in &mut times {
        let before = cpu_time();
        for _ in 0..CALLS {
            // SAFETY: asks for a number.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        *time = (cpu_time() - before).as_nanos() as f64 / CALLS as f64;
    }
    median(&mut times)
}

fn main() {
    let options = Options::parse(&[]);
    println!("{}", machine());
    println!("a system call that does nothing: {:.0} ns\n", entry());
    println!("{:<22}{:>8}{:>14}{:>12}{:>8}", "trace", "calls", "kernel, ns", "kvma, ns", "ratio");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the repository")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !options.wants(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the repository");
        let program = Program::read(&text).expect("a trace");
        if program.ops.is_empty() {
            continue;
        }
        row(&name, &program);
    }
}

fn row(name: &str, program: &Program) {
    let kvma = Kvma::new(Mm::new(Layout::x86_64(8 << 20), Arc::default()).expect("a layout"));
    let mut blocks = Vec::with_capacity(program.blocks);
    // The kernel may have less memory to promise than the one that was traced.
    for outcome in [run(program, &mut blocks, &kvma), run(program, &mut blocks, &Running)] {
        if let Err((op, error)) = outcome {
            println!("{name:<22}{:>8}  error {error} of {op:x?}", program.ops.len());
            return;
        }
    }
    let (mut kernel, mut own) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for (kernel, own) in kernel.iter_mut().zip(&mut own) {
        *kernel = time(program, &mut blocks, &Running);
        *own = time(program, &mut blocks, &kvma);
    }
    let (kernel, own) = (median(&mut kernel), median(&mut own));
    println!("{name:<22}{:>8}{kernel:>14.0}{own:>12.0}{:>8.2}", program.ops.len(), own / kernel);
}
