//! Functions with their mutants side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::mutant::{Mutant, Place, hash};
use crate::{Trouble, output, read, replace};

/// The lines of each mutant: the file, the first and the last one, and its number.
pub type Places = Vec<(String, usize, usize, usize)>;

/// The names of functions that have to stay constant, since constants call them. All others are
/// written without `const`.
pub type Constant = BTreeSet<String>;

/// Returns `true` if a mutant cannot stand beside others: what is constant asks no environment, and
/// two bodies have two types where one is returned that has no name. Iterators are put into one.
pub fn stands_alone(copy: &Path, mutant: &Mutant, constant: &Constant) -> bool {
    let Ok(text) = text(copy, &mutant.file) else { return true };
    let (from, to) = (offset(&text, mutant.function.0), offset(&text, mutant.function.1));
    let Some(body) = body(&text[from..to]) else { return true };
    let signature = &text[from..from + body];
    let is_constant = CONST
        .iter()
        .any(|word| signature.split(word).skip(1).any(|rest| constant.contains(identifier(rest))));
    let returned = returned(signature);
    is_constant || returned.contains("impl ") && !is_iterator(returned, &text[from + body..to])
}

/// Returns `true` if a function returns an iterator, and at its end alone.
fn is_iterator(returned: &str, body: &str) -> bool {
    returned.starts_with("-> impl ") && returned.contains("Iterator") && !body.contains("return ")
}

const CONST: [&str; 2] = ["const fn ", "const unsafe fn "];

/// Returns the identifier that a text begins with.
fn identifier(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Returns the text without `const` before the functions that need not be constant.
fn with_few_constants(text: &str, constant: &Constant) -> String {
    CONST.iter().fold(text.into(), |text: String, word| {
        let mut parts = text.split(word);
        let mut written = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let stays = constant.contains(identifier(part));
            written += if stays { word } else { &word["const ".len()..] };
            written += part;
        }
        written
    })
}

/// Returns a number that is another one when the mutant's file has changed.
pub fn state(root: &Path, mutant: &Mutant) -> Result<u64, Trouble> {
    Ok(hash(&text(root, &mutant.file)?))
}

/// Writes the source with mutants into the copy, and gives the mutants their groups.
pub fn write(
    root: &Path,
    copy: &Path,
    mutants: &mut [Mutant],
    constant: &Constant,
) -> Result<Places, Trouble> {
    let mut places = Places::new();
    let mut groups = 0;
    let mut files = BTreeMap::<String, Vec<&mut Mutant>>::new();
    let listed = output(Command::new("git").current_dir(root).args(["ls-files", "-co", "src"]))?;
    for file in listed.lines().filter(|file| root.join(file).is_file()) {
        files.insert(file.into(), Vec::new());
    }
    for mutant in mutants {
        files.entry(mutant.file.clone()).or_default().push(mutant);
    }
    let mut lib = String::new();
    for (file, mutants) in files {
        let text = text(root, &file)?;
        let written = with_mutants(&text, mutants, &mut groups, &file, &mut places)?;
        let written = with_few_constants(&written, constant);
        if file == "src/lib.rs" {
            lib = written;
        } else {
            replace(&copy.join(&file), written.as_bytes())?;
        }
    }
    lib += &include_str!("switch.rs").replace("GROUPS", &groups.to_string());
    replace(&copy.join("src/lib.rs"), lib.as_bytes())?;
    Ok(places)
}

/// Put around the first of two iterators, and the second.
const EITHER: [&str; 2] =
    ["crate::mutant_switch::Either::One(", "crate::mutant_switch::Either::Other("];

/// Returns the text of a file in which each function with mutants has a body for each of them.
fn with_mutants(
    text: &str,
    mutants: Vec<&mut Mutant>,
    groups: &mut usize,
    file: &str,
    places: &mut Places,
) -> Result<String, Trouble> {
    // The outermost functions: what has a function inside is repeated with it.
    let mut functions: Vec<_> = mutants.iter().map(|mutant| mutant.function).collect();
    functions.sort_by_key(|&(start, end)| (start, std::cmp::Reverse(end)));
    let mut outermost: Vec<(Place, Place)> = Vec::new();
    for function in functions {
        if outermost.last().is_none_or(|last| last.1 <= function.0) {
            outermost.push(function);
        }
    }
    let mut mutants = mutants;
    let mut written = String::new();
    let mut done = 0;
    for (start, end) in outermost {
        let (from, to) = (offset(text, start), offset(text, end));
        let open = from + body(&text[from..to]).ok_or("a function without a body")?;
        written += &text[done..open];
        written += &format!("{{ match crate::mutant_switch::active({groups}) {{");
        let is_iterator = is_iterator(returned(&text[from..open]), &text[open..to]);
        let (mut before, mut after) = (String::new(), String::new());
        for mutant in &mut mutants {
            let (at, until) = (offset(text, mutant.replaced.0), offset(text, mutant.replaced.1));
            if at < open || until > to {
                continue;
            }
            let first = lines(&written) + 1;
            let (either, end) = if is_iterator { (EITHER[0], "),") } else { ("", "") };
            written += &format!("\n{} => {before}{either}{}", mutant.number, &text[open..at]);
            written += &format!("{} {}{after}{end}", mutant.replacement, &text[until..to]);
            if is_iterator {
                before += EITHER[1];
                after += ")";
            }
            places.push((file.into(), first, lines(&written), mutant.number));
            mutant.group = *groups;
        }
        written += &format!("\n_ => {before}{}{after}\n}} }}", &text[open..to]);
        done = to;
        *groups += 1;
    }
    Ok(written + &text[done..])
}

