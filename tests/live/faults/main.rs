//! Page faults on the running kernel and on kvma: random accesses to random mappings, above all to
//! stacks.
//!
//! A child of this test, driven through ptrace(2), makes calls and accesses memory. Whether an
//! access succeeds, with which code it is refused and how far stacks have grown must be what
//! [`kvma::linux::Mm::fault`] says.
//!
//! - `KVMA_FAULTS=N`: number of steps (5,000)
//! - `KVMA_FAULTS_SEED=N`: makes other steps (1)
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod apart;
#[path = "../child.rs"]
mod child;

use std::fs;

use kvma::Heap;
use kvma::linux::abi::*;
use kvma::linux::maps::MapsLine;
use kvma::linux::{
    Access, Fault, FaultAction, Layout, Mm, Mmap, Mode, Policy, Resource, SegvCode, WriteExec,
};
use kvma_test_support::{Inode, Random, TestKernel, env_number};

use self::child::{Child, Outcome, Probe};

const PAGE: u64 = 4096;
/// Soft limit on stacks: short, so that its end is met.
const STACK: u64 = 300 * PAGE;
/// The windows in which things are mapped: right above the lowest address, and far from everything.
const WINDOWS: [(u64, u64); 2] = [(0x1_0000, 400), (0x1000_0000_0000, 1500)];

/// `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`
const PR_SET_MDWE: [u64; 6] = [65, 1, 0, 0, 0, 0];

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
    mm: Mm<Inode, Heap>,
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
                let file = file.then(|| Inode::new(1).open());
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

/// Returns the VMAs in the windows.
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

fn in_window(random: &mut Random) -> u64 {
    let (start, pages) = WINDOWS[usize::from(!random.one_in(3))];
    start + random.below(pages) * PAGE
}

/// Returns whether memory that may only be executed gets a protection key of its own, so that it
/// cannot be read.
fn has_keys() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" ospke"))
}

fn generate(random: &mut Random, vmas: &[TheVma], keys: bool) -> Step {
    let some = |random: &mut Random| {
        if vmas.is_empty() {
            (in_window(random), PAGE)
        } else {
            let (start, end, _) = vmas[random.below(vmas.len() as u64) as usize];
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
    let len = |random: &mut Random| (1 + random.below(8)) * PAGE;
    match random.below(20) {
        0..3 => {
            let stack = random.one_in(2);
            let prot = if stack { random.pick(&[3, 3, 3, 1, 7, 0]) } else { random.pick(&prots) };
            let kinds = [ANON, ANON, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED];
            let kind = if stack { ANON | MAP_GROWSDOWN } else { random.pick(&kinds) };
            let file = kind & MAP_ANONYMOUS == 0;
            let offset = if file { random.below(16) * PAGE } else { 0 };
            Step::Map {
                addr: in_window(random),
                len: len(random),
                prot,
                flags: kind | MAP_FIXED,
                file,
                offset,
            }
        }
        3 => {
            let (addr, length) = some(random);
            Step::Unmap { addr: addr + random.below(length / PAGE) * PAGE, len: len(random) }
        }
        4 => {
            let (addr, length) = some(random);
            let grows = if random.one_in(4) { PROT_GROWSDOWN } else { 0 };
            let addr = addr + random.below(length / PAGE) * PAGE;
            Step::Protect { addr, len: len(random).min(length), prot: random.pick(&prots) | grows }
        }
        5 => {
            let (old, length) = some(random);
            Step::Move { old, len: length.min(len(random)), new: in_window(random) }
        }
        _ => {
            let (start, length) = some(random);
            let addr = match random.below(8) {
                0 => in_window(random),
                1 | 2 => start + random.below(length),
                3 => start.saturating_sub(1 + random.below(310 * PAGE)),
                4 => start.saturating_sub(random.pick(&[
                    1,
                    PAGE,
                    PAGE + 1,
                    255 * PAGE,
                    256 * PAGE,
                    257 * PAGE,
                ])),
                _ => start.saturating_sub(1 + random.below(12 * PAGE)),
            };
            let probes = [
                Probe::Read,
                Probe::Write,
                Probe::Write,
                Probe::Execute,
                Probe::CopyFrom,
                Probe::CopyTo,
            ];
            // To step over an instruction the kernel reads 15 bytes, which must not lie in two
            // pages.
            Step::Probe { addr: addr & !15, probe: random.pick(&probes) }
        }
    }
}

const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;

#[test]
fn page_faults_are_answered_as_by_the_running_kernel() {
    let steps = env_number("KVMA_FAULTS").unwrap_or(5_000);
    let mut random = Random::new(env_number("KVMA_FAULTS_SEED").unwrap_or(1));
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
        // Some programs may never turn data into code.
        let mdwe =
            random.one_in(3) && child.call(libc::SYS_prctl, PR_SET_MDWE) == Outcome::Answer(0);
        if mdwe {
            ours.mm.set_policy(Policy::new().with_write_exec(WriteExec::Mdwe)).unwrap();
        }
        let mut history = Vec::new();
        for _ in 0..400 {
            let step = generate(&mut random, &ours.vmas(), keys);
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
            assert_eq!(theirs, own, "kernel and kvma: {history:x?}");
            ours.mm.check().unwrap();
            done += 1;
        }
    }
}
