//! The common parts of still and moving pictures: colours, boxes, texts, the frame around all.

use kvma::linux::VmFlags;
use svg::Document;
use svg::node::Node;
use svg::node::element::Element;

use crate::axis::{Axis, Fill, ROW_WIDTH};
use crate::space::{Kind, VmaEntry};
use crate::summary::{Bytes, Summary};

/// The distance of the ribbon from the picture's edge.
pub(crate) const MARGIN: f64 = 20.0;
/// The height of a box.
pub(crate) const BOX: f64 = 30.0;
/// The distance from the top of a row to its boxes: a line of names lies between.
pub(crate) const NAMES: f64 = 14.0;
/// The distance from one row to the next, if no wide gap is between.
pub(crate) const ROW: f64 = NAMES + BOX + 20.0;
/// The additional distance where a wide gap is between two rows.
const WIDE: f64 = 18.0;
/// The distance from the top of the picture to the first row.
const TOP: f64 = 66.0;

/// The width of a letter of the small fixed-width font.
pub(crate) const LETTER: f64 = 5.5;

const STYLE: &str = "\
text{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:9px;\
fill:#333}\
.title{font-size:15px;font-weight:bold}\
.head{font-size:11px}\
.pale{fill:#777}\
.gap{stroke:#bbb;stroke-dasharray:2 3}";

pub(crate) fn element(name: &str, attributes: &[(&str, String)]) -> Element {
    let mut element = Element::new(name);
    for (name, value) in attributes {
        element.assign(*name, value.as_str());
    }
    element
}

pub(crate) fn text(class: &str, x: f64, y: f64, content: &str) -> Element {
    let place = [("class", class.into()), ("x", number(x)), ("y", number(y))];
    let mut text = element("text", &place);
    text.append(svg::node::Text::new(content));
    text
}

pub(crate) fn number(value: f64) -> String {
    format!("{}", (value * 10.0).round() / 10.0)
}

/// Returns the tops of the rows, and the end of the last.
pub(crate) fn row_tops(axis: &Axis) -> Vec<f64> {
    let mut tops = vec![TOP];
    for &(low, high) in axis.row_gaps() {
        let wide = if high > low { WIDE } else { 0.0 };
        tops.push(tops.last().unwrap_or(&TOP) + ROW + wide);
    }
    tops.push(tops.last().unwrap_or(&TOP) + if axis.rows() > 0 { ROW } else { 0.0 });
    tops
}

/// Returns the colour of a kind of memory. They can be told apart by the colour-blind.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "#009e73",
        Kind::Anonymous => "#3a8fd0",
        Kind::Heap => "#e69f00",
        Kind::Stack => "#d55e00",
        Kind::Shared => "#b0589a",
        Kind::Kernel => "#777777",
    }
}

/// Returns how full the colour is: memory that can do more has more of it.
fn opacity(perms: VmFlags) -> f64 {
    if perms.contains(VmFlags::EXEC) {
        0.95
    } else if perms.contains(VmFlags::WRITE) {
        0.6
    } else if perms.contains(VmFlags::READ) {
        0.3
    } else {
        0.08
    }
}

/// Draws the box of a VMA: `fill` says whether all of it is to scale.
pub(crate) fn vma_box(vma: &VmaEntry, x: f64, y: f64, width: f64, fill: Fill) -> Element {
    let mut group = Element::new("g");
    let mut title = Element::new("title");
    title.append(svg::node::Text::new(format!("{vma} ({})", Bytes(vma.len()))));
    group.append(title);
    group.append(painted(vma.kind(), vma.perms(), x, y, width));
    let dark = opacity(vma.perms()) > 0.9;
    let mut write = |line: f64, what: &str| {
        if what.chars().count() as f64 * LETTER + 3.0 <= width {
            let mut label = text("", x + 3.0, y + line, what);
            if dark {
                label.assign("style", "fill:#fff");
            }
            group.append(label);
        }
    };
    write(12.0, &vma.letters());
    write(24.0, &Bytes(vma.len()).to_string());
    if fill == Fill::CutMemory {
        group.append(cut(x + width * 0.75, y));
    }
    group
}

