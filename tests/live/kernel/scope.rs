//! The scope of the comparison with the running kernel, found out by looking and by trying.

use std::fs;
use std::ops::Range;

use kvma::linux::Rules;

use super::calls::*;
use super::image::{self, PAGE};
use super::session::{Flags, Session};
use super::setup::Setup;
use super::tracee::{Refused, Tracee, file_system};

/// Oldest kernel that answers as 6.18 does, as far as is known.
const SAME_RULES: (u32, u32) = (6, 17);
/// RAM of the machine that [`kvma_trace::Replay`] imitates, in bytes.
const MODEL_MEMORY: u64 = 24_105 << 20;
/// Lowest address of a search on that machine.
const MIN_ADDR: u64 = 0x1_0000;

/// A kind of calls that are not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    Sys(Sys),
    /// madvise(2) with this advice.
    Advice(u64),
    /// Addresses below 1 MiB.
    Low,
    /// Addresses above 47 bits.
    High,
    /// MAP_HUGETLB.
    HugePages,
    /// MAP_SYNC.
    Sync,
    /// Private anonymous memory large enough for huge pages.
    LargePrivate,
    /// Mappings of files and shared memory large enough for huge pages.
    LargeShared,
    /// Locking that populates pages at once.
    Eager,
    /// Protection keys but for "none".
    Keys,
    /// MAP_DROPPABLE.
    Droppable,
    /// PROT_EXEC alone.
    ExecuteOnly,
    /// process_madvise(2) on the program itself, or on others.
    ProcessMadvise(Target),
    /// Accessing memory.
    Touch,
    /// Forking.
    Fork,
    /// Executing the program anew.
    Exec,
    /// Forking and executing without privileges.
    AfterDrop,
    /// Lengths for which one machine has memory and the other has not.
    Lengths(Range<u64>),
}

impl LeftOut {
    /// Returns the kind that leaves out steps like this one.
    pub fn of(step: &Step) -> Option<Self> {
        match step {
            Step::Call(call) => Some(Self::Sys(call.sys)),
            Step::Advise(advise) => Some(Self::ProcessMadvise(advise.target)),
            Step::Touch(..) => Some(Self::Touch),
            Step::Fork | Step::Switch => Some(Self::Fork),
            Step::Exec => Some(Self::Exec),
            Step::Limit(_) | Step::Drop => None,
        }
    }
}

/// The scope of the comparison with the running kernel.
#[derive(Debug, Clone)]
pub struct Scope {
    pub version: (u32, u32),
    /// True if a difference is a mistake of kvma. On other kernels it means that their rules
    /// differ.
    pub strict: bool,
    /// True if the flags in smaps can be compared.
    pub flags: bool,
    /// True if a program starts with privileges, and can give them up.
    pub privileged: bool,
    pub drops: bool,
    /// The device of files, and the one that stands for it in a trace: that tells whether they are
    /// placed as on ext4.
    pub rename: Option<(String, String)>,
    left_out: Vec<LeftOut>,
    /// Notes for the reader, one line each.
    pub notes: Vec<String>,
}

