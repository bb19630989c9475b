//! The place of an address in the picture: rows of a ribbon, memory to scale, gaps compressed.
//!
//! An address space cannot be drawn to one scale: a page is 2^-35 of it. So the ribbon has a scale
//! for what is mapped, a power of two of bytes for each unit of width, with these exceptions:
//!
//! - what is too short to be seen has a least width;
//! - what is longer than [`LONGEST`] is cut to that width, and marked;
//! - a gap has a width that grows with the logarithm of its size;
//! - the widest gaps, if they have [`WIDE_GAP`] or more, end the row.

/// The width of the ribbon.
pub const ROW_WIDTH: f64 = 960.0;
/// The width to which long stretches are cut.
pub const LONGEST: f64 = 300.0;
/// Gaps of this size and more, in bytes, may stand between two rows.
pub const WIDE_GAP: u64 = 1 << 30;

/// The number of gaps that may stand between two rows.
const WIDE_GAPS: usize = 12;
/// Beyond this number of VMAs, short ones and gaps are drawn smaller.
const MANY: usize = 1000;
/// The number of rows that the scale is chosen for, if there are few VMAs.
const USUAL_ROWS: f64 = 5.0;

/// A stretch of memory, mapped or a gap, of which all is in one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
    /// The row that it is in, from 0.
    pub row: usize,
    /// The distance of its left end from that of the ribbon.
    pub x: f64,
    /// Its width.
    pub width: f64,
    /// The contents.
    pub fill: Fill,
}

/// The contents of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Memory, to scale.
    Memory,
    /// Memory that is longer than it is drawn.
    CutMemory,
    /// A gap.
    Gap,
}

/// The way from addresses to places in the picture.
#[derive(Clone, Debug)]
pub struct Axis {
    segments: Vec<Segment>,
    /// The gap before each row but the first.
    row_gaps: Vec<(u64, u64)>,
    /// The base-two logarithm of the number of bytes for each unit of width.
    scale: u32,
}

impl Axis {
    /// Makes an axis for the half-open ranges `mapped`, which ascend and do not overlap.
    pub fn new(mapped: &[(u64, u64)]) -> Self {
        let measure = Measure::new(mapped);
        let Measure { scale, .. } = measure;
        let mut axis = Self { segments: Vec::new(), row_gaps: Vec::new(), scale };
        let (mut row, mut x) = (0, 0.0);
        let mut behind = None;
        for &(start, end) in mapped {
            let gap = behind.map(|behind| (behind, start)).filter(|gap| gap.0 < gap.1);
            let own = measure.memory(end - start);
            if let Some((low, high)) = gap {
                let gap = measure.gap(high - low);
                if high - low >= measure.wide_gap {
                    axis.row_gaps.push((low, high));
                    (row, x) = (row + 1, 0.0);
                } else {
                    // At the end of a row a gap takes what is left.
                    let gap = gap.min(ROW_WIDTH - x);
                    let fill = Fill::Gap;
                    let segment = Segment { start: low, end: high, row, x, width: gap, fill };
                    axis.segments.push(segment);
                    x += gap;
                }
            }
            if x + own > ROW_WIDTH {
                axis.row_gaps.push((start, start));
                (row, x) = (row + 1, 0.0);
            }
            let fill = if own >= LONGEST { Fill::CutMemory } else { Fill::Memory };
            axis.segments.push(Segment { start, end, row, x, width: own, fill });
            x += own;
            behind = Some(end);
        }
        axis
    }

    /// Makes an axis on which all of `ranges` can be drawn, which may overlap in any way. Each end
    /// of one is the end of a segment.
    pub fn of_union(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup();
        let mut ends: Vec<u64> = ranges.iter().flat_map(|&(start, end)| [start, end]).collect();
        ends.sort_unstable();
        ends.dedup();
        let (mut mapped, mut next, mut reach) = (Vec::new(), 0, 0);
        for pair in ends.windows(2) {
            while next < ranges.len() && ranges[next].0 <= pair[0] {
                reach = reach.max(ranges[next].1);
                next += 1;
            }
            if reach >= pair[1] {
                mapped.push((pair[0], pair[1]));
            }
        }
        Self::new(&mapped)
    }

    /// Returns all segments in ascending order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.segments.last().map_or(0, |last| last.row + 1)
    }

    /// Returns the gap before each row but the first. It is empty where memory goes on.
    pub fn row_gaps(&self) -> &[(u64, u64)] {
        &self.row_gaps
    }

    /// Returns the number of bytes for each unit of width.
    pub fn scale(&self) -> u64 {
        1 << self.scale
    }

    /// Returns the boxes that show a range whose ends are ends of segments, one for each row that
    /// it is in: row, left end and width, and whether some of it is cut.
    pub fn boxes(&self, start: u64, end: u64) -> Vec<(usize, f64, f64, Fill)> {
        let first = self.segments.partition_point(|segment| segment.end <= start);
        let inside = self.segments[first..].iter().take_while(|segment| segment.start < end);
        let mut boxes: Vec<(usize, f64, f64, Fill)> = Vec::new();
        for segment in inside.filter(|segment| segment.fill != Fill::Gap) {
            match boxes.last_mut() {
                Some((row, _, width, fill)) if *row == segment.row => {
                    *width += segment.width;
                    if segment.fill == Fill::CutMemory {
                        *fill = segment.fill;
                    }
                }
                _ => boxes.push((segment.row, segment.x, segment.width, segment.fill)),
            }
        }
        boxes
    }
}

