
/// Says which mutant runs, and notes which functions that have some are reached.
pub mod mutant_switch {
    extern crate std;
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Run {
        active: usize,
        reached: Option<File>,
    }

    static RUN: OnceLock<Run> = OnceLock::new();
    static REACHED: [AtomicBool; GROUPS] = [const { AtomicBool::new(false) }; GROUPS];

    pub fn active(group: usize) -> usize {
        let run = RUN.get_or_init(|| Run {
            active: std::env::var("KVMA_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0),
            reached: std::env::var_os("KVMA_MUTANTS_REACHED")
                .and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok()),
        });
        if let Some(file) = &run.reached
            && !REACHED[group].swap(true, Ordering::Relaxed)
        {
            let mut file = file;
            let _ = file.write_all(&(group as u32).to_le_bytes());
        }
        run.active
    }

    /// One of two iterators.
    #[derive(Clone)]
    pub enum Either<A, B> {
        One(A),
        Other(B),
    }

    impl<A: Iterator, B: Iterator<Item = A::Item>> Iterator for Either<A, B> {
        type Item = A::Item;

        fn next(&mut self) -> Option<A::Item> {
            match self {
                Self::One(iter) => iter.next(),
                Self::Other(iter) => iter.next(),
            }
        }
    }

    impl<A, B> DoubleEndedIterator for Either<A, B>
    where
        A: DoubleEndedIterator,
        B: DoubleEndedIterator<Item = A::Item>,
    {
        fn next_back(&mut self) -> Option<A::Item> {
            match self {
                Self::One(iter) => iter.next_back(),
                Self::Other(iter) => iter.next_back(),
            }
        }
    }
}
