//! Snapshots as canonical lists.
//!
//! Pages that have been touched keep a kernel from merging some neighbours, which no call says. So
//! neighbouring VMAs that differ in nothing and lie at contiguous offsets count as one, on both
//! sides.

use kvma::linux::{File, VmFlags};

use crate::snapshot::SnapshotVma;

/// Whether two lists of VMAs, each in ascending order, are the same once neighbours have been
/// joined. Flags are compared if `kernel` knows them.
pub fn same<'a, 'b>(
    kernel: impl Iterator<Item = SnapshotVma<'a>> + Clone,
    ours: impl Iterator<Item = SnapshotVma<'b>>,
) -> bool {
    let flagged = kernel.clone().any(|vma| vma.flags.is_some());
    let ours = ours.map(|mut vma| {
        vma.flags = vma.flags.filter(|_| flagged);
        vma
    });
    let mut kernel = Joined::new(kernel);
    let mut ours = Joined::new(ours);
    loop {
        match (kernel.next(), ours.next()) {
            (None, None) => return true,
            (Some(kernel), Some(ours)) if equal(&kernel, &ours) => {}
            _ => return false,
        }
    }
}

/// A VMA's path as far as it is compared: no call says that a program has unlinked a file, but
/// Linux marks it. What has never had a path keeps its mark.
fn path<'a>(vma: &SnapshotVma<'a>) -> &'a str {
    let name = vma.backing.name().trim_ascii();
    let unlinked_from_birth =
        ["/dev/zero", "/memfd", "/SYSV"].iter().any(|prefix| name.starts_with(prefix));
    if unlinked_from_birth { name } else { name.strip_suffix(" (deleted)").unwrap_or(name) }
}

/// Everything but where the VMA lies.
fn alike(left: &SnapshotVma<'_>, right: &SnapshotVma<'_>) -> bool {
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
        && alike(left, right)
}

/// Whether `right` continues `left`.
fn continues(left: &SnapshotVma<'_>, right: &SnapshotVma<'_>) -> bool {
    left.end == right.start
        && alike(left, right)
        && (left.backing.inode() == 0
            || left.offset.wrapping_add(left.end - left.start) == right.offset)
}

struct Joined<'a, I: Iterator<Item = SnapshotVma<'a>>> {
    vmas: core::iter::Peekable<I>,
}

impl<'a, I: Iterator<Item = SnapshotVma<'a>>> Joined<'a, I> {
    fn new(vmas: I) -> Self {
        Self { vmas: vmas.peekable() }
    }
}

impl<'a, I: Iterator<Item = SnapshotVma<'a>>> Iterator for Joined<'a, I> {
    type Item = SnapshotVma<'a>;

    fn next(&mut self) -> Option<SnapshotVma<'a>> {
        let mut vma = self.vmas.next()?;
        while let Some(next) = self.vmas.next_if(|next| continues(&vma, next)) {
            vma.end = next.end;
        }
        Some(vma)
    }
}

impl SnapshotVma<'_> {
    /// The permissions in `flags` as a maps line shows them: `s` stands for MAY_SHARE.
    pub fn shown(flags: VmFlags) -> VmFlags {
        let mut perms = flags & VmFlags::ACCESS;
        perms.set(VmFlags::SHARED, flags.contains(VmFlags::MAY_SHARE));
        perms
    }
}
