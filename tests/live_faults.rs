//! Faults on the running kernel and on kvma: random accesses to random mappings, stacks above all.
//!
//! A child of this test, driven through ptrace(2), makes calls and touches memory; whether an
//! access succeeds, with which code it is refused, and how far stacks have grown is what
//! [`kvma::linux::Mm::fault`] says.
//!
//! - `KVMA_FAULTS=N`: how many steps (5,000)
//! - `KVMA_FAULTS_SEED=N`: other ones (1)
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "live_faults/child.rs"]
mod child;

use std::fmt;
use std::fs;

use child::{Child, Outcome, Probe};
use kvma::linux::abi::*;
use kvma::linux::maps::MapsLine;
use kvma::linux::{
    Access, Capabilities, Fault, FaultAction, File, Kernel, Layout, LinuxVma, Mm, Mmap, Mode,
    OpenFile, Policy, Resource, Rights, SegvCode, VmFlags, WriteExec,
};
use kvma::{Errno, Heap, Hooks};

const PAGE: u64 = 4096;
/// Soft limit on stacks: short, so that its end is met.
const STACK: u64 = 300 * PAGE;
/// Where things are mapped: right above the lowest address, and far from everything.
const WINDOWS: [(u64, u64); 2] = [(0x1_0000, 400), (0x1000_0000_0000, 1500)];

/// `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`
const PR_SET_MDWE: [u64; 6] = [65, 1, 0, 0, 0, 0];

/// An object is a number: 0 the file, others shared anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Object(u64);

impl File for Object {
    fn id(&self) -> u64 {
        self.0
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode(&self) -> u64 {
        self.0 + 1
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("object")
    }
}

#[derive(Default)]
struct TestKernel {
    objects: u64,
}

impl Hooks<LinuxVma<Object>> for TestKernel {}

impl Kernel<Object> for TestKernel {
    fn capabilities(&self) -> Capabilities {
        // Neither locks nor low addresses are in play.
        Capabilities::empty()
    }

    fn shared_memory(&mut self, _len: u64, _flags: VmFlags) -> Result<Object, Errno> {
        self.objects += 1;
        Ok(Object(self.objects))
    }
}

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map { addr: u64, len: u64, prot: u64, flags: u64, file: bool, offset: u64 },
    Unmap { addr: u64, len: u64 },
    Protect { addr: u64, len: u64, prot: u64 },
    Move { old: u64, len: u64, new: u64 },
    Probe { addr: u64, probe: Probe },
}

/// kvma's side.
struct Ours {
    mm: Mm<Object, Heap>,
    kernel: TestKernel,
}

impl Ours {
    fn new() -> Self {
        let min = fs::read_to_string("/proc/sys/vm/mmap_min_addr")
            .ok()
            .and_then(|n| n.trim().parse().ok());
        let layout = Layout::x86_64(STACK).with_user_min_addr(min.unwrap_or(4096));
        let mut mm = Mm::new(layout, Heap).unwrap();
        mm.set_limits(mm.limits().with(Resource::Stack, STACK));
        Self { mm, kernel: TestKernel::default() }
    }

