//! Random calls, right and wrong ones, near what is mapped.

use super::calls::*;
use super::caution::{Caution, VAST};
use super::image::{self, PAGE, SCRATCH};
use super::persona::{Kind, Persona};
use super::rng::Rng;
use super::session::SeenVma;
use super::setup::Setup;

/// The state of the program, at which the generator looks before it makes up a step.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub vmas: &'a [SeenVma],
    /// Start and end of the heap.
    pub heap: (u64, u64),
    pub privileged: bool,
    /// True if a fork has made another program.
    pub has_other: bool,
    /// See [`Caution::bare`].
    pub bare: bool,
}

/// Most fixed mappings lie here, so that they overlap.
const ARENA: (u64, u64) = (0x7fff_f7a0_0000, 0x7fff_f7e0_0000);
/// The range of addresses in [huge](Persona::huge) runs.
const HUGE_ARENA: (u64, u64) = (0x7fff_d000_0000, 0x7fff_d200_0000);
/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;

/// Makes up steps.
#[derive(Debug, Clone)]
pub struct Generator {
    rng: Rng,
    persona: &'static Persona,
    /// True if [`Kind::Drop`] has been made up.
    dropped: bool,
}

impl Generator {
    pub fn new(seed: u64, persona: &'static Persona) -> Self {
        Self { rng: Rng::new(seed), persona, dropped: false }
    }

    /// Returns the next step: never one that could take away the code that the program runs, nor
    /// one against which [`Caution`] advises.
    pub fn step(&mut self, setup: &Setup, view: View<'_>) -> Step {
        let caution = Caution { vmas: view.vmas, populate: self.persona.populate, bare: view.bare };
        // Vast VMAs are worth making, but slow down all that follows.
        if let Some(vast) = view.vmas.iter().find(|vma| vma.end - vma.start > VAST)
            && self.rng.chance(1, 3)
        {
            return Step::Call(Call::new(Sys::Munmap, &[vast.start, vast.end - vast.start]));
        }
        loop {
            let step = match self.rng.weighted(self.persona.weights) {
                Kind::Call(sys) => Step::Call(self.call(sys, view)),
                Kind::Limit(limit) => {
                    let index = self.rng.below(setup.choices(limit) as u64) as usize;
                    Step::Limit(setup.limit(limit, index))
                }
                Kind::Advise => Step::Advise(self.process_madvise(view)),
                Kind::Touch => self.touch(view),
                Kind::Fork => Step::Fork,
                Kind::Switch if !view.has_other => continue,
                Kind::Switch => Step::Switch,
                Kind::Exec => Step::Exec,
                Kind::Drop if !setup.scope.drops || self.dropped => continue,
                Kind::Drop => {
                    self.dropped = true;
                    Step::Drop
                }
            };
            if setup.scope.allows_step(&step, view.privileged) && caution.allows_step(&step) {
                return step;
            }
        }
    }

    fn process_madvise(&mut self, view: View<'_>) -> Advise {
        let target =
            if view.has_other && self.rng.chance(1, 3) { Target::Other } else { Target::Own };
        let advice = match target {
            // Advice that is allowed for others, but for COLLAPSE, and one that is not.
            Target::Other => self.rng.pick(&[3, 20, 21, 20, 21, 10]),
            Target::Own => self.advice(),
        };
        let flags = if self.rng.chance(1, 30) { 1 } else { 0 };
        let mut ranges = [(0, 0); Advise::MOST];
        let count = self.rng.weighted(&[(1, 30), (2, 30), (3, 20), (6, 10), (0, 2)]);
        ranges[..count].iter_mut().for_each(|range| *range = self.range(view));
        Advise::new(target, self.high_bits(advice), self.high_bits(flags), &ranges[..count])
    }

    fn touch(&mut self, view: View<'_>) -> Step {
        let vma = self.rng.pick(view.vmas);
        let page = match self.rng.below(20) {
            // Below the VMA, where a stack grows: near it, and around the limits.
            0..8 => vma.start.wrapping_sub((1 + self.rng.below(0x20)) * PAGE),
            8..10 => vma.end.wrapping_sub(self.rng.pick(&[0x10, 0x100, 0x800, 0x4000]) * PAGE),
            10..16 => vma.start + self.rng.below((vma.end - vma.start) / PAGE) * PAGE,
            _ => self.address(view) & !(PAGE - 1),
        };
        let access = self.rng.pick(&[Touch::Read, Touch::Write, Touch::Execute]);
        Step::Touch(page.wrapping_add(self.rng.below(PAGE - 0x10)), access)
    }