/// Draws a rectangle in the colours of a kind and a protection.
fn painted(kind: Kind, perms: VmFlags, x: f64, y: f64, width: f64) -> Element {
    let mut group = Element::new("g");
    let place = |inset: f64| {
        vec![
            ("x", number(x + inset)),
            ("y", number(y + inset)),
            ("width", number((width - 2.0 * inset).max(1.0))),
            ("height", number(BOX - 2.0 * inset)),
        ]
    };
    let mut rect = place(0.25);
    let alarm = perms.contains(VmFlags::WRITE | VmFlags::EXEC);
    rect.extend([
        ("fill", colour(kind).into()),
        ("fill-opacity", number(opacity(perms) * 100.0) + "%"),
        ("stroke", if alarm { "#e00000".into() } else { colour(kind).into() }),
        ("stroke-width", if alarm { "2".into() } else { "0.5".into() }),
    ]);
    group.append(element("rect", &rect));
    if !perms.intersects(VmFlags::ACCESS) {
        let mut hatch = place(0.25);
        hatch.push(("fill", "url(#none)".into()));
        group.append(element("rect", &hatch));
    }
    group
}

/// Draws the mark of memory that is longer than its box.
fn cut(x: f64, y: f64) -> Element {
    let mut points = String::new();
    for (step, side) in (0..=6).zip([-3.0, 3.0].into_iter().cycle()) {
        points += &format!("{},{} ", number(x + side), number(y + f64::from(step) * BOX / 6.0));
    }
    let mut mark = Element::new("g");
    for (colour, width) in [("#fff", "5"), ("#999", "1")] {
        let line = [
            ("points", points.clone()),
            ("fill", "none".into()),
            ("stroke", colour.into()),
            ("stroke-width", width.into()),
        ];
        mark.append(element("polyline", &line));
    }
    mark
}

/// Draws everything but the VMAs: title, summary, gaps, legend.
pub(crate) fn frame(title: &str, summary: &Summary, axis: &Axis) -> Document {
    let tops = row_tops(axis);
    let foot = tops.last().copied().unwrap_or(TOP) + 14.0;
    let (width, height) = (ROW_WIDTH + 2.0 * MARGIN, foot + 86.0);
    let mut picture = Document::new()
        .set("viewBox", (0, 0, width as u32, height.ceil() as u32))
        .set("width", width as u32)
        .set("height", height.ceil() as u32)
        .add(svg::node::element::Style::new(STYLE));
    picture.append(hatch());
    let (whole_width, whole_height) = (number(width), number(height.ceil()));
    picture.append(element(
        "rect",
        &[("width", whole_width), ("height", whole_height), ("fill", "#fff".into())],
    ));
    picture.append(text("title", MARGIN, 26.0, &shortened(title, 100)));
    for (line, y) in summary.to_string().lines().zip([42.0, 55.0]) {
        picture.append(text("head pale", MARGIN, y, line));
    }
    gaps(&mut picture, axis, &tops);
    legend(&mut picture, summary, axis, foot);
    picture
}

fn hatch() -> Element {
    let pattern = [
        ("id", "none".to_owned()),
        ("width", "6".into()),
        ("height", "6".into()),
        ("patternUnits", "userSpaceOnUse".into()),
        ("patternTransform", "rotate(45)".into()),
    ];
    let mut pattern = element("pattern", &pattern);
    let line = [("width", "1".to_owned()), ("height", "6".into()), ("fill", "#aaa".into())];
    pattern.append(element("rect", &line));
    let mut definitions = Element::new("defs");
    definitions.append(pattern);
    definitions
}

