//! A `RangeMap`, as a list of first key, last key and value.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::node::NodeAlloc;
use crate::range_map::{Key, MergePolicy, RangeMap, RangeNode};

/// Writes a list of first key, last key and value, ascending. Feature `serde`.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::RangeMap;
/// use serde::Serialize;
/// use serde::de::DeserializeOwned;
///
/// // As JSON, postcard, …: `[[0,31,7],[64,255,8]]` is what serde_json makes of this one.
/// fn can_be_saved<T: Serialize + DeserializeOwned>(_: &T) {}
/// can_be_saved(&RangeMap::from([(0_u8..=31, 7), (64..=255, 8)]));
/// # }
/// ```
impl<K, V, A, P> Serialize for RangeMap<K, V, A, P>
where
    K: Key + Serialize,
    V: Serialize,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.iter().map(|entry| (entry.first(), entry.last(), entry.value())))
    }
}

/// Reads such a list, in any order. Ranges that overlap, or that end before they start, are errors.
/// Feature `serde`.
impl<'de, K, V, A, P> Deserialize<'de> for RangeMap<K, V, A, P>
where
    K: Key + Deserialize<'de>,
    V: Deserialize<'de>,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone + Default,
    P: MergePolicy<V, K::Index>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_in(A::default(), deserializer)
    }
}

impl<K, V, A, P> RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    /// Reads a map as serde's `Deserialize` does, with nodes of `alloc`. Feature `serde`.
    ///
    /// O(n log n).
    ///
    /// # Errors
    ///
    /// Those of the format. Ranges that overlap, or that end before they start, and running out of
    /// nodes are such, too.
    pub fn deserialize_in<'de, D: Deserializer<'de>>(
        alloc: A,
        deserializer: D,
    ) -> Result<Self, D::Error>
    where
        K: Deserialize<'de>,
        V: Deserialize<'de>,
    {
        let map = Self::try_new_in(alloc).map_err(D::Error::custom)?;
        deserializer.deserialize_seq(Entries { map, value: PhantomData })
    }
}

/// Puts entries into a map.
struct Entries<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    map: RangeMap<K, V, A, P>,
    value: PhantomData<fn() -> V>,
}

impl<'de, K, V, A, P> Visitor<'de> for Entries<K, V, A, P>
where
    K: Key + Deserialize<'de>,
    V: Deserialize<'de>,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    type Value = RangeMap<K, V, A, P>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of first key, last key and value")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut entries: S) -> Result<Self::Value, S::Error> {
        while let Some((first, last, value)) = entries.next_element::<(K, K, V)>()? {
            if self.map.overlaps(first..=last) {
                return Err(S::Error::custom(Error::Overlap));
            }
            self.map.try_insert(first..=last, value).map_err(S::Error::custom)?;
        }
        Ok(self.map)
    }
}
