//! Protection, attributes, ranges.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::flags::{Prot, VmaFlags};
use crate::range::{PageSize, VmRange};
use crate::vma::{Attrs, Backing, Plain};

/// Writes a number, the sum of `PROT_*`. Feature `serde`.
impl Serialize for Prot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.bits())
    }
}

/// Reads such a number; bits that there are not are an error. Feature `serde`.
impl<'de> Deserialize<'de> for Prot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bits = u8::deserialize(deserializer)?;
        Self::from_bits(bits).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Unsigned(bits.into()), &"bits of a protection")
        })
    }
}

/// Writes the number of bytes. Feature `serde`.
impl Serialize for PageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bytes())
    }
}

/// Reads a number of bytes, a power of two. Feature `serde`.
impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// First and last byte, and the page size.
#[derive(Serialize, Deserialize)]
#[serde(rename = "VmRange")]
struct SavedRange {
    first: u64,
    last: u64,
    page_size: PageSize,
}

/// Writes the first byte, the last, and the page size. Feature `serde`.
impl Serialize for VmRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, last, page_size) = (self.start(), self.last(), self.page_size());
        SavedRange { first, last, page_size }.serialize(serializer)
    }
}

/// Reads a range of whole pages; any other is an error. Feature `serde`.
impl<'de> Deserialize<'de> for VmRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SavedRange { first, last, page_size } = SavedRange::deserialize(deserializer)?;
        Self::from_bounds(first, last, page_size).map_err(D::Error::custom)
    }
}

/// The attributes as numbers; an object, if there is one, with its offset.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Attrs")]
pub(super) struct SavedAttrs {
    flags: u32,
    user_bits: u64,
    /// The object's number, and the offset in it.
    object: Option<(u64, u64)>,
}

impl SavedAttrs {
    pub(super) fn new(attrs: Attrs) -> Self {
        let object = match attrs.backing() {
            Backing::Anonymous => None,
            Backing::Object { id, offset } => Some((id, offset)),
        };
        Self { flags: attrs.flags().bits(), user_bits: attrs.user_bits(), object }
    }

    /// Returns the attributes; `None` if there are flags that there are not.
    pub(super) fn attrs(&self) -> Option<Attrs> {
        let attrs = Attrs::from_flags(VmaFlags::from_bits(self.flags)?);
        let attrs = attrs.with_user_bits(self.user_bits);
        Some(match self.object {
            Some((id, offset)) => attrs.with_backing(Backing::Object { id, offset }),
            None => attrs,
        })
    }
}

/// Writes flags, user bits, and the object with the offset in it. Feature `serde`.
impl Serialize for Attrs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SavedAttrs::new(*self).serialize(serializer)
    }
}

/// Reads attributes; flags that there are not are an error. Feature `serde`.
impl<'de> Deserialize<'de> for Attrs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = SavedAttrs::deserialize(deserializer)?;
        saved.attrs().ok_or_else(|| {
            let bits = Unexpected::Unsigned(saved.flags.into());
            D::Error::invalid_value(bits, &"flags of a VMA")
        })
    }
}

/// Writes the value. Feature `serde`.
impl<T: Serialize> Serialize for Plain<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads the value. Feature `serde`.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Plain<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}
