//! Shows the address space of a process in the terminal, and what changes in it.

mod live;

use std::error::Error;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kvma_pictures::{Change, Process, Summary, changes};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::live::{Live, Scroll};

const USAGE: &str = "\
usage: top --pid PID [--every SECONDS]

Shows what a process has mapped, and what changes. Where standard output is
not a terminal, each change is printed as a line.

  --pid PID        the number of the process, or `self`
  --every SECONDS  how often to look [0.5]
  -h, --help       this text";

struct Job {
    process: Process,
    every: Duration,
}

fn main() -> ExitCode {
    let job = match arguments() {
        Ok(Some(job)) => job,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("top: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = if io::stdout().is_terminal() { watch(&job) } else { print(&job) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever was reading has seen enough, such as `head`.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("top: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn arguments() -> Result<Option<Job>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut process, mut every) = (None, Duration::from_millis(500));
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pid") => {
                let text = parser.value()?.into_string()?;
                let Some(named) = Process::new(&text) else {
                    return Err(format!("not the number of a process: {text}").into());
                };
                process = Some(named);
            }
            Long("every") => {
                let seconds = parser.value()?.parse()?;
                every = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            }
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let process = process.ok_or("--pid is missing")?;
    Ok(Some(Job { process, every: every.max(Duration::from_millis(10)) }))
}

/// Draws the view until the user ends it. A process that has ended stays on the screen.
fn watch(job: &Job) -> Result<(), Box<dyn Error>> {
    let first = job.process.space()?;
    ratatui::run(|terminal| -> io::Result<()> {
        let mut live = Live::new(job.process.title());
        live.look(first);
        let (mut next, mut paused) = (Instant::now() + job.every, false);
        loop {
            terminal.draw(|frame| live.draw(frame))?;
            let wait = next.saturating_duration_since(Instant::now());
            if event::poll(if paused { Duration::from_secs(3600) } else { wait })? {
                if let Event::Key(key) = event::read()?
                    && key.kind != KeyEventKind::Release
                {
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                        KeyCode::Char('c') if key.modifiers == KeyModifiers::CONTROL => {
                            return Ok(());
                        }
                        KeyCode::Char(' ') => paused = !paused,
                        KeyCode::Up => live.scroll(Scroll::Lines(-1)),
                        KeyCode::Down => live.scroll(Scroll::Lines(1)),
                        KeyCode::PageUp => live.scroll(Scroll::Pages(-1)),
                        KeyCode::PageDown => live.scroll(Scroll::Pages(1)),
                        KeyCode::Home => live.scroll(Scroll::Start),
                        KeyCode::End => live.scroll(Scroll::End),
                        _ => {}
                    }
                }
            } else {
                next = Instant::now() + job.every;
                match job.process.space() {
                    Ok(space) => live.look(space),
                    Err(_) => live.end(),
                }
            }
        }
    })?;
    Ok(())
}

/// Prints the summary, then a line for each change, until the process ends.
fn print(job: &Job) -> Result<(), Box<dyn Error>> {
    let mut space = job.process.space()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n{}", job.process.title(), Summary::of(&space))?;
    loop {
        std::thread::sleep(job.every);
        let Ok(now) = job.process.space() else {
            writeln!(out, "ended")?;
            return Ok(());
        };
        for change in changes(&space, &now) {
            match change {
                Change::Added(vma) => writeln!(out, "+ {vma}")?,
                Change::Removed(vma) => writeln!(out, "- {vma}")?,
                Change::Changed { before, after } => writeln!(out, "~ {after}, was {before}")?,
            }
        }
        space = now;
    }
}
