//! Draws an address space as an SVG: a maps file, a live process, or a trace.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kvma_pictures::{Process, Space, Steps, Summary, moving, still};

const USAGE: &str = "\
usage: map_svg [-o PICTURE] FILE
       map_svg [-o PICTURE] --pid PID
       map_svg [-o PICTURE] --animate [--steps N] TRACE

Draws an address space as an SVG. FILE is a maps file, as in /proc/PID/maps,
or a trace of kvma's, of which the end is drawn.

  -o, --output PICTURE  write to this file, - for standard output [map.svg]
  --pid PID             draw the process with this number, or `self`
  --animate             show each step of a trace; a browser plays it
  --steps N             with --animate: at most N steps [200]
  -h, --help            this text";

/// The time for which each step is shown.
const SECONDS: f64 = 0.5;

enum Source {
    File(PathBuf),
    Process(Process),
    Trace(PathBuf, usize),
}

struct Job {
    source: Source,
    output: PathBuf,
}

fn main() -> ExitCode {
    let job = match arguments() {
        Ok(Some(job)) => job,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("map_svg: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match draw(&job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("map_svg: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Job>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut file, mut pid, mut animate, mut steps) = (None, None, false, None);
    let mut output = PathBuf::from("map.svg");
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('o') | Long("output") => output = parser.value()?.into(),
            Long("pid") => pid = Some(process(parser.value()?)?),
            Long("animate") => animate = true,
            Long("steps") => steps = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            Value(path) if file.is_none() => file = Some(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    if steps.is_some() && !animate {
        return Err("--steps goes with --animate".into());
    }
    let source = match (file, pid) {
        (Some(file), None) if animate => Source::Trace(file, steps.unwrap_or(200)),
        (Some(file), None) => Source::File(file),
        (None, Some(_)) if animate => return Err("--animate takes a trace".into()),
        (None, Some(pid)) => Source::Process(pid),
        (None, None) => return Err("no file".into()),
        (Some(_), Some(_)) => return Err("either a file or --pid".into()),
    };
    Ok(Some(Job { source, output }))
}

fn process(value: OsString) -> Result<Process, lexopt::Error> {
    let text = value.into_string()?;
    Process::new(&text).ok_or_else(|| format!("not the number of a process: {text}").into())
}

fn draw(job: &Job) -> Result<(), String> {
    let (picture, space) = match &job.source {
        Source::Process(process) => {
            let space = process.space().map_err(|error| error.to_string())?;
            (still(&process.title(), &space), space)
        }
        Source::File(path) => {
            let space = space(path)?;
            (still(&path.display().to_string(), &space), space)
        }
        Source::Trace(path, most) => {
            let steps = steps(path, &read(path)?, *most)?;
            let title = path.display().to_string();
            (moving(&title, &steps, SECONDS), steps.last().clone())
        }
    };
    let picture = format!("{picture}\n");
    if job.output == Path::new("-") {
        return io::stdout().write_all(picture.as_bytes()).map_err(|error| error.to_string());
    }
    let output = job.output.display();
    std::fs::write(&job.output, picture).map_err(|error| format!("{output}: {error}"))?;
    println!("{output}\n{}", Summary::of(&space));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads a maps file, or the end of a trace.
fn space(path: &Path) -> Result<Space, String> {
    let text = read(path)?;
    let of_maps = match Space::from_maps(&text) {
        Ok(space) => return Ok(space),
        Err(error) => error,
    };
    match steps(path, &text, 1) {
        Ok(steps) if !steps.captions().is_empty() => Ok(steps.last().clone()),
        _ => Err(format!("{}: {of_maps}", path.display())),
    }
}

fn steps(path: &Path, text: &[u8], most: usize) -> Result<Steps, String> {
    Steps::of_trace(&String::from_utf8_lossy(text), most)
        .map_err(|error| format!("{}: {error}", path.display()))
}
