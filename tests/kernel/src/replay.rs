//! Replaying the trace: kvma's linux layer answers, the hooks keep the page tables in step, and after every call
//! the kernel touches what it changed.
//!
//! The touching is not told to the linux layer (`Mm::note_write`): what it answers is to depend on the trace alone, and
//! the trace does not say which pages the program wrote to.

use crate::{
    arch::{debug_port::DebugPort, timer},
    effects::Before,
    hooks::PageHooks,
    nodes::Nodes,
    pages::Pages,
    paging::PAGE_SIZE,
    println,
    space::{self, Areas, Space},
    timed::Timed,
    touch::Toucher,
};
use core::fmt::Write;
use kvma::{
    VmaNode,
    linux::{LinuxVma, Mm},
};
use kvma_trace::{Answer, Backing, Call, Entry, Line, Parser, Replay, Step};

/// What an area of the replayed process carries. Names are borrowed from the trace, which stays in memory.
pub type Area = LinuxVma<Backing<'static>>;
pub type Process = Replay<'static, &'static Nodes<VmaNode<Area>>>;

static NODES: Nodes<VmaNode<Area>> = Nodes::new();

/// What the replay came to.
pub struct Figures {
    pub calls: u64,
    pub snapshots: u64,
    /// Calls that were answered with an error.
    pub failed: u64,
    /// Time-stamp ticks spent in calls, hooks included.
    pub ticks: u64,
    /// Those of them spent in hooks.
    pub hook_ticks: u64,
    /// Most nodes in use after any call.
    pub nodes: usize,
}

/// Nodes that kvma holds.
pub fn nodes_in_use() -> usize {
    NODES.in_use()
}

/// Replays `trace` in an address space with these pages, and leaves it as it is at the end.
pub fn run(trace: &'static str, pages: Pages, toucher: &mut Toucher) -> Figures {
    let process = Replay::new(&NODES);
    let process = process.unwrap_or_else(|error| panic!("no address space: {error}"));
    space::enter(Space { areas: Areas::Linux(process), pages });

    let mut figures = Figures { calls: 0, snapshots: 0, failed: 0, ticks: 0, hook_ticks: 0, nodes: 0 };
    for entry in Parser::new(trace) {
        let entry = entry.unwrap_or_else(|error| panic!("the trace is damaged: {error}"));
        step(&entry, &mut figures, toucher);
        figures.nodes = figures.nodes.max(nodes_in_use());
    }
    figures
}

/// Runs `look` on the process's memory.
pub fn with_mm<R>(look: impl FnOnce(&Mm<Backing<'static>, &'static Nodes<VmaNode<Area>>>) -> R) -> R {
    space::with(|space| match &space.areas {
        Areas::Linux(process) => look(process.mm()),
        Areas::Plain(_) => panic!("not the replayed process"),
    })
}

/// Tears the address space down and gives its pages back.
pub fn end() -> Pages {
    space::with(|space| {
        let Areas::Linux(process) = &mut space.areas else { panic!("not the replayed process") };
        let mut hooks = PageHooks::new(&mut space.pages);
        let mm = process.mm_mut();
        let layout = *mm.layout();
        let mut update = mm.update(&mut hooks);
        let cleared = mm.clear(layout, &mut update);
        update.finish();
        cleared.unwrap_or_else(|error| panic!("the process cannot end: {error}"));
    });
    match space::leave() {
        // Dropping the areas gives their last node back.
        Some(Space { pages, .. }) => pages,
        None => panic!("the replayed process is gone"),
    }
}

fn step(entry: &Entry<'static>, figures: &mut Figures, toucher: &mut Toucher) {
    let brk = with_mm(|mm| mm.current_brk());
    let before = match &entry.line {
        Line::Call(call, _) => Some(Before::new(call, brk)),
        _ => None,
    };
    match (ask(entry, figures), &entry.line) {
        (Step::Called(answer), Line::Call(call, _)) => {
            figures.calls += 1;
            figures.failed += u64::from(matches!(answer, Answer::Error(_)));
            if let (Call::Madvise { addr, len, .. }, true) = (call, Before::empties(call, answer)) {
                empty(*addr, *len);
            }
            say(format_args!("{} = {answer}\n", entry.input()));
            if let Some(before) = before {
                before.follow(call, answer, toucher);
            }
        }
        (Step::Snapshot, _) => {
            figures.snapshots += 1;
            let areas = with_mm(|mm| mm.map_count());
            println!("  after {:4} calls: {areas} areas", figures.calls);
            snapshot(toucher);
        }
        (_, Line::Maps(_)) => snapshot(toucher),
        (_, line) => {
            say(format_args!("{}\n", entry.text));
            match line {
                Line::Exec => toucher.forget(0, u64::MAX),
                Line::Stack(page) => toucher.ends(*page, PAGE_SIZE),
                _ => {}
            }
        }
    }
}

/// Has kvma do what the line asks for.
fn ask(entry: &Entry<'static>, figures: &mut Figures) -> Step {
    space::with(|space| {
        let Areas::Linux(process) = &mut space.areas else { panic!("not the replayed process") };
        let mut hooks = Timed::new(PageHooks::new(&mut space.pages));
        let begin = timer::now();
        let step = process.step(&entry.line, &mut hooks);
        if matches!(step, Ok(Step::Called(_))) {
            figures.ticks += timer::now() - begin;
            figures.hook_ticks += hooks.ticks();
        }
        step.unwrap_or_else(|error| panic!("line {} of the trace: {error}", entry.number))
    })
}

/// MADV_DONTNEED: the areas stay, their pages go.
fn empty(addr: u64, len: u64) {
    if let Some(last) = addr.checked_add(len).and_then(|end| end.checked_sub(1)) {
        space::with(|space| PageHooks::new(&mut space.pages).empty(addr, last));
    }
}

/// Prints the areas for the judge. Then every page ever written to must be as it was left, and the ends of every area and
/// the pages next to them must be allowed and refused as kvma says.
fn snapshot(toucher: &mut Toucher) {
    with_mm(|mm| {
        say(format_args!("maps {}\n", mm.maps().count()));
        for line in mm.maps() {
            say(format_args!("{line}\nVmFlags: {}\n", line.flags()));
        }
    });
    toucher.all();
    let mut at = 0;
    while let Some((start, last)) = space::with(|space| space.area_from(at)) {
        for page in [start.wrapping_sub(PAGE_SIZE), start, last, last.wrapping_add(1)] {
            toucher.page(space::page_of(page));
        }
        match last.checked_add(1) {
            Some(next) => at = next,
            None => break,
        }
    }
}

/// Writes to the judge's channel.
fn say(text: core::fmt::Arguments<'_>) {
    // The debug port takes everything.
    let _ = DebugPort.write_fmt(text);
}

/// Prints the address space for people.
pub fn print_maps() {
    with_mm(|mm| mm.maps().for_each(|line| println!("{line}")));
}
