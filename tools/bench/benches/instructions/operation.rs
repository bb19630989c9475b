//! Operations to count, and the inputs that several of them have.

use kvma::{BoxAlloc, VmaData, VmaNode};
use kvma_bench::{PAGE, layout};

/// The number of VMAs, unless the name of the operation says otherwise.
pub const VMAS: usize = 1_000;
/// Bytes in a VMA of `layout`.
pub const LEN: u64 = 4 * PAGE;
/// An address far from all VMAs of `layout`.
pub const FAR: u64 = 1 << 46;

/// Does an operation so many times. The result keeps the work from being optimised away.
pub type Run = Box<dyn FnMut(u64) -> u64>;

/// An operation to count.
pub struct Operation {
    pub name: String,
    /// The number of times that it is done and counted, after as many times that are not counted. A
    /// multiple of the number of inputs, so that all inputs have the same weight.
    pub times: u64,
    /// Makes the state that it works on.
    pub setup: Box<dyn Fn() -> Run>,
}

/// All operations.
#[derive(Default)]
pub struct Table {
    pub operations: Vec<Operation>,
}

impl Table {
    /// Adds an operation.
    pub fn add(&mut self, name: impl Into<String>, times: u64, setup: Box<dyn Fn() -> Run>) {
        self.operations.push(Operation { name: name.into(), times, setup });
    }
}

/// Returns the setup of an operation that does `once` to the state that `make` makes, with one
/// input after the other and round again. It must leave as many VMAs as it finds.
pub fn op<S: 'static, I: Copy + 'static>(
    make: fn() -> S,
    len: fn(&S) -> usize,
    inputs: fn() -> Vec<I>,
    once: impl Fn(&mut S, I) -> u64 + Copy + 'static,
) -> Box<dyn Fn() -> Run> {
    Box::new(move || {
        let (mut state, inputs, mut next) = (make(), inputs(), 0);
        let before = len(&state);
        Box::new(move |times| {
            let mut sum = 0u64;
            for _ in 0..times {
                sum = sum.wrapping_add(once(&mut state, inputs[next]));
                next += 1;
                if next == inputs.len() {
                    next = 0;
                }
            }
            assert_eq!(len(&state), before, "the number of VMAs has changed");
            sum
        })
    })
}

/// Returns the first bytes of VMAs, in random order.
pub fn starts() -> Vec<u64> {
    layout(VMAS)
}

/// Returns a byte in each VMA, in random order.
pub fn bytes() -> Vec<u64> {
    starts().into_iter().zip(1..).map(|(start, n)| start + n * 777 % LEN).collect()
}

/// Returns an allocator for ever, as a kernel has it.
pub fn heap<V: VmaData>() -> &'static BoxAlloc<VmaNode<V>> {
    Box::leak(Box::default())
}
