//! A picture that shows a trace step by step.

use svg::Document;
use svg::node::Node;
use svg::node::element::Element;

use crate::axis::{Axis, ROW_WIDTH};
use crate::drawing::{self, MARGIN, NAMES};
use crate::steps::Steps;
use crate::summary::Summary;

/// Draws `steps` as an SVG that plays by itself, over and over. Each step is shown for
/// `seconds`. Addresses keep their places, so that what moves has been moved.
///
/// The summary is that of the last step. A program that cannot animate shows that step.
pub fn moving(title: &str, steps: &Steps, seconds: f64) -> Document {
    let ranges = steps.lives().iter().map(|life| (life.vma.start(), life.vma.end()));
    let axis = Axis::of_union(ranges);
    let tops = drawing::row_tops(&axis);
    let mut picture = drawing::frame(title, &Summary::of(steps.last()), &axis);
    let count = steps.captions().len();
    let clock = Clock { steps: count, seconds: seconds * count as f64 };
    for life in steps.lives() {
        let mut group = clock.group(life.from, life.until);
        for (row, x, width, fill) in axis.boxes(life.vma.start(), life.vma.end()) {
            let (left, top) = (MARGIN + x, tops[row]);
            group.append(drawing::vma_box(&life.vma, left, top + NAMES, width, fill));
            let room = ((width - 3.0) / drawing::LETTER) as usize;
            let name = drawing::shortened(life.vma.short_name(), room);
            if room >= 5 || name == life.vma.short_name() {
                group.append(drawing::text("", left, top + 10.0, &name));
            }
        }
        picture.append(group);
    }
    for (step, caption) in steps.captions().iter().enumerate() {
        let mut group = clock.group(step, step + 1);
        let caption = format!("{}/{count}  {}", step + 1, drawing::shortened(caption, 80));
        // Ends where the ribbon does, above it.
        let mut text = drawing::text("head", MARGIN + ROW_WIDTH, 42.0, &caption);
        text.assign("text-anchor", "end");
        group.append(text);
        picture.append(group);
    }
    picture
}

/// The time that the picture takes, and its steps.
struct Clock {
    steps: usize,
    seconds: f64,
}

impl Clock {
    /// Returns a group that is seen from step `from` on, until step `until` begins.
    fn group(&self, from: usize, until: usize) -> Element {
        let last = until == self.steps;
        let mut group = Element::new("g");
        group.assign("visibility", if last { "visible" } else { "hidden" });
        if from == 0 && last {
            return group;
        }
        let (mut values, mut times) = (Vec::new(), Vec::new());
        if from > 0 {
            values.push("hidden");
            times.push("0".to_owned());
        }
        values.push("visible");
        times.push(self.part(from));
        if !last {
            values.push("hidden");
            times.push(self.part(until));
        }
        let attributes = [
            ("attributeName", "visibility".to_owned()),
            ("calcMode", "discrete".into()),
            ("values", values.join(";")),
            ("keyTimes", times.join(";")),
            ("dur", format!("{}s", self.seconds)),
            ("repeatCount", "indefinite".into()),
        ];
        group.append(drawing::element("animate", &attributes));
        group
    }

    /// Returns the time at which a step begins, as a part of the whole.
    fn part(&self, step: usize) -> String {
        format!("{:.6}", step as f64 / self.steps as f64)
    }
}