/// How long things are drawn.
#[derive(Clone, Copy)]
struct Measure {
    /// The base-two logarithm of the number of bytes for each unit of width.
    scale: u32,
    shortest: f64,
    /// The least size of a gap that stands between rows.
    wide_gap: u64,
    /// The width of a gap of a page, and what each doubling adds.
    gaps: (f64, f64),
}

impl Measure {
    fn new(mapped: &[(u64, u64)]) -> Self {
        let mut gaps: Vec<u64> = mapped.windows(2).map(|pair| pair[1].0 - pair[0].1).collect();
        gaps.sort_unstable_by(|one, other| other.cmp(one));
        let next = gaps.get(WIDE_GAPS).map_or(0, |&gap| gap.saturating_add(1));
        let wide_gap = next.max(WIDE_GAP);
        let (shortest, gaps) =
            if mapped.len() > MANY { (3.0, (4.0, 0.5)) } else { (5.0, (10.0, 2.0)) };
        let measure = Self { scale: 63, shortest, wide_gap, gaps };
        // At 2^63 bytes a unit, everything has the least width.
        let mut scales = (6..63).map(|scale| Self { scale, ..measure });
        scales.find(|measure| measure.is_wide_enough(mapped)).unwrap_or(measure)
    }

    /// Returns `true` if at this scale the ribbon is not too long, and few VMAs are cut.
    fn is_wide_enough(&self, mapped: &[(u64, u64)]) -> bool {
        let widths = mapped.iter().map(|&(start, end)| self.memory(end - start));
        let room = (USUAL_ROWS * ROW_WIDTH).max(mapped.len() as f64 * self.shortest * 1.5);
        let cut = widths.clone().filter(|&width| width >= LONGEST).count();
        widths.sum::<f64>() <= room && cut <= 1 + mapped.len() / 5
    }

    fn memory(&self, bytes: u64) -> f64 {
        (bytes as f64 / (1u64 << self.scale) as f64).clamp(self.shortest, LONGEST)
    }

    fn gap(&self, bytes: u64) -> f64 {
        let pages = (bytes >> 12).max(1);
        self.gaps.0 + self.gaps.1 * f64::from(pages.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing overlaps, nothing is outside its row, and addresses ascend.
    fn check(axis: &Axis) {
        let mut last: Option<Segment> = None;
        for &segment in axis.segments() {
            assert!(segment.x >= 0.0 && segment.x + segment.width <= ROW_WIDTH + 0.001);
            assert!(segment.start < segment.end);
            assert!(segment.fill == Fill::Gap || segment.width >= 3.0);
            if let Some(last) = last {
                assert!(last.end <= segment.start);
                if last.row == segment.row {
                    assert!(last.end == segment.start);
                    assert!((last.x + last.width - segment.x).abs() < 0.001);
                } else {
                    assert_eq!((last.row + 1, 0.0), (segment.row, segment.x));
                    assert_eq!(axis.row_gaps()[last.row], (last.end, segment.start));
                }
            }
            last = Some(segment);
        }
    }

    #[test]
    fn memory_is_to_scale_and_wide_gaps_end_a_row() {
        let axis = Axis::new(&[(0x1000, 0x3000), (0x3000, 0x7000), (1 << 40, (1 << 40) + 0x1000)]);
        check(&axis);
        let widths: Vec<_> = axis.segments().iter().map(|segment| segment.width).collect();
        assert_eq!(widths, [128.0, 256.0, 64.0]);
        assert_eq!((axis.rows(), axis.scale()), (2, 64));
        assert_eq!(axis.row_gaps(), [(0x7000, 1 << 40)]);
    }

    #[test]
    fn anything_fits() {
        check(&Axis::new(&[]));
        check(&Axis::new(&[(0, u64::MAX)]));
        let many = |count: u64, len: u64, step: u64| -> Vec<_> {
            (0..count).map(|n| (n * step, n * step + len)).collect()
        };
        for ranges in [
            many(10_000, 0x1000, 0x2000),
            many(10_000, 0x1000, 0x1000),
            many(3, 1 << 61, 1 << 62),
            many(500, 1 << 20, 1 << 40),
        ] {
            let axis = Axis::new(&ranges);
            check(&axis);
            assert!(axis.rows() <= 140, "{}", axis.rows());
        }
        // A few small VMAs beside a large one can be told apart.
        let axis = Axis::new(&[(0x1000, 0x2000), (0x2000, 0x4000), (1 << 32, 1 << 42)]);
        check(&axis);
        assert!(axis.segments()[0].width * 1.9 < axis.segments()[1].width);
    }

    #[test]
    fn ranges_that_overlap_share_an_axis() {
        let axis = Axis::of_union([(0x1000, 0x5000), (0x3000, 0x8000), (0x9000, 0xa000)]);
        check(&axis);
        let [one] = axis.boxes(0x1000, 0x5000)[..] else { panic!("in one row") };
        let [other] = axis.boxes(0x3000, 0x8000)[..] else { panic!("in one row") };
        assert!(one.1 < other.1 && other.1 < one.1 + one.2 && one.1 + one.2 < other.1 + other.2);
        assert_eq!(axis.boxes(0x8000, 0x9000), []);
    }
}