    fn call(&mut self, sys: Sys, view: View<'_>) -> Call {
        let rng = &mut self.rng;
        match sys {
            Sys::Mmap => self.mmap(view),
            Sys::Mremap => self.mremap(view),
            Sys::Brk => {
                let (start, end) = view.heap;
                let addr = match rng.below(10) {
                    0..2 => 0,
                    2..5 => start + rng.below(0x40) * PAGE,
                    5..8 => end.wrapping_add(rng.below(0x30) * PAGE).wrapping_sub(0x10 * PAGE),
                    8 => end.wrapping_add(rng.below(0x20000)),
                    _ => self.address(view),
                };
                Call::new(sys, &[addr])
            }
            Sys::Mlockall => {
                // CURRENT and FUTURE alone populate pages: see `Caution`.
                let flags = self.rng.weighted(&[
                    (4, 2),
                    (5, 4),
                    (6, 4),
                    (7, 2),
                    (1, 2),
                    (2, 2),
                    (3, 2),
                    (0, 1),
                    (0xc, 1),
                ]);
                Call::new(sys, &[self.high_bits(flags)])
            }
            Sys::Munlockall => Call::new(sys, &[]),
            Sys::PkeyAlloc => {
                // Never rights that forbid anything: a register holds those, not a VMA.
                let (flags, rights) = self.rng.weighted(&[((0, 0), 12), ((1, 0), 1), ((0, 4), 1)]);
                Call::new(sys, &[flags, rights])
            }
            Sys::PkeyFree => Call::new(sys, &[self.key()]),
            _ => {
                let (addr, len) = self.range(view);
                match sys {
                    Sys::Mincore => Call::new(sys, &[addr, len, SCRATCH]),
                    Sys::PkeyMprotect => {
                        let (prot, key) = (self.mprotect_bits(), self.key());
                        Call::new(sys, &[addr, len, prot, key])
                    }
                    Sys::Name => {
                        let index = self.rng.below(4);
                        let name = index.checked_sub(1).map_or(0, image::name);
                        Call::new(sys, &[PR_SET_VMA, 0, addr, len, name])
                    }
                    Sys::Munmap | Sys::Mlock | Sys::Munlock => Call::new(sys, &[addr, len]),
                    // A whole stack: the flags that stay say whether it was ever used.
                    Sys::Mprotect if self.persona.grow > 0 && self.rng.chance(1, 3) => {
                        let vma = self.rng.pick(view.vmas);
                        let prot = self.prot();
                        Call::new(sys, &[vma.start, vma.end - vma.start, prot])
                    }
                    Sys::Mprotect => {
                        let prot = self.mprotect_bits();
                        Call::new(sys, &[addr, len, prot])
                    }
                    Sys::Madvise => {
                        let advice = self.advice();
                        Call::new(sys, &[addr, len, self.high_bits(advice)])
                    }
                    Sys::Mlock2 => {
                        let flags = self.rng.weighted(&[(1, 20), (0, 3), (2, 1), (3, 1)]);
                        Call::new(sys, &[addr, len, self.high_bits(flags)])
                    }
                    Sys::Msync => {
                        let flags = self.rng.below(9);
                        Call::new(sys, &[addr, len, self.high_bits(flags)])
                    }
                    _ => {
                        let flags = if self.rng.chance(1, 20) {
                            self.rng.pick(&[1, 2, 1 << 40])
                        } else {
                            0
                        };
                        Call::new(Sys::Mseal, &[addr, len, flags])
                    }
                }
            }
        }
    }

