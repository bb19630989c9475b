//! Address spaces to look at: pictures of a maps file, of a trace or of a process, and what has
//! changed between two moments.
//!
//! ```text
//! cargo run --example map_svg -- --pid 1234 -o init.svg
//! cargo run --example map_svg -- --animate tests/traces/ls.trace -o ls.svg
//! cargo run --example top -- --pid 1234
//! ```

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places in a picture need few digits"
)]

mod axis;
mod changes;
mod drawing;
mod moving;
mod process;
mod space;
mod steps;
mod still;
mod summary;

pub use self::axis::{Axis, Fill, Segment};
pub use self::changes::{Change, changes};
pub use self::moving::moving;
pub use self::process::{Process, ProcessError};
pub use self::space::{Kind, Space, SpaceError, VmaEntry};
pub use self::steps::{Life, Steps, StepsError};
pub use self::still::still;
pub use self::summary::{Bytes, Summary, Total};