    fn step(&mut self, step: Step) -> Outcome {
        let Self { mm, kernel } = self;
        let call = &mut mm.update(kernel);
        let answer = match step {
            Step::Map { addr, len, prot, flags, file, offset } => {
                let file = file.then(|| OpenFile::new(Object(0), Rights::READ | Rights::WRITE));
                mm.mmap(Mmap { addr, len, prot, flags, offset, file }, call)
            }
            Step::Unmap { addr, len } => mm.munmap(addr, len, call),
            Step::Protect { addr, len, prot } => mm.mprotect(addr, len, prot, call),
            Step::Move { old, len, new } => {
                mm.mremap(old, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, new, call)
            }
            Step::Probe { addr, probe } => {
                let fault = match probe {
                    Probe::Read => Fault::new(addr, Access::Read),
                    Probe::Write => Fault::new(addr, Access::Write),
                    Probe::Execute => Fault::new(addr, Access::Execute),
                    Probe::CopyFrom => Fault::new(addr, Access::Read).by(Mode::Kernel),
                    Probe::CopyTo => Fault::new(addr, Access::Write).by(Mode::Kernel),
                };
                return match (mm.fault(&fault, call), probe) {
                    (FaultAction::Map | FaultAction::Copy, _) => Outcome::Done,
                    (FaultAction::Refuse(_), Probe::CopyFrom | Probe::CopyTo) => {
                        Outcome::Answer(-14)
                    }
                    (FaultAction::Refuse(SegvCode::MapErr), _) => {
                        Outcome::Signal(SegvCode::MapErr as i32)
                    }
                    (FaultAction::Refuse(SegvCode::AccErr), _) => {
                        Outcome::Signal(SegvCode::AccErr as i32)
                    }
                };
            }
        };
        Outcome::Answer(answer.map_or_else(|errno| -i64::from(errno.0), |value| value as i64))
    }

    fn vmas(&self) -> Vec<TheVma> {
        vmas(&self.mm.maps().to_string())
    }
}

/// Start, end and permissions.
type TheVma = (u64, u64, String);

/// The VMAs in the windows.
fn vmas(maps: &str) -> Vec<TheVma> {
    let in_window = |line: &MapsLine<'_>| {
        WINDOWS.iter().any(|&(start, pages)| line.start < start + pages * PAGE && start <= line.end)
    };
    let lines = maps.lines().map(|text| (MapsLine::parse(text).unwrap(), text));
    let lines = lines.filter(|(line, _)| in_window(line));
    lines
        .map(|(line, text)| (line.start, line.end, text.split(' ').nth(1).unwrap().to_string()))
        .collect()
}

/// What can be accessed how: neighbours with the same permissions as one.
fn joined(vmas: &[TheVma]) -> Vec<TheVma> {
    let mut joined: Vec<TheVma> = Vec::new();
    for vma in vmas {
        match joined.last_mut() {
            Some(last) if last.1 == vma.0 && last.2 == vma.2 => last.1 = vma.1,
            _ => joined.push(vma.clone()),
        }
    }
    joined
}

fn in_window(rng: &mut Rng) -> u64 {
    let (start, pages) = WINDOWS[usize::from(!rng.one_in(3))];
    start + rng.below(pages) * PAGE
}

/// Whether memory that may only be executed gets a protection key of its own, and so cannot be
/// read.
fn has_keys() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" ospke"))
}

