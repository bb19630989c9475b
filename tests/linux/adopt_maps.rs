//! Filling a map from `/proc/PID/maps`.

use kvma::linux::VmFlags;
use kvma::linux::maps::AdoptError;
use kvma::*;

const PAGE: u64 = 4096;

const MAPS: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
00652000-00655000 rw-s 00052000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
00e24000-011f7000 rw-p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

#[test]
fn a_maps_file_fills_a_map() {
    let space = || VmMap::<(), _>::new(0x1000..=0x7fff_ffff_ffff, PageSize::SIZE_4K, Heap).unwrap();
    let mut map = space();
    assert_eq!(map.adopt_maps(MAPS, |_, attrs| (attrs, ())), Ok(5));
    map.check().unwrap();
    let file = map.find(0x652000).unwrap();
    assert_eq!(file.attrs().backing(), Backing::Object { id: 173521, offset: 0x52000 });
    assert!(file.attrs().flags().contains(VmaFlags::SHARED));
    assert_eq!(file.prot(), Prot::RW);
    // Every boundary is kept, though the two are equal.
    assert_eq!(map.find(0xe24000).unwrap().start(), 0xe24000);
    assert_eq!(map.adopt_maps(MAPS, |_, attrs| (attrs, ())), Err(AdoptError::Map(Error::NotEmpty)));
    // Queries over a range.
    assert_eq!(map.overlapping(0x651fff, 2).count(), 2);

    let fails = |text: &str| {
        let mut map = space();
        let error = map.adopt_maps(text, |_, attrs| (attrs, ())).unwrap_err();
        assert!(map.is_empty());
        error
    };
    assert_eq!(
        fails("00002000-00003000 r--p 00000000 00:00 0\n00002000-00004000 r--p 00000000 00:00 0"),
        AdoptError::Vma(2, Error::Overlap)
    );
    assert_eq!(
        fails("00000000-00003000 r--p 00000000 00:00 0"),
        AdoptError::Vma(1, Error::OutOfRange)
    );
    assert_eq!(
        fails("00002000-00003001 r--p 00000000 00:00 0"),
        AdoptError::Vma(1, Error::Unaligned)
    );
    assert!(matches!(fails("\n00002000-00003000 r--q 00000000 00:00 0"), AdoptError::Line(2, _)));
}

#[test]
fn a_map_is_filled_to_its_end_or_not_at_all() {
    let text = "0000e000-0000f000 r--p 00000000 00:00 0\n0000f000-00010000 rw-p 00000000 00:00 0\n";
    let mut map = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, Heap).unwrap();
    assert_eq!(map.adopt_maps(text, |_, attrs| (attrs, ())), Ok(2));
    // A line that begins with the last byte lies in the space, and is none of its pages.
    let mut map = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, Heap).unwrap();
    let last = map.adopt_maps("0000ffff-00010000 r--p 00000000 00:00 0\n", |_, attrs| (attrs, ()));
    assert_eq!(last, Err(AdoptError::Vma(1, Error::Unaligned)));
    // One node for the space, and one for a line.
    let nodes = FixedPool::<VmaNode, 2>::new();
    let mut map = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, &nodes).unwrap();
    let filled = map.adopt_maps(text, |_, attrs| (attrs, ()));
    assert_eq!(filled, Err(AdoptError::Map(Error::OutOfMemory)));
    assert!(map.is_empty());
    // Letters have their places.
    for letters in ["wr-p", "-r-p", "rx-p", "r-wp"] {
        let line = format!("0000e000-0000f000 {letters} 00000000 00:00 0\n");
        let filled = map.adopt_maps(&line, |_, attrs| (attrs, ()));
        assert!(matches!(filled, Err(AdoptError::Line(1, _))), "{letters}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_maps_file_of_this_process_fills_a_map() {
    let page = PageSize::new(page_size()).unwrap();
    let mut map = VmMap::<(), _>::new(0..=(1 << 56) - 1, page, Heap).unwrap();
    let mut adopted = || {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        match map.adopt_maps(&text, |_, attrs| (attrs, ())) {
            // Tests on other threads map and unmap, and between two reads the kernel lets them: a
            // VMA may have grown over where the next line begins.
            Err(AdoptError::Vma(_, Error::Overlap)) => None,
            adopted => Some((adopted.unwrap(), text)),
        }
    };
    let (count, text) = (0..1000).find_map(|_| adopted()).expect("a file of one time");
    assert!(count > 5 && count + 1 >= text.lines().count());
    let here = map.find(the_maps_file_of_this_process_fills_a_map as fn() as usize as u64).unwrap();
    assert!(here.prot().contains(Prot::EXEC));
}

#[cfg(target_os = "linux")]
fn page_size() -> u64 {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

#[test]
fn maps_files_may_have_any_encoding_and_empty_lines() {
    let text = b"\n00001000-00002000 r--p 00003000 08:02 7 /tmp/\xff\n\n\
          00002000-00003000 rw-p 00000000 00:00 0 \n";
    let mut map = VmMap::<(), Heap>::new(0x1000..=0x10fff, PageSize::SIZE_4K, Heap).unwrap();
    let mut names = Vec::new();
    let count = map.adopt_maps_bytes(text, |line, attrs| {
        names.push(line.name.to_vec());
        (attrs, ())
    });
    assert_eq!((count, names), (Ok(2), vec![b"/tmp/\xff".to_vec(), vec![]]));
    assert_eq!(
        map.find(0x1000).unwrap().attrs().backing(),
        Backing::Object { id: 7, offset: 0x3000 }
    );
    // Lines are counted as an editor counts them.
    let mut map = VmMap::<(), Heap>::new(0x1000..=0x10fff, PageSize::SIZE_4K, Heap).unwrap();
    let error = map.adopt_maps("\n\nnonsense\n", |_, attrs| (attrs, ())).unwrap_err();
    assert!(matches!(error, AdoptError::Line(3, _)), "{error:?}");
    assert!(map.is_empty());
}

#[test]
fn a_claim_in_the_way_is_an_error_and_the_map_stays_empty() {
    let mut map = VmMap::<(), _>::new(0x1000..=0x7fff_ffff_ffff, PageSize::SIZE_4K, Heap).unwrap();
    let claim = map.claim(Placement::Fixed(0x65_2000), PAGE, &mut NoHooks).unwrap();
    let adopted = map.adopt_maps(MAPS, |_, attrs| (attrs, ()));
    assert_eq!(adopted, Err(AdoptError::Vma(3, Error::Claimed)));
    assert!(map.is_empty());
    map.release_claim(claim, &mut NoHooks).unwrap();
    assert_eq!(map.adopt_maps(MAPS, |_, attrs| (attrs, ())), Ok(5));
}

#[test]
fn a_flag_may_be_named_twice() {
    let flags = kvma::linux::maps::vm_flags("VmFlags: rd wr rd ");
    assert_eq!(flags, Ok(VmFlags::READ | VmFlags::WRITE));
}
