//! Checks that the hooks were called as they must be.

use kvma::Attrs;

use crate::ensure::{ensure, ensure_eq};
use crate::page::advance;
use crate::recorder::{Edit, HookCall, PieceView};
use crate::tag::TagView;

/// Checks the calls of a failed operation: each `prepare` was cancelled, and nothing else happened.
pub(crate) fn check_rollback(calls: &[HookCall<TagView>]) -> Result<(), String> {
    let (mut prepared, mut cancelled) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            HookCall::Prepare(edit) => prepared.push(edit),
            HookCall::Cancel(edit) => cancelled.push(edit),
            HookCall::Refuse(_) => {}
            other => return Err(format!("after a refusal: {other:?}")),
        }
    }
    ensure_eq!(cancelled, prepared, "cancelled");
    Ok(())
}

/// Checks that the hooks prepared every edit, then made every edit, once and in order.
pub(crate) fn check_calls(
    calls: &[HookCall<TagView>],
    edits: &[Edit<TagView>],
) -> Result<(), String> {
    let prepared = edits.iter().filter(|edit| !matches!(edit, Edit::Advise(..)));
    let mut want: Vec<_> = prepared.cloned().map(HookCall::Prepare).collect();
    let flushed = edits.iter().filter(|edit| needs_flush(edit)).count();
    for (index, edit) in edits.iter().cloned().enumerate() {
        want.push(HookCall::Commit(edit));
        if index + 1 == flushed {
            want.push(HookCall::FlushBegin);
        }
    }
    if flushed > 0 {
        want.push(HookCall::FlushWait);
    }
    let removed = edits.iter().filter_map(|edit| match edit {
        Edit::Unmap(piece) => Some(piece.clone()),
        _ => None,
    });
    want.extend(removed.map(HookCall::Release));
    let same = calls.len() == want.len()
        && calls.iter().zip(&want).all(|(call, want)| same_call(call, want));
    ensure!(same, "the hooks were called: {calls:#x?}, should be {want:#x?}");
    Ok(())
}

/// Returns true if a TLB may hold entries that the edit has removed.
pub(crate) fn needs_flush(edit: &Edit<TagView>) -> bool {
    match edit {
        Edit::Unmap(_) | Edit::Protect(..) | Edit::Relocate(..) => true,
        Edit::Map(_) => false,
        Edit::Advise(_, advice) => advice.takes_pages(),
    }
}

/// Checks as [`check_calls`] does, for edits that are given page by page.
pub(crate) fn check_pages(
    calls: &[HookCall<TagView>],
    edits: &[Edit<TagView>],
    page: u64,
) -> Result<(), String> {
    let (mut prepared, mut done, mut released) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = Vec::new();
    for call in calls {
        match call {
            HookCall::Prepare(edit) => prepared.extend(by_page(edit, page)),
            HookCall::Commit(edit) => done.extend(by_page(edit, page)),
            HookCall::FlushBegin | HookCall::FlushWait => flush.push(done.len()),
            HookCall::Release(piece) if flush.len() == 2 => {
                released.extend(by_page(&Edit::Unmap(piece.clone()), page));
            }
            other => return Err(format!("unexpected {other:?}")),
        }
    }
    let want: Vec<_> = edits.iter().flat_map(|edit| by_page(edit, page)).collect();
    ensure_eq!(done, want.clone(), "pages of the edits that were made");
    let key = |edit: &PageEdit| (edit.addr, edit.phase);
    prepared.sort_by_key(key);
    let mut sorted = want.clone();
    sorted.sort_by_key(key);
    ensure_eq!(prepared, sorted, "pages of the edits that were prepared");
    let unmapped = want.iter().filter(|edit| edit.phase == Phase::Unmap).cloned();
    ensure_eq!(released, unmapped.collect::<Vec<_>>(), "pages that were released");
    let flushed = want.iter().filter(|edit| edit.phase < Phase::Map).count();
    let flushes = if flushed > 0 { vec![flushed, want.len()] } else { Vec::new() };
    ensure_eq!(flush, flushes, "edits before flush_begin and flush_wait");
    Ok(())
}

/// The phases of an operation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Unmap,
    Protect,
    Map,
    Relocate,
    Advise,
}

/// The part of an edit that concerns one page.
#[derive(Clone, Debug, PartialEq)]
struct PageEdit {
    phase: Phase,
    addr: u64,
    attrs: Attrs,
    old: Option<Attrs>,
}

/// Splits an edit into its pages.
fn by_page(edit: &Edit<TagView>, page: u64) -> Vec<PageEdit> {
    let (phase, piece, old) = match edit {
        Edit::Unmap(piece) => (Phase::Unmap, piece, None),
        Edit::Protect(piece, old) => (Phase::Protect, piece, Some(*old)),
        Edit::Map(piece) => (Phase::Map, piece, None),
        Edit::Relocate(piece, _) => (Phase::Relocate, piece, None),
        Edit::Advise(piece, _) => (Phase::Advise, piece, None),
    };
    let page_edit = |ahead| PageEdit {
        phase,
        addr: piece.start + ahead * page,
        attrs: advance(piece.attrs, ahead * page),
        old: old.map(|old| advance(old, ahead * page)),
    };
    (0..piece.pages).map(page_edit).collect()
}

fn same_call(is: &HookCall<TagView>, want: &HookCall<TagView>) -> bool {
    match (is, want) {
        (HookCall::Prepare(is), HookCall::Prepare(want)) => {
            same_edit(is, want, if matches!(is, Edit::Map(_)) { Data::Own } else { Data::Around })
        }
        // An unmapped piece has been split off its VMA. The others may be parts of larger VMAs.
        (HookCall::Commit(is), HookCall::Commit(want)) => {
            same_edit(is, want, if matches!(is, Edit::Unmap(_)) { Data::Own } else { Data::Around })
        }
        _ => is == want,
    }
}

/// The VMA whose data a piece shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    /// One of the piece's own range.
    Own,
    /// One that may reach beyond the piece.
    Around,
}

fn same_edit(is: &Edit<TagView>, want: &Edit<TagView>, data: Data) -> bool {
    let same = |is: &PieceView<TagView>, want: &PieceView<TagView>| {
        let (whole, part) = (is.data, want.data);
        let ahead = part.at.wrapping_sub(whole.at);
        let inside = whole.file == part.file && ahead <= whole.len && part.len <= whole.len - ahead;
        (is.start, is.pages, is.attrs) == (want.start, want.pages, want.attrs)
            && inside
            && (data == Data::Around || whole == part)
    };
    match (is, want) {
        (Edit::Map(is), Edit::Map(want)) | (Edit::Unmap(is), Edit::Unmap(want)) => same(is, want),
        (Edit::Protect(is, old), Edit::Protect(want, was)) => same(is, want) && old == was,
        (Edit::Relocate(is, to), Edit::Relocate(want, target)) => same(is, want) && to == target,
        (Edit::Advise(is, one), Edit::Advise(want, other)) => same(is, want) && one == other,
        _ => false,
    }
}
