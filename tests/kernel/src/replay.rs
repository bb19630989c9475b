//! Replays the trace: kvma's Linux layer answers, the hooks keep the page tables in step, and after
//! every call the kernel touches the pages that it has changed. Where the trace says that the stack
//! has grown, a push makes it grow. At each snapshot the process forks.
//!
//! The Linux layer does not learn of the kernel's own touching ([`probe::as_program`]): its answers
//! must depend on the trace alone, and the trace does not say which pages the program wrote to.

use core::fmt::Write;

use kvma::VmaNode;
use kvma::linux::{LinuxVma, Mm};
use kvma_trace::{Answer, Backing, Call, Entry, Line, Machine, Parser, Step, Touch};

use crate::arch::{Access, timer};
use crate::child::Child;
use crate::debug_port::DebugPort;
use crate::effects::Before;
use crate::hooks::PageHooks;
use crate::nodes::{Nodes, nodes};
use crate::pages::Pages;
use crate::paging::{LOWER_HALF_END, PAGE_SIZE};
use crate::rendezvous::{self, Met};
use crate::report::{self, InUse};
use crate::shadow::Shadow;
use crate::space::{Space, page_of};
use crate::timed::Timed;
use crate::touch::Toucher;
use crate::{page_cache, println, probe};

/// The data of a VMA of the replayed process. Names are borrowed from the trace, which stays in
/// memory.
type ReplayVma = LinuxVma<Backing<'static>>;
/// The replayed process.
pub type Process = Space<Mm<Backing<'static>, &'static Nodes<VmaNode<ReplayVma>>>>;

static NODES: Nodes<VmaNode<ReplayVma>> = nodes();

/// The figures of a replay.
#[derive(Default)]
pub struct Figures {
    /// Calls that were answered.
    pub calls: u64,
    /// Snapshots that were made.
    pub snapshots: u64,
    /// Calls that were answered with an error.
    pub failed: u64,
    /// Calls that overtook a fault.
    pub overtook: u64,
    /// Time-stamp ticks spent in calls, hooks included.
    pub ticks: u64,
    /// The part of them spent in hooks.
    pub hook_ticks: u64,
    /// The largest number of nodes in use after any call.
    pub nodes: usize,
}

/// Returns the number of kvma's nodes in use.
pub fn nodes_in_use() -> usize {
    NODES.in_use()
}

/// Replays `trace` in an address space with these pages, tears it down, and prints a report.
pub fn run(trace: &'static str, pages: Pages, shadow: Shadow) {
    let before = InUse::now();
    let mm = Machine::empty_space(&NODES);
    let mm = mm.unwrap_or_else(|error| panic!("no address space: {error}"));
    let space = Space::new(mm, pages);
    space.enter(|| {
        let mut replay = Replay {
            space: &space,
            machine: Machine::new(),
            toucher: Toucher::new(&space, shadow),
            figures: Figures::default(),
        };
        for entry in Parser::new(trace) {
            let entry = entry.unwrap_or_else(|error| panic!("the trace is damaged: {error}"));
            replay.line(&entry);
            replay.figures.nodes = replay.figures.nodes.max(nodes_in_use());
        }
        replay.toucher.all();
        println!("the address space at the end:");
        space.vmas.inspect(|mm| mm.maps().for_each(|line| println!("{line}")));
        let vmas = space.vmas.inspect(|mm| mm.map_count());
        report::print(&replay.figures, &replay.toucher, vmas, before, InUse::now());
        replay.end();
    });
    // The map's own node goes with it.
    drop(space);
    page_cache::drop_all();
    let after = InUse::now();
    assert!(after == before, "leaked: {before:?} before the replay, {after:?} after it");
    println!("  torn down        no frame and no node leaked");
}

struct Replay<'s> {
    space: &'s Process,
    machine: Machine,
    toucher: Toucher<'s>,
    figures: Figures,
}

