//! A map that lies in its space, and one that does not.

use super::lies_within;

#[test]
fn a_neighbour_lies_in_no_other_value() {
    let [first, second] = &[[1_u64, 2], [3, 4]];
    for part in first {
        assert!(lies_within(part, first));
        assert!(!lies_within(part, second));
    }
    // It begins where the other one ends.
    assert!(!lies_within(second, first) && !lies_within(&second[0], first));
    assert!(lies_within(first, first));
}
