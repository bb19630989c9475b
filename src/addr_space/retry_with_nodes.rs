//! Changes that need a node for each VMA.

/// Counts after which nodes are allocated under the lock. Else a fork might never end, beside
/// threads that keep mapping.
const COUNTS: usize = 8;

/// Nodes to be taken in hand before the lock.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    nodes: usize,
    left: usize,
}

impl Count {
    /// How many.
    pub(crate) fn nodes(self) -> usize {
        self.nodes
    }

    /// Whether to go on where `need` nodes turn out to be needed: if that many are in hand, or this
    /// was the last count, and the change takes what is missing itself.
    pub(crate) fn covers(self, need: usize) -> bool {
        need <= self.nodes || self.left == 0
    }
}

/// Lets `attempt` try with as many nodes as were retry_with_nodes, then with as many as it says to
/// have found missing under the lock.
pub(crate) fn retry_with_nodes<R>(
    first: usize,
    mut attempt: impl FnMut(Count) -> Result<R, usize>,
) -> R {
    let mut count = Count { nodes: first, left: COUNTS };
    loop {
        count.left = count.left.saturating_sub(1);
        match attempt(count) {
            Ok(result) => return result,
            Err(need) => count.nodes = need,
        }
    }
}
