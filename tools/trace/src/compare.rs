//! Compares snapshots in a canonical form.
//!
//! Linux does not merge some neighbours once their pages have been used, which no call shows. So
//! neighbours with the same attributes and contiguous offsets count as one VMA on both sides.

use core::iter::Peekable;

use kvma::linux::File;

use crate::snapshot::SnapshotVma;

/// Returns true if two lists of VMAs are equal once neighbours have been merged.
///
/// Both lists are in ascending order. Flags are compared if `linux` has them.
pub fn same<'a, 'b>(
    linux: impl Iterator<Item = SnapshotVma<'a>> + Clone,
    ours: impl Iterator<Item = SnapshotVma<'b>>,
) -> bool {
    let has_flags = linux.clone().any(|vma| vma.flags.is_some());
    let ours = ours.map(|mut vma| {
        vma.flags = vma.flags.filter(|_| has_flags);
        vma
    });
    let mut linux = Merged { vmas: linux.peekable() };
    let mut ours = Merged { vmas: ours.peekable() };
    loop {
        match (linux.next(), ours.next()) {
            (None, None) => return true,
            (Some(linux), Some(ours)) if equal(&linux, &ours) => {}
            _ => return false,
        }
    }
}

/// Returns the part of a VMA's path that is compared: Linux marks a file that the program has
/// unlinked, which no call shows. Objects that never had a path keep the mark.
fn path<'a>(vma: &SnapshotVma<'a>) -> &'a str {
    let name = vma.backing.name().trim_ascii();
    let never_had_a_path =
        ["/dev/zero", "/memfd", "/SYSV"].iter().any(|prefix| name.starts_with(prefix));
    if never_had_a_path { name } else { name.strip_suffix(" (deleted)").unwrap_or(name) }
}

/// Returns true if the two differ at most in their addresses and offsets.
fn same_attributes(left: &SnapshotVma<'_>, right: &SnapshotVma<'_>) -> bool {
    let inode = left.backing.inode();
    left.perms == right.perms
        && inode == right.backing.inode()
        && (inode == 0 || left.backing.device() == right.backing.device())
        && path(left) == path(right)
        && left.flags == right.flags
}

fn equal(left: &SnapshotVma<'_>, right: &SnapshotVma<'_>) -> bool {
    left.start == right.start
        && left.end == right.end
        && (left.backing.inode() == 0 || left.offset == right.offset)
        && same_attributes(left, right)
}

/// Returns true if `right` begins where `left` ends, in addresses and offsets.
fn contiguous(left: &SnapshotVma<'_>, right: &SnapshotVma<'_>) -> bool {
    left.end == right.start
        && same_attributes(left, right)
        && (left.backing.inode() == 0
            || left.offset.wrapping_add(left.end - left.start) == right.offset)
}

/// Merges contiguous neighbours.
struct Merged<'a, I: Iterator<Item = SnapshotVma<'a>>> {
    vmas: Peekable<I>,
}

impl<'a, I: Iterator<Item = SnapshotVma<'a>>> Iterator for Merged<'a, I> {
    type Item = SnapshotVma<'a>;

    fn next(&mut self) -> Option<SnapshotVma<'a>> {
        let mut vma = self.vmas.next()?;
        while let Some(next) = self.vmas.next_if(|next| contiguous(&vma, next)) {
            vma.end = next.end;
        }
        Some(vma)
    }
}
