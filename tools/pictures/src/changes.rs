//! The changes between two moments.

use std::collections::{HashMap, HashSet};

use crate::space::{Space, VmaEntry};

/// One difference between two states of an address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A VMA is new.
    Added(VmaEntry),
    /// A VMA has gone.
    Removed(VmaEntry),
    /// A VMA has grown or shrunk at one end, or has other attributes.
    Changed {
        /// The VMA as it was.
        before: VmaEntry,
        /// The VMA as it is.
        after: VmaEntry,
    },
}

impl Change {
    /// Returns the VMA as it is, or as it was if it has gone.
    pub fn vma(&self) -> &VmaEntry {
        match self {
            Self::Added(vma) | Self::Removed(vma) | Self::Changed { after: vma, .. } => vma,
        }
    }
}

/// Returns the differences from `before` to `after`, in the order of addresses. O(n) for n VMAs,
/// and O(m log m) for m changes.
///
/// A VMA that has gone and a new one with the same name and the same start, or else the same end,
/// are one VMA that has changed.
pub fn changes(before: &Space, after: &Space) -> Vec<Change> {
    let kept: HashSet<&VmaEntry> = before.vmas().iter().collect();
    let now: HashSet<&VmaEntry> = after.vmas().iter().collect();
    let gone: Vec<_> = before.vmas().iter().filter(|vma| !now.contains(vma)).collect();
    let by_start: HashMap<_, _> = gone.iter().map(|vma| (vma.start(), *vma)).collect();
    let by_end: HashMap<_, _> = gone.iter().map(|vma| (vma.end(), *vma)).collect();

    let mut taken = HashSet::new();
    let mut changes = Vec::new();
    for vma in after.vmas().iter().filter(|vma| !kept.contains(vma)) {
        let candidates = [by_start.get(&vma.start()), by_end.get(&vma.end())];
        let former = candidates
            .into_iter()
            .flatten()
            .find(|former| former.name() == vma.name() && !taken.contains(&former.start()));
        changes.push(match former {
            Some(former) => {
                taken.insert(former.start());
                Change::Changed { before: (*former).clone(), after: vma.clone() }
            }
            None => Change::Added(vma.clone()),
        });
    }
    let removed = gone.into_iter().filter(|vma| !taken.contains(&vma.start()));
    changes.extend(removed.cloned().map(Change::Removed));
    changes.sort_by_key(|change| change.vma().start());
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(lines: &[&str]) -> Space {
        let lines: Vec<String> =
            lines.iter().map(|line| line.replace('@', " 00000000 00:00 0 ")).collect();
        Space::from_maps(lines.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn growing_splitting_and_protecting() {
        let before = space(&["1000-2000 rw-p@[heap]", "5000-8000 r--p@", "9000-a000 rw-p@"]);
        let after = space(&[
            "1000-3000 rw-p@[heap]",
            "5000-6000 r--p@",
            "7000-8000 r--p@",
            "9000-a000 r--p@",
            "f000-10000 rw-p@",
        ]);
        let found: Vec<String> = changes(&before, &after)
            .iter()
            .map(|change| match change {
                Change::Added(vma) => format!("+{:x}", vma.start()),
                Change::Removed(vma) => format!("-{:x}", vma.start()),
                Change::Changed { before, after } => {
                    format!("~{:x} {} {}", after.start(), before.letters(), after.letters())
                }
            })
            .collect();
        assert_eq!(
            found,
            ["~1000 rw-p rw-p", "~5000 r--p r--p", "+7000", "~9000 rw-p r--p", "+f000"]
        );
        let back = changes(&after, &before);
        assert_eq!(back.iter().filter(|change| matches!(change, Change::Removed(_))).count(), 2);
        assert_eq!(changes(&before, &before), []);
    }
}
