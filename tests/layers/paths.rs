//! The paths that a source file names, read from its text.

use std::collections::BTreeMap;

/// Returns the path of a file's module: `src/tree/gap.rs` is `tree::gap`, `src/lib.rs` the root.
pub fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    PathSep,
    Other(char),
}

/// Returns the lines on which a word stands, other than in a comment or literal.
pub fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let tokens = tokens(text).into_iter();
    tokens.filter(|(_, token)| *token == Token::Word(word)).map(|(line, _)| line).collect()
}

/// Splits source text into tokens with their lines; comments, literals and lifetimes are left out.
fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let len = literal_or_comment(rest);
        if len > 0 {
            line += rest[..len].matches('\n').count();
            rest = &rest[len..];
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push((line, Token::Word(&rest[..end])));
            rest = &rest[end..];
        } else if let Some(behind) = rest.strip_prefix("::") {
            tokens.push((line, Token::PathSep));
            rest = behind;
        } else {
            line += usize::from(first == '\n');
            if !first.is_whitespace() {
                tokens.push((line, Token::Other(first)));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// Returns the length of the comment, literal or lifetime at the head of `text`; 0 if there is
/// none.
fn literal_or_comment(text: &str) -> usize {
    let whole = text.len();
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(whole);
    }
    if text.starts_with("/*") {
        let (mut depth, mut at) = (0, 0);
        while at < whole {
            if text[at..].starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if text[at..].starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            } else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        return whole;
    }
    if let Some(behind) = text.strip_prefix('\'') {
        let mut chars = behind.char_indices();
        return match (chars.next(), chars.next()) {
            (Some((_, '\\')), _) => 1 + quoted(behind, '\''),
            (_, Some((at, '\''))) => 1 + at + 1,
            // A lifetime.
            _ => 1 + behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(whole - 1),
        };
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let behind = text.strip_prefix(prefix).unwrap_or("");
        behind.starts_with('"')
            || prefix.ends_with('r') && behind.trim_start_matches('#').starts_with('"')
    });
    let Some(prefix) = prefix else { return 0 };
    let behind = &text[prefix.len()..];
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let start = prefix.len() + hashes + 1;
    if prefix.ends_with('r') {
        let close = format!("\"{}", "#".repeat(hashes));
        return text[start..].find(&close).map_or(whole, |at| start + at + close.len());
    }
    start + quoted(&text[start..], '"')
}

/// Returns the length up to and with the closing quote, escapes passed over.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The paths that a file names.
#[derive(Default)]
pub struct Scan {
    /// Absolute paths into this crate, with their lines.
    pub paths: Vec<(usize, Vec<String>)>,
    /// The first words of other paths, which may be crates.
    pub externals: Vec<(usize, String)>,
    /// Names that `pub use` gives to absolute paths.
    pub exports: BTreeMap<Vec<String>, Vec<String>>,
    /// Modules with files of their own that are compiled for tests only.
    pub test_modules: Vec<Vec<String>>,
}

impl Scan {
    /// Reads a file.
    pub fn of(file: &str, text: &str) -> Self {
        let tokens = tokens(text);
        let mut scan = Self::default();
        // The module that each open brace belongs to.
        let mut modules = vec![module_of(file)];
        let mut at = 0;
        while at < tokens.len() {
            let module = modules.last().cloned().unwrap_or_default();
            let ahead = |offset: usize| tokens.get(at + offset).map(|(_, token)| *token);
            match tokens[at].1 {
                Token::Other('#') if ahead(1) == Some(Token::Other('[')) => {
                    let end = closing(&tokens, at + 1);
                    let attribute: Vec<_> = tokens[at + 2..end].iter().map(|(_, t)| *t).collect();
                    at = end;
                    if is_for_tests(&attribute) {
                        let (end, name) = skip_item(&tokens, at + 1);
                        scan.test_modules.extend(name.map(|name| join(&module, name)));
                        at = end;
                    }
                }
                Token::Word("mod") if ahead(2) == Some(Token::Other('{')) => {
                    if let Some(Token::Word(name)) = ahead(1) {
                        modules.push(join(&module, name));
                    }
                    at += 2;
                }
                Token::Other('{') => modules.push(module),
                Token::Other('}') => {
                    modules.pop();
                }
                // Not `use<'a>` in a type.
                Token::Word("use") if ahead(1) != Some(Token::Other('<')) => {
                    let public = at > 0 && tokens[at - 1].1 == Token::Word("pub");
                    at = scan.use_item(&tokens, at + 1, &module, public);
                }
                Token::Word(word) if ahead(1) == Some(Token::PathSep) => {
                    let within = at > 0 && tokens[at - 1].1 == Token::PathSep;
                    let in_users_crate = at > 0 && tokens[at - 1].1 == Token::Other('$');
                    let relative = within
                        && at.checked_sub(2).is_some_and(|before| {
                            matches!(tokens[before].1, Token::Word(_) | Token::Other('>'))
                        });
                    if !relative {
                        let mut path = vec![word];
                        while tokens.get(at + 1).map(|(_, token)| *token) == Some(Token::PathSep)
                            && let Some((_, Token::Word(word))) = tokens.get(at + 2)
                        {
                            path.push(word);
                            at += 2;
                        }
                        if !in_users_crate {
                            scan.name(tokens[at].0, &path, &module, None);
                        }
                    }
                }
                _ => {}
            }
            at += 1;
        }
        scan
    }