fn gaps(picture: &mut Document, axis: &Axis, tops: &[f64]) {
    for segment in axis.segments().iter().filter(|segment| segment.fill == Fill::Gap) {
        let (x, y) = (MARGIN + segment.x, tops[segment.row] + NAMES);
        let middle = y + BOX / 2.0;
        picture.append(line(x + 1.0, x + segment.width - 1.0, middle));
        let size = Bytes(segment.end - segment.start).to_string();
        let len = size.len() as f64 * LETTER;
        if len + 2.0 <= segment.width {
            picture.append(text("pale", x + (segment.width - len) / 2.0, middle - 4.0, &size));
        }
    }
    for (&(low, high), &top) in axis.row_gaps().iter().zip(&tops[1..]) {
        if high > low {
            let y = top - 8.0;
            let size = format!("{} free", Bytes(high - low));
            let len = size.len() as f64 * LETTER;
            let middle = ROW_WIDTH / 2.0;
            picture.append(line(MARGIN, MARGIN + middle - len / 2.0 - 6.0, y - 3.0));
            picture.append(text("pale", MARGIN + middle - len / 2.0, y, &size));
            picture.append(line(MARGIN + middle + len / 2.0 + 6.0, MARGIN + ROW_WIDTH, y - 3.0));
        }
    }
}

fn line(from: f64, to: f64, y: f64) -> Element {
    let ends = [("x1", from), ("x2", to), ("y1", y), ("y2", y)];
    let mut line = element("line", &[("class", "gap".into())]);
    ends.iter().for_each(|&(name, value)| line.assign(name, number(value)));
    line
}

fn legend(picture: &mut Document, summary: &Summary, axis: &Axis, foot: f64) {
    let column = ROW_WIDTH / Kind::ALL.len() as f64;
    let write = VmFlags::READ | VmFlags::WRITE;
    for (kind, x) in Kind::ALL.into_iter().zip((0..).map(|n| MARGIN + column * f64::from(n))) {
        picture.append(small_box(kind, write, x, foot));
        picture.append(text("", x + 28.0, foot + 8.0, kind.word()));
        let total = summary.of_kind(kind).to_string();
        picture.append(text("pale", x + 28.0, foot + 19.0, &total));
    }
    let y = foot + 38.0;
    let exec = VmFlags::READ | VmFlags::EXEC;
    let protections = [
        (VmFlags::empty(), "--- no access"),
        (VmFlags::READ, "r-- read"),
        (write, "rw- write"),
        (exec, "r-x execute"),
        (write | exec, "rwx both"),
    ];
    for ((perms, word), x) in protections.iter().zip((0..).map(|n| MARGIN + column * f64::from(n)))
    {
        picture.append(small_box(Kind::File, *perms, x, y));
        picture.append(text("", x + 28.0, y + 12.0, word));
    }
    let scale = format!(
        "boxes to scale: one of this width is {}; longer than {} are cut, gaps are compressed",
        Bytes(axis.scale().saturating_mul(64)),
        Bytes((axis.scale() as f64 * crate::axis::LONGEST) as u64),
    );
    picture.append(element(
        "rect",
        &[
            ("x", number(MARGIN)),
            ("y", number(y + 30.0)),
            ("width", "64".into()),
            ("height", "3".into()),
            ("fill", "#333".into()),
        ],
    ));
    picture.append(text("pale", MARGIN + 72.0, y + 35.0, &scale));
}

/// Draws a box of the legend.
fn small_box(kind: Kind, perms: VmFlags, x: f64, y: f64) -> Element {
    let size = format!("translate({} {}) scale(1 0.6)", number(x), number(y));
    let mut group = element("g", &[("transform", size)]);
    group.append(painted(kind, perms, 0.0, 0.0, 22.0));
    group
}

/// Shortens a text to `letters` at most.
pub(crate) fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(letters.saturating_sub(1)).collect();
    short.push('…');
    short
}
