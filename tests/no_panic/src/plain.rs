//! Plain values: ranges, page sizes, attributes, requests, errors.

use kvma::{
    Attrs, Backing, Direction, Errno, Error, HookError, MapRequest, PageSize, Search,
    SplitGranularity, VmRange, VmaFlags,
};

use crate::opaque::{any, debug, drain, show, sink};
use crate::world::{Data, Refused};

pub fn all() {
    ranges();
    attributes();
    requests();
    errors();
}

#[inline(never)]
fn ranges() {
    sink(PageSize::new(any()));
    let page: PageSize = any();
    sink((page.bytes(), page.shift(), page.is_aligned(any())));
    sink((page.round_up(any()), page.round_down(any())));
    debug(page);
    let ranges = [VmRange::new(any(), any(), page), VmRange::from_bounds(any(), any(), page)];
    for range in ranges.into_iter().flatten() {
        sink((range.start(), range.last(), range.end(), range.len(), range.is_empty()));
        sink((range.page_count(), range.page_size(), range.contains(any())));
        drain(range.pages());
        debug(range);
        show(range);
        if let Ok(other) = VmRange::new(any(), any(), any()) {
            sink(range.overlaps(other));
        }
    }
}

#[inline(never)]
fn attributes() {
    let attrs: Attrs = any();
    sink((attrs.prot(), attrs.flags(), attrs.mem_type(), attrs.split_granularity()));
    sink((attrs.backing(), attrs.user_bits(), attrs.user_flags(), attrs.advance(any())));
    sink((attrs.no_merge(), attrs.shared(), attrs.locked(), attrs.grows_down()));
    sink(attrs.with_prot(any()));
    debug(attrs);
    let backing: Backing = any();
    sink(backing.advance(any()));
    debug(backing);
    let granularity: SplitGranularity = any();
    sink((granularity.allows(any()), granularity.bytes()));
    sink(SplitGranularity::from_bytes(any()));
    debug(granularity);
    let flags: VmaFlags = any();
    sink((flags.prot(), flags.mem_type(), flags.split_granularity(), flags.user_flags()));
    sink((flags.with_prot(any()), flags.with_mem_type(any()), flags.with_user_flags(any())));
    sink(flags.with_split_granularity(any()));
}

#[inline(never)]
fn requests() {
    let request: MapRequest<Data> = any();
    sink((request.attrs(), request.placement(), request.len(), request.is_empty()));
    sink(any::<MapRequest>().with_data(any::<Data>()).with_merge(any()));
    let search: Search = any();
    sink(search);
    debug(any::<Direction>());
}

#[inline(never)]
fn errors() {
    let error: Error = any();
    sink(error.errno());
    show(error);
    debug(error);
    let errno = Errno(any());
    sink(errno.name());
    show(errno);
    debug(errno);
    sink(Errno::from(error));
    let error = if any() { HookError::Map(error) } else { HookError::Hook(Refused) };
    debug(error);
}
