//! The program. Every step is checked, and the first mistake ends the boot.

use kvma::{Backing, Error, Prot};

use crate::space::{SPACE, map_stack, mmap, mprotect, munmap};
use crate::traps::{load, store};
use crate::{fault, file, frames, println};

const PAGE: u64 = 4096;

pub fn run() -> Result<(), Error> {
    demand_paging()?;
    file_at_an_offset()?;
    protection()?;
    guarded_stack()?;
    refusals();
    print_map()?;
    everything_goes()
}

/// Pages come when they are touched, not before.
fn demand_paging() -> Result<(), Error> {
    let addr = mmap(256 * PAGE, Prot::RW, Backing::Anonymous)?;
    let before = frames::in_use();
    assert_eq!(load(addr + 5 * PAGE), Some(0), "a fresh page holds zeros");
    assert_eq!(store(addr + 5 * PAGE, 42), Some(()));
    assert_eq!(load(addr + 5 * PAGE), Some(42));
    // The page, and three tables on the way to it.
    assert_eq!(frames::in_use(), before + 4);
    println!("demand paging    256 pages mapped at {addr:#x}, 1 touched, 4 frames used");
    munmap(addr, 256 * PAGE)?;
    assert_eq!(frames::in_use(), before, "its frames and tables are back");
    assert_eq!(load(addr + 5 * PAGE), None, "what is unmapped is refused");
    println!("munmap           the 4 frames are back, and loads are refused");
    Ok(())
}

/// A VMA that is split knows which page of the file each part begins with.
fn file_at_an_offset() -> Result<(), Error> {
    let backing = Backing::Object { id: file::ID, offset: PAGE };
    let addr = mmap(3 * PAGE, Prot::READ, backing)?;
    assert_eq!(load(addr), Some(b'b'), "the mapping begins with the file's second page");
    assert_eq!(load(addr + PAGE), Some(b'c'), "and goes on with its third");
    assert_eq!(store(addr, 0), None, "it is read-only");
    munmap(addr + PAGE, PAGE)?;
    assert_eq!(load(addr + PAGE), None);
    assert_eq!(load(addr + 2 * PAGE), Some(b'd'), "the right part knows its offset");
    println!("file             from byte {PAGE} on: b, then a hole, then d");
    Ok(())
}

/// Rights are taken away at once; contents stay.
fn protection() -> Result<(), Error> {
    let addr = mmap(3 * PAGE, Prot::RW, Backing::Anonymous)?;
    let vmas = SPACE.len();
    let middle = addr + PAGE;
    assert_eq!(store(middle, 1), Some(()));
    mprotect(middle, PAGE, Prot::READ)?;
    assert_eq!(SPACE.len(), vmas + 2, "one VMA has become three");
    assert_eq!((load(middle), store(middle, 2)), (Some(1), None), "read-only");
    mprotect(middle, PAGE, Prot::NONE)?;
    assert_eq!(load(middle), None, "no access at all");
    mprotect(middle, PAGE, Prot::RW)?;
    assert_eq!(SPACE.len(), vmas, "and one again");
    assert_eq!((load(middle), store(middle, 3)), (Some(1), Some(())), "its contents have stayed");
    println!(
        "mprotect         read-only, no access, and back: contents stayed, 3 VMAs are 1 again"
    );
    Ok(())
}

/// A stack that overflows meets its guard page, not its neighbour.
fn guarded_stack() -> Result<(), Error> {
    let neighbour = mmap(PAGE, Prot::RW, Backing::Anonymous)?;
    let top = map_stack(4 * PAGE)?;
    let depth = (1..).find(|depth| store(top - depth, 0xee).is_none()).unwrap_or(u64::MAX);
    assert_eq!(depth, 4 * PAGE + 1, "the first byte below the stack is refused");
    assert_eq!(load(neighbour), Some(0));
    println!("guard page       a stack of {} bytes overflows at byte {depth}", 4 * PAGE);
    Ok(())
}

/// Nonsense is an error, and changes nothing.
fn refusals() {
    let vmas = SPACE.len();
    assert_eq!(mmap(0, Prot::RW, Backing::Anonymous), Err(Error::ZeroLength));
    assert_eq!(mmap(u64::MAX, Prot::RW, Backing::Anonymous), Err(Error::NoSpace));
    assert_eq!(munmap(1, PAGE), Err(Error::Unaligned));
    assert_eq!(mprotect(0x100_0000_0000, PAGE, Prot::RW), Err(Error::NotMapped));
    assert_eq!(SPACE.len(), vmas);
    println!("nonsense         4 calls refused, nothing changed");
}

fn print_map() -> Result<(), Error> {
    println!("\nthe address space\n{}", *SPACE);
    Ok(())
}

fn everything_goes() -> Result<(), Error> {
    SPACE.clear(&mut crate::page_table::PageHooks::default())?;
    assert_eq!(frames::in_use(), 0, "no frame and no page table leaks");
    assert!(SPACE.is_empty());
    let (served, refused) = fault::counts();
    println!("{served} page faults served, {refused} refused; no frame leaked");
    Ok(())
}
