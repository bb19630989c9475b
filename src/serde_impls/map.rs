//! A `VmMap` as it is at one time.

use core::fmt;
use core::marker::PhantomData;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attrs::SavedAttrs;
use crate::error::Error;
use crate::hooks::NoHooks;
use crate::node::NodeAlloc;
use crate::placement::{MapRequest, Placement};
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, VmaData, VmaNode};

const NAME: &str = "VmMap";
const FIELDS: &[&str] = &["space", "vmas"];

/// A VMA, with its data or a reference to it.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Vma")]
struct SavedVma<V> {
    first: u64,
    last: u64,
    attrs: SavedAttrs,
    data: V,
}

/// Writes the space and the list of VMAs with their data. Claims are left out. Feature `serde`.
///
/// ```
/// use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// use serde::Serialize;
///
/// let nodes = FixedPool::<VmaNode, 16>::new();
/// let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RW));
/// map.map(request, &mut NoHooks)?;
///
/// fn save(map: &impl Serialize) { /* as JSON, postcard, … */ }
/// save(&map);
/// # Ok::<(), kvma::Error>(())
/// ```
impl<V, A> Serialize for VmMap<V, A>
where
    V: VmaData + Serialize,
    A: NodeAlloc<VmaNode<V>> + Clone,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut saved = serializer.serialize_struct(NAME, FIELDS.len())?;
        saved.serialize_field("space", &self.space())?;
        saved.serialize_field("vmas", &VmasOf(self))?;
        saved.end()
    }
}

/// The VMAs of a map, as a list.
struct VmasOf<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(&'a VmMap<V, A>);

impl<V: VmaData + Serialize, A: NodeAlloc<VmaNode<V>> + Clone> Serialize for VmasOf<'_, V, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|vma| SavedVma {
            first: vma.start(),
            last: vma.last(),
            attrs: SavedAttrs::new(vma.attrs()),
            data: vma.data(),
        }))
    }
}

/// Reads a map, with an allocator that is made for it: see [`VmMap::deserialize_in`]. Feature
/// `serde`.
impl<'de, V, A> Deserialize<'de> for VmMap<V, A>
where
    V: VmaData + Deserialize<'de>,
    A: NodeAlloc<VmaNode<V>> + Clone + Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_in(A::default(), deserializer)
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Reads a map that serde has written, with nodes of `alloc`. VMAs are what they were: none are
    /// merged. Calls no hooks. Feature `serde`.
    ///
    /// O(n log n). The space has to come before the VMAs, as it is written.
    ///
    /// # Errors
    ///
    /// Those of the format. VMAs that overlap, that lie outside the space or are not aligned to its
    /// pages, flags that there are not, and running out of nodes are such, too; so is a VMA of 2^64
    /// bytes.
    pub fn deserialize_in<'de, D: Deserializer<'de>>(
        alloc: A,
        deserializer: D,
    ) -> Result<Self, D::Error>
    where
        V: Deserialize<'de>,
    {
        let reader = MapReader { alloc, data: PhantomData };
        deserializer.deserialize_struct(NAME, FIELDS, reader)
    }

    /// Maps a VMA where and as it was.
    fn restore_vma(&mut self, saved: SavedVma<V>) -> Result<(), Error> {
        let SavedVma { first, last, attrs, data } = saved;
        let attrs: Attrs = attrs.attrs().ok_or(Error::AttributesDiffer)?;
        let len = VmRange::from_bounds(first, last, self.page_size())?.len();
        let len = len.ok_or(Error::OutOfRange)?;
        let request = MapRequest::new(Placement::FixedNoReplace(first), len, attrs)
            .with_data(data)
            .with_merge(Merge::Never);
        self.map(request, &mut NoHooks).map(drop)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Space,
    Vmas,
}

/// Reads a map.
struct MapReader<V, A> {
    alloc: A,
    data: PhantomData<fn() -> V>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> MapReader<V, A> {
    fn make(self, space: VmRange) -> Result<VmMap<V, A>, Error> {
        VmMap::new(space.start()..=space.last(), space.page_size(), self.alloc)
    }
}

impl<'de, V, A> Visitor<'de> for MapReader<V, A>
where
    V: VmaData + Deserialize<'de>,
    A: NodeAlloc<VmaNode<V>> + Clone,
{
    type Value = VmMap<V, A>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a space and its VMAs")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut fields: S) -> Result<Self::Value, S::Error> {
        let missing = |index, of| S::Error::invalid_length(index, of);
        let space = fields.next_element()?.ok_or_else(|| missing(0, &"a space and its VMAs"))?;
        let map = self.make(space).map_err(S::Error::custom)?;
        let vmas = fields.next_element_seed(VmasInto(map))?;
        vmas.ok_or_else(|| missing(1, &"a space and its VMAs"))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Self::Value, M::Error> {
        let Some(Field::Space) = fields.next_key()? else {
            return Err(M::Error::missing_field("space"));
        };
        let map = self.make(fields.next_value()?).map_err(M::Error::custom)?;
        let Some(Field::Vmas) = fields.next_key()? else {
            return Err(M::Error::missing_field("vmas"));
        };
        let map = fields.next_value_seed(VmasInto(map))?;
        match fields.next_key::<Field>()? {
            None => Ok(map),
            Some(Field::Space) => Err(M::Error::duplicate_field("space")),
            Some(Field::Vmas) => Err(M::Error::duplicate_field("vmas")),
        }
    }
}

/// Puts VMAs into a map.
struct VmasInto<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(VmMap<V, A>);

impl<'de, V, A> DeserializeSeed<'de> for VmasInto<V, A>
where
    V: VmaData + Deserialize<'de>,
    A: NodeAlloc<VmaNode<V>> + Clone,
{
    type Value = VmMap<V, A>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, V, A> Visitor<'de> for VmasInto<V, A>
where
    V: VmaData + Deserialize<'de>,
    A: NodeAlloc<VmaNode<V>> + Clone,
{
    type Value = VmMap<V, A>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of VMAs")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut vmas: S) -> Result<Self::Value, S::Error> {
        while let Some(vma) = vmas.next_element()? {
            self.0.restore_vma(vma).map_err(S::Error::custom)?;
        }
        Ok(self.0)
    }
}