    fn mmap(&mut self, view: View<'_>) -> Call {
        let odd = self.persona.odd;
        let rng = &mut self.rng;
        let mut flags = rng.weighted(&[
            (MAP_PRIVATE, 120),
            (MAP_SHARED, 70),
            (MAP_SHARED_VALIDATE, if odd { 8 } else { 1 }),
            (MAP_DROPPABLE, if odd { 8 } else { 1 }),
            (0, 2),
        ]);
        let mut times = |flag: u64, times: u64| {
            if rng.chance(times, 200) {
                flags |= flag;
            }
        };
        times(MAP_ANONYMOUS, if self.persona.files { 130 } else { 180 });
        times(MAP_FIXED, 70);
        times(MAP_FIXED_NOREPLACE, 25);
        times(MAP_NORESERVE, 25);
        times(MAP_STACK, 20);
        times(MAP_32BIT, if odd { 20 } else { 5 });
        times(MAP_GROWSDOWN, self.persona.grow);
        times(MAP_LOCKED, self.persona.locked);
        times(MAP_HUGETLB | MAP_NORESERVE, self.persona.huge);
        times(30 << MAP_HUGE_SHIFT, self.persona.huge / 20);
        if odd {
            times(MAP_POPULATE, 10);
            times(MAP_NONBLOCK, 10);
            times(MAP_SYNC, 4);
            times(MAP_HUGETLB, 3);
            times(MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, 1);
            times(MAP_HUGETLB | 30 << MAP_HUGE_SHIFT, 1);
            times(0x800, 4); // DENYWRITE, which is ignored.
            times(0x1000, 4); // EXECUTABLE, which is ignored, too.
            times(0x80, 3);
            times(0x800_0000, 2);
            times(0x20_0000, 2);
            times(4, 2);
        }
        let prot = self.prot();
        let hinted = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 || self.rng.chance(1, 2);
        let addr = if hinted { self.address(view) } else { 0 };
        let len = self.length();
        let offset = match self.rng.below(20) {
            0..10 => 0,
            10..19 => self.rng.below(0x40) * PAGE,
            _ if odd => self.rng.pick(&[
                0xfff,
                1,
                0x1f_f000,
                0x20_0000,
                0x3f_f000,
                !0xfff,
                0x7fff_ffff_ffff_f000,
                1 << 39,
            ]),
            _ => 0x12_3000,
        };
        let fd = match self.rng.below(40) {
            0 => self.rng.pick(&[u64::from(u32::MAX), u64::MAX, 99, 1 << 40 | 99]),
            1..24 => u64::from(Setup::DESCRIPTORS.start),
            _ if self.persona.files => {
                let count = u64::from(Setup::DESCRIPTORS.end - Setup::DESCRIPTORS.start);
                u64::from(Setup::DESCRIPTORS.start) + self.rng.below(count)
            }
            _ => u64::from(Setup::DESCRIPTORS.start),
        };
        Call::new(Sys::Mmap, &[addr, len, prot, flags, fd, offset])
    }

    fn mremap(&mut self, view: View<'_>) -> Call {
        let (mut old, mut old_len) = self.range(view);
        if self.rng.chance(2, 3) {
            // Most calls name the range of one VMA.
            let vma = self.rng.pick(view.vmas);
            old = vma.start + self.rng.below((vma.end - vma.start) / PAGE).min(0x1000) * PAGE;
            old_len = vma.end.saturating_sub(old).min(0x40 * PAGE);
            if self.persona.huge > 0 && self.rng.chance(1, 2) {
                old = vma.start + self.rng.below((vma.end - vma.start) / HUGE + 1) * HUGE;
                old_len = (1 + self.rng.below(3)) * HUGE;
            }
            if self.rng.chance(1, 3) {
                old = vma.start;
                old_len = (vma.end - vma.start).min(0x200 * PAGE);
            }
        }
        let new_len = match self.rng.below(12) {
            0..5 => old_len,
            5..7 => old_len.wrapping_add((1 + self.rng.below(0x30)) * PAGE),
            7..9 => (1 + self.rng.below(old_len.min(1 << 40) / PAGE + 1)) * PAGE,
            9..11 => PAGE * (1 + self.rng.below(4)),
            _ => self.length(),
        };
        if self.rng.chance(1, 20) {
            old_len = 0;
        }
        let flags = match self.rng.below(40) {
            0 => self.rng.pick(&[8, 16, 9, 1 << 32]),
            1..5 => self.rng.below(8),
            5..20 => MREMAP_MAYMOVE,
            20..28 => MREMAP_MAYMOVE | MREMAP_FIXED,
            28..32 => MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
            32..34 => MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
            _ => 0,
        };
        let new = if flags & !MREMAP_MAYMOVE != 0 { self.address(view) } else { 0 };
        Call::new(Sys::Mremap, &[old, old_len, new_len, flags, new])
    }

    /// Returns a start and a length.
    fn range(&mut self, view: View<'_>) -> (u64, u64) {
        let addr = self.address(view);
        let len = self.length();
        if self.rng.chance(1, 4) {
            // Up to where a VMA begins or ends.
            let vma = self.rng.pick(view.vmas);
            let end = self.rng.pick(&[vma.start, vma.end]);
            if end > addr && end - addr < 0x400 * PAGE {
                return (addr, end - addr);
            }
        }
        (addr, len)
    }

