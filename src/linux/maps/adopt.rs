//! Taking over what is mapped already: nobody is told, since nothing happens.

use super::{MapsError, MapsLine};
use crate::error::Error;
use crate::flags::VmaFlags;
use crate::hooks::NoHooks;
use crate::linux::VmFlags;
use crate::node::NodeAlloc;
use crate::range::{PageSize, VmRange};
use crate::ranges::Merge;
use crate::vm_map::{MapRequest, Placement, VmMap};
use crate::vma::{Attrs, Backing, VmaData, VmaNode};
use core::fmt;

/// Why a maps file could not be taken over. The map is still empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// A line, retry_with_nodes from one, is not one that Linux writes.
    Line(usize, MapsError),
    /// What a line, retry_with_nodes from one, describes does not fit into the map:
    /// [`Error::Unaligned`], [`Error::OutOfRange`] if it lies in the space in part,
    /// [`Error::Overlap`] if it does not lie above the line before.
    Vma(usize, Error),
    /// The map was not empty, [`Error::Busy`], or there were not enough nodes,
    /// [`Error::OutOfMemory`].
    Map(Error),
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::Line(line, error) => write!(f, "line {line}: {error}"),
            AdoptError::Vma(line, error) => write!(f, "line {line}: {error}"),
            AdoptError::Map(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AdoptError {}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Fills the empty map with the VMAs of a `/proc/PID/maps` file, boundary for boundary, without
    /// hooks. Returns how many there are. VMAs that lie wholly outside the space are passed over:
    /// `[vsyscall]` does, in a space of user addresses.
    ///
    /// `vma` gets each line with the attributes that it says: protection, `SHARED`, and where the
    /// line has an inode the object of that number, at the line's offset. It gives the attributes
    /// and the owner's data; an owner with files of more than one device gives the object another
    /// number.
    ///
    /// O(n log n), a node for each VMA, all taken before the first is put in.
    pub fn adopt_maps(
        &mut self,
        text: &str,
        vma: impl FnMut(&MapsLine<'_>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError> {
        self.adopt_lines(
            || text.split('\n').map(|line| (line.is_empty(), MapsLine::parse(line))),
            vma,
        )
    }

    /// The same for a file whose paths may be in any encoding, or none.
    pub fn adopt_maps_bytes(
        &mut self,
        text: &[u8],
        vma: impl FnMut(&MapsLine<'_, [u8]>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError> {
        let lines = || text.split(|&byte| byte == b'\n');
        self.adopt_lines(|| lines().map(|line| (line.is_empty(), MapsLine::parse_bytes(line))), vma)
    }

    /// `lines` gives each line, and whether it is empty.
    fn adopt_lines<
        't,
        T: ?Sized + 't,
        I: Iterator<Item = (bool, Result<MapsLine<'t, T>, MapsError>)>,
    >(
        &mut self,
        lines: impl Fn() -> I,
        mut vma: impl FnMut(&MapsLine<'_, T>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError> {
        if !self.is_empty() {
            return Err(AdoptError::Map(Error::Busy));
        }
        let count = self.check_maps(lines())?;
        let mut nobody = NoHooks;
        let mut update = self.update(&mut nobody);
        update.reserve(count).map_err(AdoptError::Map)?;
        let (space, page) = (self.space(), self.page_size());
        for line in lines().filter_map(|(_, line)| line.ok()).filter(|line| holds(space, line)) {
            let (attrs, data) = vma(&line, attrs_of(&line, page));
            let request = MapRequest::new(
                Placement::FixedNoReplace(line.start),
                line.end - line.start,
                attrs,
            );
            // Checked, free, and its node is in hand.
            let _ = self.map(request.with_data(data).with_merge(Merge::Never), &mut update);
        }
        Ok(self.len())
    }

    /// VMAs of the file that lie in the space, if all lines can be used.
    fn check_maps<'t, T: ?Sized + 't>(
        &self,
        lines: impl Iterator<Item = (bool, Result<MapsLine<'t, T>, MapsError>)>,
    ) -> Result<usize, AdoptError> {
        let (page, space) = (self.page_size(), self.space());
        let (mut count, mut end) = (0, 0);
        for (number, (_, line)) in (1..).zip(lines).filter(|(_, (is_empty, _))| !is_empty) {
            let line = line.map_err(|error| AdoptError::Line(number, error))?;
            let wrong = |error| Err(AdoptError::Vma(number, error));
            if line.start < end {
                return wrong(Error::Overlap);
            }
            end = line.end;
            if line.end <= space.start() || space.last() < line.start {
                continue;
            }
            if !holds(space, &line) {
                return wrong(Error::OutOfRange);
            }
            if ![line.start, line.end, line.offset].iter().all(|&at| page.is_aligned(at)) {
                return wrong(Error::Unaligned);
            }
            count += 1;
        }
        Ok(count)
    }
}

fn holds<T: ?Sized>(space: VmRange, line: &MapsLine<'_, T>) -> bool {
    // A line ends above its start.
    space.contains(line.start) && space.contains(line.end - 1)
}

fn attrs_of<T: ?Sized>(line: &MapsLine<'_, T>, page: PageSize) -> Attrs {
    let known = [
        (VmFlags::READ, VmaFlags::READ),
        (VmFlags::WRITE, VmaFlags::WRITE),
        (VmFlags::EXEC, VmaFlags::EXEC),
        (VmFlags::SHARED, VmaFlags::SHARED),
    ];
    let flags = known
        .into_iter()
        .filter(|(perm, _)| line.perms.contains(*perm))
        .map(|(_, flag)| flag)
        .collect();
    let backing = match line.inode {
        0 => Backing::Anonymous,
        id => Backing::Object { id, offset: page.page(line.offset) },
    };
    Attrs::default().with_flags(flags).with_backing(backing)
}
