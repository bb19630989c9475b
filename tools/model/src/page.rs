//! The model's pages, and views of the VMAs that they make up.

use kvma::{Attrs, Backing, Error, VmaFlags};

use crate::tag::TagView;

/// A mapped page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page {
    /// The attributes of a VMA that began here.
    pub attrs: Attrs,
    /// The file of the user data.
    pub file: u32,
    /// The page of the file that is mapped here.
    pub at: u64,
    /// Adjacent pages with the same number are one VMA.
    pub vma: u64,
}

impl Page {
    /// Checks that a VMA ending with `self` and one that begins with `right` can merge. `page` is
    /// the page size.
    ///
    /// # Errors
    ///
    /// The difference that keeps them apart.
    pub fn can_merge(&self, right: &Self, page: u64) -> Result<(), Error> {
        let never = self.attrs.flags().contains(VmaFlags::NO_MERGE);
        let (one, two) = (self.attrs, right.attrs);
        if one.flags() != two.flags() || one.user_bits() != two.user_bits() || never {
            Err(Error::AttributesDiffer)
        } else if advance(one, page).backing() != two.backing() {
            Err(Error::BackingDiffers)
        } else if self.file != right.file || self.at.wrapping_add(1) != right.at {
            Err(Error::AttributesDiffer)
        } else {
            Ok(())
        }
    }
}

/// Returns the attributes `bytes` further on, worked out without the crate's help.
pub fn advance(attrs: Attrs, bytes: u64) -> Attrs {
    match attrs.backing() {
        Backing::Anonymous => attrs,
        Backing::Object { id, offset } => {
            attrs.with_backing(Backing::Object { id, offset: offset.wrapping_add(bytes) })
        }
    }
}

/// A plain copy of a VMA, for comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VmaView {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
    /// Attributes of the first page.
    pub attrs: Attrs,
    /// The user data.
    pub tag: TagView,
}