fn generate(rng: &mut Rng, vmas: &[TheVma], keys: bool) -> Step {
    let some = |rng: &mut Rng| {
        if vmas.is_empty() {
            (in_window(rng), PAGE)
        } else {
            let (start, end, _) = vmas[rng.below(vmas.len() as u64) as usize];
            (start, end - start)
        }
    };
    let only_executable = if keys { PROT_READ | PROT_EXEC } else { PROT_EXEC };
    let prots = [
        0,
        PROT_READ,
        PROT_WRITE,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_EXEC,
        only_executable,
        7,
    ];
    let len = |rng: &mut Rng| (1 + rng.below(8)) * PAGE;
    match rng.below(20) {
        0..3 => {
            let stack = rng.one_in(2);
            let prot = if stack { rng.pick(&[3, 3, 3, 1, 7, 0]) } else { rng.pick(&prots) };
            let kinds = [ANON, ANON, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED];
            let kind = if stack { ANON | MAP_GROWSDOWN } else { rng.pick(&kinds) };
            let file = kind & MAP_ANONYMOUS == 0;
            let offset = if file { rng.below(16) * PAGE } else { 0 };
            Step::Map {
                addr: in_window(rng),
                len: len(rng),
                prot,
                flags: kind | MAP_FIXED,
                file,
                offset,
            }
        }
        3 => {
            let (addr, length) = some(rng);
            Step::Unmap { addr: addr + rng.below(length / PAGE) * PAGE, len: len(rng) }
        }
        4 => {
            let (addr, length) = some(rng);
            let grows = if rng.one_in(4) { PROT_GROWSDOWN } else { 0 };
            let addr = addr + rng.below(length / PAGE) * PAGE;
            Step::Protect { addr, len: len(rng).min(length), prot: rng.pick(&prots) | grows }
        }
        5 => {
            let (old, length) = some(rng);
            Step::Move { old, len: length.min(len(rng)), new: in_window(rng) }
        }
        _ => {
            let (start, length) = some(rng);
            let addr = match rng.below(8) {
                0 => in_window(rng),
                1 | 2 => start + rng.below(length),
                3 => start.saturating_sub(1 + rng.below(310 * PAGE)),
                4 => start.saturating_sub(rng.pick(&[
                    1,
                    PAGE,
                    PAGE + 1,
                    255 * PAGE,
                    256 * PAGE,
                    257 * PAGE,
                ])),
                _ => start.saturating_sub(1 + rng.below(12 * PAGE)),
            };
            let probes = [
                Probe::Read,
                Probe::Write,
                Probe::Write,
                Probe::Execute,
                Probe::CopyFrom,
                Probe::CopyTo,
            ];
            // To step over an instruction the kernel reads 15 bytes, which are not to lie in two
            // pages.
            Step::Probe { addr: addr & !15, probe: rng.pick(&probes) }
        }
    }
}

const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().expect("a number"))
}

#[test]
fn accesses_come_to_the_same() {
    let steps = number("KVMA_FAULTS", 5_000);
    let mut rng = Rng(number("KVMA_FAULTS_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    if !child::is_new_enough() {
        eprintln!("live_faults: NOTHING TESTED: an older kernel");
        return;
    }
    let keys = has_keys();
    let mut done = 0;
    while done < steps {
        let mut child = match Child::start(STACK) {
            Ok(child) => child,
            Err(refused) => {
                eprintln!("live_faults: NOTHING TESTED: {refused}");
                return;
            }
        };
        let mut ours = Ours::new();
        let before = vmas(&child.maps());
        assert!(before.is_empty(), "the windows are in use: {before:x?}");
        // Some may never turn data into code.
        let mdwe = rng.one_in(3) && child.call(libc::SYS_prctl, PR_SET_MDWE) == Outcome::Answer(0);
        if mdwe {
            ours.mm.set_policy(Policy::new().with_write_exec(WriteExec::Mdwe)).unwrap();
        }
        let mut history = Vec::new();
        for _ in 0..400 {
            let step = generate(&mut rng, &ours.vmas(), keys);
            history.push(step);
            let kernel = match step {
                Step::Map { addr, len, prot, flags, file, offset } => {
                    let fd = if file { child.file() } else { u64::MAX };
                    child.call(libc::SYS_mmap, [addr, len, prot, flags, fd, offset])
                }
                Step::Unmap { addr, len } => child.call(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]),
                Step::Protect { addr, len, prot } => {
                    child.call(libc::SYS_mprotect, [addr, len, prot, 0, 0, 0])
                }
                Step::Move { old, len, new } => {
                    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
                    child.call(libc::SYS_mremap, [old, len, len, flags, new, 0])
                }
                Step::Probe { addr, probe } => child.probe(addr, probe),
            };
            let kvma = ours.step(step);
            assert_eq!(
                kernel,
                kvma,
                "kernel and kvma, {done} steps before, mdwe {mdwe}: {history:x?}\n{}",
                ours.mm.maps()
            );
            let (theirs, own) = (vmas(&child.maps()), ours.vmas());
            assert_eq!(joined(&theirs), joined(&own), "kernel and kvma: {history:x?}");
            ours.mm.check().unwrap();
            done += 1;
            if theirs != own {
                // Pages keep apart what kvma joins (see `linux`), and how long a stack is depends
                // on it: another child.
                break;
            }
        }
    }
}
