//! Filling a map from `/proc/PID/maps`.

use core::fmt;

use super::parse::lines;
use super::{MapsError, MapsLine};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::NoHooks;
use crate::linux::VmFlags;
use crate::node::NodeAlloc;
use crate::placement::{MapRequest, Placement};
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Backing, VmaData, VmaNode};

/// A maps file could not be taken over. The map is still empty.
///
/// ```
/// use kvma::linux::maps::AdoptError;
/// # use kvma::{Attrs, Error, FixedPool, PageSize, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &nodes)?;
/// // An editor has cut off the second line.
/// let text = "00400000-00401000 r-xp 00000000 08:01 7 /bin/true\n00401000-0040";
/// let answer = map.adopt_maps(text, |_line, attrs| (attrs, ()));
/// assert!(matches!(answer, Err(AdoptError::Line(2, _))));
/// assert!(map.is_empty());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// A line, counted from one, is not one that Linux writes.
    Line(usize, MapsError),
    /// The VMA of a line, counted from one, does not fit into the map: [`Error::Unaligned`],
    /// [`Error::OutOfRange`] if it lies in the space in part, [`Error::Overlap`] if it does not lie
    /// above the line before, [`Error::Claimed`] if a claim is in the way.
    Vma(usize, Error),
    /// The map was not empty ([`Error::NotEmpty`]), or there were not enough nodes
    /// ([`Error::OutOfMemory`]).
    Map(Error),
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line, error) => write!(f, "line {line}: {error}"),
            Self::Vma(line, error) => write!(f, "line {line}: {error}"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AdoptError {}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Fills the empty map with the VMAs of a `/proc/PID/maps` file, boundary for boundary, without
    /// hooks. Returns how many there are.
    ///
    /// VMAs that lie wholly outside the space are passed over, as `[vsyscall]` is in a space of
    /// user addresses. Empty lines are, too.
    ///
    /// `vma` is given each line, with the attributes that it tells: protection, `SHARED`, and where
    /// the line has an inode the object of that number, at the line's offset. It returns the
    /// attributes and the user data of the VMA. A kernel with files of more than one device gives
    /// the object another number.
    ///
    /// O(n log n). Needs a node for each VMA, all taken before the first VMA is added.
    ///
    /// # Errors
    ///
    /// See [`AdoptError`].
    ///
    /// ```
    /// # use kvma::{Attrs, FixedPool, PageSize, Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// let text = "\
    /// 00400000-00401000 r-xp 00000000 08:01 7 /bin/true
    /// 00401000-00403000 rw-p 00001000 08:01 7 /bin/true
    /// ";
    /// let count = map.adopt_maps(text, |_line, attrs| (attrs, ()));
    /// assert_eq!(count, Ok(2));
    /// assert_eq!(map.find(0x40_0800).map(|vma| vma.prot()), Some(Prot::RX));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn adopt_maps(
        &mut self,
        text: &str,
        vma: impl FnMut(&MapsLine<'_>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError> {
        self.adopt_lines(|| lines(text).map(|line| (line.is_empty(), MapsLine::parse(line))), vma)
    }

    /// Fills the empty map as [`adopt_maps`](Self::adopt_maps) does, from a file whose paths may be
    /// in any encoding, or in none.
    ///
    /// # Errors
    ///
    /// See [`AdoptError`].
    pub fn adopt_maps_bytes(
        &mut self,
        text: &[u8],
        vma: impl FnMut(&MapsLine<'_, [u8]>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError> {
        let lines = || text.split(|&byte| byte == b'\n');
        self.adopt_lines(|| lines().map(|line| (line.is_empty(), MapsLine::parse_bytes(line))), vma)
    }

    /// Fills the map from `lines`, which tells of each line whether it is empty.
    fn adopt_lines<'t, T, I>(
        &mut self,
        lines: impl Fn() -> I,
        mut vma: impl FnMut(&MapsLine<'_, T>, Attrs) -> (Attrs, V),
    ) -> Result<usize, AdoptError>
    where
        T: ?Sized + 't,
        I: Iterator<Item = (bool, Result<MapsLine<'t, T>, MapsError>)>,
    {
        if !self.is_empty() {
            return Err(AdoptError::Map(Error::NotEmpty));
        }
        let count = self.check_lines(lines())?;
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks);
        update.preallocate(count).map_err(AdoptError::Map)?;
        let space = self.space();
        for line in lines().filter_map(|(_, line)| line.ok()).filter(|line| holds(space, line)) {
            let (attrs, data) = vma(&line, attrs_of(&line));
            let (placement, len) = (Placement::FixedNoReplace(line.start), line.end - line.start);
            let request = MapRequest::new(placement, len, attrs).with_data(data);
            let request = request.with_merge(Merge::Never);
            // Checked, free, and there is a node for it: does not fail.
            self.map(request, &mut update).map_err(AdoptError::Map)?;
        }
        Ok(self.len())
    }

    /// Checks that every line can be used, and counts the VMAs that lie in the space.
    fn check_lines<'t, T: ?Sized + 't>(
        &self,
        lines: impl Iterator<Item = (bool, Result<MapsLine<'t, T>, MapsError>)>,
    ) -> Result<usize, AdoptError> {
        let (page_size, space) = (self.page_size(), self.space());
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
            if ![line.start, line.end, line.offset].iter().all(|&at| page_size.is_aligned(at)) {
                return wrong(Error::Unaligned);
            }
            if !self.is_free(line.start, line.end - line.start) {
                return wrong(Error::Claimed);
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Returns `true` if the line's VMA lies in `space`, all of it. A line ends above its start.
fn holds<T: ?Sized>(space: VmRange, line: &MapsLine<'_, T>) -> bool {
    space.contains(line.start) && space.contains(line.end - 1)
}

fn attrs_of<T: ?Sized>(line: &MapsLine<'_, T>) -> Attrs {
    let known =
        [(VmFlags::READ, Prot::READ), (VmFlags::WRITE, Prot::WRITE), (VmFlags::EXEC, Prot::EXEC)];
    let prot = known.into_iter().filter(|(flag, _)| line.perms.contains(*flag));
    let attrs = Attrs::new(prot.map(|(_, prot)| prot).collect());
    let attrs = if line.perms.contains(VmFlags::SHARED) { attrs.shared() } else { attrs };
    match line.inode {
        0 => attrs,
        id => attrs.with_backing(Backing::Object { id, offset: line.offset }),
    }
}
