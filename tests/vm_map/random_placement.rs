//! `Search::random`: against an array of pages, and counted, whether each start that fits comes as
//! often as every other. Seeds are fixed, so that a test which passes always does.

use std::collections::BTreeMap;

use kvma::*;
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;
/// The first page of every space.
const BASE: u64 = 16;

type Map = VmMap<(), Heap>;

/// Makes a space of `pages` pages.
fn space(pages: u64) -> Map {
    let first = BASE * PAGE;
    VmMap::new(first..=first + pages * PAGE - 1, PageSize::SIZE_4K, Heap).unwrap()
}

/// Maps pages from page `at` of the space on.
fn occupy(map: &mut Map, at: u64, pages: u64) {
    let place = Placement::FixedNoReplace((BASE + at) * PAGE);
    // What differs from its neighbours does not merge with them.
    let attrs = Attrs::new(Prot::RW).with_user_bits(at);
    map.map(MapRequest::new(place, pages * PAGE, attrs), &mut NoHooks).unwrap();
}

/// Maps so that `gaps` are left, and between them `between` pages are mapped.
fn with_gaps(gaps: &[u64], between: u64) -> Map {
    let pages = gaps.iter().sum::<u64>() + between * (gaps.len() as u64 + 1);
    let mut map = space(pages);
    occupy(&mut map, 0, between);
    let mut at = between;
    for gap in gaps {
        occupy(&mut map, at + gap, between);
        at += gap + between;
    }
    map
}

/// Conditions on a gap, in pages.
#[derive(Debug)]
struct Conditions {
    len: u64,
    window: std::ops::Range<u64>,
    align: u64,
    offset: u64,
    guard: u64,
}

impl Conditions {
    const fn of(len: u64) -> Self {
        Self { len, window: 0..u64::MAX / PAGE, align: 1, offset: 0, guard: 0 }
    }

    fn search(&self) -> Search {
        Search::new()
            .window(self.window.start * PAGE, self.window.end * PAGE - 1)
            .align(self.align * PAGE)
            .align_offset(self.offset * PAGE)
            .guard(self.guard * PAGE)
    }

    /// Returns all pages at which a gap may start, by trying every page.
    fn starts(&self, map: &Map) -> Vec<u64> {
        let space = map.space().pages().map(|addr| addr / PAGE);
        let fits = |&start: &u64| {
            let Some(low) = start.checked_sub(self.guard) else { return false };
            let high = start + self.len + self.guard;
            start % self.align == self.offset % self.align
                && self.window.start <= low
                && high <= self.window.end
                && map.is_free(low * PAGE, (high - low) * PAGE)
        };
        space.filter(fits).collect()
    }
}

/// Draws a space: VMAs and gaps of a few pages.
fn draw_space(random: &mut Random) -> Map {
    let pages = 1 + random.below(60);
    let mut map = space(pages);
    let mut at = random.below(4);
    while at < pages {
        let len = (1 + random.below(6)).min(pages - at);
        occupy(&mut map, at, len);
        at += len + random.below(9);
    }
    map
}

fn draw_conditions(random: &mut Random) -> Conditions {
    let first = random.below(BASE + 40);
    let everywhere = random.one_in(2);
    let window = if everywhere { 0..u64::MAX / PAGE } else { first..first + 1 + random.below(60) };
    let align = 1 << if random.one_in(2) { 0 } else { random.below(5) };
    let guard = if random.one_in(2) { 0 } else { random.below(3) };
    Conditions { len: 1 + random.below(6), window, align, offset: random.below(20), guard }
}

