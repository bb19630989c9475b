//! Reads the figures that the benches have written.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Trouble;

/// The cost of an operation of one peer.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Cost {
    pub operation: String,
    pub peer: String,
    pub vmas: u64,
    /// Nanoseconds for an operation, a median.
    pub ns: f64,
}

/// A line of a plot: the costs of one peer, by number of VMAs.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub peer: String,
    pub points: Vec<(f64, f64)>,
}

/// Returns the CSV files of a folder, by name.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let trouble = |error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(trouble)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<Result<_, _>>().map_err(trouble)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: no figures; --measure makes some", folder.display()));
    }
    Ok(paths)
}

/// Reads a file with a line for each figure, below a line with the names of the columns. Lines that
/// begin with `#` say how it was measured.
pub fn read(path: &Path) -> Result<Vec<Cost>, Trouble> {
    let trouble = |error: csv::Error| format!("{}: {error}", path.display());
    let mut reader =
        csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path).map_err(trouble)?;
    let costs: Vec<Cost> = reader.deserialize().collect::<Result<_, _>>().map_err(trouble)?;
    match costs.iter().find(|cost| cost.vmas == 0 || !cost.ns.is_finite() || cost.ns <= 0.0) {
        Some(cost) => Err(format!("{}: cannot be drawn: {cost:?}", path.display())),
        None => Ok(costs),
    }
}

/// Returns the operations, in the order of their first figures.
pub fn operations(costs: &[Cost]) -> Vec<&str> {
    distinct(costs.iter().map(|cost| cost.operation.as_str()))
}

/// Returns the peers, in the order of their first figures.
pub fn peers(costs: &[Cost]) -> Vec<&str> {
    distinct(costs.iter().map(|cost| cost.peer.as_str()))
}

fn distinct<'c>(names: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Returns a line for each peer that does the operation.
pub fn series(costs: &[Cost], operation: &str) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for cost in costs.iter().filter(|cost| cost.operation == operation) {
        let point = (cost.vmas as f64, cost.ns);
        match all.iter_mut().find(|series| series.peer == cost.peer) {
            Some(series) => series.points.push(point),
            None => all.push(Series { peer: cost.peer.clone(), points: vec![point] }),
        }
    }
    for series in &mut all {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{operations, peers, read, series};

    fn written(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kvma-plots-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a file is written");
        path
    }

    #[test]
    fn figures_become_a_line_for_each_peer() {
        let path = written(
            "good",
            "# a machine\noperation,peer,vmas,ns\nfind,b,1000,7\nfind,a,1000,5.5\nfind,b,10,2\n",
        );
        let costs = read(&path).expect("figures");
        assert_eq!(operations(&costs), ["find"]);
        assert_eq!(peers(&costs), ["b", "a"]);
        let lines = series(&costs, "find");
        assert_eq!(lines[0].peer, "b");
        assert_eq!(lines[0].points, [(10.0, 2.0), (1000.0, 7.0)]);
        assert_eq!(lines[1].points, [(1000.0, 5.5)]);
        std::fs::remove_file(path).expect("it is removed");
    }

    #[test]
    fn what_has_no_logarithm_is_refused() {
        for (name, line) in [("zero", "find,a,10,0"), ("none", "find,a,0,1"), ("nan", "f,a,1,NaN")]
        {
            let path = written(name, &format!("operation,peer,vmas,ns\n{line}\n"));
            assert!(read(&path).is_err(), "{line}");
            std::fs::remove_file(path).expect("it is removed");
        }
    }
}
