//! A live view of an address space in the terminal: what is mapped, and what has changed.

use std::collections::VecDeque;

use kvma_pictures::{Bytes, Change, Kind, Space, Summary, VmaEntry, changes};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

/// The number of changes that are remembered.
const REMEMBERED: usize = 1000;
/// The number of looks for which a change is marked in the list.
const FRESH: u64 = 5;

/// The space that the view shows, and how far it is scrolled.
#[derive(Debug, Default)]
pub struct Live {
    title: String,
    space: Space,
    summary: Summary,
    looks: u64,
    /// The process has ended: nothing changes any more.
    ended: bool,
    /// The latest change first, with the look at which it was seen.
    log: VecDeque<(u64, Change)>,
    first: usize,
    /// The number of lines that the list had when it was last drawn.
    page: usize,
}

/// A movement in the list of VMAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scroll {
    /// By lines, up if negative.
    Lines(isize),
    /// By pages, up if negative.
    Pages(isize),
    /// To the first VMA.
    Start,
    /// To the last VMA.
    End,
}

impl Live {
    /// Makes an empty view with a title.
    pub fn new(title: String) -> Self {
        Self { title, ..Self::default() }
    }

    /// Takes the state of the address space at a new look.
    pub fn look(&mut self, space: Space) {
        self.looks += 1;
        // At the first look everything is new.
        if self.looks > 1 {
            for change in changes(&self.space, &space) {
                self.log.push_front((self.looks, change));
            }
            self.log.truncate(REMEMBERED);
        }
        self.summary = Summary::of(&space);
        self.space = space;
        self.scroll(Scroll::Lines(0));
    }

    /// Says that the process has ended. Its last state stays on the screen.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Scrolls the list of VMAs.
    pub fn scroll(&mut self, by: Scroll) {
        let last = self.space.vmas().len().saturating_sub(self.page.max(1));
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        let first = match by {
            Scroll::Lines(lines) => self.first.saturating_add_signed(lines),
            Scroll::Pages(pages) => self.first.saturating_add_signed(pages.saturating_mul(page)),
            Scroll::Start => 0,
            Scroll::End => last,
        };
        self.first = first.min(last);
    }

    /// Draws the view. O(lines of the terminal), and O(n) once for the ribbon of n VMAs.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let log = (area.height / 4).clamp(3, 10);
        let [head, ribbon, list, changed, keys] = Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(1),
            Constraint::Min(3),
            Constraint::Length(log),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_head(frame, head);
        frame.render_widget(self.ribbon(ribbon.width), ribbon);
        self.draw_list(frame, list);
        self.draw_log(frame, changed);
        let keys_line = "q quit  ↑↓ PgUp PgDn Home End scroll  space pause";
        frame.render_widget(Paragraph::new(keys_line.dim()), keys);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut title = Line::from(self.title.as_str().bold());
        if self.ended {
            title.push_span(", ended".bold().red());
        }
        let mut lines = vec![title];
        lines.extend(self.summary.to_string().lines().map(|line| Line::from(line.to_owned())));
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// Returns a line in which each VMA has a part that grows with the logarithm of its size.
    fn ribbon(&self, width: u16) -> Line<'static> {
        let weight = |vma: &VmaEntry| u64::from((vma.len() >> 12).max(1).ilog2()) + 1;
        let all: u64 = self.space.vmas().iter().map(weight).sum();
        let mut spans = Vec::new();
        let (mut vmas, mut end) = (self.space.vmas().iter().peekable(), 0);
        for column in 0..u64::from(width) {
            let at = column * all / u64::from(width);
            while let Some(vma) = vmas.peek().filter(|vma| end + weight(vma) <= at) {
                end += weight(vma);
                vmas.next();
            }
            let Some(vma) = vmas.peek() else { break };
            spans.push(Span::styled("▇", Style::new().fg(colour(vma.kind()))));
        }
        Line::from(spans)
    }

    fn draw_list(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let count = self.space.vmas().len();
        self.page = usize::from(area.height.saturating_sub(1));
        self.scroll(Scroll::Lines(0));
        let shown = (self.first + 1).min(count)..=(self.first + self.page).min(count);
        let title = format!(" VMAs {}–{} of {count} ", shown.start(), shown.end());
        let block = Block::new().borders(ratatui::widgets::Borders::TOP).title(title);
        let fresh: Vec<&Change> = self
            .log
            .iter()
            .take_while(|(look, _)| look + FRESH > self.looks)
            .map(|(_, change)| change)
            .collect();
        let lines = self.space.vmas().iter().skip(self.first).take(self.page).map(|vma| {
            let change = fresh
                .iter()
                .find(|change| !matches!(change, Change::Removed(_)) && change.vma() == vma);
            line(change.map_or(' ', |change| sign(change)), vma, "")
        });
        let lines: Vec<_> = lines.collect();
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }

    fn draw_log(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::new().borders(ratatui::widgets::Borders::TOP).title(" changes ");
        let room = usize::from(area.height.saturating_sub(1));
        let mut lines: Vec<_> =
            self.log.iter().take(room).map(|(_, change)| log_line(change)).collect();
        if lines.is_empty() {
            lines.push(Line::from("none yet".dim()));
        }
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

fn colour(kind: Kind) -> Color {
    match kind {
        Kind::File => Color::Green,
        Kind::Anonymous => Color::Blue,
        Kind::Heap => Color::Yellow,
        Kind::Stack => Color::LightRed,
        Kind::Shared => Color::Magenta,
        Kind::Kernel => Color::DarkGray,
    }
}

fn sign(change: &Change) -> char {
    match change {
        Change::Added(_) => '+',
        Change::Removed(_) => '-',
        Change::Changed { .. } => '~',
    }
}

/// Returns the line for a VMA: sign, address, size, protection, name. The fixed part has 36
/// columns.
fn line(sign: char, vma: &VmaEntry, note: &str) -> Line<'static> {
    let style = match sign {
        '+' => Style::new().add_modifier(Modifier::BOLD).fg(Color::Green),
        '-' => Style::new().fg(Color::Red),
        '~' => Style::new().add_modifier(Modifier::BOLD).fg(Color::Yellow),
        _ => Style::new(),
    };
    let name = if vma.name().is_empty() { vma.kind().word() } else { vma.short_name() };
    Line::from(vec![
        Span::styled(format!("{sign} {:>16x} {:>9} ", vma.start(), Bytes(vma.len())), style),
        Span::styled(format!("{} ", vma.letters()), style),
        Span::styled(format!("{note}{name}"), Style::new().fg(colour(vma.kind()))),
    ])
}

