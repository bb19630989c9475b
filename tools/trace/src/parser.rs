//! The parser of traces.

use kvma::linux::{Target, maps};

use crate::backing::Backing;
use crate::error::TraceError;
use crate::line::{
    Access, Answer, Call, Descriptor, FileKind, Limit, Line, Privilege, Ranges, Side, Touch,
};
use crate::snapshot::Snapshot;

/// Iterator over the entries of a trace, in order. It ends after the first error.
#[derive(Debug, Clone)]
pub struct Parser<'a> {
    /// `None` at the end of the text.
    rest: Option<&'a str>,
    /// Lines taken so far.
    line: usize,
}

/// One line and its position.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Line number, from 1.
    pub number: usize,
    /// The line as it stands in the trace; for a `maps` block, its first line.
    pub text: &'a str,
    /// The meaning of the line.
    pub line: Line<'a>,
}

impl<'a> Entry<'a> {
    /// Returns the line without Linux' answer: the part left of the last ` = `.
    pub fn input(&self) -> &'a str {
        match self.line {
            Line::Call(..) => self.text.rsplit_once(" = ").map_or(self.text, |(input, _)| input),
            _ => self.text,
        }
    }
}

impl<'a> Parser<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: Some(text), line: 0 }
    }

    /// Takes the next line. Only `\n` ends a line, because a path may hold anything else.
    fn take(&mut self) -> Option<&'a str> {
        let (line, rest) = self.peek()?;
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    /// Returns the next line and the text after it.
    fn peek(&self) -> Option<(&'a str, Option<&'a str>)> {
        match self.rest? {
            "" => None,
            text => {
                Some(text.split_once('\n').map_or((text, None), |(line, rest)| (line, Some(rest))))
            }
        }
    }

    /// Takes the lines of a `maps` block of `count` VMAs. Without a count, the block has no lines.
    fn block(&mut self, count: Option<usize>) -> Result<Snapshot<'a>, TraceError<'a>> {
        let first_line = self.line + 1;
        let block = self.rest.unwrap_or("");
        let mut vmas = 0;
        while let Some((line, _)) = self.peek() {
            if line.starts_with("VmFlags:") && vmas > 0 {
                maps::vm_flags(line).map_err(|e| self.error_in_next(e.expected, line))?;
            } else if count.is_some_and(|count| vmas < count) {
                maps::MapsLine::parse(line).map_err(|e| self.error_in_next(e.expected, line))?;
                vmas += 1;
            } else {
                break;
            }
            self.take();
        }
        if count.is_some_and(|count| vmas < count) {
            return Err(self.error_in_next("as many VMAs as the maps line says", ""));
        }
        let len = block.len() - self.rest.map_or(0, str::len);
        Ok(Snapshot::new(block.get(..len).unwrap_or(""), count, first_line))
    }

    /// Makes an error about the next line.
    fn error_in_next(&self, expected: &'static str, found: &'a str) -> TraceError<'a> {
        TraceError { line: self.line + 1, expected, found }
    }

    fn entry(&mut self, text: &'a str) -> Result<Entry<'a>, TraceError<'a>> {
        let number = self.line;
        let mut words = Words { rest: text, line: number };
        let line = match words.next() {
            "" if text.is_empty() => Line::Blank,
            first if first.starts_with('#') => {
                return Ok(Entry { number, text, line: Line::Comment });
            }
            "exec" => Line::Exec,
            "start_brk" => Line::StartBrk(words.hex("an address, hexadecimal")?),
            "limit" => words.limit()?,
            "privileged" => Line::Privileged(match words.next() {
                "0" => Privilege::User,
                "1" => Privilege::Privileged,
                found => return Err(words.error("0 or 1", found)),
            }),
            "fd" => words.descriptor()?,
            "stack" => Line::Stack(words.hex("an address, hexadecimal")?),
            "child" => Line::Side(Side::Child),
            "parent" => Line::Side(Side::Parent),
            "maps" => {
                let count = if words.rest.is_empty() { None } else { Some(words.count()?) };
                words.end()?;
                Line::Maps(self.block(count)?)
            }
            name => {
                let answer = words.take_answer(name, text)?;
                let call = match name {
                    "execve" => {
                        let start_brk = words.hex("an address, hexadecimal")?;
                        let count = words.count()?;
                        words.end()?;
                        Call::Execve { start_brk, image: self.block(Some(count))? }
                    }
                    _ => words.call(name)?,
                };
                Line::Call(call, answer)
            }
        };
        words.end()?;
        Ok(Entry { number, text, line })
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, TraceError<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.take()?;
        let entry = self.entry(text);
        if entry.is_err() {
            self.rest = None;
        }
        Some(entry)
    }
}

