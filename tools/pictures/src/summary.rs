//! Figures about an address space: sizes, gaps, fragmentation.

use std::fmt;

use kvma::linux::VmFlags;

use crate::space::{Kind, Space, VmaEntry};

/// A number of bytes, shown in a unit that leaves at most four digits: `132 KiB`, `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Self(bytes) = *self;
        if bytes < 1024 {
            return f.pad(&format!("{bytes} B"));
        }
        // The largest unit of which there is one at least.
        let unit = ((bytes.ilog2() / 10) as usize).clamp(1, UNITS.len());
        let one = 1u64 << (10 * unit);
        let tenths = u128::from(bytes) * 10 / u128::from(one);
        let whole = tenths / 10;
        let text = match (tenths % 10, whole) {
            (tenth, 0..100) if tenth != 0 => format!("{whole}.{tenth} {}", UNITS[unit - 1]),
            _ => format!("{whole} {}", UNITS[unit - 1]),
        };
        f.pad(&text)
    }
}

/// VMAs of one kind, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The number of VMAs.
    pub vmas: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl fmt::Display for Total {
    /// Prints `1 VMA, 8 KiB` or `2 VMAs, 16 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", counted(self.vmas, "VMA"), Bytes(self.bytes))
    }
}

/// Returns a number and its noun, which gets an `s` unless there is one.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Figures about one address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    totals: [Total; Kind::ALL.len()],
    write_and_execute: Total,
    gaps: usize,
    gap_bytes: u64,
    largest_gap: Option<(u64, u64)>,
}

impl Summary {
    /// Counts the VMAs of `space`, and the gaps between the first and the last one.
    ///
    /// The gap below the upper half of a 64-bit space, in which `[vsyscall]` lies, does not count:
    /// no mapping can be placed there.
    pub fn of(space: &Space) -> Self {
        let mut summary = Self::default();
        for vma in space.vmas() {
            summary.count(vma);
        }
        for pair in space.vmas().windows(2) {
            let (start, end) = (pair[0].end(), pair[1].start());
            if end > start && end < 1 << 63 {
                summary.gaps += 1;
                summary.gap_bytes += end - start;
                if summary.largest_gap.is_none_or(|(low, high)| high - low < end - start) {
                    summary.largest_gap = Some((start, end));
                }
            }
        }
        summary
    }

    fn count(&mut self, vma: &VmaEntry) {
        let add = |total: &mut Total| {
            total.vmas += 1;
            total.bytes = total.bytes.saturating_add(vma.len());
        };
        add(&mut self.totals[vma.kind() as usize]);
        if vma.perms().contains(VmFlags::WRITE | VmFlags::EXEC) {
            add(&mut self.write_and_execute);
        }
    }

    /// Returns the VMAs of one kind.
    pub fn of_kind(&self, kind: Kind) -> Total {
        self.totals[kind as usize]
    }

    /// Returns all VMAs.
    pub fn all(&self) -> Total {
        self.totals.iter().fold(Total::default(), |sum, kind| Total {
            vmas: sum.vmas + kind.vmas,
            bytes: sum.bytes.saturating_add(kind.bytes),
        })
    }

    /// Returns the VMAs that can be written and executed.
    pub fn write_and_execute(&self) -> Total {
        self.write_and_execute
    }

    /// Returns the number of gaps between VMAs.
    pub fn gaps(&self) -> usize {
        self.gaps
    }

    /// Returns the first byte of the largest gap between VMAs, and the first one after it.
    pub fn largest_gap(&self) -> Option<(u64, u64)> {
        self.largest_gap
    }

    /// Returns the part of the free memory between VMAs that is not in the largest gap, in percent.
    /// 0 means that one mapping could fill all of it.
    pub fn fragmentation(&self) -> f64 {
        let largest = self.largest_gap.map_or(0, |(start, end)| end - start);
        if self.gap_bytes == 0 {
            return 0.0;
        }
        100.0 * (1.0 - largest as f64 / self.gap_bytes as f64)
    }
}

impl fmt::Display for Summary {
    /// Prints two lines of at most 80 columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mapped", self.all())?;
        if self.write_and_execute.vmas > 0 {
            write!(f, ", {} of them writable and executable", self.write_and_execute.vmas)?;
        }
        match self.largest_gap {
            None => write!(f, "\nno gaps"),
            Some((start, end)) => write!(
                f,
                "\n{}, the largest {} at {start:x}; {:.1} % fragmented",
                counted(self.gaps, "gap"),
                Bytes(end - start),
                self.fragmentation()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_four_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (0x21000, "132 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (1 << 47, "128 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn gaps_and_fragmentation() {
        let maps = b"1000-2000 rw-p 00000000 00:00 0 \n\
                     3000-4000 rwxp 00000000 00:00 0 \n\
                     7000-8000 r--p 00000000 fe:00 7 /x\n\
                     ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";
        let summary = Summary::of(&Space::from_maps(maps).unwrap());
        assert_eq!((summary.gaps(), summary.largest_gap()), (2, Some((0x4000, 0x7000))));
        assert_eq!(summary.fragmentation(), 25.0);
        assert_eq!(summary.of_kind(Kind::Anonymous), Total { vmas: 2, bytes: 0x2000 });
        assert_eq!(summary.write_and_execute().vmas, 1);
        assert_eq!(summary.all(), Total { vmas: 4, bytes: 0x4000 });
        assert!(summary.to_string().lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn one_is_not_many() {
        let maps = b"1000-2000 rw-p 00000000 00:00 0 \n3000-4000 rwxp 00000000 fe:00 7 /x\n";
        let summary = Summary::of(&Space::from_maps(maps).unwrap());
        assert_eq!(summary.of_kind(Kind::File).to_string(), "1 VMA, 4 KiB");
        assert_eq!(summary.of_kind(Kind::Heap).to_string(), "0 VMAs, 0 B");
        assert_eq!(
            summary.to_string(),
            "2 VMAs, 8 KiB mapped, 1 of them writable and executable\n\
             1 gap, the largest 4 KiB at 2000; 0.0 % fragmented"
        );
    }

    #[test]
    fn nothing_is_mapped() {
        let summary = Summary::of(&Space::default());
        assert_eq!((summary.fragmentation(), summary.largest_gap()), (0.0, None));
        assert_eq!(summary.to_string(), "0 VMAs, 0 B mapped\nno gaps");
    }
}