fn log_line(change: &Change) -> Line<'static> {
    let note = match change {
        Change::Changed { before, after } if before.perms() != after.perms() => {
            format!("was {} ", before.letters())
        }
        Change::Changed { before, after } if before.len() != after.len() => {
            format!("was {} ", Bytes(before.len()))
        }
        _ => String::new(),
    };
    line(sign(change), change.vma(), &note)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(live: &mut Live, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| live.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(usize::from(width))
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>())
            .collect()
    }

    fn many(count: u64) -> Space {
        let maps: String = (0..count)
            .map(|n| format!("{:x}-{:x} rw-p 00000000 00:00 0 \n", n << 13, (n << 13) + 4096))
            .collect();
        Space::from_maps(maps.as_bytes()).unwrap()
    }

    #[test]
    fn what_has_changed_is_shown() {
        let mut live = Live::new("sleep (1)".into());
        live.look(Space::from_maps(b"1000-2000 rw-p 00000000 00:00 0 [heap]\n").unwrap());
        assert!(screen(&mut live, 80, 24).iter().any(|line| line.starts_with("none yet")));
        live.look(
            Space::from_maps(
                b"1000-3000 rw-p 00000000 00:00 0 [heap]\n8000-9000 r-xp 00000000 fe:00 7 /lib/x\n",
            )
            .unwrap(),
        );
        let shown = screen(&mut live, 80, 24);
        assert!(
            shown.iter().any(|line| line.starts_with("~") && line.contains("was 4 KiB [heap]"))
        );
        assert!(shown.iter().any(|line| line.starts_with("+") && line.contains("r-xp x")));
        live.look(Space::default());
        let shown = screen(&mut live, 80, 24);
        assert!(shown.iter().any(|line| line.starts_with("-") && line.contains("[heap]")));
    }

    #[test]
    fn a_process_that_has_ended_stays_on_the_screen() {
        let mut live = Live::new("sleep (1)".into());
        live.look(many(3));
        live.end();
        let shown = screen(&mut live, 80, 24);
        assert!(shown[0].starts_with("sleep (1), ended"));
        assert!(shown.iter().any(|line| line.contains("VMAs 1–3 of 3")));
    }

    #[test]
    fn ten_thousand_vmas_can_be_scrolled() {
        let mut live = Live::new("many".into());
        live.look(many(10_000));
        screen(&mut live, 80, 24);
        live.scroll(Scroll::End);
        assert!(screen(&mut live, 80, 24).iter().any(|line| line.contains("10000 of 10000")));
        live.scroll(Scroll::Pages(isize::MIN));
        assert!(screen(&mut live, 80, 24).iter().any(|line| line.contains("VMAs 1–")));
        // A list that becomes shorter is not scrolled beyond its end.
        live.scroll(Scroll::End);
        live.look(many(3));
        assert!(screen(&mut live, 80, 24).iter().any(|line| line.contains("VMAs 1–3 of 3")));
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        let mut live = Live::new("many".into());
        live.look(many(100));
        for (width, height) in [(1, 1), (5, 3), (80, 5), (300, 100)] {
            screen(&mut live, width, height);
        }
    }
}
