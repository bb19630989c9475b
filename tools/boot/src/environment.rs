//! The surroundings of this program: the repository, the build directory, standard output.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

/// Why nothing could be tried.
pub type Trouble = String;

/// Returns the root of the repository.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

/// Returns the directory in which the kernel is built and run, and makes it if it is missing.
///
/// It lies inside the directory that cargo builds this program in, but apart from its other
/// contents, whose lock the outer cargo may hold.
pub fn target_dir() -> Result<PathBuf, Trouble> {
    let ours = env::current_exe().ok().and_then(|exe| {
        // Cargo marks the directory, wherever the user has it.
        exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(PathBuf::from)
    });
    let dir = ours.unwrap_or_else(|| root().join("target")).join("kernel");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// The width of a terminal that everybody has.
const COLUMNS: usize = 80;

/// Returns a text whose lines fit on a terminal. What is broken is indented further than the line.
pub fn fitted(text: &str) -> String {
    let fit = |line: &str| {
        let indent = " ".repeat(line.len() - line.trim_start().len() + 4);
        let options = textwrap::Options::new(COLUMNS).subsequent_indent(&indent);
        textwrap::fill(line, options)
    };
    text.split('\n').map(fit).collect::<Vec<_>>().join("\n")
}

/// Prints a line. The reader may have closed the pipe; the exit status does not depend on it.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}