    fn address(&mut self, view: View<'_>) -> u64 {
        let pages = |rng: &mut Rng, count: u64| rng.below(count) * PAGE;
        let rng = &mut self.rng;
        let addr = match rng.below(100) {
            0..40 if self.persona.huge > 0 => {
                HUGE_ARENA.0 + rng.below((HUGE_ARENA.1 - HUGE_ARENA.0) / HUGE) * HUGE
            }
            0..40 => ARENA.0 + pages(rng, (ARENA.1 - ARENA.0) / PAGE),
            40..70 => {
                let vma = rng.pick(view.vmas);
                let edge = rng.pick(&[vma.start, vma.end]);
                edge.wrapping_add(pages(rng, 5)).wrapping_sub(2 * PAGE)
            }
            70..86 => {
                let vma = rng.pick(view.vmas);
                vma.start + pages(rng, (vma.end - vma.start) / PAGE)
            }
            86..89 => view.heap.0.wrapping_add(pages(rng, 0x40)).wrapping_sub(0x10 * PAGE),
            89..92 => pages(rng, 0x20),
            92..95 => 0x4000_0000 + pages(rng, 0x10),
            95..96 => 0x8000_0000 - pages(rng, 0x10),
            96..98 => TASK.wrapping_add(pages(rng, 8)).wrapping_sub(4 * PAGE),
            98 => rng.next() >> rng.below(64),
            _ => !rng.below(0x2_0000),
        };
        let addr =
            if self.persona.huge > 0 && self.rng.chance(1, 2) { addr & !(HUGE - 1) } else { addr };
        let unaligned = if self.persona.odd { 25 } else { 60 };
        if self.rng.chance(1, unaligned) { addr ^ self.rng.below(PAGE) } else { addr }
    }

    fn length(&mut self) -> u64 {
        let rng = &mut self.rng;
        let len = match rng.below(100) {
            0..50 if self.persona.huge > 0 => (1 + rng.below(4)) * HUGE,
            0..40 => PAGE,
            40..70 => (1 + rng.below(8)) * PAGE,
            70..92 => (1 + rng.below(0x40)) * PAGE,
            92..95 => 0x20_0000 * (1 + rng.below(2)),
            95..97 => 0,
            97..98 => rng.below(0x8000),
            _ if self.persona.odd => match rng.below(6) {
                0 => !rng.below(0x1_0000),
                1 => TASK - rng.below(0x10) * PAGE,
                2 => 1 << rng.below(48),
                3 => 0x10_0000 + rng.below(0x400) * PAGE,
                // More than all memory, and more than half of it.
                4 => rng.pick(&[40 << 30, 14 << 30]) + rng.below(16) * PAGE,
                _ => rng.next() >> rng.below(64),
            },
            _ => !rng.below(0x1_0000),
        };
        if self.rng.chance(1, 40) { len ^ self.rng.below(PAGE) } else { len }
    }

    fn prot(&mut self) -> u64 {
        let prot = self.rng.weighted(&[
            (3, 56),
            (0, 46),
            (1, 38),
            (5, 22),
            (4, 20),
            (7, 18),
            (2, 2),
            (6, 1),
        ]);
        if self.persona.odd && self.rng.chance(1, 20) {
            prot | self.rng.pick(&[8, 0x10, 0x18, PROT_GROWSDOWN])
        } else {
            prot
        }
    }

    fn mprotect_bits(&mut self) -> u64 {
        let prot = self.prot();
        match self.rng.below(40) {
            0..2 => prot | PROT_GROWSDOWN,
            2 => prot | PROT_GROWSUP,
            3 => prot | self.rng.pick(&[8, 0x10, PROT_GROWSDOWN | PROT_GROWSUP, 1 << 33, 1 << 20]),
            _ => prot,
        }
    }

    fn advice(&mut self) -> u64 {
        match self.rng.below(20) {
            0 => self.rng.pick(&[5, 6, 7, 26, 99, 104, 255, u64::from(u32::MAX)]),
            _ => self.rng.pick(self.persona.advice),
        }
    }

    /// Returns a protection key, mostly none or one of the lowest.
    fn key(&mut self) -> u64 {
        let key = match self.rng.below(10) {
            0..5 => u64::from(u32::MAX),
            5..9 => self.rng.below(6),
            _ => self.rng.pick(&[15, 16, 99, u64::MAX]),
        };
        self.high_bits(key)
    }

    /// Returns `value` as an `int` argument, whose upper half does not count.
    fn high_bits(&mut self, value: u64) -> u64 {
        if self.persona.odd && self.rng.chance(1, 50) { value | 1 << 32 } else { value }
    }
}
