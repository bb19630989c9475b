//! Shows the address space of a process in the terminal, and what changes in it.

mod live;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kvma_pictures::{Change, Space, Summary, changes};
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
    pid: String,
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
        Err(error) => {
            eprintln!("top: process {}: {error}", job.pid);
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Job>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut pid, mut every) = (None, Duration::from_millis(500));
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pid") => {
                let text = parser.value()?.into_string()?;
                if text != "self" && text.parse::<u32>().is_err() {
                    return Err(format!("not the number of a process: {text}").into());
                }
                pid = Some(text);
            }
            Long("every") => {
                let seconds = parser.value()?.parse()?;
                every = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            }
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let pid = pid.ok_or("--pid is missing")?;
    Ok(Some(Job { pid, every: every.max(Duration::from_millis(10)) }))
}

fn look(pid: &str) -> io::Result<Space> {
    let text = std::fs::read(format!("/proc/{pid}/maps"))?;
    Space::from_maps(&text).map_err(|error| io::Error::other(error.to_string()))
}

fn title(pid: &str) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{} ({pid})", name.trim())
}

/// Draws the view until the user ends it. A process that has ended stays on the screen.
fn watch(job: &Job) -> io::Result<()> {
    let first = look(&job.pid)?;
    ratatui::run(|terminal| {
        let mut live = Live::new(title(&job.pid));
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
                // The maps of a process that has ended cannot be read, or are empty.
                if let Ok(space) = look(&job.pid) {
                    live.look(space);
                }
            }
        }
    })
}

/// Prints the summary, then a line for each change, until the process ends.
fn print(job: &Job) -> io::Result<()> {
    let mut space = look(&job.pid)?;
    println!("{}\n{}", title(&job.pid), Summary::of(&space));
    loop {
        std::thread::sleep(job.every);
        let Some(now) = look(&job.pid).ok().filter(|now| !now.vmas().is_empty()) else {
            println!("ended");
            return Ok(());
        };
        for change in changes(&space, &now) {
            match change {
                Change::Added(vma) => println!("+ {vma}"),
                Change::Removed(vma) => println!("- {vma}"),
                Change::Changed { before, after } => println!("~ {after}, was {before}"),
            }
        }
        space = now;
    }
}
