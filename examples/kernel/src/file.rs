//! A disk with one file on it, of four pages: `aaa…`, `bbb…`, `ccc…`, `ddd…`.

const FILE: [u8; 4] = *b"abcd";

/// The number of the file, which its VMAs carry.
pub const ID: u64 = 7;

/// Fills `page` with what the file holds from byte `offset` on; with zeros beyond its end.
pub fn read(id: u64, offset: u64, page: &mut [u8; 4096]) {
    assert_eq!(id, ID, "no such file");
    let byte = usize::try_from(offset / 4096).ok().and_then(|number| FILE.get(number));
    page.fill(byte.copied().unwrap_or(0));
}