#[test]
fn random_gaps_are_those_of_an_array_of_pages() {
    let mut random = Random::new(1);
    let (mut found, mut refused) = (0, 0);
    for _ in 0..4000 {
        let map = draw_space(&mut random);
        let conditions = draw_conditions(&mut random);
        let starts = conditions.starts(&map);
        for _ in 0..8 {
            let search = conditions.search().random(random.any());
            let answer = map.find_gap(conditions.len * PAGE, &search);
            match answer {
                Ok(addr) => {
                    assert!(
                        starts.contains(&(addr / PAGE)),
                        "{conditions:?} of {map:?}: {addr:#x}"
                    );
                    found += 1;
                }
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    assert_eq!(starts, [], "{conditions:?} of {map:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(found > 5000 && refused > 5000, "{found} {refused}");
}

/// Draws `times` times for each start that fits, and fails if some come much more often than
/// others. Returns the number of starts.
///
/// Of Pearson's chi-square, with as many degrees of freedom as here, the mean is their number and
/// the standard deviation the root of twice that. Five of them are exceeded once in about a
/// million.
fn assert_uniform(map: &Map, conditions: &Conditions, times: u64, seed: u64) -> usize {
    let starts = conditions.starts(map);
    let mut random = Random::new(seed);
    let mut counts: BTreeMap<u64, u64> = starts.iter().map(|start| (*start, 0)).collect();
    for _ in 0..times * starts.len() as u64 {
        let search = conditions.search().random(random.any());
        let addr = map.find_gap(conditions.len * PAGE, &search).unwrap();
        *counts.get_mut(&(addr / PAGE)).expect("a start that fits") += 1;
    }
    let expected = times as f64;
    let square = |count: &u64| (*count as f64 - expected).powi(2) / expected;
    let chi_square: f64 = counts.values().map(square).sum();
    let freedom = (starts.len() - 1) as f64;
    assert!((chi_square - freedom).abs() <= 5.0 * (2.0 * freedom).sqrt(), "{chi_square} {freedom}");
    starts.len()
}

#[test]
fn every_start_is_as_likely_where_much_is_free() {
    let map = with_gaps(&[3, 1, 40, 17, 2, 64], 5);
    assert_eq!(assert_uniform(&map, &Conditions::of(3), 200, 2), 1 + 38 + 15 + 62);
    assert_eq!(assert_uniform(&map, &Conditions::of(64), 200, 3), 1);
}

/// The starts that are tried are not free, so gaps are counted.
#[test]
fn every_start_is_as_likely_where_next_to_nothing_is_free() {
    let gaps: Vec<u64> = (0..60).map(|at| 1 + at % 7).collect();
    let map = with_gaps(&gaps, 5000);
    assert_eq!(assert_uniform(&map, &Conditions::of(3), 50, 4), 8 * (1 + 2 + 3 + 4 + 5) + 1 + 2);
}

/// About one start in sixty fits: some are found by trying, the others by counting.
#[test]
fn every_start_is_as_likely_where_trying_fails_one_time_in_three() {
    let map = with_gaps(&[8; 20], 480);
    assert_eq!(assert_uniform(&map, &Conditions::of(1), 100, 5), 160);
}

#[test]
fn every_start_is_as_likely_within_a_window_aligned_and_with_guards() {
    for between in [10, 3000] {
        let map = with_gaps(&[9, 20, 40, 8, 30, 11, 25], between);
        let window = BASE + between + 5..BASE + 6 * between + 112;
        let conditions = Conditions { window, align: 2, offset: 1, guard: 2, ..Conditions::of(3) };
        assert!(assert_uniform(&map, &conditions, 60, 6) > 20);
    }
}

/// More gaps than are counted: what comes fits, comes from everywhere, and is not found in vain.
#[test]
fn beyond_what_is_counted_gaps_come_from_everywhere() {
    let map = with_gaps(&[1; 5000], 400);
    let mut random = Random::new(7);
    let mut quarters = [0; 4];
    for _ in 0..400 {
        let addr = map.find_gap(PAGE, &Search::new().random(random.any())).unwrap();
        assert!(map.is_free(addr, PAGE));
        quarters[((addr / PAGE - BASE) / (5000 * 401 / 4 + 401)) as usize] += 1;
    }
    // 100 are expected of each.
    assert!(quarters.iter().all(|count| (60..140).contains(count)), "{quarters:?}");
}

/// Thousands of gaps are long enough and misaligned, and one is not. The search for a gap that
/// holds an aligned range wherever it lies finds it.
#[test]
fn one_aligned_gap_among_thousands_is_found() {
    let mut gaps = vec![2; 3000];
    gaps.push(16);
    // Steps of 402 pages, so that gaps begin at odd pages.
    let map = with_gaps(&gaps, 400);
    let conditions = Conditions { align: 8, offset: 3, ..Conditions::of(2) };
    let starts = conditions.starts(&map);
    assert!(!starts.is_empty());
    for number in 0..20 {
        let addr = map.find_gap(2 * PAGE, &conditions.search().random(number)).unwrap();
        assert!(starts.contains(&(addr / PAGE)));
    }
}

#[test]
fn a_random_search_takes_the_hint_first() {
    let map = space(1000);
    let hint = (BASE + 500) * PAGE;
    for number in 0..100 {
        assert_eq!(map.find_gap(PAGE, &Search::new().random(number).hint(hint)), Ok(hint));
    }
}

#[test]
fn the_same_number_gives_the_same_gap_and_others_give_others() {
    let map = space(1 << 30);
    let at = |number| map.find_gap(PAGE, &Search::new().random(number)).unwrap();
    let mut places: Vec<u64> = (0..1000).map(at).collect();
    assert_eq!(places[7], at(7));
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 1000);
}

#[test]
fn the_whole_64_bit_space_of_single_bytes_can_be_drawn_from() {
    let page = PageSize::new(1).unwrap();
    let map = VmMap::<(), _>::new(0..=u64::MAX - 1, page, Heap).unwrap();
    for number in 0..100 {
        let addr = map.find_gap(1 << 63, &Search::new().random(number)).unwrap();
        assert!(map.is_free(addr, 1 << 63));
        assert_eq!(map.find_gap(u64::MAX, &Search::new().random(number)), Ok(0));
    }
}

#[test]
fn mappings_and_claims_go_to_random_places() {
    let mut map = space(1 << 20);
    let mut random = Random::new(8);
    let mut last = 0;
    let mut descents = 0;
    for _ in 0..200 {
        let place = Placement::Any(Search::new().random(random.any()));
        let addr = if random.one_in(2) {
            map.map(MapRequest::new(place, PAGE, Attrs::new(Prot::READ)), &mut NoHooks).unwrap()
        } else {
            map.claim(place, PAGE, &mut NoHooks).unwrap().range().start()
        };
        descents += u32::from(addr < last);
        last = addr;
    }
    assert!((60..140).contains(&descents), "{descents}");
    assert_eq!(map.check(), Ok(()));
}
