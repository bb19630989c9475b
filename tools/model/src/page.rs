//! What the model knows of a page, and of the VMA it lies in.

use crate::tag::TagView;
use kvma::{Attrs, Backing, Error, VmaFlags};

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page {
    /// As if the VMA began here.
    pub attrs: Attrs,
    /// The object that the owner's data speaks of.
    pub owner: u32,
    /// The object's page that is shown here.
    pub at: u64,
    /// Pages in a row with the same number are one VMA.
    pub vma: u64,
}

impl Page {
    /// Whether a VMA that ends with `self` and one that begins with `right` may be one.
    pub fn joins(&self, right: &Page) -> Result<(), Error> {
        let never = self.attrs.flags().contains(VmaFlags::NO_MERGE);
        let (one, two) = (self.attrs, right.attrs);
        if one.flags() != two.flags() || one.user_bits() != two.user_bits() || never {
            Err(Error::AttributesDiffer)
        } else if advance(one, 1).backing() != two.backing() {
            Err(Error::BackingDiffers)
        } else if self.owner != right.owner || self.at.wrapping_add(1) != right.at {
            Err(Error::AttributesDiffer)
        } else {
            Ok(())
        }
    }
}

/// The attributes `pages` further on, worked out without the crate's help.
pub fn advance(attrs: Attrs, pages: u64) -> Attrs {
    match attrs.backing() {
        Backing::Anonymous => attrs,
        Backing::Object { id, offset } => {
            attrs.with_backing(Backing::Object { id, offset: offset.wrapping_add(pages) })
        }
    }
}

/// A VMA as both sides show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VmaOf {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
    /// Attributes of the first page.
    pub attrs: Attrs,
    /// The owner's data.
    pub tag: TagView,
}