impl Scope {
    /// Returns a scope of which nothing is known yet, which is enough to start a program.
    pub fn unknown() -> Self {
        Self {
            version: (0, 0),
            strict: true,
            flags: true,
            privileged: false,
            drops: false,
            rename: None,
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Leaves out calls of this kind from now on.
    pub fn leave_out(&mut self, what: LeftOut, why: impl Into<String>) {
        if !self.left_out.contains(&what) {
            self.notes.push(format!("left out: {what:x?}: {}", why.into()));
            self.left_out.push(what);
        }
    }

    /// Returns whether the call may be made.
    pub fn allows(&self, call: &Call) -> bool {
        let [a, b, c, d, e, _] = call.args;
        let addresses = if call.sys == Sys::Mremap { [a, e] } else { [a, a] };
        let private =
            call.sys == Sys::Mmap && d & (MAP_ANONYMOUS | MAP_TYPE) == MAP_ANONYMOUS | MAP_PRIVATE;
        let length = if call.sys == Sys::Mremap { c } else { b };
        self.left_out.iter().all(|out| match *out {
            LeftOut::Sys(sys) => call.sys != sys,
            LeftOut::Advice(advice) => call.sys != Sys::Madvise || int(c) != advice,
            LeftOut::Low => addresses.iter().all(|&addr| addr == 0 || addr >= 1 << 20),
            LeftOut::High => {
                addresses.iter().all(|&addr| addr < TASK && addr.saturating_add(length) <= TASK)
            }
            LeftOut::HugePages => call.sys != Sys::Mmap || d & MAP_HUGETLB == 0,
            LeftOut::Sync => call.sys != Sys::Mmap || d & MAP_SYNC == 0,
            LeftOut::LargePrivate => !private || b < 2 << 20,
            LeftOut::LargeShared => call.sys != Sys::Mmap || private || b < 2 << 20,
            LeftOut::Eager => match call.sys {
                Sys::Mmap => d & MAP_LOCKED == 0,
                Sys::Mlock => false,
                Sys::Mlock2 => int(c) != 0,
                _ => true,
            },
            LeftOut::Keys => match call.sys {
                Sys::PkeyMprotect => int(d) == int(u64::MAX),
                Sys::PkeyAlloc | Sys::PkeyFree => false,
                _ => true,
            },
            LeftOut::Droppable => call.sys != Sys::Mmap || d & MAP_TYPE != MAP_DROPPABLE,
            LeftOut::ExecuteOnly => {
                !matches!(call.sys, Sys::Mmap | Sys::Mprotect | Sys::PkeyMprotect)
                    || c & 7 != PROT_EXEC
            }
            LeftOut::Lengths(ref lengths) => !lengths.contains(&length),
            LeftOut::ProcessMadvise(_)
            | LeftOut::Touch
            | LeftOut::Fork
            | LeftOut::Exec
            | LeftOut::AfterDrop => true,
        })
    }

    /// Returns whether a program with or without privileges may make the step.
    pub fn allows_step(&self, step: &Step, privileged: bool) -> bool {
        let dropped = self.privileged && !privileged;
        let out = |what| self.left_out.contains(&what);
        match step {
            Step::Call(call) => self.allows(call),
            Step::Advise(advise) => {
                let rights = advise.target == Target::Own || privileged;
                rights
                    && !out(LeftOut::ProcessMadvise(advise.target))
                    && advise.each().all(|call| self.allows(&call))
            }
            Step::Touch(addr, _) => {
                !out(LeftOut::Touch) && (*addr >= 1 << 20 || !out(LeftOut::Low))
            }
            Step::Fork => !out(LeftOut::Fork) && (!dropped || !out(LeftOut::AfterDrop)),
            Step::Exec => !out(LeftOut::Exec) && (!dropped || !out(LeftOut::AfterDrop)),
            Step::Switch | Step::Limit(_) => true,
            Step::Drop => self.drops,
        }
    }
}

/// Returns the lower half of an `int` argument: the upper half does not count.
fn int(argument: u64) -> u64 {
    argument & u64::from(u32::MAX)
}

/// Finds out what can be compared. Returns an error if nothing can.
pub fn probe(setup: &Setup) -> Result<Scope, Refused> {
    let mut tracee = setup.spawn()?;
    let mut scope = Scope::unknown();
    look(&mut scope);
    let refused = |error| Refused { step: "making a system call in the program", error };
    ask_permissions(&mut tracee, setup, &mut scope).map_err(refused)?;
    ask_calls(&mut tracee, &mut scope).map_err(refused)?;
    ask_files(&mut tracee, setup, &mut scope).map_err(refused)?;
    ask_processes(setup, &mut scope)?;
    if !tracee.has_smaps() {
        scope.flags = false;
        scope.leave_out(LeftOut::Eager, "no /proc/PID/smaps to see what is locked");
    }
    Ok(scope)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// Reads what files say about the machine.
fn look(scope: &mut Scope) {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    scope.version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = Rules::V6_18.version();
    scope.notes.push(format!("Linux {release}, held against the rules of {major}.{minor}"));
    if scope.version < SAME_RULES {
        scope.strict = false;
        scope.flags = false;
        scope.notes.push("an older kernel: where it differs, that kind of call is left out".into());
        scope.leave_out(LeftOut::Sys(Sys::Mseal), "newer");
        scope.leave_out(LeftOut::LargePrivate, "placement of huge pages has changed");
        scope.leave_out(LeftOut::LargeShared, "placement of huge pages has changed");
        scope.leave_out(LeftOut::HugePages, "placement of huge pages has changed");
    }
    if let Some(filters) = status_field("Seccomp:").filter(|mode| mode != "0") {
        scope.notes.push(format!("seccomp mode {filters}: system calls are filtered"));
    }
    let within = |name: &str| read(&format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    match within("enabled") {
        None => scope.leave_out(LeftOut::LargePrivate, "a kernel without transparent huge pages"),
        Some(_) if within("shmem_enabled").is_some_and(|mode| !mode.contains("[never]")) => {
            scope.leave_out(LeftOut::LargeShared, "huge pages for shared memory are on");
        }
        Some(_) => {}
    }
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut known = 0;
    for size in sizes {
        let path = size.path();
        known += usize::from(
            ["hugepages-2048kB", "hugepages-1048576kB"]
                .map(Some)
                .contains(&path.file_name().and_then(|n| n.to_str())),
        );
        let count = |name| fs::read_to_string(path.join(name)).is_ok_and(|text| text.trim() != "0");
        if count("nr_hugepages") || count("nr_overcommit_hugepages") {
            scope.leave_out(LeftOut::HugePages, "huge pages are set aside");
        }
    }
    if known != 2 {
        scope.leave_out(LeftOut::HugePages, "not the two usual sizes of huge pages");
    }
    let memory = memory().unwrap_or(0);
    match read("/proc/sys/vm/overcommit_memory").as_deref() {
        Some("0") => {
            let (less, more) = (memory.min(MODEL_MEMORY), memory.max(MODEL_MEMORY));
            let slack = 2 << 20;
            if more - less < slack {
                // The same machine: leave out only what lies right at the limit.
                scope.left_out.push(LeftOut::Lengths(less - slack..more + slack));
            } else {
                scope.leave_out(
                    LeftOut::Lengths(less - slack..more + slack),
                    "not the memory of the model",
                );
            }
        }
        mode => {
            let why = format!("vm.overcommit_memory is {}", mode.unwrap_or("unknown"));
            scope.leave_out(LeftOut::Lengths(1 << 30..u64::MAX), why);
        }
    }
    if read("/proc/cpuinfo").is_some_and(|text| text.contains(" la57")) {
        scope.leave_out(LeftOut::High, "five levels of page tables");
    }
    if read("/proc/sys/vm/legacy_va_layout").is_some_and(|mode| mode != "0") {
        scope.strict = false;
        scope.notes.push("vm.legacy_va_layout: mappings are placed by another rule".into());
    }
}

/// Returns a field of `/proc/self/status`.
fn status_field(name: &str) -> Option<String> {
    let text = read("/proc/self/status")?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string())
}

/// Returns RAM and swap in bytes, as the kernel counts them.
fn memory() -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let kib = |name: &str| -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    Some((kib("MemTotal:")? + kib("SwapTotal:")?) << 10)
}

/// Tries what the program may do: in a container, capabilities may mean less than they say.
fn ask_permissions(tracee: &mut Tracee, setup: &Setup, scope: &mut Scope) -> std::io::Result<()> {
    let fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let low = tracee.call(Sys::Mmap.number(), [0, PAGE, 0, fixed, 0, 0])? == 0;
    tracee.call(Sys::Munmap.number(), [0, PAGE, 0, 0, 0, 0])?;
    // With a limit of 0, locking takes privileges.
    let nothing = setup.limit(Limit::MemLock, 2);
    let set = |entry| [0, u64::from(libc::RLIMIT_MEMLOCK), image::limit_at(entry), 0, 0, 0];
    tracee.call(libc::SYS_prlimit64 as u64, set(nothing))?;
    let locks = tracee.call(Sys::Mlock2.number(), [image::BASE, PAGE, 1, 0, 0, 0])? == 0;
    tracee.call(Sys::Munlock.number(), [image::BASE, PAGE, 0, 0, 0, 0])?;
    tracee.call(libc::SYS_prlimit64 as u64, set(setup.limit(Limit::MemLock, 0)))?;
    scope.privileged = locks;
    if locks != low {
        let why = format!("may lock beyond the limit: {locks}, may map the first page: {low}");
        scope.leave_out(LeftOut::Low, why);
    }
    // A hint below the lowest address is raised to it. It must not be 0.
    let hinted =
        tracee.call(Sys::Mmap.number(), [PAGE, PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS, 0, 0])?;
    if hinted as u64 != MIN_ADDR {
        scope
            .leave_out(LeftOut::Low, format!("the lowest address is {hinted:x}, not {MIN_ADDR:x}"));
    }
    if read("/proc/sys/vm/mmap_min_addr").is_none_or(|min| min != "4096") {
        scope.leave_out(LeftOut::Low, "vm.mmap_min_addr is not 4096");
    }
    tracee.call(Sys::Munmap.number(), [hinted as u64, PAGE, 0, 0, 0, 0])?;
    if scope.privileged {
        let mut other = setup.spawn().map_err(|refused| refused.error)?;
        let answer = other.call(libc::SYS_setresuid as u64, super::session::NOBODY)?;
        scope.drops = answer == 0;
        if !scope.drops {
            scope.notes.push(format!("left out: giving up privileges: setresuid answers {answer}"));
        }
    } else {
        scope.notes.push("no privileges here: everything runs without".into());
    }
    Ok(())
}

/// Tries whether each call reaches the kernel, and whether advice means what it should.
fn ask_calls(tracee: &mut Tracee, scope: &mut Scope) -> std::io::Result<()> {
    for sys in Sys::ALL {
        // Arguments that do nothing, and the answer to them.
        let (args, expected) = match sys {
            Sys::Brk => ([0; 6], None),
            Sys::Munlockall => ([0; 6], Some(0)),
            Sys::Mmap | Sys::Munmap | Sys::Mlockall => ([0; 6], Some(-22)),
            Sys::Mlock | Sys::Munlock => ([1, 0, 0, 0, 0, 0], Some(-12)),
            Sys::Mlock2 | Sys::Mprotect | Sys::Mremap | Sys::Madvise | Sys::Msync | Sys::Mseal => {
                ([1, PAGE, 99, 99, 0, 0], Some(-22))
            }
            Sys::Mincore | Sys::PkeyMprotect | Sys::PkeyAlloc => {
                ([1, PAGE, 0, u64::MAX, 0, 0], Some(-22))
            }
            Sys::PkeyFree => ([99, 0, 0, 0, 0, 0], Some(-22)),
            Sys::Name => ([PR_SET_VMA, 0, 1, 0, 0, 0], Some(-22)),
        };
        let answer = tracee.call(sys.number(), args)?;
        if expected.is_some_and(|expected| answer != expected) {
            scope.leave_out(
                LeftOut::Sys(sys),
                format!("filtered? asked for nothing it answers {answer}"),
            );
        }
    }
    let vma =
        tracee.call(Sys::Mmap.number(), [0, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS, 0, 0])? as u64;
    for advice in (0..=4).chain(8..=25).chain([102, 103]) {
        let expected = match advice {
            // These would make a private page.
            23 | 102 => continue,
            9 | 25 => -22,
            _ => 0,
        };
        let answer = tracee.call(Sys::Madvise.number(), [vma, PAGE, advice, 0, 0, 0])?;
        if answer != expected {
            scope.leave_out(LeftOut::Advice(advice), format!("answers {answer}, not {expected}"));
        }
    }
    let droppable =
        tracee.call(Sys::Mmap.number(), [0, PAGE, 0, MAP_DROPPABLE | MAP_ANONYMOUS, 0, 0])?;
    if droppable < 0 {
        scope.leave_out(LeftOut::Droppable, format!("newer: answers {droppable}"));
    } else {
        tracee.call(Sys::Munmap.number(), [droppable as u64, PAGE, 0, 0, 0, 0])?;
    }
    let named = tracee.call(Sys::Name.number(), [PR_SET_VMA, 0, vma, PAGE, image::name(0), 0])?;
    if named != 0 {
        scope.leave_out(
            LeftOut::Sys(Sys::Name),
            format!("a kernel without names for memory: answers {named}"),
        );
    }
    let key = tracee.call(Sys::PkeyAlloc.number(), [0; 6])?;
    if key == 1 {
        tracee.call(Sys::PkeyFree.number(), [1, 0, 0, 0, 0, 0])?;
        scope.leave_out(LeftOut::ExecuteOnly, "it would take a protection key of its own");
    } else {
        scope.leave_out(
            LeftOut::Keys,
            format!("a machine without protection keys: pkey_alloc answers {key}"),
        );
    }
    tracee.call(Sys::Munmap.number(), [vma, PAGE, 0, 0, 0, 0])?;
    Ok(())
}

/// Tries whether programs may fork, execute, advise and access memory.
fn ask_processes(setup: &Setup, scope: &mut Scope) -> Result<(), Refused> {
    let answers =
        |scope: &mut Scope, what, steps: &[Step], expected: &str| -> Result<(), Refused> {
            let mut session = Session::start_in(setup, scope, Flags::Every(usize::MAX))?;
            let mut failed = None;
            for &step in steps {
                failed = failed.or(session.step(step).err().map(|error| error.to_string()));
            }
            let trace = session.finish().trace;
            let last = trace.lines().rfind(|line| line.contains(" = ")).unwrap_or("").to_string();
            if failed.is_some() || !last.ends_with(expected) {
                scope.leave_out(what, failed.unwrap_or(last));
            }
            Ok(())
        };
    let nothing = |target| Step::Advise(Advise::new(target, 20, 0, &[(image::BASE, PAGE)]));
    answers(scope, LeftOut::Touch, &[Step::Touch(image::BASE, Touch::Write)], "= 2")?;
    answers(scope, LeftOut::ProcessMadvise(Target::Own), &[nothing(Target::Own)], "= 1000")?;
    answers(scope, LeftOut::Fork, &[Step::Fork], "fork = 0")?;
    let other = [Step::Fork, nothing(Target::Other)];
    answers(scope, LeftOut::ProcessMadvise(Target::Other), &other, "= 1000")?;
    let brk = format!("brk 0 = {:x}", setup.end());
    answers(scope, LeftOut::Exec, &[Step::Exec], &brk)?;
    if scope.drops {
        answers(scope, LeftOut::AfterDrop, &[Step::Drop, Step::Fork, Step::Exec], &brk)?;
    }
    Ok(())
}

/// Tries how files are placed.
fn ask_files(tracee: &mut Tracee, setup: &Setup, scope: &mut Scope) -> std::io::Result<()> {
    let fd = u64::from(Setup::DESCRIPTORS.start);
    // One page first, so that the next gap is not aligned to a huge page by chance.
    let mut mapped = Vec::new();
    for len in [PAGE, 8 << 20] {
        let at = tracee.call(Sys::Mmap.number(), [0, len, 1, MAP_PRIVATE, fd, 0])? as u64;
        mapped.push((at, len));
    }
    let aligned = mapped[1].0.is_multiple_of(2 << 20);
    let device = {
        let mut text = String::new();
        tracee.maps(&mut text)?;
        let line = text.lines().find(|line| line.starts_with(&format!("{:08x}-", mapped[1].0)));
        line.and_then(|line| line.split(' ').nth(3)).unwrap_or("").to_string()
    };
    for (at, len) in mapped {
        tracee.call(Sys::Munmap.number(), [at, len, 0, 0, 0, 0])?;
    }
    // In a trace the device stands for the file system: fe:00 is ext4.
    let name = if aligned { "fe:00" } else { "fe:01" };
    if (device == "fe:00") != aligned {
        scope.notes.push(format!("files are on device {device}, written as {name}"));
        scope.rename = Some((device, name.to_string()));
    }
    const EXT4: i64 = 0xef53;
    if aligned && file_system(setup.directory())? != EXT4 {
        scope.leave_out(
            LeftOut::Sync,
            "a file system that is not ext4 but places files as ext4 does",
        );
    }
    Ok(())
}
