//! Scenarios: what page tables and VMAs must do together, shown case by case. First on kvma's core
//! alone, with plain VMAs in an address space of their own; then with processes, by calls of the
//! Linux layer.

mod access;
mod agreement;
mod family;
mod first_write;
mod fork;
mod fork_races;
mod guards;
mod huge;
mod huge_random;
mod populate;
mod program;
mod races;
mod random;
mod stack;
mod stress;
mod user_mode;

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::linux::Layout;
use kvma::vm_map::{SourceRange, Update};
use kvma::{
    Attrs, Errno, Hooks, MapRequest, Merge, PageSize, Placement, Prot, Search, VmMap, VmaNode,
};

use self::program::{Program, ProgramMm};
use crate::frames::{self, Use};
use crate::nodes::{Nodes, nodes};
use crate::pages::Pages;
use crate::paging::{LOWER_HALF_END, PAGE_SIZE};
use crate::space::Space;
use crate::{page_cache, println};

/// Plain VMAs, without user data.
type CoreMap = VmMap<(), &'static Nodes<VmaNode>>;

static NODES: Nodes<VmaNode> = nodes();

/// An address space of plain VMAs. Lengths are numbers of pages.
struct CoreSpace<'s>(&'s Space<CoreMap>);

type CoreUpdate<'h, H> = Update<'h, (), &'static Nodes<VmaNode>, H>;

impl CoreSpace<'_> {
    /// Maps pages in the lowest gap that holds them.
    fn map(&self, pages: u64, attrs: Attrs) -> u64 {
        let placement = Placement::Any(Search::new());
        let request = MapRequest::new(placement, pages * PAGE_SIZE, attrs);
        expect(self.0.change(|map, update| map.map(request, update)))
    }

    /// Maps pages at an address, and replaces what is mapped there.
    fn map_at(&self, address: u64, pages: u64, attrs: Attrs) {
        expect(self.0.change(|map, update| map_over(map, address, pages, attrs, update)));
    }

    fn unmap(&self, address: u64, pages: u64) {
        expect(self.0.change(|map, update| map.unmap(address, pages * PAGE_SIZE, update)));
    }

    fn protect(&self, address: u64, pages: u64, prot: Prot) {
        expect(self.0.change(|map, update| map.protect(address, pages * PAGE_SIZE, prot, update)));
    }

    fn relocate(&self, from: u64, pages: u64, to: u64) {
        expect(self.0.change(|map, update| {
            map.relocate(from, pages * PAGE_SIZE, to, SourceRange::Unmap, Merge::Both, update)
        }));
    }

    /// Returns the address of so many free pages.
    fn find_gap(&self, pages: u64) -> u64 {
        let at = self.map(pages, Attrs::new(Prot::NONE));
        self.unmap(at, pages);
        at
    }
}

/// Maps pages at an address, and replaces what is mapped there.
fn map_over<H: Hooks<(), Error = Errno>>(
    map: &mut CoreMap,
    address: u64,
    pages: u64,
    attrs: Attrs,
    update: &mut CoreUpdate<'_, H>,
) -> Result<u64, Errno> {
    map.map(MapRequest::new(Placement::Fixed(address), pages * PAGE_SIZE, attrs), update)
}

fn expect<R, E: fmt::Display>(result: Result<R, E>) -> R {
    result.unwrap_or_else(|error| panic!("kvma refused: {error}"))
}

/// Checks that a statement about the kernel holds, and prints it.
///
/// # Panics
///
/// If it does not hold.
fn check(statement: &str, holds: bool) {
    assert!(holds, "this does not hold: {statement}");
    self::statement(format_args!("  ok  {}", Wrapped { text: statement, indent: 6 }));
}

/// Counts and prints a statement that holds.
fn statement(lines: fmt::Arguments<'_>) {
    STATEMENTS.fetch_add(1, Relaxed);
    note(lines);
}

/// Prints lines, unless statements are only counted.
fn note(lines: fmt::Arguments<'_>) {
    if !COUNTED.load(Relaxed) {
        println!("{lines}");
    }
}

/// True if statements are counted, instead of printed.
static COUNTED: AtomicBool = AtomicBool::new(false);
/// The number of statements that hold.
static STATEMENTS: AtomicU64 = AtomicU64::new(0);

/// Lets each group of scenarios print a line with the number of its statements, instead of all of
/// them.
pub fn count_statements() {
    COUNTED.store(true, Relaxed);
}

/// Returns the number of statements that hold.
pub fn statements() -> u64 {
    STATEMENTS.load(Relaxed)
}

/// Runs a group of scenarios.
fn group(title: &str, run: impl FnOnce()) {
    let before = statements();
    run();
    if COUNTED.load(Relaxed) {
        println!("  ok  {title:<64} {:>3}", statements() - before);
    }
}

/// A text in lines of 80 columns, all of which but the first are indented.
struct Wrapped<'t> {
    text: &'t str,
    indent: usize,
}

impl fmt::Display for Wrapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut column = self.indent;
        for (count, word) in self.text.split(' ').enumerate() {
            if count > 0 && column + 1 + word.len() > 80 {
                write!(f, "\n{:width$}", "", width = self.indent)?;
                column = self.indent;
            } else if count > 0 {
                f.write_str(" ")?;
                column += 1;
            }
            f.write_str(word)?;
            column += word.len();
        }
        Ok(())
    }
}

/// Runs all scenarios in address spaces with these pages, and gives the pages back empty.
pub fn run(pages: Pages) -> Pages {
    let frames_before = user_frames();
    let pages = with_processes(core_alone(pages));
    page_cache::drop_all();
    check(
        "after all is torn down, no frame, page table or node is in use",
        user_frames() == frames_before && NODES.in_use() == 0 && program::NODES.in_use() == 0,
    );
    pages
}

fn core_alone(pages: Pages) -> Pages {
    println!("scenarios on kvma's core alone");
    let map =
        expect(CoreMap::new(PAGE_SIZE..=LOWER_HALF_END - PAGE_SIZE - 1, PageSize::SIZE_4K, &NODES));
    let space = Space::new(map, pages);
    space.enter(|| {
        let core = CoreSpace(&space);
        group("accesses are made or refused as VMAs say", || access::run(&core));
        println!("scenarios with two processors");
        group("changes overtake page faults, and flushes end first", || races::run(&core));
        group("one processor changes pages while the other uses them", || stress::run(&core));
        expect(space.change(|map, update| map.clear(update)));
    });
    space.into_pages()
}

fn with_processes(pages: Pages) -> Pages {
    println!("scenarios with processes");
    let mm = expect(ProgramMm::new(Layout::x86_64(8 << 20), &program::NODES));
    let first = Program(Space::new(mm, pages));
    first.0.enter(|| {
        group("the first write to a VMA is accounted", || first_write::run(&first));
        group("forks share pages until they are written to", || fork::run(&first));
        group("forks overtake page faults, and fail half-way", || fork_races::run(&first));
        group("parents and children live on a processor each", || family::run(&first));
        group("stacks grow, and no further than they may", || stack::run(&first));
        group("guards refuse, move and are inherited", || guards::run(&first));
        group("huge pages are split where a part of them changes", || {
            huge::run(&first);
            huge_random::run(&first);
        });
        group("populated pages cause no faults", || populate::run(&first));
        group("threads begin where they are to begin", user_mode::run);
        expect(first.0.change(|mm, call| mm.clear(*mm.layout(), call)));
    });
    first.0.into_pages()
}

fn user_frames() -> usize {
    [Use::Private, Use::Shared, Use::Table].map(frames::in_use).iter().sum()
}