/// Those to which what rustc complains of belongs.
#[derive(Default)]
pub struct Culprits {
    /// The numbers of mutants.
    pub mutants: BTreeSet<usize>,
    /// Functions that have to be constant.
    pub constant: Constant,
}

/// Returns the culprits that rustc's messages are about.
pub fn culprits(messages: &str, places: &Places) -> Culprits {
    let mut found = Culprits::default();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        // As in: cannot call non-const associated function `Limits::with` in constants.
        if message["code"]["code"] == "E0015" {
            let path = message["message"].as_str().and_then(|text| text.split('`').nth(1));
            let name = path.and_then(|path| path.rsplit("::").next());
            found.constant.extend(name.map(|name| identifier(name).to_owned()));
            continue;
        }
        for span in message["spans"].as_array().into_iter().flatten() {
            if span["is_primary"] == true {
                blame(span, places, &mut found.mutants);
            }
        }
    }
    found
}

/// Adds the mutant in whose lines a span lies, or the use of the macro that it lies in.
fn blame(span: &Value, places: &Places, found: &mut BTreeSet<usize>) {
    let line = span["line_start"].as_u64().unwrap_or(0) as usize;
    let inside = places.iter().filter(|(file, first, last, _)| {
        span["file_name"] == **file && (*first..=*last).contains(&line)
    });
    found.extend(inside.map(|place| place.3));
    if span["expansion"].is_object() {
        blame(&span["expansion"]["span"], places, found);
    }
}

fn text(folder: &Path, file: &str) -> Result<String, Trouble> {
    String::from_utf8(read(&folder.join(file))?).map_err(|error| format!("{file}: {error}"))
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count() + 1
}

/// Returns the offset of a place in bytes. Columns count characters.
fn offset(text: &str, (line, column): Place) -> usize {
    let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
    let into =
        text[start..].char_indices().nth(column - 1).map_or(text.len() - start, |(at, _)| at);
    start + into
}

/// Returns what a function returns, and the bounds behind it.
fn returned(signature: &str) -> &str {
    outside(signature, "->").map_or("", |at| &signature[at..])
}

/// Returns where the braces of a function's body open.
fn body(function: &str) -> Option<usize> {
    outside(function, "{")
}

/// Returns where something is found first that is in no parentheses, brackets or angle brackets,
/// and in no comment or string.
fn outside(text: &str, wanted: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n')?;
            continue;
        }
        if depth == 0 && rest.starts_with(wanted) {
            return Some(at);
        }
        at += match rest.chars().next()? {
            '(' | '[' | '<' => {
                depth += 1;
                1
            }
            ')' | ']' | '>' => {
                depth -= 1;
                1
            }
            '-' if rest.starts_with("->") => 2,
            '"' => 2 + rest[1..].find('"')?,
            other => other.len_utf8(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{body, culprits, returned, with_few_constants, with_mutants};
    use crate::mutant::Mutant;

    const TEXT: &str = "\
/// Adds { two }.
fn sum(a: u64, add: impl Fn([u8; 2]) -> u64) -> u64 {
    a + 1
}
";

    #[test]
    fn a_signature_is_told_from_a_body() {
        assert_eq!(body(TEXT), TEXT.find("{\n    a"));
        let signature = &TEXT[..body(TEXT).unwrap()];
        assert_eq!(returned(signature), "-> u64 ");
        assert_eq!(returned("fn f<T: Fn() -> u8>(t: T) where T: Copy "), "");
    }

    #[test]
    fn every_mutant_has_a_body_of_its_own() {
        let mutant = |number, replacement: &str| Mutant {
            name: String::new(),
            layer: String::new(),
            file: "a.rs".into(),
            function: ((1, 1), (4, 2)),
            replaced: ((3, 7), (3, 8)),
            replacement: replacement.into(),
            number,
            group: 9,
        };
        let (mut one, mut two) = (mutant(5, "-"), mutant(7, "*"));
        let (mut groups, mut places) = (2, Vec::new());
        let text =
            with_mutants(TEXT, vec![&mut one, &mut two], &mut groups, "a.rs", &mut places).unwrap();
        let expected = TEXT.replace(
            "{\n    a + 1\n}\n",
            "{ match crate::mutant_switch::active(2) {
5 => {
    a -  1
}
7 => {
    a *  1
}
_ => {
    a + 1
}
} }
",
        );
        assert_eq!(text, expected);
        assert_eq!((one.group, two.group, groups), (2, 2, 3));
        let error = r#"{"message":{"level":"error","spans":[
            {"is_primary":true,"file_name":"a.rs","line_start":7}]}}"#;
        assert_eq!(culprits(&error.replace('\n', ""), &places).mutants, [7].into());
    }

    #[test]
    fn what_constants_call_stays_constant() {
        let error = r#"{"message":{"level":"error","code":{"code":"E0015"},"spans":[],
            "message":"cannot call non-const associated function `A::<u8>::one` in constants"}}"#;
        let constant = culprits(&error.replace('\n', ""), &Vec::new()).constant;
        let text = "pub const fn one() {}\nconst unsafe fn two() {}\nconst THREE: fn () = two;\n";
        let expected = "pub const fn one() {}\nunsafe fn two() {}\nconst THREE: fn () = two;\n";
        assert_eq!(with_few_constants(text, &constant), expected);
    }
}
