//! The mutants, as cargo-mutants lists them.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Trouble, output};

/// A place in a file: line and column, both from 1.
pub type Place = (usize, usize);

/// A change of an expression in a function.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub name: String,
    pub layer: String,
    pub file: String,
    /// The function that it is in, with its attributes. In a constant, the place itself.
    pub function: (Place, Place),
    /// The place that is replaced, and by what.
    pub replaced: (Place, Place),
    pub replacement: String,
    /// Its name in the environment, from 1.
    pub number: usize,
    /// The number of the function among those that have mutants.
    pub group: usize,
}

/// Lists the mutants of a layer or a file, without those that the repository's configuration
/// leaves out.
pub fn list(root: &Path, layer: &str) -> Result<Vec<Mutant>, Trouble> {
    let text =
        output(Command::new("cargo").current_dir(root).args(["mutants", "--list", "--json"]))?;
    let list: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let place = format!("src/{layer}");
    let all = list.iter().filter_map(|value| mutant(value, layer));
    Ok(all.filter(|mutant| Path::new(&mutant.file).starts_with(&place)).collect())
}

fn mutant(value: &Value, layer: &str) -> Option<Mutant> {
    let number = |value: &Value| Some(value.as_u64()? as usize);
    let place = |value: &Value| Some((number(&value["line"])?, number(&value["column"])?));
    let span = |value: &Value| Some((place(&value["start"])?, place(&value["end"])?));
    let string = |value: &Value| Some(value.as_str()?.to_owned());
    let replaced = span(&value["span"])?;
    Some(Mutant {
        name: string(&value["name"])?,
        layer: layer.into(),
        file: string(&value["file"])?,
        function: span(&value["function"]["span"]).unwrap_or(replaced),
        replaced,
        replacement: string(&value["replacement"])?,
        number: 0,
        group: 0,
    })
}

/// Returns a part of the mutants in random order, which is the same order at every call.
pub fn sample(all: &[Mutant], part: &Range<usize>) -> Vec<Mutant> {
    let mut order: Vec<_> = all.iter().collect();
    order.sort_by_key(|mutant| hash(&mutant.name));
    let mut taken: Vec<_> = order.into_iter().take(part.end).skip(part.start).cloned().collect();
    taken.sort_by(|a, b| (&a.file, a.replaced).cmp(&(&b.file, b.replaced)));
    taken
}

/// Returns a number that is as good as random: FNV-1a, mixed once more.
pub fn hash(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