    /// Reads a `use` item; returns where its semicolon is.
    fn use_item(
        &mut self,
        tokens: &[(usize, Token<'_>)],
        start: usize,
        module: &[String],
        public: bool,
    ) -> usize {
        let mut at = start;
        // The words before each open brace, and those since.
        let (mut prefixes, mut path): (Vec<Vec<&str>>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut alias = None;
        while let Some((line, token)) = tokens.get(at) {
            match token {
                Token::Word("as") => {
                    if let Some((_, Token::Word(name))) = tokens.get(at + 1) {
                        alias = Some(*name);
                    }
                    at += 1;
                }
                Token::Word(word) => path.push(word),
                Token::Other('*') => path.push("*"),
                Token::Other('{') => prefixes.push(path.clone()),
                Token::Other(end @ (',' | '}' | ';')) => {
                    let prefix = prefixes.last().cloned().unwrap_or_default();
                    if path != prefix {
                        let as_name = alias.take().or(path.last().copied());
                        self.name(*line, &path, module, as_name.filter(|_| public));
                    }
                    path = prefix;
                    match end {
                        ';' => return at,
                        '}' => {
                            prefixes.pop();
                            // What the braces were for is done.
                            path = prefixes.last().cloned().unwrap_or_default();
                            if prefixes.is_empty() {
                                path.clear();
                            }
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// Notes a path that is named in `module`.
    fn name(&mut self, line: usize, path: &[&str], module: &[String], export_as: Option<&str>) {
        let path: Vec<_> =
            path.iter().copied().filter(|word| !["self", "*"].contains(word)).collect();
        let supers = path.iter().take_while(|word| **word == "super").count();
        let absolute = |base: &[String], rest: &[&str]| {
            base.iter().cloned().chain(rest.iter().map(|word| (*word).to_owned())).collect()
        };
        let path: Vec<String> = match path.first() {
            Some(&"crate") => absolute(&[], &path[1..]),
            Some(&"super") => {
                absolute(&module[..module.len().saturating_sub(supers)], &path[supers..])
            }
            Some(first) => {
                self.externals.push((line, (*first).to_owned()));
                if let Some(name) = export_as {
                    self.exports.insert(join(module, name), absolute(module, &path));
                }
                return;
            }
            None => return,
        };
        if path.is_empty() {
            return self.paths.push((line, vec!["*".to_owned()]));
        }
        if let Some(name) = export_as {
            self.exports.insert(join(module, name), path.clone());
        }
        self.paths.push((line, path));
    }
}

fn join(module: &[String], name: &str) -> Vec<String> {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Returns where the bracket at `open` is closed.
fn closing(tokens: &[(usize, Token<'_>)], open: usize) -> usize {
    let mut depth = 0;
    for (at, (_, token)) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Other('[' | '{' | '(') => depth += 1,
            Token::Other(']' | '}' | ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Returns `true` for `cfg(test)` and `cfg(all(test, …))`.
fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let word = |at: usize, word| attribute.get(at) == Some(&Token::Word(word));
    word(0, "cfg") && (word(2, "test") || word(2, "all") && word(4, "test"))
}

/// Skips an item; returns where it ends and, if it is a module with a file of its own, its name.
fn skip_item<'a>(tokens: &[(usize, Token<'a>)], start: usize) -> (usize, Option<&'a str>) {
    let mut at = start;
    while let Some((_, token)) = tokens.get(at) {
        match token {
            Token::Other('{') => return (closing(tokens, at), None),
            Token::Other('(' | '[') => at = closing(tokens, at),
            Token::Other(';') => {
                return match tokens[start..at] {
                    [.., (_, Token::Word("mod")), (_, Token::Word(name))] => (at, Some(name)),
                    _ => (at, None),
                };
            }
            _ => {}
        }
        at += 1;
    }
    (at, None)
}
