//! A plot of costs against the number of VMAs, both on logarithmic scales.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Trouble;
use crate::figures::Series;

const SIZE: (u32, u32) = (800, 480);
/// Room for the names at the ends of the lines.
const NAMES: u32 = 150;
/// The least distance of two names, in pixels.
const NAME_HEIGHT: i32 = 17;
const GREY: RGBColor = RGBColor(110, 110, 110);
/// In the order of the peers. They differ in lightness as well, for whoever does not see colours.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 60, 170),
    RGBColor(60, 150, 255),
    RGBColor(0, 130, 80),
    RGBColor(90, 190, 90),
    RGBColor(200, 50, 100),
    RGBColor(235, 130, 0),
    RGBColor(120, 80, 180),
    RGBColor(0, 170, 180),
    RGBColor(140, 90, 40),
    RGBColor(220, 150, 170),
    RGBColor(150, 150, 0),
    RGBColor(80, 80, 80),
];

/// A plot, as the text of an SVG. A line has the colour of its peer's place among `peers`; those of
/// the first one, and of what is named after it, are thick.
pub fn draw(title: &str, peers: &[&str], lines: &[Series]) -> Result<String, Trouble> {
    let mut svg = String::new();
    draw_on(&mut svg, title, peers, lines).map_err(|error| format!("{title}: {error}"))?;
    Ok(svg)
}

/// Returns the smallest and the largest of some values, each a little further out.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .map(|value| (value, value))
        .reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
        .map(|(low, high)| (low / 1.3, high * 1.3))
}

/// Moves names apart that would lie on each other. They stay in their order.
fn spread(mut wanted: Vec<(usize, i32)>) -> Vec<(usize, i32)> {
    wanted.sort_by_key(|&(_, y)| y);
    for at in 1..wanted.len() {
        wanted[at].1 = wanted[at].1.max(wanted[at - 1].1 + NAME_HEIGHT);
    }
    wanted
}

/// Returns a number of nanoseconds with a unit that suits it.
fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns} ns"),
        ns if ns < 1e6 => format!("{} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{} ms", ns / 1e6),
        ns => format!("{} s", ns / 1e9),
    }
}

/// Returns a number of VMAs in a few letters.
fn number(vmas: f64) -> String {
    match vmas {
        vmas if vmas < 1e3 => format!("{vmas}"),
        vmas if vmas < 1e6 => format!("{}k", vmas / 1e3),
        vmas => format!("{}M", vmas / 1e6),
    }
}

fn draw_on(
    svg: &mut String,
    title: &str,
    peers: &[&str],
    lines: &[Series],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right) = bounds(points().map(|(vmas, _)| vmas)).ok_or("no figures")?;
    let (low, high) = bounds(points().map(|(_, ns)| ns)).ok_or("no figures")?;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .margin_right(NAMES)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(GREY)
        .label_style(("sans-serif", 13, &GREY))
        .x_desc("VMAs")
        .y_desc("time of an operation")
        .x_label_formatter(&|vmas| number(*vmas))
        .y_label_formatter(&|ns| duration(*ns))
        .draw()?;
    let colour = |line: &Series| {
        let at = peers.iter().position(|peer| *peer == line.peer).unwrap_or(peers.len());
        COLOURS[at % COLOURS.len()]
    };
    let is_first = |line: &Series| peers.first().is_some_and(|first| line.peer.starts_with(first));
    // The thick ones last, so that they lie above the others.
    let (thick, thin): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_first(line));
    for line in thin.into_iter().chain(thick) {
        let style = colour(line).stroke_width(if is_first(line) { 4 } else { 2 });
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        let dots = line.points.iter().map(|&point| Circle::new(point, 3, style.filled()));
        chart.draw_series(dots)?;
    }
    let ends = lines.iter().enumerate().filter_map(|(at, line)| {
        let (_, y) = chart.backend_coord(line.points.last()?);
        Some((at, y))
    });
    let x = SIZE.0 as i32 - NAMES as i32 + 2;
    for (at, y) in spread(ends.collect()) {
        let font = ("sans-serif", 14).into_font();
        let font = if is_first(&lines[at]) { font.style(FontStyle::Bold) } else { font };
        let text = font.color(&colour(&lines[at]));
        let text = text.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&lines[at].peer, &text, (x, y))?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{draw, duration, number, spread};
    use crate::figures::Series;

    #[test]
    fn units_suit_the_numbers() {
        assert_eq!((duration(20.0), duration(5e4)), ("20 ns".into(), "50 µs".into()));
        assert_eq!((duration(2e6), duration(3e9)), ("2 ms".into(), "3 s".into()));
        assert_eq!([10.0, 1e4, 1e6].map(number), ["10", "10k", "1M"]);
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        assert_eq!(spread(vec![(0, 50), (1, 48), (2, 49)]), [(1, 48), (2, 65), (0, 82)]);
    }

    #[test]
    fn a_plot_names_every_line() {
        let line =
            |peer: &str, ns| Series { peer: peer.into(), points: vec![(1e3, ns), (1e6, ns * 9.0)] };
        let lines = [line("kvma", 20.0), line("BTreeMap", 30.0)];
        let svg = draw("random lookup", &["kvma", "BTreeMap"], &lines).expect("a plot");
        for text in ["random lookup", "kvma", "BTreeMap", "VMAs"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn nothing_cannot_be_drawn() {
        assert!(draw("nothing", &[], &[]).is_err());
    }
}