impl Replay<'_> {
    fn line(&mut self, entry: &Entry<'static>) {
        let Line::Call(call, _) = &entry.line else { return self.other_line(entry) };
        if let Call::Touch { addr, access } = *call {
            return self.touch(entry, addr, access);
        }
        let brk = self.space.vmas.inspect(|mm| mm.current_brk());
        let before = Before::new(call, brk, self.space);
        let step = match before.faulting(call) {
            Some(page) => self.overtaking(entry, page),
            None => self.ask(entry),
        };
        let Step::Called(answer) = step else { panic!("a call is not answered") };
        self.figures.calls += 1;
        self.figures.failed += u64::from(matches!(answer, Answer::Error(_)));
        say(format_args!("{} = {answer}\n", entry.input()));
        if let Call::Execve { image, .. } = call {
            say(format_args!("{}", image.text()));
        }
        before.follow(call, answer, &mut self.toucher);
        self.toucher.catch_up();
    }

    /// Makes an access as the program. Then kvma is asked about it as well, because the access may
    /// not have faulted: the kernel's own touching has mapped pages of which kvma was not told.
    fn touch(&mut self, entry: &Entry<'static>, addr: u64, access: Touch) {
        let page = page_of(addr);
        let access = match access {
            Touch::Read => Access::Load,
            Touch::Write => Access::Store,
            Touch::Execute => Access::Fetch,
        };
        // Page tables do not cover the upper half, where the program has nothing.
        let code =
            if page < LOWER_HALF_END { Some(self.toucher.by_program(page, access)) } else { None };
        let Step::Called(Answer::Value(asked)) = self.ask(entry) else {
            panic!("a touch is not answered")
        };
        self.figures.calls += 1;
        say(format_args!("{} = {}\n", entry.input(), Answer::Value(code.unwrap_or(asked))));
        if page < LOWER_HALF_END {
            self.toucher.page(page);
            self.toucher.catch_up();
        }
    }

    fn other_line(&mut self, entry: &Entry<'static>) {
        if let Line::Stack(page) = entry.line {
            // Not a call, but something that the program does.
            say(format_args!("{}\n", entry.text));
            let code = self.toucher.by_program(page, Access::Store);
            assert!(
                code == 0,
                "a store to page {page:#x} was refused, but Linux let the stack grow to there"
            );
            self.toucher.ends(page, PAGE_SIZE);
            return self.toucher.catch_up();
        }
        match (self.ask(entry), &entry.line) {
            (Step::Snapshot, _) => {
                self.figures.snapshots += 1;
                let vmas = self.space.vmas.inspect(|mm| mm.map_count());
                println!("  after {:4} calls: {vmas} VMAs", self.figures.calls);
                let child = Child::of(self.space, &mut self.toucher);
                self.snapshot();
                child.check();
                child.end();
            }
            (_, Line::Maps(_)) => self.snapshot(),
            (_, line) => {
                say(format_args!("{}\n", entry.text));
                if matches!(line, Line::Exec) {
                    self.toucher.forget(0, u64::MAX);
                }
            }
        }
    }

    /// Replays a line on kvma.
    fn ask(&mut self, entry: &Entry<'static>) -> Step {
        let mut hooks = Timed::new(PageHooks::new(&self.space.pages));
        let mut kernel = self.machine.kernel(&entry.line, &mut hooks);
        let begin = timer::now();
        let step = self
            .space
            .change_with(&mut kernel, |mm, update| self.machine.step(&entry.line, mm, update));
        if matches!(step, Ok(Step::Called(_))) {
            self.figures.ticks += timer::now() - begin;
            self.figures.hook_ticks += hooks.ticks();
        }
        step.unwrap_or_else(|error| panic!("line {} of the trace: {error}", entry.number))
    }

    /// Replays a line while a fault of the second processor on `page` is between its lookup and its
    /// end.
    fn overtaking(&mut self, entry: &Entry<'static>, page: u64) -> Step {
        let (loaded, step, met) =
            rendezvous::overtake(page, || probe::load(page), || self.ask(entry));
        assert!(met == Met::Yes, "load of page {page:#x} was over before the call");
        self.figures.overtook += 1;
        self.toucher.overtaken(page, loaded);
        step
    }

    /// Prints the VMAs for the host program. Then checks every page ever written to, and the ends
    /// of every VMA with the pages next to them.
    fn snapshot(&mut self) {
        self.space.vmas.inspect(|mm| {
            say(format_args!("maps {}\n", mm.maps().count()));
            for line in mm.maps() {
                say(format_args!("{line}\nVmFlags: {}\n", line.flags()));
            }
        });
        self.toucher.all();
        let mut at = 0;
        while let Some((start, last)) = self.space.vma_from(at) {
            for page in [start.wrapping_sub(PAGE_SIZE), start, last, last.wrapping_add(1)] {
                self.toucher.page(page_of(page));
            }
            match last.checked_add(1) {
                Some(next) => at = next,
                None => break,
            }
        }
        self.toucher.catch_up();
    }

    /// Tears the address space down.
    fn end(&mut self) {
        let cleared = self.space.change(|mm, update| mm.clear(*mm.layout(), update));
        cleared.unwrap_or_else(|error| panic!("the process cannot end: {error}"));
    }
}

/// Writes to the host program's channel.
fn say(text: core::fmt::Arguments<'_>) {
    // The debug port takes everything.
    let _ = DebugPort.write_fmt(text);
}
