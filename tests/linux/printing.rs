//! How address spaces of Linux and their errors are printed.

use kvma::linux::abi::MAP_FIXED;
use kvma::linux::maps::AdoptError;
use kvma::linux::{Layout, Mm, Mmap};
use kvma::{Error, Heap, PageSize, VmMap};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

#[test]
fn an_mm_is_printed_as_its_maps_file_and_shows_its_fields() {
    let mut mm = Mm::<Inode, _>::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let mut kernel = TestKernel::default();
    let args =
        Mmap { addr: AT, len: PAGE, prot: RW, flags: ANON | MAP_FIXED, offset: 0, file: None };
    mm.mmap(args, &mut mm.update(&mut kernel)).unwrap();
    let line = "500000000000-500000001000 rw-p 00000000 00:00 0 ";
    assert_eq!(mm.to_string(), format!("{line}\n"));
    assert_eq!(mm.maps().to_string(), mm.to_string());
    assert_eq!(format!("{:?}", mm.maps()), format!("[MapsEntry({line})]"));
    let shown = format!("{mm:?}");
    for part in ["layout: ", "limits: ", "usage: ", "brk: 0x0..0x0", "0x500000000000..="] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn errors_of_maps_files_name_the_line() {
    let mut map = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, Heap).unwrap();
    let mut adopt = |text: &str| map.adopt_maps(text, |_, attrs| (attrs, ())).unwrap_err();
    let broken = adopt("\n1000-2000 rw-q 00000000 00:00 0\n");
    let AdoptError::Line(2, error) = broken else { panic!("{broken:?}") };
    assert_eq!(broken.to_string(), format!("line 2: {error}"));
    assert!(error.to_string().contains("expected"), "{error}");
    let unaligned = adopt("1000-1001 rw-p 00000000 00:00 0 \n");
    assert_eq!(unaligned, AdoptError::Vma(1, Error::Unaligned));
    assert_eq!(unaligned.to_string(), format!("line 1: {}", Error::Unaligned));
    assert_eq!(AdoptError::Map(Error::NotEmpty).to_string(), Error::NotEmpty.to_string());
}