/// The words of one line.
struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Words<'a> {
    fn error(&self, expected: &'static str, found: &'a str) -> TraceError<'a> {
        TraceError { line: self.line, expected, found }
    }

    /// Takes the next word, or an empty string at the end. One space separates two words.
    fn next(&mut self) -> &'a str {
        let (word, rest) = self.rest.split_once(' ').unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    fn hex(&mut self, what: &'static str) -> Result<u64, TraceError<'a>> {
        let word = self.next();
        if word.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            u64::from_str_radix(word, 16).map_err(|_| self.error(what, word))
        } else {
            Err(self.error(what, word))
        }
    }

    fn number(&mut self) -> Result<u64, TraceError<'a>> {
        self.hex("an argument of the call, hexadecimal")
    }

    /// Takes a number of VMAs.
    fn count(&mut self) -> Result<usize, TraceError<'a>> {
        let digits = self.next();
        digits.parse().map_err(|_| self.error("the number of VMAs, decimal, or nothing", digits))
    }

    /// Takes the answer to the call `name`, which leaves its arguments.
    fn take_answer(&mut self, name: &str, text: &'a str) -> Result<Answer, TraceError<'a>> {
        let (input, answer) = text
            .rsplit_once(" = ")
            .ok_or(self.error("a line of a trace, or ` = ` after a call", text))?;
        self.rest = input.get(name.len()..).unwrap_or("").trim_start_matches(' ');
        self.answer(answer)
    }

    fn end(&self) -> Result<(), TraceError<'a>> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("the end of the line", self.rest))
        }
    }

    fn limit(&mut self) -> Result<Line<'a>, TraceError<'a>> {
        let which = match self.next() {
            "as" => Limit::AddressSpace,
            "data" => Limit::Data,
            "memlock" => Limit::MemLock,
            "stack" => Limit::Stack,
            found => return Err(self.error("as, data, memlock or stack", found)),
        };
        if self.rest == "unlimited" {
            self.next();
            return Ok(Line::Limit(which, u64::MAX));
        }
        Ok(Line::Limit(which, self.hex("a number of bytes, hexadecimal, or `unlimited`")?))
    }

    fn fd_number(&mut self) -> Result<u32, TraceError<'a>> {
        const WHAT: &str = "a file descriptor, 32 bits, hexadecimal";
        let number = self.hex(WHAT)?;
        u32::try_from(number).map_err(|_| self.error(WHAT, ""))
    }

    fn descriptor(&mut self) -> Result<Line<'a>, TraceError<'a>> {
        let number = self.fd_number()?;
        let access = match self.next() {
            "r" => Access::Read,
            "w" => Access::Write,
            "rw" => Access::ReadWrite,
            found => return Err(self.error("r, w or rw", found)),
        };
        let kind = match self.next() {
            "reg" => FileKind::Regular,
            "dir" => FileKind::Directory,
            "memfd" => FileKind::Memory,
            "other" => FileKind::Other,
            found => return Err(self.error("reg, dir, memfd or other", found)),
        };
        Ok(Line::Fd(number, Descriptor { access, kind }))
    }

    fn answer(&self, text: &'a str) -> Result<Answer, TraceError<'a>> {
        const WHAT: &str = "an answer: a hexadecimal value, -ERRNO in decimal, or `?`";
        let wrong = self.error(WHAT, text);
        match text.strip_prefix('-') {
            _ if text == "?" => Ok(Answer::Unknown),
            Some(errno) => match errno.parse() {
                Ok(errno) if errno > 0 && !text.starts_with("-+") => Ok(Answer::Error(errno)),
                _ => Err(wrong),
            },
            None if text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u64::from_str_radix(text, 16).map(Answer::Value).map_err(|_| wrong)
            }
            None => Err(wrong),
        }
    }

    fn call(&mut self, name: &'a str) -> Result<Call<'a>, TraceError<'a>> {
        Ok(match name {
            "mmap" => self.mmap()?,
            "shmat" => Call::Shmat {
                id: self.number()?,
                addr: self.number()?,
                flags: self.number()?,
                size: self.number()?,
                backing: self.backing()?,
            },
            "shmdt" => Call::Shmdt { addr: self.number()? },
            "munmap" => Call::Munmap { addr: self.number()?, len: self.number()? },
            "mprotect" => {
                Call::Mprotect { addr: self.number()?, len: self.number()?, prot: self.number()? }
            }
            "brk" => Call::Brk { addr: self.number()? },
            "mremap" => Call::Mremap {
                old: self.number()?,
                old_len: self.number()?,
                new_len: self.number()?,
                flags: self.number()?,
                new: self.number()?,
            },
            "madvise" => {
                Call::Madvise { addr: self.number()?, len: self.number()?, advice: self.number()? }
            }
            "mlock" => Call::Mlock { addr: self.number()?, len: self.number()? },
            "mlock2" => {
                Call::Mlock2 { addr: self.number()?, len: self.number()?, flags: self.number()? }
            }
            "munlock" => Call::Munlock { addr: self.number()?, len: self.number()? },
            "mlockall" => Call::Mlockall { flags: self.number()? },
            "munlockall" => Call::Munlockall,
            "msync" => {
                Call::Msync { addr: self.number()?, len: self.number()?, flags: self.number()? }
            }
            "mseal" => {
                Call::Mseal { addr: self.number()?, len: self.number()?, flags: self.number()? }
            }
            "mincore" => Call::Mincore { addr: self.number()?, len: self.number()? },
            "process_madvise" => self.process_madvise()?,
            "pkey_mprotect" => Call::PkeyMprotect {
                addr: self.number()?,
                len: self.number()?,
                prot: self.number()?,
                key: self.number()?,
            },
            "pkey_alloc" => Call::PkeyAlloc { flags: self.number()?, rights: self.number()? },
            "pkey_free" => Call::PkeyFree { key: self.number()? },
            "name" => {
                Call::Name { addr: self.number()?, len: self.number()?, name: self.backing()? }
            }
            "fork" => Call::Fork,
            "touch" => {
                let access = match self.next() {
                    "r" => Touch::Read,
                    "w" => Touch::Write,
                    "x" => Touch::Execute,
                    found => return Err(self.error("r, w or x", found)),
                };
                Call::Touch { addr: self.number()?, access }
            }
            found => return Err(self.error("a call or another line of a trace", found)),
        })
    }

    fn mmap(&mut self) -> Result<Call<'a>, TraceError<'a>> {
        let (addr, len, prot) = (self.number()?, self.number()?, self.number()?);
        let (flags, offset) = (self.number()?, self.number()?);
        let mut fd = None;
        if self.rest.starts_with("fd ") {
            self.next();
            fd = Some(self.fd_number()?);
        }
        Ok(Call::Mmap { addr, len, prot, flags, offset, fd, backing: self.backing()? })
    }

    /// Takes the rest of the line as a backing, if anything is left.
    fn backing(&mut self) -> Result<Option<Backing<'a>>, TraceError<'a>> {
        let text = core::mem::take(&mut self.rest);
        if text.is_empty() {
            return Ok(None);
        }
        maps::object(text).map_err(|e| self.error(e.expected, text))?;
        Ok(Some(Backing::new(text)))
    }

    fn process_madvise(&mut self) -> Result<Call<'a>, TraceError<'a>> {
        let target = match self.next() {
            "own" => Target::Own,
            "other" => Target::Other,
            found => return Err(self.error("own or other", found)),
        };
        let (advice, flags) = (self.number()?, self.number()?);
        let text = self.rest;
        while !self.rest.is_empty() {
            self.number()?;
            self.number()?;
        }
        Ok(Call::ProcessMadvise { target, advice, flags, ranges: Ranges { text } })
    }
}
