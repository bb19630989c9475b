//! Assertions that return a message instead of panicking, so that a failure can be shrunk.

/// Returns an error with this message unless the condition holds.
macro_rules! ensure {
    ($cond:expr, $($text:tt)*) => {
        if !$cond {
            return Err(format!($($text)*));
        }
    };
}

/// Returns an error that shows both values unless they are equal.
macro_rules! ensure_eq {
    ($is:expr, $want:expr, $($text:tt)*) => {
        let (is, want) = ($is, $want);
        if is != want {
            return Err(format!("{}: is {is:#x?}, should be {want:#x?}", format_args!($($text)*)));
        }
    };
}

pub(crate) use ensure;
pub(crate) use ensure_eq;
