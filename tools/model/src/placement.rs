//! Placement: the search for a free range, by trying every page.

use kvma::Error;

use crate::search::ByteSearch;
use crate::space::Space;

impl Space {
    /// `VmMap::find_gap`.
    ///
    /// # Errors
    ///
    /// Every error that the arguments deserve, or `NoSpace`.
    pub(crate) fn find_gap(&self, len: u64, search: &ByteSearch) -> Result<u64, Vec<Error>> {
        let page = self.config.page;
        let mut errors = Vec::new();
        if len == 0 {
            errors.push(Error::ZeroLength);
        }
        if [len, search.guard, search.align_offset].iter().any(|bytes| bytes % page != 0)
            || !search.align.is_power_of_two()
        {
            errors.push(Error::Unaligned);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // As mmap(2) does, a hint is rounded down to a page. It need not have the alignment.
        let hint = search.hint.map(|hint| hint - hint % page);
        if let Some(hint) = hint.filter(|&hint| self.fits(hint, len, search)) {
            return Ok(hint);
        }
        let fits = |addr: &u64| {
            let step = search.align.max(page);
            addr % step == search.align_offset % step && self.fits(*addr, len, search)
        };
        let mut starts = self.all().map(|index| self.config.addr(index));
        let found = if search.top_down { starts.rev().find(fits) } else { starts.find(fits) };
        found.ok_or_else(|| vec![Error::NoSpace])
    }

    /// Returns true if `len` bytes from `addr` and the guards are free and lie in the window.
    fn fits(&self, addr: u64, len: u64, search: &ByteSearch) -> bool {
        let Some(start) = addr.checked_sub(search.guard) else { return false };
        let guarded = u128::from(len) + 2 * u128::from(search.guard);
        let in_window = search.first <= start
            && u128::from(start) + guarded <= u128::from(search.last) + 1
            && u64::try_from(guarded).is_ok();
        in_window && self.range(start, guarded as u64).is_ok_and(|range| self.is_free(range))
    }
}
