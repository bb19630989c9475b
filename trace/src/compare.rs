//! Snapshots as canonical lists.
//!
//! Pages that have been touched keep a kernel from merging some neighbours, which no call says. So neighbouring areas
//! that differ in nothing and lie at contiguous offsets count as one, on both sides.

use kvma::linux::{File, VmFlags};

use crate::snapshot::Area;

/// Whether two lists of areas, each in ascending order, are the same once neighbours have been joined. Flags are
/// compared if `kernel` knows them.
pub fn same<'a, 'b>(
    kernel: impl Iterator<Item = Area<'a>> + Clone,
    ours: impl Iterator<Item = Area<'b>>,
) -> bool {
    let flagged = kernel.clone().any(|area| area.flags.is_some());
    let ours = ours.map(|mut area| {
        area.flags = area.flags.filter(|_| flagged);
        area
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

/// An area's path as far as it is compared: no call says that a program has unlinked a file, but Linux marks it. What
/// has never had a path keeps its mark.
fn path<'a>(area: &Area<'a>) -> &'a str {
    let name = area.backing.name().trim_ascii();
    let unlinked_from_birth = ["/dev/zero", "/memfd", "/SYSV"].iter().any(|prefix| name.starts_with(prefix));
    if unlinked_from_birth { name } else { name.strip_suffix(" (deleted)").unwrap_or(name) }
}

/// Everything but where the area lies.
fn alike(left: &Area<'_>, right: &Area<'_>) -> bool {
    let inode = left.backing.inode();
    left.perms == right.perms
        && inode == right.backing.inode()
        && (inode == 0 || left.backing.device() == right.backing.device())
        && path(left) == path(right)
        && left.flags == right.flags
}

fn equal(left: &Area<'_>, right: &Area<'_>) -> bool {
    left.start == right.start
        && left.end == right.end
        && (left.backing.inode() == 0 || left.offset == right.offset)
        && alike(left, right)
}

/// Whether `right` continues `left`.
fn continues(left: &Area<'_>, right: &Area<'_>) -> bool {
    left.end == right.start
        && alike(left, right)
        && (left.backing.inode() == 0 || left.offset.wrapping_add(left.end - left.start) == right.offset)
}

struct Joined<'a, I: Iterator<Item = Area<'a>>> {
    areas: core::iter::Peekable<I>,
}

impl<'a, I: Iterator<Item = Area<'a>>> Joined<'a, I> {
    fn new(areas: I) -> Self {
        Self { areas: areas.peekable() }
    }
}

impl<'a, I: Iterator<Item = Area<'a>>> Iterator for Joined<'a, I> {
    type Item = Area<'a>;

    fn next(&mut self) -> Option<Area<'a>> {
        let mut area = self.areas.next()?;
        while let Some(next) = self.areas.next_if(|next| continues(&area, next)) {
            area.end = next.end;
        }
        Some(area)
    }
}

impl Area<'_> {
    /// The permissions in `flags` as a maps line shows them: `s` stands for MAY_SHARE.
    pub fn shown(flags: VmFlags) -> VmFlags {
        let mut perms = flags & VmFlags::ACCESS;
        perms.set(VmFlags::SHARED, flags.contains(VmFlags::MAY_SHARE));
        perms
    }
}
