//! Ways to break a kernel on purpose, chosen on its command line, to show that the boot then fails.

/// Defines `Broken`: a deliberate mistake, out of those that are listed with their names, or none.
#[macro_export]
macro_rules! broken {
    ($($(#[$doc:meta])* $mistake:ident = $name:literal,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Broken {
            /// There is none.
            Nothing,
            $($(#[$doc])* $mistake,)*
        }

        static CHOSEN: core::sync::atomic::AtomicU8 =
            core::sync::atomic::AtomicU8::new(Broken::Nothing as u8);

        impl Broken {
            /// Reads `broken=NAME` from the command line. `Err` is an unknown name.
            pub fn parse(command_line: &str) -> Result<Self, &str> {
                let mut words = command_line.split_whitespace();
                match words.find_map(|word| word.strip_prefix("broken=")) {
                    None | Some("nothing") => Ok(Self::Nothing),
                    $(Some($name) => Ok(Self::$mistake),)*
                    Some(unknown) => Err(unknown),
                }
            }

            /// Makes this the mistake that is made.
            pub fn choose(self) {
                CHOSEN.store(self as u8, core::sync::atomic::Ordering::Relaxed);
            }

            /// Returns true if this is the mistake that is made.
            pub fn is_chosen(self) -> bool {
                CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == self as u8
            }
        }
    };
}
