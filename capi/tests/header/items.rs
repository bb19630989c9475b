//! The output of cbindgen, taken apart.

/// The kind of an item in a header.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// `#define NAME`, and the value.
    Constant(String),
    /// A structure, defined or opaque.
    Structure,
    /// A typedef or a function.
    Other,
}

/// Something in a header that has a name.
#[derive(Clone)]
pub struct Item {
    pub name: String,
    pub kind: Kind,
    /// The comment's lines, without what makes them a comment.
    pub comment: Vec<String>,
    /// The declaration. Comments of its parts are still those of C99.
    pub text: String,
}

/// Returns what stands in a header by cbindgen, in its order.
pub fn items(header: &str) -> Vec<Item> {
    header.split("\n\n").filter_map(item).collect()
}

/// Reads a paragraph: a comment and a declaration. Of others there is none.
fn item(paragraph: &str) -> Option<Item> {
    let lines = paragraph.lines().filter(|line| !line.is_empty());
    let (comment, text): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("//"));
    let text = text.join("\n");
    let (name, kind) = if let Some(rest) = text.strip_prefix("#define ") {
        let (name, value) = rest.split_once(' ')?;
        (name, Kind::Constant(value.trim().to_owned()))
    } else if text.starts_with('#') || text.starts_with("/*") || text.starts_with('}') {
        return None;
    } else if let Some(rest) = text.strip_prefix("typedef ") {
        let name = match rest.split_once("(*") {
            Some((_, rest)) => rest.split_once(')')?.0,
            None => last_word(rest.strip_suffix(';')?),
        };
        (name, Kind::Other)
    } else {
        let head = text.split(['{', ';', '(']).next()?.trim_end();
        let is_function = text[head.len()..].starts_with('(');
        (last_word(head), if is_function { Kind::Other } else { Kind::Structure })
    };
    if name.is_empty() {
        return None;
    }
    let comment = comment.iter().map(|line| uncommented(line)).collect();
    Some(Item { name: name.to_owned(), kind, comment, text: text.clone() })
}

/// Returns a comment's line without `// `. Further blanks indent a drawing, and stay.
fn uncommented(line: &str) -> String {
    let line = line.trim_start().trim_start_matches('/');
    line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()
}

fn last_word(text: &str) -> &str {
    text.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Returns true if this name stands in the text as a word.
pub fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
}

/// Returns a comment in C90, indented by this much.
pub fn comment(lines: &[String], indent: &str) -> String {
    assert!(lines.iter().all(|line| !line.contains("*/")), "{lines:?}");
    let lines = &filled(lines, 100 - indent.len() - 3);
    match &lines[..] {
        [] => String::new(),
        [line] if indent.len() + line.len() + 6 <= 100 => format!("{indent}/* {line} */\n"),
        lines => {
            let lines: String = lines
                .iter()
                .map(|line| format!("{indent} * {line}").trim_end().to_owned() + "\n")
                .collect();
            format!("{indent}/*\n{lines}{indent} */\n")
        }
    }
}

/// Returns the lines, broken anew if one is longer than `columns`. Drawings, which are indented,
/// are left as they are.
fn filled(lines: &[String], columns: usize) -> Vec<String> {
    let fits = lines.iter().all(|line| line.chars().count() <= columns);
    if fits || lines.iter().any(|line| line.starts_with(' ')) {
        return lines.to_vec();
    }
    let text = lines.join("\n");
    let paragraphs = text.split("\n\n").map(|text| text.replace('\n', " "));
    let filled: Vec<String> =
        paragraphs.map(|text| textwrap::wrap(&text, columns).join("\n")).collect();
    filled.join("\n\n").lines().map(String::from).collect()
}

/// Returns a declaration with the comments of its parts in C90.
pub fn declaration(text: &str) -> String {
    let mut result = String::new();
    let mut pending: Vec<String> = Vec::new();
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("//") {
            pending.push(uncommented(line));
            continue;
        }
        result.push_str(&comment(&std::mem::take(&mut pending), indent));
        result.push_str(line);
        result.push('\n');
    }
    result
}
