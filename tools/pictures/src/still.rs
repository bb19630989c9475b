//! A picture of an address space at one moment.

use svg::Document;
use svg::node::Node;

use crate::axis::{Axis, ROW_WIDTH};
use crate::drawing::{self, BOX, LETTER, MARGIN, NAMES};
use crate::space::{Space, VmaEntry};
use crate::summary::Summary;

/// Draws `space` as an SVG: rows of boxes to scale, with compressed gaps. O(n log n) for n VMAs.
pub fn still(title: &str, space: &Space) -> Document {
    let mapped: Vec<_> = space.vmas().iter().map(|vma| (vma.start(), vma.end())).collect();
    let axis = Axis::new(&mapped);
    let tops = drawing::row_tops(&axis);
    let mut picture = drawing::frame(title, &Summary::of(space), &axis);
    let mut labels = Labels::default();
    for vma in space.vmas() {
        for (row, x, width, fill) in axis.boxes(vma.start(), vma.end()) {
            let (left, top) = (MARGIN + x, tops[row] + NAMES);
            picture.append(drawing::vma_box(vma, left, top, width, fill));
            labels.add(vma, row, left, width, tops[row]);
        }
    }
    labels.write(&mut picture);
    picture
}

/// Neighbours in a row that have the same name, with one label for all.
struct Group<'s> {
    name: &'s str,
    start: u64,
    row: usize,
    left: f64,
    right: f64,
    top: f64,
}

#[derive(Default)]
struct Labels<'s> {
    groups: Vec<Group<'s>>,
}

impl<'s> Labels<'s> {
    fn add(&mut self, vma: &'s VmaEntry, row: usize, left: f64, width: f64, top: f64) {
        let right = left + width;
        match self.groups.last_mut() {
            // A library's VMAs are one group, with the small gaps that may be in it.
            Some(group)
                if group.row == row && !vma.name().is_empty() && group.name == vma.short_name() =>
            {
                group.right = right;
            }
            _ => self.groups.push(Group {
                name: vma.short_name(),
                start: vma.start(),
                row,
                left,
                right,
                top,
            }),
        }
    }

    /// Writes names above the boxes and addresses below them, where there is room.
    fn write(&self, picture: &mut Document) {
        let mut free = (usize::MAX, 0.0);
        for (index, group) in self.groups.iter().enumerate() {
            // Names may go on over nameless neighbours.
            let following = self.groups[index + 1..].iter();
            let end = following
                .take_while(|next| next.row == group.row)
                .find(|next| !next.name.is_empty())
                .map_or(MARGIN + ROW_WIDTH, |next| next.left - 4.0);
            let room = ((end - group.left) / LETTER - 0.5).floor() as usize;
            let name = drawing::shortened(group.name, room);
            if !name.is_empty() && (room >= 5 || name == group.name) {
                picture.append(drawing::text("", group.left, group.top + 10.0, &name));
            }
            let address = format!("{:x}", group.start);
            let len = (address.len() + 1) as f64 * LETTER;
            let fits = group.left + len <= MARGIN + ROW_WIDTH + 10.0;
            if free.0 != group.row || (free.1 <= group.left && fits) {
                let below = group.top + NAMES + BOX + 10.0;
                picture.append(drawing::text("pale", group.left, below, &address));
                free = (group.row, group.left + len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_picture() {
        let maps = b"1000-2000 r--p 00000000 fe:00 7 /tmp/<b>&\"'\x01\xff]]>\n";
        let picture = still("a & <b>", &Space::from_maps(maps).unwrap()).to_string();
        assert!(picture.contains("&lt;b&gt;&amp;") && !picture.contains("<b>"));
        assert!(!picture.contains('\x01'));
    }

    #[test]
    fn each_vma_has_a_tooltip() {
        let maps: String = (0..10_000u64)
            .map(|n| format!("{:x}-{:x} rw-p 00000000 00:00 0 \n", n << 13, (n << 13) + 4096))
            .collect();
        let space = Space::from_maps(maps.as_bytes()).unwrap();
        let picture = still("many", &space).to_string();
        assert_eq!(picture.matches("<title>").count(), 10_000);
    }

    #[test]
    fn nothing_is_mapped() {
        assert!(still("empty", &Space::default()).to_string().contains("0 VMAs"));
    }
}
