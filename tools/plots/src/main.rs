//! Draws what the benches have measured: `kvma-plots [--measure] FOLDER`.
//!
//! With `--measure`, the benches run first, and write their figures into the folder as CSV. Then
//! each operation in the folder's CSV files becomes a plot there, as an SVG and as a PNG.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod chart;
mod figures;
mod png;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// A reason why nothing could be drawn, for people.
type Trouble = String;

/// The benches that write figures.
const BENCHES: [&str; 3] = ["table", "smp", "holds"];

const USAGE: &str = "usage: kvma-plots [--measure] FOLDER";

fn main() -> ExitCode {
    let (measures, folder) = match parse(lexopt::Parser::from_env()) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("kvma-plots: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let measured = if measures { measure(&folder) } else { Ok(()) };
    match measured.and_then(|()| draw_all(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("kvma-plots: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether to measure, and the folder.
fn parse(mut args: lexopt::Parser) -> Result<(bool, PathBuf), lexopt::Error> {
    use lexopt::prelude::*;
    let (mut measures, mut folder) = (false, None);
    while let Some(arg) = args.next()? {
        match arg {
            Long("measure") => measures = true,
            Value(path) if folder.is_none() => folder = Some(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    Ok((measures, folder.ok_or("which folder?")?))
}

/// Runs the benches, one after the other.
fn measure(folder: &Path) -> Result<(), Trouble> {
    let trouble = |path: &Path, error| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| trouble(folder, error))?;
    let folder = folder.canonicalize().map_err(|error| trouble(folder, error))?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for bench in BENCHES {
        let status = Command::new(&cargo)
            .current_dir(&repository)
            .args(["bench", "-p", "kvma-bench", "--bench", bench, "--", "--csv"])
            .arg(folder.join(bench).with_extension("csv"))
            .status()
            .map_err(|error| trouble(Path::new(&cargo), error))?;
        if !status.success() {
            return Err(format!("the bench {bench} failed"));
        }
    }
    Ok(())
}

fn draw_all(folder: &Path) -> Result<(), Trouble> {
    for file in figures::files(folder)? {
        let costs = figures::read(&file)?;
        for operation in figures::operations(&costs) {
            let lines = figures::series(&costs, operation);
            let svg = chart::draw(operation, &figures::peers(&costs), &lines)?;
            let path = folder.join(file_name(operation)).with_extension("svg");
            let write = |path: &Path, bytes: &[u8]| {
                fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
            };
            write(&path, svg.as_bytes())?;
            write(&path.with_extension("png"), &png::of(&svg)?)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Returns a name for a file: the operation's letters and digits, the rest as hyphens.
fn file_name(operation: &str) -> String {
    let words = operation.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::{file_name, parse};

    #[test]
    fn one_folder_is_named() {
        let parsed = |args: &[&str]| parse(lexopt::Parser::from_args(args)).ok();
        assert_eq!(parsed(&["plots"]), Some((false, "plots".into())));
        assert_eq!(parsed(&["--measure", "plots"]), Some((true, "plots".into())));
        assert_eq!((parsed(&[]), parsed(&["a", "b"]), parsed(&["--x", "a"])), (None, None, None));
    }

    #[test]
    fn names_of_files_have_no_blanks() {
        assert_eq!(file_name("gap search, fragmented"), "gap-search-fragmented");
        assert_eq!(file_name("unmap + map_any"), "unmap-map-any");
    }
}
